// Templates of the keys of a device: what CreatePrimary is asked for, and what a verifier finds in a public area.
import { TPM_ALG, TPM_ECC_CURVE } from './constants.ts';
import { hashId, hashName } from './hash.ts';
import { TPMA_OBJECT, type TPMT_PUBLIC, type TPMT_SYM_DEF_OBJECT } from './structures.ts';

const empty = new Uint8Array();
const noScheme = { scheme: TPM_ALG.NULL } as const;
const noSymmetric = { algorithm: TPM_ALG.NULL } as const;
const aes128cfb: TPMT_SYM_DEF_OBJECT = { algorithm: TPM_ALG.AES, keyBits: 128, mode: TPM_ALG.CFB };

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** Hashes that endorsement keys are named with, and their policies are made of. */
export type EndorsementHash = 'sha256' | 'sha384' | 'sha512';

/** The policies of endorsement keys [TCG EK Credential Profile 2.5, B.6]. */
export interface EndorsementPolicies {
  /** PolicySecret of the endorsement hierarchy [B.6.2]: of the low range. */
  a: Uint8Array;
  /** PolicyOR of A and C [B.6.3]: of the high range. */
  b: Uint8Array;
  /** PolicyAuthorizeNV of the index that an owner may put a policy of his own in [B.6.4]. */
  c: Uint8Array;
}

export const endorsementPolicies: Readonly<Record<EndorsementHash, EndorsementPolicies>> = {
  sha256: {
    a: fromHex('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa'),
    b: fromHex('ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0'),
    c: fromHex('3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde'),
  },
  sha384: {
    a: fromHex(
      '8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53',
    ),
    b: fromHex(
      'b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12',
    ),
    c: fromHex(
      'd6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165',
    ),
  },
  sha512: {
    a: fromHex(
      '1e3b76502c8a1425aa0b7b3fc646a1b0fae063b03b5368f9c4cddecaff0891dd682bac1a85d4d832b781ea451915de5fc5bf0dc4a1917cd42fa041e3f998e0ee',
    ),
    b: fromHex(
      'b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a429c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea',
    ),
    c: fromHex(
      '589ee1e146544716e8deafe6db247b01b81e9f9c7dd16b814aa159138749105fba5388dd1dea702f35240c184933121e2c61b8f50d3ef91393a49a38c3f73fc8',
    ),
  },
};

type Attribute = Parameters<typeof TPMA_OBJECT.of>[number];

const ours: readonly Attribute[] = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin'];
const endorsement: readonly Attribute[] = [...ours, 'adminWithPolicy', 'restricted', 'decrypt'];

type EccPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.ECC }>;
type RsaPublic = Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA }>;
type EccScheme = EccPublic['parameters']['scheme'];

function ecc(
  attributes: readonly Attribute[],
  symmetric: TPMT_SYM_DEF_OBJECT,
  scheme: EccScheme,
  {
    authPolicy = empty,
    coordinate = new Uint8Array(32),
    curveID = TPM_ECC_CURVE.NIST_P256,
    nameAlg = TPM_ALG.SHA256,
  }: { authPolicy?: Uint8Array; coordinate?: Uint8Array; curveID?: number; nameAlg?: number } = {},
): EccPublic {
  return {
    type: TPM_ALG.ECC,
    nameAlg,
    objectAttributes: TPMA_OBJECT.of(...attributes),
    authPolicy,
    parameters: { symmetric, scheme, curveID, kdf: noScheme },
    unique: { x: coordinate, y: coordinate },
  };
}

/** Policy A, and a unique field of zeros [B.3]. */
const low = { policy: 'a', attributes: endorsement, zeros: true } as const;
/** Policy B or the key's own (empty) authValue, and no unique field [B.4]. */
const high = { policy: 'b', attributes: [...endorsement, 'userWithAuth'], zeros: false } as const;

function rsaEk(range: typeof low | typeof high, keyBits: number, name: EndorsementHash): RsaPublic {
  return {
    type: TPM_ALG.RSA,
    nameAlg: hashId(name),
    objectAttributes: TPMA_OBJECT.of(...range.attributes),
    authPolicy: endorsementPolicies[name][range.policy],
    parameters: { symmetric: protection(name), scheme: noScheme, keyBits, exponent: 0 },
    unique: range.zeros ? new Uint8Array(keyBits / 8) : empty,
  };
}

function eccEk(range: typeof low | typeof high, curveID: number, name: EndorsementHash): EccPublic {
  return ecc(range.attributes, protection(name), noScheme, {
    authPolicy: endorsementPolicies[name][range.policy],
    coordinate: range.zeros ? new Uint8Array(32) : empty,
    curveID,
    nameAlg: hashId(name),
  });
}

function protection(name: EndorsementHash): TPMT_SYM_DEF_OBJECT {
  return name === 'sha256' ? aes128cfb : { algorithm: TPM_ALG.AES, keyBits: 256, mode: TPM_ALG.CFB };
}

/**
 * Endorsement keys, as manufacturers certify them [TCG EK Credential Profile 2.5, B.3 and B.4]. H-5, on the curve SM2
 * P-256, is left out: nothing here computes with it.
 */
