import { generateKeyPairSync } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TpmError } from '../../../device/tpm/execute.ts';
import { hash } from '../../../device/tpm/hash.ts';
import { type Key, provisionKeys, provisionRsaEk } from '../../../device/tpm/keys.ts';
import { readNvPublic, writeNv } from '../../../device/tpm/nv.ts';
import { reachedDigest, runPolicy } from '../../../device/tpm/policy.ts';
import { SessionError, withSession } from '../../../device/tpm/session.ts';
import type { Tpm } from '../../../device/tpm/tpm.ts';
import { FormatError } from '../../../formats/format-error.ts';
import {
  Create,
  CreatePrimary,
  GetRandom,
  Load,
  NV_DefineSpace,
  NV_Read,
  Unseal,
} from '../../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_RH } from '../../../formats/tpm2/constants.ts';
import { objectName } from '../../../formats/tpm2/names.ts';
import { policyDigest } from '../../../formats/tpm2/policy.ts';
import { TPMA_NV, TPMA_OBJECT, type TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { sealedObject } from '../../../formats/tpm2/templates.ts';
import { rejects } from '../../kit/rejects.ts';
import { leftovers, withTpm } from '../../kit/tpm.ts';
import { changed, isCommand, withFaults } from '../../kit/tpm-faults.ts';

const secret = Buffer.from('a secret of thirty-two bytes, ok');
const none = new Uint8Array();

async function createSealed(tpm: Tpm, srk: Key, inPublic: TPMT_PUBLIC, userAuth: Uint8Array = none) {
  return withSession(tpm, { type: 'hmac', salt: srk }, (session) =>
    tpm.execute(
      Create,
      {
        parentHandle: srk,
        inSensitive: { userAuth, data: secret },
        inPublic,
        outsideInfo: none,
        creationPCR: [],
      },
      [{ session, decrypt: true, encrypt: true }],
    ),
  );
}

function salts(keys: { srk: Key; ek: Key }, rsaEk: Key): [string, Key][] {
  return [
    ['SRK on P-256', keys.srk],
    ['EK on P-256', keys.ek],
    ['EK with RSA 2048', rsaEk],
  ];
}

test('[TPM2 P1 19.6] sessions salted with each kind of key encrypt both ways', () =>
  withFaults(async (tpm, wire) => {
    const keys = await provisionKeys(tpm);
    for (const [name, salt] of salts(keys, await provisionRsaEk(tpm)))
      for (const authHash of ['sha256', 'sha384'] as const) {
        wire.forget();
        await withSession(tpm, { type: 'hmac', salt, authHash }, async (session) => {
          for (let i = 0; i < 5; i++) {
            const { randomBytes } = await tpm.execute(GetRandom, { bytesRequested: 32 }, [
              { session, encrypt: true },
            ]);
            assert.not(wire.saw(randomBytes), `${name}: the random bytes were on the wire`);
          }
        });
      }
    wire.forget();
    const { randomBytes } = await tpm.execute(GetRandom, { bytesRequested: 32 });
    assert.ok(wire.saw(randomBytes), 'without a session they are');
  }));

test('nonces roll: no two commands of a session carry the same', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    await withSession(tpm, { type: 'hmac', salt: srk }, async (session) => {
      for (let i = 0; i < 20; i++) await tpm.random(8, session);
    });
    const nonces = wire.commands
      .filter((c) => isCommand(c, 'GetRandom'))
      .map((c) => Buffer.from(c.subarray(20, 36)).toString('hex'));
    assert.is(new Set(nonces).size, 20);
  }));

