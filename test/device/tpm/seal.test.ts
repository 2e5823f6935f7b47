import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TpmError } from '../../../device/tpm/execute.ts';
import { hash } from '../../../device/tpm/hash.ts';
import { provisionKeys } from '../../../device/tpm/keys.ts';
import { reachedDigest, runPolicy } from '../../../device/tpm/policy.ts';
import {
  decodeSealedBlob,
  encodeSealedBlob,
  PolicyMismatch,
  type SealedBlob,
  SealRefused,
  seal,
  unseal,
} from '../../../device/tpm/seal.ts';
import { SessionError, withSession } from '../../../device/tpm/session.ts';
import { FormatError } from '../../../formats/format-error.ts';
import { Load, PolicyPCR, Unseal } from '../../../formats/tpm2/commands.ts';
import { concat } from '../../../formats/tpm2/hash.ts';
import { pcrDigest, pcrSelection } from '../../../formats/tpm2/pcrs.ts';
import { policyDigest } from '../../../formats/tpm2/policy.ts';
import { rejects } from '../../kit/rejects.ts';
import { leftovers, someDigest, withTpm } from '../../kit/tpm.ts';
import { changed, isCommand, withFaults } from '../../kit/tpm-faults.ts';

const secret = Uint8Array.from(Buffer.from('the master key of the vault, 32b'));
/** EVE's default set. */
const pcrs = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14];
const booted = { extended: [0, 2, 4, 7, 8, 9, 13, 14] };

test('sealed and opened; the secret is never on the wire, in either direction', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    assert.equal([...blob.pcrs.keys()], pcrs);
    assert.equal(blob.pcrs, await tpm.pcrRead('sha256', pcrs));
    for (let i = 0; i < 3; i++) assert.equal(await unseal(tpm, srk, blob), secret);
    assert.ok(wire.commands.length > 20);
    assert.not(wire.saw(secret));
    assert.not(wire.saw(secret.subarray(0, 8)));
    assert.not(Buffer.from(encodeSealedBlob(blob)).includes(Buffer.from(secret)));
  }, booted));

for (const pcr of [4, 14])
  test(`after an extend of PCR ${pcr}, unsealing names exactly that PCR`, () =>
    withTpm(async (tpm) => {
      const { srk } = await provisionKeys(tpm);
      const blob = await seal(tpm, srk, secret, { pcrs });
      const before = blob.pcrs.get(pcr);
      await tpm.pcrExtend(pcr, { sha256: someDigest(77) });
      await rejects(unseal(tpm, srk, blob), PolicyMismatch, (e) => {
        assert.equal(e.pcrs, [pcr]);
        assert.is(e.bank, 'sha256');
        assert.is(e.message, `sealed to other values of PCR ${pcr}`);
        assert.equal(e.differences[0]?.sealed, before);
        return (
          Buffer.compare(
            e.differences[0]?.current as Uint8Array,
            hash('sha256', concat(before as Uint8Array, someDigest(77))),
          ) === 0
        );
      });
      // PCR 5 and 15 are not in the set.
      assert.equal(await leftovers(tpm), []);
    }, booted));

test('PCRs outside the set do not matter; several inside are all named', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    for (const pcr of [5, 15, 16]) await tpm.pcrExtend(pcr, { sha256: someDigest(1) });
    assert.equal(await unseal(tpm, srk, blob), secret);
    for (const pcr of [13, 8, 9]) await tpm.pcrExtend(pcr, { sha256: someDigest(1) });
    await rejects(
      unseal(tpm, srk, blob),
      PolicyMismatch,
      (e) => assert.equal(e.pcrs, [8, 9, 13]) === undefined,
    );
  }, booted));

test('sealed to the values of a boot to come: opens only then', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    const now = await tpm.pcrRead('sha256', pcrs);
    const values = new Map(now).set(13, hash('sha256', concat(now.get(13) as Uint8Array, someDigest(99))));
    const blob = await seal(tpm, srk, secret, { pcrs, values });
    await rejects(unseal(tpm, srk, blob), PolicyMismatch, (e) => assert.equal(e.pcrs, [13]) === undefined);
    await tpm.pcrExtend(13, { sha256: someDigest(99) });
    assert.equal(await unseal(tpm, srk, blob), secret);
    const incomplete = new Map(values);
    incomplete.delete(9);
    await rejects(
      seal(tpm, srk, secret, { pcrs, values: incomplete }),
      TypeError,
      (e) => e.message === 'no sha256 value given for PCR 9',
    );
    const short = new Map(values).set(9, new Uint8Array(20));
    await rejects(seal(tpm, srk, secret, { pcrs, values: short }), TypeError, (e) =>
      e.message.endsWith('for PCR 9'),
    );
  }, booted));

