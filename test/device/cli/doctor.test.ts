// deadline: 120 s
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPki } from '../../../controller/pki.ts';
import { examine, type Finding, findingsText, healthy } from '../../../device/cli/doctor.ts';
import { createImageFolder, installImage } from '../../../device/cli/image.ts';
import { foldersOf } from '../../../device/options.ts';
import { requiredPrograms } from '../../../device/platform.ts';
import { StateFolder } from '../../../device/state.ts';
import { serveTpm } from '../../../device/tpm/serve.ts';
import type { Tpm } from '../../../device/tpm/tpm.ts';
import type { Transport } from '../../../device/tpm/transport.ts';
import { FileVault } from '../../../device/vault/file.ts';
import { masterKey } from '../../../device/vault/master-key.ts';
import { HierarchyChangeAuth } from '../../../formats/tpm2/commands.ts';
import { TPM_CC, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { needAddon } from '../../kit/addon.ts';
import { inFolder } from '../../kit/folders.ts';
import { runToEnd } from '../../kit/process.ts';
import { withTpm } from '../../kit/tpm.ts';
import * as t from '../../kit/tpm-bytes.ts';

const of = (findings: Finding[], check: string) => findings.filter((finding) => finding.check === check);
const verdictsOf = (findings: Finding[], check: string) => of(findings, check).map(({ verdict }) => verdict);

/** A device that is installed; nobody listens where its EVC is. */
async function installed(state: string): Promise<void> {
  const { config } = foldersOf({ state });
  mkdirSync(config, { recursive: true });
  const { root } = await createPki(join(state, 'pki'), ['localhost'], Date.now());
  writeFileSync(join(config, 'root-certificate.pem'), root.toString());
  writeFileSync(join(config, 'server'), 'mqtts://localhost:1\n');
  await createImageFolder(join(state, 'image'), { version: '1.0.0' });
  await installImage(join(state, 'image'), { state });
}

test('an empty machine: each thing that is missing is named, with what to do', () =>
  inFolder(async (state) => {
    const { code, stdout } = await runToEnd('eve', ['doctor', '--state', state, '--json']);
    assert.is(code, 1);
    const findings = JSON.parse(stdout) as Finding[];
    for (const check of ['configuration', 'base OS']) {
      assert.equal(verdictsOf(findings, check), ['bad'], check);
      assert.ok(of(findings, check).every(({ next }) => next !== ''));
    }
    assert.equal(verdictsOf(findings, 'state'), ['good', 'good']);
    const text = await runToEnd('eve', ['doctor', '--state', state]);
    assert.is(text.code, 1);
    assert.match(
      text.stdout,
      /✗ configuration {2}.* lacks root-certificate\.pem and server\n {17}→ .*evc key add/,
    );
    assert.match(text.stdout, /\d+ good, \d+ limited, \d+ bad\n$/);
  }));

test('a real board: the system that runs, its log, and the programs of its platform', () =>
  inFolder(async (state) => {
    const platform = join(state, 'platform');
    mkdirSync(platform);
    const look = async (more: { platform?: string }) => examine({ state, board: 'real', ...more });
    const without = await look({});
    assert.equal(verdictsOf(without, 'base OS'), ['good', 'limited']);
    assert.match(of(without, 'base OS')[1]?.text ?? '', /no platform was named/);
    // This machine may have a log; whatever it is, it is the machine's that was looked for.
    assert.ok(
      of(without, 'boot log').every(({ text }) => /events|measure/.test(text)),
      JSON.stringify(without),
    );
    const empty = await look({ platform });
    assert.match(of(empty, 'base OS')[1]?.text ?? '', /has no slot-current, slot-write, .* that can be run$/);
    assert.equal(verdictsOf(empty, 'base OS'), ['good', 'bad']);
    for (const name of requiredPrograms) {
      writeFileSync(join(platform, name), '#!/bin/sh\necho IMGB\n');
      chmodSync(join(platform, name), 0o755);
    }
    assert.match(of(await look({ platform }), 'base OS')[1]?.text ?? '', /^runs from IMGB, as /);
    writeFileSync(join(platform, 'slot-current'), '#!/bin/sh\necho broken >&2\nexit 1\n');
    const broken = of(await look({ platform }), 'base OS')[1];
    assert.equal([broken?.verdict, /exit code 1: broken$/.test(broken?.text ?? '')], ['bad', true]);
  }));

test('a device that is installed runs: exit code 0, and what it lacks is said', () =>
  inFolder(async (state) => {
    await installed(state);
    const args = ['doctor', '--state', state, '--tpm', `wasm:${join(state, 'tpm')}`];
    const { code, stdout } = await runToEnd('eve', args);
    assert.is(code, 0, stdout);
    assert.match(stdout, /^! TPM .*it is emulated/m);
    assert.match(stdout, /^! TPM .*no endorsement certificate/m);
    assert.match(stdout, /^✓ configuration {2}localhost:1, root certificate until /m);
    assert.match(stdout, /^✓ base OS {8}1\.0\.0 in IMGA$/m);
    assert.match(stdout, /^! EVC .*nobody listens at localhost:1\n.*→ start evc serve/m);
    // And nothing was left open: the state of the TPM can be had again.
    assert.is((await runToEnd('eve', args)).code, 0);
  }));

const disableEndorsement = t.command(
  TPM_CC.HierarchyControl,
  [TPM_RH.PLATFORM],
  t.cat(t.u32(TPM_RH.ENDORSEMENT), t.u8(0)),
  t.password,
);

const spoilt: [what: string, spoil: (tpm: Tpm, transport: Transport) => Promise<unknown>, says: RegExp][] = [
  [
    'the owner hierarchy has a password',
    (tpm) => tpm.execute(HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: Buffer.from('secret') }),
    /owner hierarchy has an authorization value/,
  ],
  [
    'the endorsement hierarchy is off',
    (_, transport) => transport.send(disableEndorsement),
    /endorsement hierarchy is disabled/,
  ],
];