test('every changed bit of a response is noticed, and the session is over', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    // 10 header, 4 parameterSize, 2+16 parameter, 2+16 nonce, 1 attributes, 2+32 hmac.
    const length = 85;
    for (let at = 14; at < length; at++) {
      wire.fault = changed('GetRandom', (response) => {
        assert.is(response.length, length);
        response[at] = (response[at] as number) ^ 0x01;
      });
      await withSession(tpm, { type: 'hmac', salt: srk }, async (session) => {
        const use = () => tpm.execute(GetRandom, { bytesRequested: 16 }, [{ session, encrypt: true }]);
        // Sizes are part of the frame: where they no longer fit, that comes first.
        try {
          await use();
          assert.unreachable(`a changed bit in byte ${at} passed`);
        } catch (error) {
          const mismatch = error instanceof SessionError && error.code === 'hmac-mismatch';
          assert.ok(
            mismatch || (error instanceof FormatError && error.path.startsWith('response')),
            `byte ${at}: ${error}`,
          );
          if (mismatch) assert.match((error as Error).message, /^response HMAC mismatch/);
        }
        await rejects(use(), SessionError, (e) => e.code === 'broken');
      });
    }
    wire.fault = undefined;
    assert.equal(await leftovers(tpm), []);
  }));

test('a changed command is refused by the TPM', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    wire.fault = async (command, send) =>
      send(isCommand(command, 'GetRandom') ? command.with(command.length - 1, 17) : command);
    await withSession(tpm, { type: 'hmac', salt: srk }, (session) =>
      rejects(
        tpm.execute(GetRandom, { bytesRequested: 16 }, [{ session, encrypt: true }]),
        TpmError,
        (e) => e.rcName === 'TPM_RC_BAD_AUTH',
      ),
    );
  }));

test('a key from the bus does not replace the pinned one', () =>
  withFaults(async (tpm, wire) => {
    const { srk, ek } = await provisionKeys(tpm);
    const { x, y } = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
    const bytes = (text = '') => Uint8Array.from(Buffer.from(text, 'base64url'));
    const theirs = { ...srk.public, unique: { x: bytes(x), y: bytes(y) } } as TPMT_PUBLIC;
    wire.forget();
    await rejects(
      withSession(tpm, { type: 'hmac', salt: { ...srk, public: theirs } }, async () => {}),
      SessionError,
      (e) => e.code === 'salt-key-name' && e.message.includes('pinned is 000b'),
    );
    await rejects(
      withSession(tpm, { type: 'hmac', salt: { ...srk, name: ek.name } }, async () => {}),
      SessionError,
      (e) => e.code === 'salt-key-name',
    );
    assert.is(wire.commands.length, 0, 'nothing was sent');

    // With its own name it starts, but the TPM has another private key, so the keys differ.
    const named = { handle: srk.handle, public: theirs, name: objectName(hash, theirs) };
    await rejects(
      withSession(tpm, { type: 'hmac', salt: named }, (session) => tpm.random(8, session)),
      TpmError,
      (e) => e.rcName === 'TPM_RC_BAD_AUTH',
    );
  }));

test('whoever answers in the place of the TPM is found out', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    await withFaults(async (other, wire) => {
      await provisionKeys(other);
      wire.fault = async (command, send) => send(command);
      // The other TPM has a key at the same handle, but not the pinned one: the salt decrypts to something else.
      await rejects(
        withSession(other, { type: 'hmac', salt: srk }, (session) => other.random(8, session)),
        TpmError,
        (e) => e.rcName === 'TPM_RC_BAD_AUTH',
      );
    });
  }));

test('a session that only encrypts, beside a password and beside another session', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    const args = {
      parentHandle: srk,
      inSensitive: { userAuth: none, data: secret },
      inPublic: sealedObject(new Uint8Array(32)),
      outsideInfo: none,
      creationPCR: [],
    };
    await withSession(tpm, { type: 'hmac', salt: srk }, async (first) => {
      await tpm.execute(Create, args, [undefined, { session: first, decrypt: true, encrypt: true }]);
      await withSession(tpm, { type: 'hmac', salt: srk }, async (second) => {
        await tpm.execute(Create, args, [
          { session: first },
          { session: second, decrypt: true, encrypt: true },
        ]);
        await tpm.execute(Create, args, [
          { session: first, decrypt: true },
          { session: second, encrypt: true },
        ]);
        await withSession(tpm, { type: 'hmac', salt: srk }, (third) =>
          tpm.execute(Create, args, [
            { session: first },
            { session: second, encrypt: true },
            { session: third, decrypt: true },
          ]),
        );
      });
    });
    assert.not(wire.saw(secret));
    await tpm.execute(Create, args);
    assert.ok(wire.saw(secret), 'without a session it is there');
  }));

