// deadline: 180 s
// Which endorsement key a device takes, and that every kind of the profile opens its credentials.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCredential } from '../../../controller/enrol/credential.ts';
import { activateCredential } from '../../../device/tpm/activate.ts';
import { certifiedTemplates, endorsementCertificates } from '../../../device/tpm/endorsement.ts';
import { hash } from '../../../device/tpm/hash.ts';
import { type Key, KeyError, loadKeys, provisionKeys } from '../../../device/tpm/keys.ts';
import { defineNv, undefineNv } from '../../../device/tpm/nv.ts';
import { publicKeyOf } from '../../../device/tpm/public-key.ts';
import { serveTpm } from '../../../device/tpm/serve.ts';
import { Tpm } from '../../../device/tpm/tpm.ts';
import { openWasmTpm } from '../../../device/tpm/transports/wasm.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import { CreatePrimary, EvictControl, FlushContext } from '../../../formats/tpm2/commands.ts';
import { TPM_HT, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { objectName } from '../../../formats/tpm2/names.ts';
import { TPM2B_PUBLIC, TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import {
  attestationKey,
  type EndorsementTemplate,
  endorsementIndices,
  endorsementKey,
  endorsementPolicyOf,
} from '../../../formats/tpm2/templates.ts';
import { certifyEk, primaryOf, storeNv } from '../../kit/certified-tpm.ts';
import { needDebian } from '../../kit/debian.ts';
import { authority, ekCertificate } from '../../kit/ek-certificates.ts';
import { rejects } from '../../kit/rejects.ts';
import { leftovers, withTpm } from '../../kit/tpm.ts';

const now = Date.UTC(2026, 5, 1);
const none = new Uint8Array();
const vendor = authority('EK CA', { now });

function certificateFor(area: TPMT_PUBLIC): Uint8Array {
  return ekCertificate(vendor, publicKeyOf(area).export({ type: 'spki', format: 'der' }), now);
}

const certify = (tpm: Tpm, name: EndorsementTemplate, template?: TPMT_PUBLIC) =>
  certifyEk(tpm, vendor, now, name, template);

function nameOf({ public: area }: Key): Uint8Array {
  return objectName(hash, area);
}

test('[EK Profile 2.2] a certified key of each range is found, kept at its reserved handle, and opens credentials', async () => {
  for (const name of ['L-1', 'L-2', 'H-1', 'H-2', 'H-3', 'H-4', 'H-6'] satisfies EndorsementTemplate[])
    await withTpm(async (tpm) => {
      const certificate = await certify(tpm, name);
      const keys = await provisionKeys(tpm);
      assert.is(keys.ek.handle, endorsementIndices[name].handle, name);
      assert.equal(keys.ek.public.authPolicy, endorsementKey[name].authPolicy);
      assert.equal(await endorsementCertificates(tpm, keys.ek.public), [certificate]);
      // Found again, and not made again.
      assert.equal(await provisionKeys(tpm, { ek: keys.ek.name }), keys);
      assert.equal(await loadKeys(tpm, { ek: keys.ek.name }), keys);

      const { ak, ek, srk } = keys;
      const secret = Uint8Array.from(randomBytes(32));
      const credential = makeCredential({ ekPublic: ek.public, akName: ak.name, secret });
      assert.equal(await activateCredential(tpm, { ak, ek, salt: srk }, credential), secret, name);
      assert.equal(await leftovers(tpm), []);
    });
});

test('without a certificate, EVE’s own endorsement key; the cheapest certified one otherwise', () =>
  withTpm(async (tpm) => {
    const before = await provisionKeys(tpm);
    assert.is(before.ek.handle, 0x81000001);
    assert.equal(await endorsementCertificates(tpm, before.ek.public), []);
    assert.equal(await certifiedTemplates(tpm), []);
    await certify(tpm, 'H-1');
    await certify(tpm, 'H-2');
    assert.equal(
      (await certifiedTemplates(tpm)).map(({ template }) => template),
      ['H-2', 'H-1'],
    );
    assert.is((await provisionKeys(tpm)).ek.handle, 0x81010014);
    // A device that is enrolled stays who it is, whatever somebody writes into its NV.
    assert.equal((await provisionKeys(tpm, { ek: before.ek.name })).ek, before.ek);
  }));

test('EVE’s own key is used where it is, when it is the certified one', () =>
  withTpm(async (tpm) => {
    const before = await provisionKeys(tpm);
    const certificate = await certify(tpm, 'L-2');
    assert.equal((await provisionKeys(tpm)).ek, before.ek);
    assert.equal(await endorsementCertificates(tpm, before.ek.public), [certificate]);
  }));

test('a template of the manufacturer, or his nonce, makes the key that he certified', async () => {
  await withTpm(async (tpm) => {
    const own = {
      ...endorsementKey['H-2'],
      unique: { x: new Uint8Array(32).fill(7), y: new Uint8Array(32) },
    };
    await certify(tpm, 'H-2', own);
    // Without it the certificate is for a key that nobody can make.
    assert.is((await provisionKeys(tpm)).ek.handle, 0x81000001);
  });
  await withTpm(async (tpm) => {
    const own = {
      ...endorsementKey['H-2'],
      unique: { x: new Uint8Array(32).fill(7), y: new Uint8Array(32) },
    };
    await certify(tpm, 'H-2', own);
    await storeNv(tpm, endorsementIndices['H-2'].template, encode(TPMT_PUBLIC, own));
    assert.is((await provisionKeys(tpm)).ek.handle, 0x81010014);
  });
  await withTpm(async (tpm) => {
    const nonce = Uint8Array.from(randomBytes(20));
    const x = new Uint8Array(32);
    x.set(nonce);
    await certify(tpm, 'L-2', { ...endorsementKey['L-2'], unique: { x, y: new Uint8Array(32) } });
    await storeNv(tpm, endorsementIndices['L-2'].nonce ?? 0, nonce);
    assert.is((await provisionKeys(tpm)).ek.handle, 0x81010002);
  });
});

test('a vendor’s persistent key is taken as it is, even if no template makes it', () =>
  withTpm(async (tpm) => {
    // swtpm_setup does so for P-384: zeros where the profile has nothing.
    const own = { ...endorsementKey['H-3'], unique: { x: new Uint8Array(48), y: new Uint8Array(48) } };
    const { objectHandle } = await tpm.execute(CreatePrimary, {
      primaryHandle: TPM_RH.ENDORSEMENT,
      inSensitive: { userAuth: none, data: none },
      inPublic: own,
      outsideInfo: none,
      creationPCR: [],
    });
    await tpm.flushing(objectHandle, () =>
      tpm.execute(EvictControl, { auth: TPM_RH.OWNER, objectHandle, persistentHandle: 0x81010016 }),
    );
    await certify(tpm, 'H-3', own);
    const { ek } = await provisionKeys(tpm);
    assert.is(ek.handle, 0x81010016);
    assert.equal(nameOf(ek), ek.name);
  }));

test('NV of no use: garbage, padding, too long, never written, not for us to read; a certificate of another key', async () => {
  const spoiled: [what: string, put: (tpm: Tpm, good: Uint8Array) => Promise<void>, found: boolean][] = [
    [
      'padded with zeros',
      (tpm, good) => storeNv(tpm, 0x01c0000a, Buffer.concat([good, new Uint8Array(300)])),
      true,
    ],
    [
      'padded with 0xff',
      (tpm, good) => storeNv(tpm, 0x01c0000a, Buffer.concat([good, Buffer.alloc(300, 0xff)])),
      true,
    ],
    ['cut short', (tpm, good) => storeNv(tpm, 0x01c0000a, good.subarray(0, good.length - 1)), false],
    ['0xff alone', (tpm) => storeNv(tpm, 0x01c0000a, new Uint8Array(500).fill(0xff)), false],
    ['never written', (tpm) => defineNv(tpm, 0x01c0000a, 500), false],
    [
      'of another key',
      async (tpm) => storeNv(tpm, 0x01c0000a, certificateFor(await primaryOf(tpm, endorsementKey['H-2']))),
      false,
    ],
  ];
  for (const [what, put, found] of spoiled)
    await withTpm(async (tpm) => {
      await put(tpm, certificateFor(await primaryOf(tpm, endorsementKey['L-2'])));
      const { ek } = await provisionKeys(tpm);
      assert.is(ek.handle, found ? 0x81010002 : 0x81000001, what);
      assert.is((await endorsementCertificates(tpm, ek.public)).length, found ? 1 : 0, what);
    });
});

test('a certificate for a kind of key that this TPM cannot make is passed over', () =>
  withTpm(async (tpm) => {
    await storeNv(
      tpm,
      endorsementIndices['H-7'].certificate,
      certificateFor(await primaryOf(tpm, endorsementKey['H-2'])),
    );
    assert.equal(
      (await certifiedTemplates(tpm)).map(({ template }) => template),
      ['H-7'],
    );
    assert.is((await provisionKeys(tpm)).ek.handle, 0x81000001);
  }));

test('the chain in NV comes along, whole certificates alone, and seven at most', () =>
  withTpm(async (tpm) => {
    const certificate = await certify(tpm, 'L-2');
    const links = Array.from({ length: 9 }, (_, at) => authority(`CA ${at}`, { now }).certificate);
    const bytes = Buffer.concat(links);
    // A certificate crosses from one index into the next.
    await storeNv(tpm, 0x01c00100, bytes.subarray(0, 700));
    await storeNv(tpm, 0x01c00101, bytes.subarray(700, 2500));
    await storeNv(tpm, 0x01c00102, bytes.subarray(2500));
    const { ek } = await provisionKeys(tpm);
    assert.equal(await endorsementCertificates(tpm, ek.public), [certificate, ...links.slice(0, 7)]);
    await undefineNv(tpm, 0x01c00101);
    assert.ok((await endorsementCertificates(tpm, ek.public)).length < 3);
  }));

test('[EVE 4.1] a pinned endorsement key that another TPM lacks is refused, certificate or not', () =>
  withTpm(async (tpm) => {
    await certify(tpm, 'L-2');
    const { ek } = await provisionKeys(tpm);
    await withTpm(async (other) => {
      await certify(other, 'L-2');
      await rejects(
        provisionKeys(other, { ek: ek.name }),
        KeyError,
        (e) => e.code === 'wrong-name' && e.role === 'ek',
      );
    });
    // Evicted, it is made again and found by its certificate.
    await tpm.execute(EvictControl, {
      auth: TPM_RH.OWNER,
      objectHandle: ek.handle,
      persistentHandle: ek.handle,
    });
    assert.equal((await provisionKeys(tpm, { ek: ek.name })).ek, ek);
    assert.ok((await tpm.handles(TPM_HT.PERSISTENT)).includes(ek.handle));
  }));

test('what is no endorsement key has no endorsement policy', () =>
  withTpm(async (tpm) => {
    const { ak, srk, ek } = await provisionKeys(tpm);
    assert.is(endorsementPolicyOf(attestationKey), undefined);
    assert.is(endorsementPolicyOf(srk.public), undefined);
    assert.is(endorsementPolicyOf({ ...ek.public, authPolicy: new Uint8Array(32) }), undefined);
    assert.is(endorsementPolicyOf(endorsementKey['H-3'])?.policy, 'b');
    const credential = makeCredential({ ekPublic: ek.public, akName: ak.name, secret: randomBytes(32) });
    assert.throws(
      () => activateCredential(tpm, { ak, ek: srk, salt: srk }, credential),
      /opened with an endorsement key/,
    );
  }));

const tools = ['tpm2-tools', 'libtss2-tcti-swtpm0'];
if (await needDebian(tools, ['tpm2_createek']))
  test('[EK Profile B.3, B.4] tpm2_createek makes the same keys', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'eve-createek-'));
    const chip = await openWasmTpm();
    const served = await serveTpm(chip, { protocol: 'swtpm', port: 0 });
    try {
      const tpm = new Tpm(chip, { sole: true });
      const kinds = { 'L-1': 'rsa', 'L-2': 'ecc', 'H-3': 'ecc384', 'H-4': 'ecc521', 'H-6': 'rsa3072' };
      for (const [name, algorithm] of Object.entries(kinds)) {
        const args = ['-G', algorithm, '-c', 'ek.ctx', '-u', 'ek.pub', '-T', `swtpm:port=${served.port}`];
        const child = spawn('tpm2_createek', args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
        assert.is(await new Promise((resolve) => child.once('close', resolve)), 0, algorithm);
        for (const handle of await tpm.handles(TPM_HT.TRANSIENT))
          await tpm.execute(FlushContext, { flushHandle: handle });
        const theirs = decode(TPM2B_PUBLIC, Uint8Array.from(readFileSync(join(folder, 'ek.pub'))));
        assert.equal(theirs, await primaryOf(tpm, endorsementKey[name as EndorsementTemplate]), algorithm);
      }
    } finally {
      await served.close();
      await chip.close();
      rmSync(folder, { recursive: true });
    }
  });

test.run();