test('[#6162] PCR 0 or 4 that was never extended: nothing is sealed', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    wire.forget();
    const refused = (options: Parameters<typeof seal>[3], expected: number[]) =>
      rejects(
        seal(tpm, srk, secret, options),
        SealRefused,
        (e) => e.code === 'pcr-not-extended' && assert.equal(e.pcrs, expected) === undefined,
      );
    await refused({ pcrs }, [0, 4]);
    await refused({ pcrs: [7] }, [0, 4]);
    await tpm.pcrExtend(0, { sha256: someDigest(0) });
    await refused({ pcrs }, [4]);
    await refused({ pcrs, values: new Map(pcrs.map((pcr) => [pcr, new Uint8Array(32)])) }, [0, 4]);
    // What a TPM started at locality 3 or 4 shows before anything is extended.
    const atLocality3 = new Map(pcrs.map((pcr) => [pcr, someDigest(pcr)])).set(
      0,
      new Uint8Array(32).with(31, 3),
    );
    await refused({ pcrs, values: atLocality3 }, [0]);
    await tpm.pcrExtend(4, { sha256: someDigest(4) });
    await refused({ bank: 'sha1', pcrs }, [0, 4]);
    assert.is(wire.count('Create'), 0);
    await seal(tpm, srk, secret, { pcrs });
  }));

test('values that somebody on the wires put in the place of the true ones are noticed, and nothing is kept under them', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    wire.fault = changed('PCR_Read', (response) => {
      response[response.length - 1] = (response.at(-1) as number) ^ 0x04;
    });
    await rejects(seal(tpm, srk, secret, { pcrs }), PolicyMismatch, () => true);
    wire.fault = undefined;
    assert.equal(await unseal(tpm, srk, await seal(tpm, srk, secret, { pcrs })), secret);
  }, booted));

test('a flipped bit in what comes back is noticed', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    for (const at of [16, 30, 47]) {
      wire.fault = changed('Unseal', (response) => {
        response[at] = (response[at] as number) ^ 0x04;
      });
      await rejects(unseal(tpm, srk, blob), SessionError, (e) => e.code === 'hmac-mismatch');
      wire.fault = changed('Create', (response) => {
        response[at] = (response[at] as number) ^ 0x04;
      });
      await rejects(seal(tpm, srk, secret, { pcrs }), SessionError, (e) => e.code === 'hmac-mismatch');
    }
    wire.fault = undefined;
    assert.equal(await unseal(tpm, srk, blob), secret);
  }, booted));

test('the pinned name decides for sealing and opening, too', () =>
  withTpm(async (tpm) => {
    const { srk, ek } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    const other = { ...srk, name: ek.name };
    await rejects(seal(tpm, other, secret, { pcrs }), SessionError, (e) => e.code === 'salt-key-name');
    await rejects(unseal(tpm, other, blob), SessionError, (e) => e.code === 'salt-key-name');
  }, booted));

test('no other TPM opens it, and no changed blob', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    await withTpm(async (other) => {
      const keys = await provisionKeys(other);
      await rejects(unseal(other, keys.srk, blob), TpmError, (e) => e.rcName === 'TPM_RC_INTEGRITY');
    }, booted);
    const spoiled = {
      ...blob,
      privateBytes: blob.privateBytes.with(40, (blob.privateBytes[40] as number) ^ 1),
    };
    await rejects(
      unseal(tpm, srk, spoiled),
      TpmError,
      (e) => e.rcName === 'TPM_RC_INTEGRITY' && e.command === 'TPM2_Load',
    );
    // A weaker policy in the public area does not go with the private one.
    const opened = {
      ...blob,
      public: { ...blob.public, authPolicy: new Uint8Array() } as SealedBlob['public'],
    };
    await rejects(unseal(tpm, srk, opened), TpmError, (e) => e.rcName === 'TPM_RC_INTEGRITY');
    // The recorded values only explain; a wrong record opens nothing and is told apart.
    const misrecorded = { ...blob, pcrs: new Map([...blob.pcrs].filter(([pcr]) => pcr !== 14)) };
    await rejects(
      unseal(tpm, srk, misrecorded),
      PolicyMismatch,
      (e) => e.pcrs.length === 0 && e.message.includes('does not open'),
    );
    assert.equal(await unseal(tpm, srk, blob), secret);
  }, booted));

