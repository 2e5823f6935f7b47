// Starting sessions and ending them: salted, so that nobody on the bus knows their key, and always flushed.
import { constants, createECDH, publicEncrypt, randomBytes } from 'node:crypto';
import { encode } from '../../formats/tpm2/codec.ts';
import { StartAuthSession } from '../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_ECC_CURVE, TPM_RH, TPM_SE } from '../../formats/tpm2/constants.ts';
import { concat, digestSize, type HashName, hashId, hashName } from '../../formats/tpm2/hash.ts';
import { kdfE } from '../../formats/tpm2/kdf.ts';
import { objectName } from '../../formats/tpm2/names.ts';
import { coordinateSize, fixedWidth } from '../../formats/tpm2/spki.ts';
import { TPMS_ECC_POINT, type TPMT_PUBLIC, type TPMT_SYM_DEF } from '../../formats/tpm2/structures.ts';
import { Session, SessionError, sessionKeyOf } from './authorization.ts';
import { hash } from './hash.ts';
import { publicKeyOf } from './public-key.ts';
import type { Tpm } from './tpm.ts';

export { Session, SessionError, type SessionUse } from './authorization.ts';

/**
 * The key whose private half only the right TPM has. `name` is the name pinned at enrolment, not one just read: whoever
 * sits on the bus can answer TPM2_ReadPublic with a key of his own.
 */
export interface SaltKey {
  handle: number;
  public: TPMT_PUBLIC;
  name: Uint8Array;
}

export interface SessionOptions {
  type: Session['type'];
  /** Without it, the session protects nothing on the bus: enough to compute or satisfy a policy. */
  salt?: SaltKey;
  /** Hash of the session and of its policy. Default: sha256. */
  authHash?: HashName;
}

const curveNames = new Map<number, string>([
  [TPM_ECC_CURVE.NIST_P256, 'prime256v1'],
  [TPM_ECC_CURVE.NIST_P384, 'secp384r1'],
  [TPM_ECC_CURVE.NIST_P521, 'secp521r1'],
]);

const label = 'SECRET';
const aes128cfb: TPMT_SYM_DEF = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB };
const types = { hmac: TPM_SE.HMAC, policy: TPM_SE.POLICY, trial: TPM_SE.TRIAL };

interface Salt {
  value: Uint8Array;
  encrypted: Uint8Array;
}

/** One-pass Diffie-Hellman with an ephemeral key of ours [TPM2 Part 1, C.6.1]. */
function eccSalt(publicArea: Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>, nameAlg: HashName): Salt {
  const { curveID } = publicArea.parameters;
  const curve = curveNames.get(curveID);
  const size = coordinateSize(curveID);
  if (!curve || size === undefined) throw new RangeError(`cannot salt with curve 0x${curveID.toString(16)}`);
  const x = fixedWidth(publicArea.unique.x, size);
  const y = fixedWidth(publicArea.unique.y, size);
  const ephemeral = createECDH(curve);
  const point = ephemeral.generateKeys();
  const own = { x: point.subarray(1, 1 + size), y: point.subarray(1 + size) };
  const z = fixedWidth(ephemeral.computeSecret(concat(Uint8Array.of(4), x, y)), size);
  const value = kdfE(hash, nameAlg, z, label, own.x, x, 8 * digestSize(nameAlg));
  z.fill(0);
  return { value, encrypted: encode(TPMS_ECC_POINT, own) };
}

/** RSAES-OAEP; the label includes its zero byte [TPM2 Part 1, B.10.2]. */
function rsaSalt(publicArea: TPMT_PUBLIC, nameAlg: HashName): Salt {
  const value = randomBytes(digestSize(nameAlg));
  const encrypted = publicEncrypt(
    {
      key: publicKeyOf(publicArea),
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: nameAlg,
      oaepLabel: Buffer.from(`${label}\0`),
    },
    value,
  );
  return { value, encrypted };
}

function saltFor(key: SaltKey): Salt {
  const actual = objectName(hash, key.public);
  if (Buffer.compare(actual, key.name) !== 0)
    throw new SessionError(
      'salt-key-name',
      `the salt key at 0x${key.handle.toString(16)} is named ${hex(actual)}, pinned is ${hex(key.name)}`,
    );
  const nameAlg = hashName(key.public.nameAlg);
  if (!nameAlg) throw new RangeError('the nameAlg of the salt key cannot be computed here');
  if (key.public.type === TPM_ALG.ECC) return eccSalt(key.public, nameAlg);
  if (key.public.type === TPM_ALG.RSA) return rsaSalt(key.public, nameAlg);
  throw new RangeError('only an RSA or ECC key can salt a session');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/**
 * Starts a session, hands it out, and flushes it when the work is done or has failed.
 * @throws SessionError `salt-key-name` before anything is sent if the salt key is not the pinned one.
 */
export function withSession<T>(
  tpm: Tpm,
  options: SessionOptions,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const { type, salt: key, authHash = 'sha256' } = options;
  return tpm.exclusive(async () => {
    const salt = key && saltFor(key);
    const nonceCaller = Session.newNonce();
    const { sessionHandle, nonceTPM } = await tpm.execute(StartAuthSession, {
      tpmKey: key?.handle ?? TPM_RH.NULL,
      bind: TPM_RH.NULL,
      nonceCaller,
      encryptedSalt: salt?.encrypted ?? new Uint8Array(),
      sessionType: types[type],
      symmetric: salt ? aes128cfb : { algorithm: TPM_ALG.NULL },
      authHash: hashId(authHash),
    });
    return tpm.flushing(sessionHandle, () => {
      const sessionKey = salt ? sessionKeyOf(authHash, salt.value, nonceTPM, nonceCaller) : new Uint8Array();
      salt?.value.fill(0);
      return work(new Session(sessionHandle, type, authHash, sessionKey, nonceCaller, nonceTPM));
    });
  });
}