test('an authValue counts in HMAC sessions, in PolicyAuthValue and in the encryption key', () =>
  withFaults(async (tpm, wire) => {
    const { srk } = await provisionKeys(tpm);
    // Trailing zeros do not count [TPM2 P1 19.6.4.3].
    const authValue = Buffer.from('open sesame\0\0');
    const inPublic = {
      ...sealedObject(policyDigest(hash, 'sha256', [{ policy: 'PolicyAuthValue' }])),
      objectAttributes: TPMA_OBJECT.of('fixedTPM', 'fixedParent', 'userWithAuth', 'noDA'),
    };
    const { outPrivate, outPublic } = await createSealed(tpm, srk, inPublic, authValue);
    const { objectHandle } = await tpm.execute(Load, {
      parentHandle: srk,
      inPrivate: outPrivate,
      inPublic: outPublic,
    });
    await tpm.flushing(objectHandle, async (handle) => {
      const itemHandle = { handle, name: objectName(hash, outPublic), authValue };
      wire.forget();
      await withSession(tpm, { type: 'hmac', salt: srk }, async (session) => {
        const { outData } = await tpm.execute(Unseal, { itemHandle }, [{ session, encrypt: true }]);
        assert.equal(Buffer.from(outData), secret);
        await rejects(
          tpm.execute(Unseal, { itemHandle: { ...itemHandle, authValue: none } }, [
            { session, encrypt: true },
          ]),
          TpmError,
          (e) => e.rcName === 'TPM_RC_BAD_AUTH' && e.kind === 'session' && e.number === 1,
        );
      });
      await withSession(tpm, { type: 'policy', salt: srk }, async (session) => {
        for (let i = 0; i < 2; i++) {
          await runPolicy(tpm, session, [{ policy: 'PolicyAuthValue' }]);
          const { outData } = await tpm.execute(Unseal, { itemHandle }, [{ session, encrypt: true }]);
          assert.equal(Buffer.from(outData), secret, 'the session serves again after its policy is used up');
        }
      });
      assert.not(wire.saw(secret) || wire.saw(Buffer.from('open sesame')));
      const { outData } = await tpm.execute(Unseal, { itemHandle });
      assert.equal(Buffer.from(outData), secret);
      assert.ok(wire.saw(Buffer.from('open sesame')), 'a password is in the clear');
    });
  }));

