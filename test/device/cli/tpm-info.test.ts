// deadline: 120 s
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { discoverTpm } from '../../../device/cli/open-tpm.ts';
import { type FoundTpmInfo, tpmInfo, tpmInfoText } from '../../../device/cli/tpm-info.ts';
import { foldersOf } from '../../../device/options.ts';
import { provisionKeys } from '../../../device/tpm/keys.ts';
import { serveTpm } from '../../../device/tpm/serve.ts';
import { openWasmTpm } from '../../../device/tpm/transports/wasm.ts';
import { serveTurns } from '../../../device/tpm/turns.ts';
import { NV_DefineSpace, NV_Write } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { TPMA_NV } from '../../../formats/tpm2/structures.ts';
import { needDebian } from '../../kit/debian.ts';
import { inFolder } from '../../kit/folders.ts';
import { runToEnd } from '../../kit/process.ts';
import { startSwtpm } from '../../kit/swtpm.ts';
import { withTpm } from '../../kit/tpm.ts';

const test = suite('tpm info');

const swtpmHere = await needDebian(['swtpm', 'swtpm-tools'], ['swtpm', 'swtpm_setup']);

if (swtpmHere)
  test('a swtpm with its certificates: everything that it says, as text and as JSON', async () => {
    const swtpm = await startSwtpm({ certified: true });
    try {
      const args = ['tpm', 'info', '--tpm', `swtpm:path=${swtpm.path}`];
      const { stdout, code, stderr } = await runToEnd('eve', [...args, '--json']);
      assert.is(code, 0, stderr);
      const info = JSON.parse(stdout) as FoundTpmInfo;
      assert.equal(info.manufacturer, { id: 'IBM', name: 'IBM' });
      assert.match(info.vendor, /SW\s*TPM/);
      assert.equal(Object.keys(info.banks).sort(), ['sha1', 'sha256']);
      for (const algorithm of ['RSA', 'ECC', 'SHA256', 'AES']) assert.ok(info.algorithms.includes(algorithm));
      assert.ok(info.curves.includes('NIST_P256'));
      assert.equal(
        info.certificates.map(({ index, key, problem }) => [index, key, problem]),
        [
          [0x01c00002, 'RSA 2048', ''],
          [0x01c00016, 'ECC P-384', ''],
        ],
      );
      for (const { size, subject, issuer, notAfter } of info.certificates) {
        assert.ok(size > 500 && size < 2000);
        assert.match(subject, /CN=unknown|DirName|TPM/);
        assert.match(issuer, /CN=swtpm-localca/);
        assert.ok(notAfter > Date.now());
      }
      assert.is(info.free.transient, 3);
      assert.is(info.lockout.locked, false);
      assert.equal([info.authorized, info.disabled], [[], []]);
      const text = (await runToEnd('eve', args)).stdout;
      assert.match(text, /^EK certificates {2}0x01c00002 RSA 2048, \d+ bytes, .*, until \d{4}-\d\d-\d\d$/m);
      assert.match(text, /^ {17}0x01c00016 ECC P-384, /m);
      assert.match(text, /^PCR banks {8}sha1 \(24 PCRs\), sha256 \(24 PCRs\)$/m);
      assert.match(text, /^free slots {7}3 transient, /m);
    } finally {
      await swtpm.stop();
    }
  });

test('what is no certificate is told as such, and harmless for a terminal', () =>
  withTpm(async (tpm, transport) => {
    const data = Buffer.from('\u001b[31mno certificate');
    await tpm.execute(NV_DefineSpace, {
      authHandle: TPM_RH.PLATFORM,
      auth: new Uint8Array(),
      publicInfo: {
        nvIndex: 0x01c0000a,
        nameAlg: TPM_ALG.SHA256,
        attributes: TPMA_NV.of('PPWRITE', 'PPREAD', 'AUTHREAD', 'NO_DA', 'PLATFORMCREATE'),
        authPolicy: new Uint8Array(),
        dataSize: data.length,
      },
    });
    await tpm.execute(NV_Write, { authHandle: TPM_RH.PLATFORM, nvIndex: 0x01c0000a, data, offset: 0 });
    const served = await serveTpm(transport, { protocol: 'swtpm', port: 0 });
    try {
      const info = await tpmInfo({ tpm: `swtpm:port=${served.port}` });
      assert.is(info.certificates[0]?.subject, '');
      assert.is.not(info.certificates[0]?.problem, '');
      assert.match(tpmInfoText(info), /0x01c0000a ECC P-256, 19 bytes, not readable: /);
      const told = tpmInfoText({ ...info, vendor: '\u001b]0;owned\u0007\u202e' });
      assert.not(['\u001b', '\u0007', '\u202e'].some((character) => told.includes(character)));
    } finally {
      await served.close();
    }
  }));

test('the TPM of a device that runs is asked in turn, and left as it was', () =>
  inFolder(async (state) => {
    const folders = foldersOf({ state });
    mkdirSync(folders.run, { recursive: true });
    assert.is(discoverTpm(folders)?.spec.kind ?? 'none', existsSync('/dev/tpmrm0') ? 'device' : 'none');
    mkdirSync(folders.persist, { recursive: true });
    writeFileSync(join(folders.persist, 'tpm.nv'), '');
    assert.is(discoverTpm(folders)?.spec.kind, 'wasm');

    await withTpm(async (tpm, transport) => {
      await provisionKeys(tpm);
      const served = await serveTpm(transport, { protocol: 'swtpm', path: join(folders.run, 'tpm.sock') });
      let abandoned = 0;
      const turns = await serveTurns(join(folders.run, 'tpm-turns.sock'), async () => {
        abandoned++;
      });
      try {
        assert.is(discoverTpm(folders)?.why, 'of the device that runs here');
        const info = await tpmInfo({ state });
        assert.is(info.persistent.length, 5);
        assert.is(info.free.transient, 3);
        assert.is(abandoned, 0);
      } finally {
        await turns.close();
        await served.close();
      }
    });
  }));

test('a state that another process has is named', () =>
  inFolder(async (state) => {
    const { persist } = foldersOf({ state });
    mkdirSync(persist, { recursive: true });
    const tpm = await openWasmTpm({ stateFile: join(persist, 'tpm.nv') });
    const { code, stderr } = await runToEnd('eve', ['tpm', 'info', '--state', state]);
    await tpm.close();
    assert.is(code, 1);
    assert.match(stderr, new RegExp(`process ${process.pid} uses.*tpm\\.state-locked`));
  }));

test.run();