export const endorsementKey = {
  /** RSA 2048, low range. */
  'L-1': rsaEk(low, 2048, 'sha256'),
  /** ECC P-256, low range. */
  'L-2': eccEk(low, TPM_ECC_CURVE.NIST_P256, 'sha256'),
  /** RSA 2048, high range. */
  'H-1': rsaEk(high, 2048, 'sha256'),
  /** ECC P-256, high range. */
  'H-2': eccEk(high, TPM_ECC_CURVE.NIST_P256, 'sha256'),
  /** ECC P-384, high range. */
  'H-3': eccEk(high, TPM_ECC_CURVE.NIST_P384, 'sha384'),
  /** ECC P-521, high range. */
  'H-4': eccEk(high, TPM_ECC_CURVE.NIST_P521, 'sha512'),
  /** RSA 3072, high range. */
  'H-6': rsaEk(high, 3072, 'sha384'),
  /** RSA 4096, high range. */
  'H-7': rsaEk(high, 4096, 'sha384'),
} as const satisfies Record<string, TPMT_PUBLIC>;

export type EndorsementTemplate = keyof typeof endorsementKey;

/**
 * Where the manufacturer leaves what belongs to a template, and where its key is kept [TCG EK Credential Profile 2.5,
 * 2.2.1; TCG Registry of Reserved TPM 2.0 Handles, 2.3.1].
 */
export interface EndorsementIndices {
  /** NV index of the certificate. */
  certificate: number;
  /** NV index of what goes into the unique field instead of zeros: low range alone. */
  nonce?: number;
  /** NV index of a TPMT_PUBLIC that takes the place of the template. */
  template: number;
  /** Persistent handle of the key. */
  handle: number;
}

/** In the order in which one is chosen: what costs a TPM least comes first. */
export const endorsementIndices: Readonly<Record<EndorsementTemplate, EndorsementIndices>> = {
  'L-2': { certificate: 0x01c0000a, nonce: 0x01c0000b, template: 0x01c0000c, handle: 0x81010002 },
  'H-2': { certificate: 0x01c00014, template: 0x01c00015, handle: 0x81010014 },
  'H-3': { certificate: 0x01c00016, template: 0x01c00017, handle: 0x81010016 },
  'H-4': { certificate: 0x01c00018, template: 0x01c00019, handle: 0x81010018 },
  'L-1': { certificate: 0x01c00002, nonce: 0x01c00003, template: 0x01c00004, handle: 0x81010001 },
  'H-1': { certificate: 0x01c00012, template: 0x01c00013, handle: 0x81010012 },
  'H-6': { certificate: 0x01c0001c, template: 0x01c0001d, handle: 0x8101001c },
  'H-7': { certificate: 0x01c0001e, template: 0x01c0001f, handle: 0x8101001e },
};

/** NV indices of the certificates between an endorsement key's own and the root [same, 2.2.1.5]. */
export const endorsementChainIndices = { first: 0x01c00100, last: 0x01c001ff } as const;

/**
 * How to satisfy the policy of an endorsement key: `a` or `b` in the hash of its name. Undefined if the public area is not
 * one of an endorsement key: a restricted decryption key that never left its TPM, under one of the profile's policies.
 */
export function endorsementPolicyOf(
  area: TPMT_PUBLIC,
): { policy: 'a' | 'b'; hash: EndorsementHash; policies: EndorsementPolicies } | undefined {
  const { restricted, decrypt, sign, fixedTPM, fixedParent, sensitiveDataOrigin } = area.objectAttributes;
  if (!(restricted && decrypt && !sign && fixedTPM && fixedParent && sensitiveDataOrigin)) return undefined;
  const hash = hashName(area.nameAlg);
  if (hash === undefined || hash === 'sha1') return undefined;
  const policies = endorsementPolicies[hash];
  const is = (digest: Uint8Array) =>
    digest.length === area.authPolicy.length && digest.every((byte, at) => byte === area.authPolicy[at]);
  if (is(policies.a)) return { policy: 'a', hash, policies };
  return is(policies.b) ? { policy: 'b', hash, policies } : undefined;
}

// noDA: none of our keys has an authValue to guess, and a lock-out would take the device down with it.
const plain: readonly Attribute[] = [...ours, 'userWithAuth', 'noDA'];
const ecdsaSha256: EccScheme = { scheme: TPM_ALG.ECDSA, details: { hashAlg: TPM_ALG.SHA256 } };

/** Storage root key: parent of everything sealed, and the key that sessions are salted with. */
export const storageRootKey = ecc([...plain, 'restricted', 'decrypt'], aes128cfb, noScheme);

/** Attestation key: signs what the TPM says about itself and nothing that comes from outside. */
export const attestationKey = ecc([...plain, 'restricted', 'sign'], noSymmetric, ecdsaSha256);

/** Device identity key: signs envelopes and logins. */
export const deviceKey = ecc([...plain, 'sign'], noSymmetric, ecdsaSha256);

/** Key agreement for what is encrypted to this device. */
export const ecdhKey = ecc([...plain, 'decrypt'], noSymmetric, noScheme);

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
