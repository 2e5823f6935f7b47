// The commands that no other test of device/tpm needs, so that each entry of the table has met a TPM.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TpmError } from '../../../device/tpm/execute.ts';
import { hash } from '../../../device/tpm/hash.ts';
import { loadKeys, provisionKeys } from '../../../device/tpm/keys.ts';
import { reachedDigest, runPolicy } from '../../../device/tpm/policy.ts';
import { withSession } from '../../../device/tpm/session.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import * as commands from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_CC, TPM_RH, TPM_ST } from '../../../formats/tpm2/constants.ts';
import { concat } from '../../../formats/tpm2/hash.ts';
import { objectName } from '../../../formats/tpm2/names.ts';
import { pcrDigest, pcrSelection } from '../../../formats/tpm2/pcrs.ts';
import { approvalDigest, policyDigest } from '../../../formats/tpm2/policy.ts';
import {
  TPMA_OBJECT,
  TPMS_ATTEST,
  type TPMT_PUBLIC,
  TPMT_SENSITIVE,
  type TPMT_SIGNATURE,
} from '../../../formats/tpm2/structures.ts';
import { deviceKey } from '../../../formats/tpm2/templates.ts';
import { rejects } from '../../kit/rejects.ts';
import { leftovers, withTpm } from '../../kit/tpm.ts';
import { codeOf, withFaults } from '../../kit/tpm-faults.ts';

const none = new Uint8Array();
const noScheme = { scheme: TPM_ALG.NULL } as const;

/** A P-256 key outside any TPM: its public area for LoadExternal, its private number, and a signer. */
function softwareKey() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x, y } = publicKey.export({ format: 'jwk' });
  const { d } = privateKey.export({ format: 'jwk' });
  const bytes = (text = '') => Uint8Array.from(Buffer.from(text, 'base64url'));
  const area = {
    ...deviceKey,
    objectAttributes: TPMA_OBJECT.of('userWithAuth', 'sign'),
    unique: { x: bytes(x), y: bytes(y) },
  } as TPMT_PUBLIC;
  const signature = (message: Uint8Array): TPMT_SIGNATURE => {
    const rs = sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    return {
      sigAlg: TPM_ALG.ECDSA,
      signature: { hash: TPM_ALG.SHA256, signatureR: rs.subarray(0, 32), signatureS: rs.subarray(32) },
    };
  };
  return { area, d: bytes(d), signature };
}

test('[TPM2 P3 23.16] PolicyAuthorize: a policy approved later by a key outside opens what was sealed before', () =>
  withTpm(
    async (tpm) => {
      const { srk } = await provisionKeys(tpm);
      const key = softwareKey();
      const keyName = objectName(hash, key.area);
      const policyRef = Buffer.from('boot');
      const authorize = { policy: 'PolicyAuthorize', keyName, policyRef } as const;
      const pcrs = [pcrSelection('sha256', [0, 4])];
      const values = await tpm.pcrRead('sha256', [0, 4]);
      const now = {
        policy: 'PolicyPCR',
        pcrs,
        pcrDigest: pcrDigest(hash, 'sha256', pcrs, { sha256: values }),
      } as const;
      const approved = policyDigest(hash, 'sha256', [now]);
      const message = concat(approved, policyRef);
      const { objectHandle, name } = await tpm.execute(commands.LoadExternal, {
        inPrivate: undefined,
        inPublic: key.area,
        hierarchy: TPM_RH.OWNER,
      });
      assert.equal(name, keyName);
      await tpm.flushing(objectHandle, async (keyHandle) => {
        const digest = approvalDigest(hash, 'sha256', approved, policyRef);
        assert.equal(Buffer.from(digest), createHash('sha256').update(message).digest());
        const { validation } = await tpm.execute(commands.VerifySignature, {
          keyHandle,
          digest,
          signature: key.signature(message),
        });
        await rejects(
          tpm.execute(commands.VerifySignature, {
            keyHandle,
            digest,
            signature: key.signature(Buffer.from('else')),
          }),
          TpmError,
          (e) => e.rcName === 'TPM_RC_SIGNATURE' && e.kind === 'parameter' && e.number === 2,
        );
        await withSession(tpm, { type: 'policy', salt: srk }, async (session) => {
          const inputs = { approved: { policy: approved, ticket: validation } };
          await runPolicy(tpm, session, [now, authorize], inputs);
          assert.equal(await reachedDigest(tpm, session), policyDigest(hash, 'sha256', [authorize]));
          await tpm.execute(commands.PolicyRestart, { sessionHandle: session.handle });
          assert.equal(await reachedDigest(tpm, session), new Uint8Array(32));
          await rejects(
            runPolicy(tpm, session, [authorize], inputs),
            TpmError,
            (e) => e.rcName === 'TPM_RC_VALUE',
          );
        });
      });
    },
    { extended: [0, 4] },
  ));

