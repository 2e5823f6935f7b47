import { createECDH, createVerify, verify } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ecdhZ } from '../../../device/tpm/ecdh.ts';
import { TpmError } from '../../../device/tpm/execute.ts';
import { hash } from '../../../device/tpm/hash.ts';
import {
  KeyError,
  type KeyRole,
  loadKey,
  loadKeys,
  provisionKeys,
  provisionRsaEk,
} from '../../../device/tpm/keys.ts';
import { publicKeyOf } from '../../../device/tpm/public-key.ts';
import { signDigest } from '../../../device/tpm/sign.ts';
import type { Tpm } from '../../../device/tpm/tpm.ts';
import { decode } from '../../../formats/tpm2/codec.ts';
import { CreatePrimary, EvictControl } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_HT, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { objectName } from '../../../formats/tpm2/names.ts';
import { fixedWidth } from '../../../formats/tpm2/spki.ts';
import { TPMA_OBJECT, TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import {
  attestationKey,
  deviceKey,
  endorsementKey,
  storageRootKey,
} from '../../../formats/tpm2/templates.ts';
import { rejects } from '../../kit/rejects.ts';
import { withTpm } from '../../kit/tpm.ts';
import { withFaults } from '../../kit/tpm-faults.ts';

const none = new Uint8Array();

async function persist(
  tpm: Tpm,
  hierarchy: number,
  inPublic: TPMT_PUBLIC,
  persistentHandle: number,
): Promise<void> {
  const { objectHandle } = await tpm.execute(CreatePrimary, {
    primaryHandle: hierarchy,
    inSensitive: { userAuth: none, data: none },
    inPublic,
    outsideInfo: none,
    creationPCR: [],
  });
  await tpm.flushing(objectHandle, () =>
    tpm.execute(EvictControl, { auth: TPM_RH.OWNER, objectHandle, persistentHandle }),
  );
}

test("[EVE 4.1] keys at EVE's handles; a second run finds them and changes nothing", () =>
  withFaults(async (tpm, wire) => {
    const made = await provisionKeys(tpm);
    assert.equal(Object.fromEntries(Object.entries(made).map(([role, { handle }]) => [role, handle])), {
      ek: 0x81000001,
      srk: 0x81000002,
      ak: 0x81000004,
      ecdh: 0x81000005,
      device: 0x817fffff,
    });
    for (const key of Object.values(made)) {
      assert.equal(decode(TPMT_PUBLIC, key.publicBytes), key.public);
      assert.equal(objectName(hash, key.public), key.name);
      assert.is(publicKeyOf(key.public).asymmetricKeyType, 'ec');
    }
    wire.forget();
    assert.equal(await provisionKeys(tpm), made);
    assert.equal(await loadKeys(tpm), made);
    assert.is(wire.count('CreatePrimary') + wire.count('EvictControl'), 0);
    assert.is((await tpm.handles(TPM_HT.PERSISTENT)).length, 5);
  }));

test('the keys survive a power cycle, and a new TPM has others', () =>
  withTpm(async (tpm, transport) => {
    const before = await provisionKeys(tpm);
    await transport.powerCycle();
    assert.equal(await loadKeys(tpm), before);
    await withTpm(async (other) => {
      const { ek, ak } = await provisionKeys(other);
      assert.not.equal(ek.name, before.ek.name);
      assert.not.equal(ak.name, before.ak.name);
    });
  }));

test('a key that was evicted is the same when it is made again', () =>
  withTpm(async (tpm) => {
    const { ak } = await provisionKeys(tpm);
    await tpm.execute(EvictControl, {
      auth: TPM_RH.OWNER,
      objectHandle: ak.handle,
      persistentHandle: ak.handle,
    });
    await rejects(
      loadKeys(tpm),
      KeyError,
      (e) => e.code === 'missing' && e.role === 'ak' && e.handle === 0x81000004,
    );
    assert.equal((await provisionKeys(tpm)).ak, ak);
  }));

test('the RSA endorsement key is made when asked for', () =>
  withTpm(async (tpm) => {
    await provisionKeys(tpm);
    await rejects(loadKey(tpm, 'rsaEk'), KeyError, (e) => e.code === 'missing');
    const made = await provisionRsaEk(tpm);
    assert.is(made.handle, 0x81010001);
    assert.is(publicKeyOf(made.public).asymmetricKeyDetails?.modulusLength, 2048);
    assert.equal(await loadKey(tpm, 'rsaEk', made.name), made);
  }));

test('another key in the place of one of ours is reported and left alone', () =>
  withTpm(async (tpm) => {
    const cases: [KeyRole, number, TPMT_PUBLIC, KeyError['code'], string[]][] = [
      ['ek', TPM_RH.OWNER, endorsementKey['L-2'], 'wrong-hierarchy', []],
      [
        'srk',
        TPM_RH.OWNER,
        deviceKey,
        'wrong-template',
        ['objectAttributes.restricted', 'objectAttributes.decrypt', 'objectAttributes.sign'],
      ],
      ['ak', TPM_RH.OWNER, attestationKey, 'wrong-hierarchy', []],
      [
        'device',
        TPM_RH.OWNER,
        { ...deviceKey, objectAttributes: { ...deviceKey.objectAttributes, noDA: false } } as TPMT_PUBLIC,
        'wrong-template',
        ['objectAttributes.noDA'],
      ],
    ];
    const handles = { ek: 0x81000001, srk: 0x81000002, ak: 0x81000004, device: 0x817fffff } as Record<
      string,
      number
    >;
    for (const [role, hierarchy, template, code, differs] of cases) {
      const handle = handles[role] as number;
      await persist(tpm, hierarchy, template, handle);
      await rejects(
        provisionKeys(tpm),
        KeyError,
        (e) => e.code === code && e.role === role && e.handle === handle,
      );
      await rejects(loadKey(tpm, role), KeyError, (e) => assert.equal([...e.differs], differs) === undefined);
      assert.ok((await tpm.handles(TPM_HT.PERSISTENT)).includes(handle), 'it is still there');
      await tpm.execute(EvictControl, { auth: TPM_RH.OWNER, objectHandle: handle, persistentHandle: handle });
    }
  }));

test("EVE's own RSA endorsement key under the owner is told apart", () =>
  withTpm(async (tpm) => {
    await persist(tpm, TPM_RH.OWNER, endorsementKey['L-1'], 0x81000001);
    await rejects(
      loadKey(tpm, 'ek'),
      KeyError,
      (e) => e.code === 'wrong-template' && e.differs.join() === 'type',
    );
  }));

test('a key with other parameters but the same attributes is told apart', () =>
  withTpm(async (tpm) => {
    if (storageRootKey.type !== TPM_ALG.ECC) throw new Error('not ECC');
    const aes256 = { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CFB } as const;
    const template = { ...storageRootKey, parameters: { ...storageRootKey.parameters, symmetric: aes256 } };
    await persist(tpm, TPM_RH.OWNER, template, 0x81000002);
    await rejects(
      loadKey(tpm, 'srk'),
      KeyError,
      (e) => e.code === 'wrong-template' && e.differs.join() === 'parameters',
    );
  }));

test('the name pinned at enrolment decides', () =>
  withTpm(async (tpm) => {
    const { srk, ak } = await provisionKeys(tpm);
    assert.equal((await loadKeys(tpm, { srk: srk.name })).srk, srk);
    await rejects(
      loadKeys(tpm, { srk: ak.name }),
      KeyError,
      (e) => e.code === 'wrong-name' && e.role === 'srk',
    );
    await rejects(
      provisionKeys(tpm, { ak: srk.name }),
      KeyError,
      (e) => e.code === 'wrong-name' && e.role === 'ak',
    );
  }));

test('signatures of the device key: 64 bytes that verify as ES256', () =>
  withTpm(async (tpm) => {
    const { device, ak, srk } = await provisionKeys(tpm);
    const key = publicKeyOf(device.public);
    const message = Buffer.from('an envelope');
    for (let i = 0; i < 40; i++) {
      const signature = await signDigest(tpm, device, hash('sha256', message));
      assert.is(signature.length, 64);
      assert.ok(verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature));
    }
    const other = await signDigest(tpm, device, hash('sha256', Buffer.from('another')));
    assert.not(createVerify('sha256').update(message).verify({ key, dsaEncoding: 'ieee-p1363' }, other));
    await rejects(signDigest(tpm, device, new Uint8Array(20)), TpmError, (e) => e.rcName === 'TPM_RC_SIZE');
    // The attestation key is restricted: it signs no digest from outside.
    await rejects(
      signDigest(tpm, ak, hash('sha256', message)),
      TpmError,
      (e) => e.rcName === 'TPM_RC_TICKET',
    );
    await rejects(signDigest(tpm, srk, hash('sha256', message)), TpmError, (e) => e.rcName === 'TPM_RC_KEY');
  }));

