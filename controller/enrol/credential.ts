// MakeCredential in software: a secret that only a TPM with this endorsement key *and* an attestation key of this name
// can read [TPM2 Part 1, 24]. No TPM is needed here.
import {
  constants,
  createCipheriv,
  createECDH,
  createHash,
  createHmac,
  createPublicKey,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { encode } from '../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_ECC_CURVE } from '../../formats/tpm2/constants.ts';
import {
  concat,
  digestSize,
  type Hash,
  type HashName,
  type Hmac,
  hashName,
} from '../../formats/tpm2/hash.ts';
import { kdfA, kdfE } from '../../formats/tpm2/kdf.ts';
import { coordinateSize, fixedWidth, publicJwk } from '../../formats/tpm2/spki.ts';
import { TPM2B_DIGEST, TPMS_ECC_POINT, type TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';

export interface CredentialRequest {
  /** Public area of the endorsement key: a restricted decryption key, RSA or on a NIST curve. */
  ekPublic: TPMT_PUBLIC;
  /** Name of the attestation key, as computed from its public area. */
  akName: Uint8Array;
  /** At most as long as a digest of the endorsement key's nameAlg: 32 bytes. */
  secret: Uint8Array;
}

export interface MadeCredential {
  /** Contents of a TPM2B_ID_OBJECT. */
  credentialBlob: Uint8Array;
  /** Contents of a TPM2B_ENCRYPTED_SECRET. */
  encryptedSecret: Uint8Array;
}

const hash: Hash = (algorithm, data) => createHash(algorithm).update(data).digest();
const hmac: Hmac = (algorithm, key, data) => createHmac(algorithm, key).update(data).digest();

const label = 'IDENTITY';
const none = new Uint8Array();
const curveNames = new Map<number, string>([
  [TPM_ECC_CURVE.NIST_P256, 'prime256v1'],
  [TPM_ECC_CURVE.NIST_P384, 'secp384r1'],
  [TPM_ECC_CURVE.NIST_P521, 'secp521r1'],
]);

interface Seed {
  seed: Uint8Array;
  encryptedSecret: Uint8Array;
}

type EccPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>;

/** One-pass Diffie-Hellman with a key used once [TPM2 Part 1, C.6.1]. */
function eccSeed({ parameters, unique }: EccPublic, nameAlg: HashName): Seed {
  const curve = curveNames.get(parameters.curveID);
  const size = coordinateSize(parameters.curveID);
  if (!curve || size === undefined) throw new RangeError('the endorsement key is on a curve unknown here');
  const x = fixedWidth(unique.x, size);
  const ephemeral = createECDH(curve);
  const point = ephemeral.generateKeys();
  const own = { x: point.subarray(1, 1 + size), y: point.subarray(1 + size) };
  const z = fixedWidth(
    ephemeral.computeSecret(concat(Uint8Array.of(4), x, fixedWidth(unique.y, size))),
    size,
  );
  return {
    seed: kdfE(hash, nameAlg, z, label, own.x, x, 8 * digestSize(nameAlg)),
    encryptedSecret: encode(TPMS_ECC_POINT, own),
  };
}

/** RSAES-OAEP; the label includes its zero byte [TPM2 Part 1, B.10.3]. */
function rsaSeed(ekPublic: TPMT_PUBLIC, nameAlg: HashName): Seed {
  const seed = randomBytes(digestSize(nameAlg));
  const encryptedSecret = publicEncrypt(
    {
      key: createPublicKey({ key: publicJwk(ekPublic), format: 'jwk' }),
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: nameAlg,
      oaepLabel: Buffer.from(`${label}\0`),
    },
    seed,
  );
  return { seed, encryptedSecret };
}

/** Key size in bits of the AES-CFB that the endorsement key protects with. */
function protection(ekPublic: TPMT_PUBLIC): 128 | 192 | 256 {
  const { restricted, decrypt } = ekPublic.objectAttributes;
  if (ekPublic.type !== TPM_ALG.ECC && ekPublic.type !== TPM_ALG.RSA)
    throw new RangeError('an endorsement key is RSA or ECC');
  const { symmetric } = ekPublic.parameters;
  const { algorithm } = symmetric;
  if (!restricted || !decrypt || algorithm !== TPM_ALG.AES || symmetric.mode !== TPM_ALG.CFB)
    throw new RangeError('an endorsement key is a restricted decryption key with AES in CFB mode');
  const { keyBits } = symmetric;
  if (keyBits !== 128 && keyBits !== 192 && keyBits !== 256)
    throw new RangeError(`no AES with ${keyBits} bits`);
  return keyBits;
}

/**
 * Encrypts `secret` for the TPM that has `ekPublic` and an object named `akName`.
 * @throws RangeError if the endorsement key is of a kind that cannot be used here, or the secret is too long for it.
 * @throws Error of node:crypto if its point is not on its curve.
 */
export function makeCredential({ ekPublic, akName, secret }: CredentialRequest): MadeCredential {
  const keyBits = protection(ekPublic);
  const nameAlg = hashName(ekPublic.nameAlg);
  if (!nameAlg) throw new RangeError('the nameAlg of the endorsement key cannot be computed here');
  if (secret.length === 0 || secret.length > digestSize(nameAlg))
    throw new RangeError(`a credential holds 1 to ${digestSize(nameAlg)} bytes`);
  const { seed, encryptedSecret } =
    ekPublic.type === TPM_ALG.ECC ? eccSeed(ekPublic, nameAlg) : rsaSeed(ekPublic, nameAlg);

  const key = kdfA(hmac, nameAlg, seed, 'STORAGE', akName, none, keyBits);
  // The key is used once, so the IV is zero [TPM2 Part 1, 24.4].
  const cipher = createCipheriv(`aes-${keyBits}-cfb`, key, new Uint8Array(16));
  const encIdentity = concat(cipher.update(encode(TPM2B_DIGEST, secret)), cipher.final());
  const hmacKey = kdfA(hmac, nameAlg, seed, 'INTEGRITY', none, none, 8 * digestSize(nameAlg));
  const integrity = hmac(nameAlg, hmacKey, concat(encIdentity, akName));
  return { credentialBlob: concat(encode(TPM2B_DIGEST, integrity), encIdentity), encryptedSecret };
}