test('[TPM2 P3 23.3] PolicySigned: a key outside agrees', () =>
  withTpm(async (tpm) => {
    const key = softwareKey();
    const inSensitive = {
      sensitiveType: TPM_ALG.ECC,
      authValue: none,
      seedValue: none,
      sensitive: key.d,
    } as const;
    assert.equal(decode(TPMT_SENSITIVE, encode(TPMT_SENSITIVE, inSensitive)), inSensitive);
    const { objectHandle } = await tpm.execute(commands.LoadExternal, {
      inPrivate: inSensitive,
      inPublic: key.area,
      hierarchy: TPM_RH.NULL,
    });
    await tpm.flushing(objectHandle, (authObject) =>
      withSession(tpm, { type: 'policy' }, async (session) => {
        // expiration 0, no cpHash, no policyRef, no nonce [TPM2 P3 23.3.1].
        const { policyTicket } = await tpm.execute(commands.PolicySigned, {
          authObject,
          policySession: session.handle,
          nonceTPM: none,
          cpHashA: none,
          policyRef: none,
          expiration: 0,
          auth: key.signature(new Uint8Array(4)),
        });
        assert.is(policyTicket.tag, TPM_ST.AUTH_SIGNED);
        const expected = policyDigest(hash, 'sha256', [
          { policy: 'PolicySigned', keyName: objectName(hash, key.area) },
        ]);
        assert.equal(await reachedDigest(tpm, session), expected);
      }),
    );
  }));

test('Certify: one key vouches that another is in the same TPM', () =>
  withTpm(async (tpm) => {
    const { ak, device } = await provisionKeys(tpm);
    const { certifyInfo } = await tpm.execute(commands.Certify, {
      objectHandle: device,
      signHandle: ak,
      qualifyingData: Buffer.from('nonce'),
      inScheme: noScheme,
    });
    const attest = decode(TPMS_ATTEST, certifyInfo);
    assert.is(attest.type, TPM_ST.ATTEST_CERTIFY);
    if (attest.type === TPM_ST.ATTEST_CERTIFY) assert.equal(attest.attested.name, device.name);
    assert.equal(encode(TPMS_ATTEST, attest), certifyInfo);
  }));

test('contexts are saved and loaded', () =>
  withTpm(async (tpm) => {
    const { outPublic, objectHandle } = await tpm.execute(commands.CreatePrimary, {
      primaryHandle: TPM_RH.OWNER,
      inSensitive: { userAuth: none, data: none },
      inPublic: deviceKey,
      outsideInfo: Buffer.from('outside'),
      creationPCR: [pcrSelection('sha256', [0])],
    });
    const { context } = await tpm.flushing(objectHandle, (saveHandle) =>
      tpm.execute(commands.ContextSave, { saveHandle }),
    );
    assert.equal(await leftovers(tpm), []);
    const { loadedHandle } = await tpm.execute(commands.ContextLoad, { context });
    await tpm.flushing(loadedHandle, async (handle) => {
      const read = await tpm.execute(commands.ReadPublic, { objectHandle: handle });
      assert.equal(read.outPublic, outPublic);
    });
  }));

test('hierarchies: an authValue of the owner, and clearing', () =>
  withTpm(async (tpm) => {
    const keys = await provisionKeys(tpm);
    const authValue = Buffer.from('owner');
    await tpm.execute(commands.HierarchyChangeAuth, { authHandle: TPM_RH.OWNER, newAuth: authValue });
    const evict = { objectHandle: keys.device, persistentHandle: keys.device.handle };
    await rejects(
      tpm.execute(commands.EvictControl, { auth: TPM_RH.OWNER, ...evict }),
      TpmError,
      (e) => e.rcName === 'TPM_RC_BAD_AUTH',
    );
    // In a session the authValue is part of the key and not on the wire.
    await withSession(tpm, { type: 'hmac', salt: keys.srk }, (session) =>
      tpm.execute(commands.EvictControl, { auth: { handle: TPM_RH.OWNER, authValue }, ...evict }, [
        { session },
      ]),
    );
    await tpm.execute(commands.DictionaryAttackLockReset, { lockHandle: TPM_RH.LOCKOUT });
    await tpm.execute(commands.Clear, { authHandle: TPM_RH.LOCKOUT });
    await rejects(loadKeys(tpm), Error, (e) => e.message.endsWith('there is no key'));
    const again = await provisionKeys(tpm);
    assert.equal(again.ek.name, keys.ek.name, 'the endorsement seed outlives a clear');
    assert.not.equal(again.srk.name, keys.srk.name, 'the storage seed does not');
  }));

test('self-test, its result, hashing, shutting down', () =>
  withTpm(async (tpm, transport) => {
    await tpm.execute(commands.SelfTest, { fullTest: true });
    assert.is((await tpm.execute(commands.GetTestResult, {})).testResult, 0);
    const { outHash, validation } = await tpm.execute(commands.Hash, {
      data: Buffer.from('abc'),
      hashAlg: TPM_ALG.SHA256,
      hierarchy: TPM_RH.ENDORSEMENT,
    });
    assert.equal(outHash, hash('sha256', Buffer.from('abc')));
    // With this ticket the attestation key signs the digest: it does not look like a quote.
    const { ak } = await provisionKeys(tpm);
    const { signature } = await tpm.execute(commands.Sign, {
      keyHandle: ak,
      digest: outHash,
      inScheme: noScheme,
      validation,
    });
    assert.is(signature.sigAlg, TPM_ALG.ECDSA);
    await tpm.shutdown();
    await transport.powerCycle('none');
    await rejects(tpm.readClock(), TpmError, (e) => e.rcName === 'TPM_RC_INITIALIZE');
    assert.is(await tpm.startup(), true);
  }));

test('every command code of the table is what the specification assigns, and is sent as such', () =>
  withFaults(async (tpm, wire) => {
    for (const [name, code] of Object.entries(TPM_CC)) {
      const command = commands.commandOf(code);
      if (command) assert.is(command.name, name);
    }
    await tpm.readClock();
    assert.is(codeOf(wire.commands[0] as Uint8Array), 0x181);
  }));

test.run();