test('the policy alone opens it: its empty password does not', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    const load = { parentHandle: srk, inPrivate: blob.privateBytes, inPublic: blob.public };
    const { objectHandle } = await tpm.execute(Load, load);
    await tpm.flushing(objectHandle, (itemHandle) =>
      rejects(tpm.execute(Unseal, { itemHandle }), TpmError, (e) => e.rcName === 'TPM_RC_AUTH_UNAVAILABLE'),
    );
  }, booted));

test('a PCR that changes between policy and opening: tried again, then explained', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs: [0, 4] });
    let disturbances = 1;
    wire.fault = async (command, send) => {
      if (isCommand(command, 'Unseal') && disturbances-- > 0)
        // PCR 16 is not in the policy, but a change of any PCR makes the TPM check again.
        await send(
          Uint8Array.from(
            Buffer.from(
              `800200000041000001820000001000000009400000090000010000${'00000001000b'}${'11'.repeat(32)}`,
              'hex',
            ),
          ),
        );
      return send(command);
    };
    assert.equal(await unseal(tpm, srk, blob), secret);
    disturbances = 1000;
    await rejects(unseal(tpm, srk, blob), TpmError, (e) => e.rcName === 'TPM_RC_PCR_CHANGED');
  }, booted));

test('[TPM2 P3 23.7] the policy digest off the TPM is its own, for any selection', () =>
  withTpm(async (tpm) => {
    const all = await tpm.pcrRead(
      'sha256',
      Array.from({ length: 24 }, (_, i) => i),
    );
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(23), { minLength: 1 }), async (selected) => {
        const selection = [pcrSelection('sha256', selected)];
        const digest = pcrDigest(hash, 'sha256', selection, { sha256: all });
        const policy = [{ policy: 'PolicyPCR', pcrs: selection, pcrDigest: digest }] as const;
        const expected = policyDigest(hash, 'sha256', policy);
        await withSession(tpm, { type: 'policy' }, async (session) => {
          await runPolicy(tpm, session, policy);
          assert.equal(await reachedDigest(tpm, session), expected);
        });
        // A trial session takes the digest from the caller.
        await withSession(tpm, { type: 'trial' }, async (session) => {
          await tpm.execute(PolicyPCR, { policySession: session.handle, pcrDigest: digest, pcrs: selection });
          assert.equal(await reachedDigest(tpm, session), expected);
        });
      }),
      { numRuns: 60 },
    );
  }, booted));

test('a blob at rest: same bytes again; every truncation and any change of the frame is refused', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    const blob = await seal(tpm, srk, secret, { pcrs });
    const bytes = encodeSealedBlob(blob);
    assert.equal(decodeSealedBlob(bytes), blob);
    assert.equal(encodeSealedBlob(decodeSealedBlob(bytes)), bytes);
    for (let length = 0; length < bytes.length; length++)
      assert.throws(
        () => decodeSealedBlob(bytes.subarray(0, length)),
        (e: unknown) => e instanceof FormatError,
      );
    const refused = (at: number, value: number, message: string) =>
      assert.throws(
        () => decodeSealedBlob(bytes.with(at, value)),
        (e: unknown) => e instanceof FormatError && e.message === message,
        message,
      );
    refused(0, 0, 'SealedBlob.magic at byte 0: is no sealed blob');
    refused(5, 9, 'SealedBlob.version at byte 4: is 9, known is 1');
    refused(7, 0x12, 'SealedBlob.bank at byte 6: no bank 0x12');
    refused(12, 200, 'SealedBlob.pcrs at byte 8: names a PCR twice, or one that does not exist');
    refused(12, 1, 'SealedBlob.pcrs at byte 8: names a PCR twice, or one that does not exist');
    refused(11, 25, 'SealedBlob.pcrs at byte 8: count is 25, at most 24');
    refused(7, 0x04, 'SealedBlob.pcrs at byte 8: has a value that is no sha1 digest');
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        try {
          decodeSealedBlob(bytes.with(at, value));
        } catch (error) {
          assert.instance(error, FormatError);
        }
      }),
      { numRuns: 2000 },
    );
  }, booted));

test('secrets of any size up to 128 bytes', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    for (const size of [1, 16, 64, 127, 128]) {
      const value = Uint8Array.from(randomBytes(size));
      assert.equal(await unseal(tpm, srk, await seal(tpm, srk, value, { pcrs: [0, 4] })), value);
    }
    for (const size of [0, 129])
      await rejects(seal(tpm, srk, new Uint8Array(size), { pcrs }), TypeError, (e) =>
        e.message.includes('1 to 128 bytes'),
      );
    await rejects(seal(tpm, srk, secret, { pcrs: [] }), TypeError);
  }, booted));

test.run();