for (const [what, spoil, says] of spoilt) {
  test(`a TPM that will not do: ${what}`, () =>
    withTpm(async (tpm, transport) => {
      await spoil(tpm, transport);
      const served = await serveTpm(transport, { protocol: 'swtpm', port: 0 });
      try {
        await inFolder(async (state) => {
          const findings = await examine({ state, tpm: `swtpm:port=${served.port}` });
          const bad = of(findings, 'TPM').filter(({ verdict }) => verdict === 'bad');
          assert.is(bad.length, 1);
          assert.match(bad[0]?.text ?? '', says);
          assert.is.not(bad[0]?.next, '');
          assert.not(healthy(findings));
        });
      } finally {
        await served.close();
      }
    }));
}

test('a TPM that is not there, or answers rubbish, is a finding and no end', () =>
  inFolder(async (state) => {
    const absent = await examine({ state, tpm: 'device:/dev/none' });
    assert.match(findingsText(of(absent, 'TPM')), /^✗ TPM .*\/dev\/none: ENOENT\n.*→ turn the TPM on/);
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', () => socket.write(Buffer.alloc(10)));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const rubbish = await examine({ state, tpm: `swtpm:port=${port}` });
    server.close();
    assert.equal(verdictsOf(rubbish, 'TPM'), ['bad']);
    assert.match(of(rubbish, 'TPM')[0]?.text ?? '', /announced a response of 0 bytes/);
  }));

test('the vault: what would keep it, and what does', async () => {
  // Without the addon nobody asks the kernel.
  if (!(await needAddon())) return;
  await inFolder(async (state) => {
    const { persist } = foldersOf({ state });
    const tpm = `wasm:${join(state, 'tpm')}`;
    const [before] = of(await examine({ state, tpm }), 'vault');
    assert.match(
      before?.text ?? '',
      /^none yet; (the kernel can encrypt it here|one of files of its own .* E[A-Z]+: )/,
    );
    const vault = new FileVault(new StateFolder(persist));
    vault.create(masterKey(randomBytes(32)));
    vault.finish();
    const [after] = of(await examine({ state, tpm }), 'vault');
    assert.equal([after?.verdict, after?.text], ['good', 'there is one, kept by file']);
    writeFileSync(join(persist, 'vault/vault.json'), 'rubbish');
    rmSync(join(persist, 'vault/vault.json.bak'));
    assert.equal(verdictsOf(await examine({ state, tpm }), 'vault'), ['bad']);
  });
});

test('a wrong --tpm is wrong usage, and damaged files are findings', () =>
  inFolder(async (state) => {
    assert.is((await runToEnd('eve', ['doctor', '--state', state, '--tpm', 'abacus'])).code, 2);
    await installed(state);
    writeFileSync(join(state, 'config/root-certificate.pem'), 'rubbish');
    writeFileSync(join(state, 'persist/slots/slots.json'), 'rubbish');
    const findings = await examine({ state, tpm: `wasm:${join(state, 'tpm')}` });
    assert.equal(verdictsOf(findings, 'configuration'), ['bad']);
    assert.equal(verdictsOf(findings, 'base OS'), ['bad']);
    assert.match(of(findings, 'base OS')[0]?.text ?? '', /damaged/);
  }));

test('a folder that cannot be written', () =>
  inFolder(async (state) => {
    // Root writes everywhere, but not into a file.
    const file = join(state, 'persist');
    writeFileSync(file, '');
    chmodSync(file, 0o400);
    const findings = await examine({ state: state, persist: join(file, 'below'), tpm: `wasm:${state}/tpm` });
    assert.ok(
      of(findings, 'state').some(({ verdict, next }) => verdict === 'bad' && /--state DIR/.test(next)),
    );
  }));

test.run();
