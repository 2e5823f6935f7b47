// Templates of the keys of a device: what CreatePrimary is asked for, and what a verifier finds in a public area.
import { TPM_ALG, TPM_ECC_CURVE } from './constants.ts';
import { TPMA_OBJECT, type TPMT_PUBLIC, type TPMT_SYM_DEF_OBJECT } from './structures.ts';

const empty = new Uint8Array();
const noScheme = { scheme: TPM_ALG.NULL } as const;
const noSymmetric = { algorithm: TPM_ALG.NULL } as const;
const aes128cfb: TPMT_SYM_DEF_OBJECT = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB };

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** PolicySecret of the endorsement hierarchy [TCG EK Credential Profile 2.5, B.6.2]. */
export const endorsementPolicyA = fromHex('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa');
/** PolicyAuthorizeNV of the index that an owner may put a policy of his own in [same, B.6.4]. */
export const endorsementPolicyC = fromHex('3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde');
/** PolicyOR of A and C [same, B.6.3]. */
export const endorsementPolicyB = fromHex('ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0');

type Attribute = Parameters<typeof TPMA_OBJECT.of>[number];

const ours: readonly Attribute[] = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin'];
const endorsement: readonly Attribute[] = [...ours, 'adminWithPolicy', 'restricted', 'decrypt'];

function rsa(attributes: readonly Attribute[], authPolicy: Uint8Array, unique: Uint8Array): TPMT_PUBLIC {
  return {
    type: TPM_ALG.RSA,
    nameAlg: TPM_ALG.SHA256,
    objectAttributes: TPMA_OBJECT.of(...attributes),
    authPolicy,
    parameters: { symmetric: aes128cfb, scheme: noScheme, keyBits: 2048, exponent: 0 },
    unique,
  };
}

type EccScheme = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>['parameters']['scheme'];

function p256(
  attributes: readonly Attribute[],
  symmetric: TPMT_SYM_DEF_OBJECT,
  scheme: EccScheme,
  {
    authPolicy = empty,
    coordinate = new Uint8Array(32),
  }: { authPolicy?: Uint8Array; coordinate?: Uint8Array } = {},
): TPMT_PUBLIC {
  return {
    type: TPM_ALG.ECC,
    nameAlg: TPM_ALG.SHA256,
    objectAttributes: TPMA_OBJECT.of(...attributes),
    authPolicy,
    parameters: { symmetric, scheme, curveID: TPM_ECC_CURVE.NIST_P256, kdf: noScheme },
    unique: { x: coordinate, y: coordinate },
  };
}

/** Endorsement keys, as manufacturers certify them [TCG EK Credential Profile 2.5, B.3 and B.4]. */
export const endorsementKey: Record<'L-1' | 'L-2' | 'H-1' | 'H-2', TPMT_PUBLIC> = {
  /** RSA 2048, low range. */
  'L-1': rsa(endorsement, endorsementPolicyA, new Uint8Array(256)),
  /** ECC P-256, low range. */
  'L-2': p256(endorsement, aes128cfb, noScheme, { authPolicy: endorsementPolicyA }),
  /** RSA 2048, high range. */
  'H-1': rsa([...endorsement, 'userWithAuth'], endorsementPolicyB, empty),
  /** ECC P-256, high range. */
  'H-2': p256([...endorsement, 'userWithAuth'], aes128cfb, noScheme, {
    authPolicy: endorsementPolicyB,
    coordinate: empty,
  }),
};

// noDA: none of our keys has an authValue to guess, and a lock-out would take the device down with it.
const plain: readonly Attribute[] = [...ours, 'userWithAuth', 'noDA'];
const ecdsaSha256: EccScheme = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } };

/** Storage root key: parent of everything sealed, and the key that sessions are salted with. */
export const storageRootKey = p256([...plain, 'restricted', 'decrypt'], aes128cfb, noScheme);

/** Attestation key: signs what the TPM says about itself and nothing that comes from outside. */
export const attestationKey = p256([...plain, 'restricted', 'sign'], noSymmetric, ecdsaSha256);

/** Device identity key: signs envelopes and logins. */
export const deviceKey = p256([...plain, 'sign'], noSymmetric, ecdsaSha256);

/** Key agreement for what is encrypted to this device. */
export const ecdhKey = p256([...plain, 'decrypt'], noSymmetric, noScheme);

/**
 * A sealed object: the policy alone opens it, its empty authValue never does.
 * @param authPolicy digest of the policy, SHA-256.
 */
export function sealedObject(authPolicy: Uint8Array): TPMT_PUBLIC {
  return {
    type: TPM_ALG.KEYEDHASH,
    nameAlg: TPM_ALG.SHA256,
    objectAttributes: TPMA_OBJECT.of('fixedTPM', 'fixedParent', 'adminWithPolicy', 'noDA'),
    authPolicy,
    parameters: { scheme: noScheme },
    unique: empty,
  };
}