test('[TPM2 P3 23] a policy has the same digest on the TPM and off it', () =>
  withTpm(async (tpm) => {
    const { ek } = await provisionKeys(tpm);
    const entityName = Uint8Array.of(0x40, 0, 0, 0x0b);
    const authority = { handle: TPM_RH.ENDORSEMENT };
    const policies: Parameters<typeof runPolicy>[2][] = [
      [],
      [{ policy: 'PolicySecret', entityName }],
      [{ policy: 'PolicySecret', entityName, policyRef: Buffer.from('ref') }, { policy: 'PolicyAuthValue' }],
      [{ policy: 'PolicyCommandCode', code: 0x15e }, { policy: 'PolicyAuthValue' }],
      [
        {
          policy: 'PolicyLocality',
          locality: { zero: true, one: true, two: false, three: false, four: false, extended: 0 },
        },
      ],
    ];
    for (const type of ['trial', 'policy'] as const)
      for (const authHash of ['sha1', 'sha256', 'sha384', 'sha512'] as const)
        for (const policy of policies)
          await withSession(tpm, { type, authHash }, async (session) => {
            await runPolicy(tpm, session, policy, { authority });
            assert.equal(
              await reachedDigest(tpm, session),
              policyDigest(hash, authHash, policy),
              JSON.stringify(policy),
            );
          });

    // PolicyOR: a trial session takes any branch, a policy session only one that it has reached.
    const branches = policies.slice(1, 4).map((policy) => policyDigest(hash, 'sha256', policy));
    const or = { policy: 'PolicyOR', digests: branches } as const;
    await withSession(tpm, { type: 'policy' }, async (session) => {
      await rejects(runPolicy(tpm, session, [or]), TpmError, (e) => e.rcName === 'TPM_RC_VALUE');
      await runPolicy(tpm, session, [...(policies[1] ?? []), or], { authority });
      assert.equal(await reachedDigest(tpm, session), policyDigest(hash, 'sha256', [or]));
    });
    await withSession(tpm, { type: 'trial' }, async (session) => {
      const authorize = {
        policy: 'PolicyAuthorize',
        keyName: ek.name,
        policyRef: Buffer.from('v1'),
      } as const;
      const ticket = { tag: 0x8022, hierarchy: TPM_RH.NULL, digest: none };
      await runPolicy(tpm, session, [authorize], { approved: { policy: new Uint8Array(32), ticket } });
      assert.equal(await reachedDigest(tpm, session), policyDigest(hash, 'sha256', [authorize]));
      await rejects(runPolicy(tpm, session, [{ policy: 'PolicySecret', entityName }]), TypeError, (e) =>
        e.message.includes('needs an authority'),
      );
    });
  }));

test('PolicyNV: a counter against roll-back, on the TPM and off it', () =>
  withTpm(async (tpm) => {
    const nvIndex = 0x01800010;
    await tpm.execute(NV_DefineSpace, {
      authHandle: TPM_RH.OWNER,
      auth: none,
      publicInfo: {
        nvIndex,
        nameAlg: TPM_ALG.SHA256,
        attributes: TPMA_NV.of('OWNERREAD', 'OWNERWRITE'),
        authPolicy: none,
        dataSize: 8,
      },
    });
    await rejects(
      tpm.execute(NV_Read, { authHandle: TPM_RH.OWNER, nvIndex, size: 8, offset: 0 }),
      TpmError,
      (e) => e.rcName === 'TPM_RC_NV_UNINITIALIZED',
    );
    await writeNv(tpm, nvIndex, new Uint8Array(8).fill(3));
    const { name } = await readNvPublic(tpm, nvIndex);
    const policy = [
      {
        policy: 'PolicyNV',
        indexName: name,
        operandB: new Uint8Array(8).fill(4),
        offset: 0,
        operation: 0x0005,
      },
    ] as const;
    await withSession(tpm, { type: 'policy' }, async (session) => {
      await runPolicy(tpm, session, policy, {
        authority: { handle: TPM_RH.OWNER },
        index: { handle: nvIndex, name },
      });
      assert.equal(await reachedDigest(tpm, session), policyDigest(hash, 'sha256', policy));
    });
  }));

test('a session is flushed whatever the work does', () =>
  withTpm(async (tpm) => {
    const { srk } = await provisionKeys(tpm);
    await rejects(
      withSession(tpm, { type: 'policy', salt: srk }, async () => {
        throw new Error('on purpose');
      }),
      Error,
      (e) => e.message === 'on purpose',
    );
    await rejects(
      withSession(tpm, { type: 'hmac', salt: srk }, () =>
        tpm.execute(CreatePrimary, {
          primaryHandle: 0x40000042,
          inSensitive: { userAuth: none, data: none },
          inPublic: sealedObject(none),
          outsideInfo: none,
          creationPCR: [],
        }),
      ),
      TpmError,
      (e) => e.kind === 'handle' && e.number === 1,
    );
    // A TPM loads three sessions at a time: were one left, this would not work often.
    for (let i = 0; i < 10; i++)
      await withSession(tpm, { type: 'hmac', salt: srk }, (session) => tpm.random(4, session));
    assert.equal(await leftovers(tpm), []);
  }));

test.run();
