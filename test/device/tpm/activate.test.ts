import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCredential } from '../../../controller/enrol/credential.ts';
import { activateCredential } from '../../../device/tpm/activate.ts';
import { TpmError } from '../../../device/tpm/execute.ts';
import { type Key, provisionKeys, provisionRsaEk } from '../../../device/tpm/keys.ts';
import type { Tpm } from '../../../device/tpm/tpm.ts';
import { MakeCredential } from '../../../formats/tpm2/commands.ts';
import { TPM_ALG } from '../../../formats/tpm2/constants.ts';
import type { TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { rejects } from '../../kit/rejects.ts';
import { leftovers, withTpm } from '../../kit/tpm.ts';
import { withFaults } from '../../kit/tpm-faults.ts';

const secret = Uint8Array.from(Buffer.from('prove that you are who you say!!'));

async function endorsementKeys(tpm: Tpm): Promise<{ ak: Key; srk: Key; eks: [string, Key][] }> {
  const { ak, srk, ek } = await provisionKeys(tpm);
  return {
    ak,
    srk,
    eks: [
      ['P-256', ek],
      ['RSA 2048', await provisionRsaEk(tpm)],
    ],
  };
}

test('[TPM2 P1 24] a credential made in software opens in the TPM, and its secret is not on the wire', () =>
  withFaults(async (tpm, wire) => {
    const { ak, srk, eks } = await endorsementKeys(tpm);
    for (const [name, ek] of eks)
      for (const size of [1, 20, 32]) {
        const value = Uint8Array.from(randomBytes(size));
        const credential = makeCredential({ ekPublic: ek.public, akName: ak.name, secret: value });
        assert.equal(await activateCredential(tpm, { ak, ek, salt: srk }, credential), value, name);
        if (size > 8) assert.not(wire.saw(value));
      }
    assert.equal(await leftovers(tpm), []);
  }));

test('a credential that the TPM made opens as well', () =>
  withTpm(async (tpm) => {
    const { ak, srk, eks } = await endorsementKeys(tpm);
    for (const [, ek] of eks) {
      const made = await tpm.execute(MakeCredential, { handle: ek, credential: secret, objectName: ak.name });
      const credential = { credentialBlob: made.credentialBlob, encryptedSecret: made.secret };
      assert.equal(await activateCredential(tpm, { ak, ek, salt: srk }, credential), secret);
    }
  }));

test('for another attestation key, another TPM, or changed on the way: refused, nothing left behind', () =>
  withTpm(async (tpm) => {
    const { ak, srk, eks } = await endorsementKeys(tpm);
    for (const [name, ek] of eks) {
      const good = makeCredential({ ekPublic: ek.public, akName: ak.name, secret });
      const forOther = makeCredential({ ekPublic: ek.public, akName: srk.name, secret });
      const keys = { ak, ek, salt: srk };
      await rejects(
        activateCredential(tpm, keys, forOther),
        TpmError,
        (e) => e.rcName === 'TPM_RC_INTEGRITY',
      );
      for (const at of [5, 34, good.credentialBlob.length - 1]) {
        const credentialBlob = good.credentialBlob.with(at, (good.credentialBlob[at] as number) ^ 1);
        await rejects(
          activateCredential(tpm, keys, { ...good, credentialBlob }),
          TpmError,
          (e) => e.rcName === 'TPM_RC_INTEGRITY',
        );
      }
      const encryptedSecret = good.encryptedSecret.with(10, (good.encryptedSecret[10] as number) ^ 1);
      await rejects(
        activateCredential(tpm, keys, { ...good, encryptedSecret }),
        TpmError,
        (e) => e.command === 'TPM2_ActivateCredential',
      );
      await withTpm(async (other) => {
        const theirs = await endorsementKeys(other);
        const theirEk = theirs.eks.find(([kind]) => kind === name)?.[1] as Key;
        await rejects(
          activateCredential(other, { ak: theirs.ak, ek: theirEk, salt: theirs.srk }, good),
          TpmError,
          (e) => e.command === 'TPM2_ActivateCredential',
        );
        assert.equal(await leftovers(other), []);
      });
      assert.equal(await activateCredential(tpm, keys, good), secret);
    }
    assert.equal(await leftovers(tpm), []);
  }));

test('what is no endorsement key, or no fitting secret, is refused by the controller', () =>
  withTpm(async (tpm) => {
    const { ak, ek, device, ecdh } = await provisionKeys(tpm);
    const refused = (ekPublic: TPMT_PUBLIC, value: Uint8Array, message: RegExp) =>
      assert.throws(
        () => makeCredential({ ekPublic, akName: ak.name, secret: value }),
        (e: unknown) => e instanceof Error && message.test(e.message),
        String(message),
      );
    refused(ak.public, secret, /restricted decryption key/);
    refused(device.public, secret, /restricted decryption key/);
    refused(ecdh.public, secret, /restricted decryption key/);
    refused(ek.public, new Uint8Array(33), /1 to 32 bytes/);
    refused(ek.public, new Uint8Array(), /1 to 32 bytes/);
    if (ek.public.type !== TPM_ALG.ECC) throw new Error('not ECC');
    const offCurve = {
      ...ek.public,
      unique: { x: new Uint8Array(32).fill(1), y: new Uint8Array(32).fill(2) },
    };
    assert.throws(() => makeCredential({ ekPublic: offCurve, akName: ak.name, secret }));
    refused(
      { ...ek.public, parameters: { ...ek.public.parameters, curveID: 0x10 } },
      secret,
      /curve unknown here/,
    );
    refused({ ...ek.public, nameAlg: 0x12 }, secret, /nameAlg/);
  }));

test.run();
