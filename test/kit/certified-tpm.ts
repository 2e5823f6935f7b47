// TPMs as they leave the factory: with an endorsement key that their vendor certified.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { defineNv, writeNv } from '../../device/tpm/nv.ts';
import type { PoweredTpm } from '../../device/tpm/powered.ts';
import { publicKeyOf } from '../../device/tpm/public-key.ts';
import { Tpm } from '../../device/tpm/tpm.ts';
import { openSwtpm } from '../../device/tpm/transports/swtpm.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { CreatePrimary } from '../../formats/tpm2/commands.ts';
import { TPM_RH } from '../../formats/tpm2/constants.ts';
import type { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import {
  type EndorsementTemplate,
  endorsementIndices,
  endorsementKey,
} from '../../formats/tpm2/templates.ts';
import { ekCertificate, type Signer } from './ek-certificates.ts';

const none = new Uint8Array();

/** The key that a template makes in this TPM; nothing of it stays. */
export async function primaryOf(tpm: Tpm, inPublic: TPMT_PUBLIC): Promise<TPMT_PUBLIC> {
  const { objectHandle, outPublic } = await tpm.execute(CreatePrimary, {
    primaryHandle: TPM_RH.ENDORSEMENT,
    inSensitive: { userAuth: none, data: none },
    inPublic,
    outsideInfo: none,
    creationPCR: [],
  });
  await tpm.flushing(objectHandle, async () => undefined);
  return outPublic;
}

export async function storeNv(tpm: Tpm, index: number, bytes: Uint8Array): Promise<void> {
  await defineNv(tpm, index, bytes.length);
  await writeNv(tpm, index, bytes);
}

/** What a manufacturer does: certifies the key that the template makes, and leaves the certificate in NV. */
export async function certifyEk(
  tpm: Tpm,
  by: Signer,
  now: number,
  name: EndorsementTemplate = 'L-2',
  template: TPMT_PUBLIC = endorsementKey[name],
): Promise<Uint8Array> {
  const spki = publicKeyOf(await primaryOf(tpm, template)).export({ type: 'spki', format: 'der' });
  const certificate = ekCertificate(by, spki, now);
  await storeNv(tpm, endorsementIndices[name].certificate, certificate);
  return certificate;
}

/** A TPM of this vendor, powered off. */
export async function certifiedTpm(by: Signer, now: () => number): Promise<PoweredTpm> {
  const chip = await openWasmTpm({ startup: false, now });
  const tpm = new Tpm(chip, { sole: true });
  await tpm.startup();
  await certifyEk(tpm, by, now());
  await tpm.shutdown();
  await chip.powerOff();
  return chip;
}

export interface Swtpm {
  tpm: PoweredTpm;
  /** Certificates of the authority that `swtpm_localca` made: its issuer and its root, PEM. */
  authority: Uint8Array[];
  close(): Promise<void>;
}

/** A swtpm that `swtpm_setup` manufactured, with certificates of its own local authority; powered off. */
export async function manufacturedSwtpm(): Promise<Swtpm> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-swtpm-'));
  const path = (name: string) => join(folder, name);
  mkdirSync(path('state'));
  mkdirSync(path('ca'));
  writeFileSync(
    path('localca.conf'),
    [
      `statedir = ${path('ca')}`,
      `signingkey = ${path('ca/signkey.pem')}`,
      `issuercert = ${path('ca/issuercert.pem')}`,
      `certserial = ${path('ca/certserial')}`,
    ].join('\n'),
  );
  writeFileSync(
    path('localca.options'),
    '--platform-manufacturer Test\n--platform-version 1\n--platform-model Board\n',
  );
  writeFileSync(
    path('setup.conf'),
    [
      'create_certs_tool=swtpm_localca',
      `create_certs_tool_config=${path('localca.conf')}`,
      `create_certs_tool_options=${path('localca.options')}`,
    ].join('\n'),
  );
  const setup = spawnSync(
    'swtpm_setup',
    [
      '--tpm2',
      '--tpm-state',
      path('state'),
      '--create-ek-cert',
      '--create-platform-cert',
      '--lock-nvram',
    ].concat(['--pcr-banks', 'sha1,sha256', '--config', path('setup.conf')]),
    { encoding: 'utf8' },
  );
  if (setup.status !== 0) throw new Error(`swtpm_setup: ${setup.stdout}${setup.stderr}`);
  const port = await freePorts();
  const child = spawn(
    'swtpm',
    ['socket', '--tpm2', '--tpmstate', `dir=${path('state')}`, '--flags', 'not-need-init'].concat([
      '--server',
      `type=tcp,port=${port}`,
      '--ctrl',
      `type=tcp,port=${port + 1}`,
    ]),
    { stdio: 'ignore' },
  );
  const tpm = await opened(port);
  return {
    tpm,
    authority: ['ca/issuercert.pem', 'ca/swtpm-localca-rootca-cert.pem'].map((name) =>
      readFileSync(path(name)),
    ),
    async close() {
      await tpm.close();
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill();
      await ended;
      rmSync(folder, { recursive: true });
    },
  };
}

async function opened(port: number): Promise<PoweredTpm> {
  for (let tries = 100; ; tries--) {
    try {
      return await openSwtpm('127.0.0.1', port);
    } catch (error) {
      if (tries === 0) throw error;
      await delay(50);
    }
  }
}

/** A port that is free now, with a free one above it. */
async function freePorts(): Promise<number> {
  for (;;) {
    const lower = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => lower.once('listening', resolve));
    const { port } = lower.address() as { port: number };
    const upper = createServer().listen(port + 1, '127.0.0.1');
    const free = await new Promise<boolean>((resolve) => {
      upper.once('listening', () => resolve(true));
      upper.once('error', () => resolve(false));
    });
    for (const server of [lower, upper]) await new Promise((resolve) => server.close(resolve));
    if (free) return port;
  }
}