test('ECDH: both sides reach the same point, at full width, and it is not on the wire', () =>
  withFaults(async (tpm, wire) => {
    const { ecdh, srk } = await provisionKeys(tpm);
    if (ecdh.public.type !== TPM_ALG.ECC) throw new Error('not ECC');
    const { x, y } = ecdh.public.unique;
    const theirs = Buffer.concat([Buffer.of(4), fixedWidth(x, 32), fixedWidth(y, 32)]);
    let withLeadingZero = 0;
    for (let i = 0; i < 400 || withLeadingZero === 0; i++) {
      const peer = createECDH('prime256v1');
      const point = peer.generateKeys();
      const shared = peer.computeSecret(theirs);
      // The rare case is the one that goes wrong: run the TPM for it and for a few others.
      if (shared[0] !== 0 && i > 5) continue;
      if (shared[0] === 0) withLeadingZero++;
      const z = await ecdhZ(tpm, ecdh, { x: point.subarray(1, 33), y: point.subarray(33) }, srk);
      assert.is(z.x.length, 32);
      assert.is(z.y.length, 32);
      assert.is(Buffer.from(z.x).toString('hex'), shared.toString('hex').padStart(64, '0'));
      assert.not(wire.saw(z.x.subarray(1)));
    }
    const off = { x: new Uint8Array(32).fill(1), y: new Uint8Array(32).fill(1) };
    await rejects(ecdhZ(tpm, ecdh, off, srk), TpmError, (e) => e.rcName === 'TPM_RC_ECC_POINT');
  }));

test('attributes say who may do what', () =>
  withTpm(async (tpm) => {
    const keys = await provisionKeys(tpm);
    for (const [role, { public: area }] of Object.entries(keys)) {
      const { fixedTPM, fixedParent, sensitiveDataOrigin } = area.objectAttributes;
      assert.ok(fixedTPM && fixedParent && sensitiveDataOrigin, role);
    }
    assert.equal(
      keys.ak.public.objectAttributes,
      TPMA_OBJECT.of(
        'fixedTPM',
        'fixedParent',
        'sensitiveDataOrigin',
        'userWithAuth',
        'noDA',
        'restricted',
        'sign',
      ),
    );
    assert.equal(keys.ek.public.authPolicy, endorsementKey['L-2'].authPolicy);
  }));

test.run();
