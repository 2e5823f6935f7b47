// Structures of TPM 2.0 Part 2, in its order and under its names; the type beside each follows from the value.
// Bounds are those of the largest TPM in use, not of the smallest: a verifier meets many.
import {
  buffer,
  type Codec,
  type Decoded,
  fixed,
  flags,
  list,
  named,
  shortBytes,
  sized,
  sizedOrEmpty,
  struct,
  tagged,
  u8,
  u16,
  u32,
  u64,
  yesNo,
} from './codec.ts';
import {
  TPM_ALG,
  TPM_CAP,
  TPM_CC,
  TPM_ECC_CURVE,
  TPM_EO,
  TPM_PT,
  TPM_RH,
  TPM_SE,
  TPM_ST,
  TPM_SU,
} from './constants.ts';

export const TPM_ALG_ID = named('TPM_ALG_ID', u16, TPM_ALG);
const ECC_CURVE = named('TPM_ECC_CURVE', u16, TPM_ECC_CURVE);
const ST = named('TPM_ST', u16, TPM_ST);
export const SU = named('TPM_SU', u16, TPM_SU);
export const SE = named('TPM_SE', u8, TPM_SE);
export const EO = named('TPM_EO', u16, TPM_EO);
export const CC = named('TPM_CC', u32, TPM_CC);
export const CAP = named('TPM_CAP', u32, TPM_CAP);
const PT = named('TPM_PT', u32, TPM_PT);
export const TPM_HANDLE = named('TPM_HANDLE', u32, TPM_RH);

// Attributes [TPM2 Part 2, 8 and 13.4]

export const TPMA_OBJECT = flags('TPMA_OBJECT', u32, {
  fixedTPM: 1,
  stClear: 2,
  fixedParent: 4,
  sensitiveDataOrigin: 5,
  userWithAuth: 6,
  adminWithPolicy: 7,
  firmwareLimited: 8,
  svnLimited: 9,
  noDA: 10,
  encryptedDuplication: 11,
  restricted: 16,
  decrypt: 17,
  sign: 18,
  x509sign: 19,
});
export type TPMA_OBJECT = Decoded<typeof TPMA_OBJECT>;

export const TPMA_SESSION = flags('TPMA_SESSION', u8, {
  continueSession: 0,
  auditExclusive: 1,
  auditReset: 2,
  decrypt: 5,
  encrypt: 6,
  audit: 7,
});
export type TPMA_SESSION = Decoded<typeof TPMA_SESSION>;

export const TPMA_LOCALITY = flags('TPMA_LOCALITY', u8, {
  zero: 0,
  one: 1,
  two: 2,
  three: 3,
  four: 4,
  extended: [5, 7],
});
export type TPMA_LOCALITY = Decoded<typeof TPMA_LOCALITY>;

export const TPMA_CC = flags('TPMA_CC', u32, {
  commandIndex: [0, 15],
  nv: 22,
  extensive: 23,
  flushed: 24,
  cHandles: [25, 27],
  rHandle: 28,
  V: 29,
  Res: [30, 31],
});
export type TPMA_CC = Decoded<typeof TPMA_CC>;

export const TPMA_NV = flags('TPMA_NV', u32, {
  PPWRITE: 0,
  OWNERWRITE: 1,
  AUTHWRITE: 2,
  POLICYWRITE: 3,
  TPM_NT: [4, 7],
  POLICY_DELETE: 10,
  WRITELOCKED: 11,
  WRITEALL: 12,
  WRITEDEFINE: 13,
  WRITE_STCLEAR: 14,
  GLOBALLOCK: 15,
  PPREAD: 16,
  OWNERREAD: 17,
  AUTHREAD: 18,
  POLICYREAD: 19,
  NO_DA: 25,
  ORDERLY: 26,
  CLEAR_STCLEAR: 27,
  READLOCKED: 28,
  WRITTEN: 29,
  PLATFORMCREATE: 30,
  READ_STCLEAR: 31,
});
export type TPMA_NV = Decoded<typeof TPMA_NV>;

// Digests, PCR selections, tickets and lists [TPM2 Part 2, 10]

export const TPM2B_DIGEST = buffer('TPM2B_DIGEST', 64);
export const TPM2B_NONCE = buffer('TPM2B_NONCE', 64);
export const TPM2B_AUTH = buffer('TPM2B_AUTH', 64);
export const TPM2B_DATA = buffer('TPM2B_DATA', 66);
export const TPM2B_NAME = buffer('TPM2B_NAME', 66);
export const TPM2B_EVENT = buffer('TPM2B_EVENT', 1024);
export const TPM2B_MAX_BUFFER = buffer('TPM2B_MAX_BUFFER', 1024);
export const TPM2B_MAX_NV_BUFFER = buffer('TPM2B_MAX_NV_BUFFER', 2048);

export const TPMT_HA = tagged('TPMT_HA', { hashAlg: TPM_ALG_ID }, 'hashAlg', {
  [TPM_ALG.SHA1]: { digest: fixed(20) },
  [TPM_ALG.SHA256]: { digest: fixed(32) },
  [TPM_ALG.SHA384]: { digest: fixed(48) },
  [TPM_ALG.SHA512]: { digest: fixed(64) },
  [TPM_ALG.SM3_256]: { digest: fixed(32) },
  [TPM_ALG.SHA3_256]: { digest: fixed(32) },
  [TPM_ALG.SHA3_384]: { digest: fixed(48) },
  [TPM_ALG.SHA3_512]: { digest: fixed(64) },
});
export type TPMT_HA = Decoded<typeof TPMT_HA>;

export const TPMS_PCR_SELECTION = struct('TPMS_PCR_SELECTION', {
  hash: TPM_ALG_ID,
  pcrSelect: shortBytes('TPMS_PCR_SELECT', 1, 4),
});
export type TPMS_PCR_SELECTION = Decoded<typeof TPMS_PCR_SELECTION>;

function ticket(name: string) {
  return struct(name, { tag: ST, hierarchy: TPM_HANDLE, digest: TPM2B_DIGEST });
}

export const TPMT_TK_CREATION = ticket('TPMT_TK_CREATION');
export const TPMT_TK_VERIFIED = ticket('TPMT_TK_VERIFIED');
export const TPMT_TK_AUTH = ticket('TPMT_TK_AUTH');
export const TPMT_TK_HASHCHECK = ticket('TPMT_TK_HASHCHECK');
export type TPMT_TK = Decoded<typeof TPMT_TK_CREATION>;

export const TPML_HANDLE = list('TPML_HANDLE', TPM_HANDLE, 254);
export const TPML_DIGEST = list('TPML_DIGEST', TPM2B_DIGEST, 8);
export const TPML_DIGEST_VALUES = list('TPML_DIGEST_VALUES', TPMT_HA, 16);
export const TPML_PCR_SELECTION = list('TPML_PCR_SELECTION', TPMS_PCR_SELECTION, 16);
export type TPML_PCR_SELECTION = Decoded<typeof TPML_PCR_SELECTION>;

export const TPMS_CAPABILITY_DATA = tagged('TPMS_CAPABILITY_DATA', { capability: CAP }, 'capability', {
  [TPM_CAP.ALGS]: {
    data: list(
      'TPML_ALG_PROPERTY',
      struct('TPMS_ALG_PROPERTY', { alg: TPM_ALG_ID, algProperties: u32 }),
      127,
    ),
  },
  [TPM_CAP.HANDLES]: { data: TPML_HANDLE },
  [TPM_CAP.COMMANDS]: { data: list('TPML_CCA', TPMA_CC, 256) },
  [TPM_CAP.PP_COMMANDS]: { data: list('TPML_CC', CC, 256) },
  [TPM_CAP.AUDIT_COMMANDS]: { data: list('TPML_CC', CC, 256) },
  [TPM_CAP.PCRS]: { data: TPML_PCR_SELECTION },
  [TPM_CAP.TPM_PROPERTIES]: {
    data: list('TPML_TAGGED_TPM_PROPERTY', struct('TPMS_TAGGED_PROPERTY', { property: PT, value: u32 }), 127),
  },
  [TPM_CAP.PCR_PROPERTIES]: {
    data: list(
      'TPML_TAGGED_PCR_PROPERTY',
      struct('TPMS_TAGGED_PCR_SELECT', { tag: u32, pcrSelect: shortBytes('TPMS_PCR_SELECT', 1, 4) }),
      84,
    ),
  },
  [TPM_CAP.ECC_CURVES]: { data: list('TPML_ECC_CURVE', ECC_CURVE, 508) },
});
export type TPMS_CAPABILITY_DATA = Decoded<typeof TPMS_CAPABILITY_DATA>;

// Attestation [TPM2 Part 2, 10.12]

export const TPMS_CLOCK_INFO = struct('TPMS_CLOCK_INFO', {
  clock: u64,
  resetCount: u32,
  restartCount: u32,
  safe: yesNo,
});
export type TPMS_CLOCK_INFO = Decoded<typeof TPMS_CLOCK_INFO>;

export const TPMS_TIME_INFO = struct('TPMS_TIME_INFO', { time: u64, clockInfo: TPMS_CLOCK_INFO });
export type TPMS_TIME_INFO = Decoded<typeof TPMS_TIME_INFO>;

export const TPMS_QUOTE_INFO = struct('TPMS_QUOTE_INFO', {
  pcrSelect: TPML_PCR_SELECTION,
  pcrDigest: TPM2B_DIGEST,
});
export type TPMS_QUOTE_INFO = Decoded<typeof TPMS_QUOTE_INFO>;

export const TPMS_CERTIFY_INFO = struct('TPMS_CERTIFY_INFO', { name: TPM2B_NAME, qualifiedName: TPM2B_NAME });
export type TPMS_CERTIFY_INFO = Decoded<typeof TPMS_CERTIFY_INFO>;

export const TPMS_CREATION_INFO = struct('TPMS_CREATION_INFO', {
  objectName: TPM2B_NAME,
  creationHash: TPM2B_DIGEST,
});
export type TPMS_CREATION_INFO = Decoded<typeof TPMS_CREATION_INFO>;

export const TPMS_TIME_ATTEST_INFO = struct('TPMS_TIME_ATTEST_INFO', {
  time: TPMS_TIME_INFO,
  firmwareVersion: u64,
});
export type TPMS_TIME_ATTEST_INFO = Decoded<typeof TPMS_TIME_ATTEST_INFO>;

export const TPMS_COMMAND_AUDIT_INFO = struct('TPMS_COMMAND_AUDIT_INFO', {
  auditCounter: u64,
  digestAlg: TPM_ALG_ID,
  auditDigest: TPM2B_DIGEST,
  commandDigest: TPM2B_DIGEST,
});
export type TPMS_COMMAND_AUDIT_INFO = Decoded<typeof TPMS_COMMAND_AUDIT_INFO>;

export const TPMS_SESSION_AUDIT_INFO = struct('TPMS_SESSION_AUDIT_INFO', {
  exclusiveSession: yesNo,
  sessionDigest: TPM2B_DIGEST,
});
export type TPMS_SESSION_AUDIT_INFO = Decoded<typeof TPMS_SESSION_AUDIT_INFO>;

export const TPMS_NV_CERTIFY_INFO = struct('TPMS_NV_CERTIFY_INFO', {
  indexName: TPM2B_NAME,
  offset: u16,
  nvContents: TPM2B_MAX_NV_BUFFER,
});
export type TPMS_NV_CERTIFY_INFO = Decoded<typeof TPMS_NV_CERTIFY_INFO>;

export const TPMS_NV_DIGEST_CERTIFY_INFO = struct('TPMS_NV_DIGEST_CERTIFY_INFO', {
  indexName: TPM2B_NAME,
  nvDigest: TPM2B_DIGEST,
});
export type TPMS_NV_DIGEST_CERTIFY_INFO = Decoded<typeof TPMS_NV_DIGEST_CERTIFY_INFO>;

/**
 * What a TPM signed. `magic` and `type` come from the bytes: whoever verifies must check both, a key that signs anything
 * else could have made the same bytes. Verify the signature over the bytes as they came, never over a re-encoding.
 */
export const TPMS_ATTEST = tagged(
  'TPMS_ATTEST',
  {
    magic: u32,
    type: ST,
    qualifiedSigner: TPM2B_NAME,
    extraData: TPM2B_DATA,
    clockInfo: TPMS_CLOCK_INFO,
    firmwareVersion: u64,
  },
  'type',
  {
    [TPM_ST.ATTEST_CERTIFY]: { attested: TPMS_CERTIFY_INFO },
    [TPM_ST.ATTEST_CREATION]: { attested: TPMS_CREATION_INFO },
    [TPM_ST.ATTEST_QUOTE]: { attested: TPMS_QUOTE_INFO },
    [TPM_ST.ATTEST_COMMAND_AUDIT]: { attested: TPMS_COMMAND_AUDIT_INFO },
    [TPM_ST.ATTEST_SESSION_AUDIT]: { attested: TPMS_SESSION_AUDIT_INFO },
    [TPM_ST.ATTEST_TIME]: { attested: TPMS_TIME_ATTEST_INFO },
    [TPM_ST.ATTEST_NV]: { attested: TPMS_NV_CERTIFY_INFO },
    [TPM_ST.ATTEST_NV_DIGEST]: { attested: TPMS_NV_DIGEST_CERTIFY_INFO },
  },
);
export type TPMS_ATTEST = Decoded<typeof TPMS_ATTEST>;

/** Kept as bytes: the signature covers exactly these. Decode with TPMS_ATTEST. */
export const TPM2B_ATTEST = buffer('TPM2B_ATTEST', 2304);

// Sessions on the wire [TPM2 Part 2, 10.13]

export const TPMS_AUTH_COMMAND = struct('TPMS_AUTH_COMMAND', {
  sessionHandle: TPM_HANDLE,
  nonce: TPM2B_NONCE,
  sessionAttributes: TPMA_SESSION,
  hmac: TPM2B_AUTH,
});
export type TPMS_AUTH_COMMAND = Decoded<typeof TPMS_AUTH_COMMAND>;

export const TPMS_AUTH_RESPONSE = struct('TPMS_AUTH_RESPONSE', {
  nonce: TPM2B_NONCE,
  sessionAttributes: TPMA_SESSION,
  hmac: TPM2B_AUTH,
});
export type TPMS_AUTH_RESPONSE = Decoded<typeof TPMS_AUTH_RESPONSE>;

// Algorithm parameters [TPM2 Part 2, 11]

const blockCipher = { keyBits: u16, mode: TPM_ALG_ID };
const hashDetails = { details: struct('TPMS_SCHEME_HASH', { hashAlg: TPM_ALG_ID }) };
const ecdaaDetails = { details: struct('TPMS_SCHEME_ECDAA', { hashAlg: TPM_ALG_ID, count: u16 }) };

export const TPMT_SYM_DEF = tagged('TPMT_SYM_DEF', { algorithm: TPM_ALG_ID }, 'algorithm', {
  [TPM_ALG.TDES]: blockCipher,
  [TPM_ALG.AES]: blockCipher,
  [TPM_ALG.SM4]: blockCipher,
  [TPM_ALG.CAMELLIA]: blockCipher,
  [TPM_ALG.XOR]: { keyBits: TPM_ALG_ID },
  [TPM_ALG.NULL]: {},
});
export type TPMT_SYM_DEF = Decoded<typeof TPMT_SYM_DEF>;

export const TPMT_SYM_DEF_OBJECT = tagged('TPMT_SYM_DEF_OBJECT', { algorithm: TPM_ALG_ID }, 'algorithm', {
  [TPM_ALG.TDES]: blockCipher,
  [TPM_ALG.AES]: blockCipher,
  [TPM_ALG.SM4]: blockCipher,
  [TPM_ALG.CAMELLIA]: blockCipher,
  [TPM_ALG.NULL]: {},
});
export type TPMT_SYM_DEF_OBJECT = Decoded<typeof TPMT_SYM_DEF_OBJECT>;

export const TPMT_KEYEDHASH_SCHEME = tagged('TPMT_KEYEDHASH_SCHEME', { scheme: TPM_ALG_ID }, 'scheme', {
  [TPM_ALG.HMAC]: hashDetails,
  [TPM_ALG.XOR]: { details: struct('TPMS_SCHEME_XOR', { hashAlg: TPM_ALG_ID, kdf: TPM_ALG_ID }) },
  [TPM_ALG.NULL]: {},
});
export type TPMT_KEYEDHASH_SCHEME = Decoded<typeof TPMT_KEYEDHASH_SCHEME>;

export const TPMT_SIG_SCHEME = tagged('TPMT_SIG_SCHEME', { scheme: TPM_ALG_ID }, 'scheme', {
  [TPM_ALG.HMAC]: hashDetails,
  [TPM_ALG.RSASSA]: hashDetails,
  [TPM_ALG.RSAPSS]: hashDetails,
  [TPM_ALG.ECDSA]: hashDetails,
  [TPM_ALG.ECDAA]: ecdaaDetails,
  [TPM_ALG.SM2]: hashDetails,
  [TPM_ALG.ECSCHNORR]: hashDetails,
  [TPM_ALG.NULL]: {},
});
export type TPMT_SIG_SCHEME = Decoded<typeof TPMT_SIG_SCHEME>;

export const TPMT_KDF_SCHEME = tagged('TPMT_KDF_SCHEME', { scheme: TPM_ALG_ID }, 'scheme', {
  [TPM_ALG.MGF1]: hashDetails,
  [TPM_ALG.KDF1_SP800_56A]: hashDetails,
  [TPM_ALG.KDF2]: hashDetails,
  [TPM_ALG.KDF1_SP800_108]: hashDetails,
  [TPM_ALG.NULL]: {},
});
export type TPMT_KDF_SCHEME = Decoded<typeof TPMT_KDF_SCHEME>;

export const TPMT_RSA_SCHEME = tagged('TPMT_RSA_SCHEME', { scheme: TPM_ALG_ID }, 'scheme', {
  [TPM_ALG.RSASSA]: hashDetails,
  [TPM_ALG.RSAES]: {},
  [TPM_ALG.RSAPSS]: hashDetails,
  [TPM_ALG.OAEP]: hashDetails,
  [TPM_ALG.NULL]: {},
});
export type TPMT_RSA_SCHEME = Decoded<typeof TPMT_RSA_SCHEME>;

export const TPMT_ECC_SCHEME = tagged('TPMT_ECC_SCHEME', { scheme: TPM_ALG_ID }, 'scheme', {
  [TPM_ALG.ECDSA]: hashDetails,
  [TPM_ALG.ECDH]: hashDetails,
  [TPM_ALG.ECDAA]: ecdaaDetails,
  [TPM_ALG.SM2]: hashDetails,
  [TPM_ALG.ECSCHNORR]: hashDetails,
  [TPM_ALG.ECMQV]: hashDetails,
  [TPM_ALG.NULL]: {},
});
export type TPMT_ECC_SCHEME = Decoded<typeof TPMT_ECC_SCHEME>;

export const TPM2B_PUBLIC_KEY_RSA = buffer('TPM2B_PUBLIC_KEY_RSA', 512);
export const TPM2B_ECC_PARAMETER = buffer('TPM2B_ECC_PARAMETER', 128);

export const TPMS_ECC_POINT = struct('TPMS_ECC_POINT', { x: TPM2B_ECC_PARAMETER, y: TPM2B_ECC_PARAMETER });
export type TPMS_ECC_POINT = Decoded<typeof TPMS_ECC_POINT>;

export const TPM2B_ECC_POINT = sized('TPM2B_ECC_POINT', TPMS_ECC_POINT);

const rsaSignature = {
  signature: struct('TPMS_SIGNATURE_RSA', { hash: TPM_ALG_ID, sig: TPM2B_PUBLIC_KEY_RSA }),
};
const eccSignature = {
  signature: struct('TPMS_SIGNATURE_ECC', {
    hash: TPM_ALG_ID,
    signatureR: TPM2B_ECC_PARAMETER,
    signatureS: TPM2B_ECC_PARAMETER,
  }),
};

export const TPMT_SIGNATURE = tagged('TPMT_SIGNATURE', { sigAlg: TPM_ALG_ID }, 'sigAlg', {
  [TPM_ALG.HMAC]: { signature: TPMT_HA },
  [TPM_ALG.RSASSA]: rsaSignature,
  [TPM_ALG.RSAPSS]: rsaSignature,
  [TPM_ALG.ECDSA]: eccSignature,
  [TPM_ALG.ECDAA]: eccSignature,
  [TPM_ALG.SM2]: eccSignature,
  [TPM_ALG.ECSCHNORR]: eccSignature,
  [TPM_ALG.NULL]: {},
});
export type TPMT_SIGNATURE = Decoded<typeof TPMT_SIGNATURE>;

export const TPM2B_ENCRYPTED_SECRET = buffer('TPM2B_ENCRYPTED_SECRET', 512);

// Keys and other objects [TPM2 Part 2, 12]

export const TPMS_KEYEDHASH_PARMS = struct('TPMS_KEYEDHASH_PARMS', { scheme: TPMT_KEYEDHASH_SCHEME });
export type TPMS_KEYEDHASH_PARMS = Decoded<typeof TPMS_KEYEDHASH_PARMS>;

export const TPMS_SYMCIPHER_PARMS = struct('TPMS_SYMCIPHER_PARMS', { sym: TPMT_SYM_DEF_OBJECT });
export type TPMS_SYMCIPHER_PARMS = Decoded<typeof TPMS_SYMCIPHER_PARMS>;

export const TPMS_RSA_PARMS = struct('TPMS_RSA_PARMS', {
  symmetric: TPMT_SYM_DEF_OBJECT,
  scheme: TPMT_RSA_SCHEME,
  keyBits: u16,
  exponent: u32,
});
export type TPMS_RSA_PARMS = Decoded<typeof TPMS_RSA_PARMS>;

export const TPMS_ECC_PARMS = struct('TPMS_ECC_PARMS', {
  symmetric: TPMT_SYM_DEF_OBJECT,
  scheme: TPMT_ECC_SCHEME,
  curveID: ECC_CURVE,
  kdf: TPMT_KDF_SCHEME,
});
export type TPMS_ECC_PARMS = Decoded<typeof TPMS_ECC_PARMS>;

export const TPMT_PUBLIC = tagged(
  'TPMT_PUBLIC',
  { type: TPM_ALG_ID, nameAlg: TPM_ALG_ID, objectAttributes: TPMA_OBJECT, authPolicy: TPM2B_DIGEST },
  'type',
  {
    [TPM_ALG.KEYEDHASH]: { parameters: TPMS_KEYEDHASH_PARMS, unique: TPM2B_DIGEST },
    [TPM_ALG.SYMCIPHER]: { parameters: TPMS_SYMCIPHER_PARMS, unique: TPM2B_DIGEST },
    [TPM_ALG.RSA]: { parameters: TPMS_RSA_PARMS, unique: TPM2B_PUBLIC_KEY_RSA },
    [TPM_ALG.ECC]: { parameters: TPMS_ECC_PARMS, unique: TPMS_ECC_POINT },
  },
);
export type TPMT_PUBLIC = Decoded<typeof TPMT_PUBLIC>;

export const TPM2B_PUBLIC = sized('TPM2B_PUBLIC', TPMT_PUBLIC);

export const TPMT_SENSITIVE = tagged(
  'TPMT_SENSITIVE',
  { sensitiveType: TPM_ALG_ID, authValue: TPM2B_AUTH, seedValue: TPM2B_DIGEST },
  'sensitiveType',
  {
    [TPM_ALG.RSA]: { sensitive: buffer('TPM2B_PRIVATE_KEY_RSA', 1280) },
    [TPM_ALG.ECC]: { sensitive: TPM2B_ECC_PARAMETER },
    [TPM_ALG.KEYEDHASH]: { sensitive: buffer('TPM2B_SENSITIVE_DATA', 256) },
    [TPM_ALG.SYMCIPHER]: { sensitive: buffer('TPM2B_SYM_KEY', 32) },
  },
);
export type TPMT_SENSITIVE = Decoded<typeof TPMT_SENSITIVE>;

/** The private part for LoadExternal; empty to load a public key alone. */
export const TPM2B_SENSITIVE: Codec<TPMT_SENSITIVE | undefined> = sizedOrEmpty(
  'TPM2B_SENSITIVE',
  TPMT_SENSITIVE,
);

export const TPMS_SENSITIVE_CREATE = struct('TPMS_SENSITIVE_CREATE', {
  userAuth: TPM2B_AUTH,
  data: buffer('TPM2B_SENSITIVE_DATA', 256),
});
export type TPMS_SENSITIVE_CREATE = Decoded<typeof TPMS_SENSITIVE_CREATE>;

export const TPM2B_SENSITIVE_CREATE = sized('TPM2B_SENSITIVE_CREATE', TPMS_SENSITIVE_CREATE);
export const TPM2B_SENSITIVE_DATA = buffer('TPM2B_SENSITIVE_DATA', 256);
/** Encrypted by its parent; opaque to everyone else. */
export const TPM2B_PRIVATE = buffer('TPM2B_PRIVATE', 2048);
/** What MakeCredential made for ActivateCredential: a TPMS_ID_OBJECT, encrypted. */
export const TPM2B_ID_OBJECT = buffer('TPM2B_ID_OBJECT', 132);

// NV storage, contexts, creation data [TPM2 Part 2, 13 to 15]

export const TPMS_NV_PUBLIC = struct('TPMS_NV_PUBLIC', {
  nvIndex: u32,
  nameAlg: TPM_ALG_ID,
  attributes: TPMA_NV,
  authPolicy: TPM2B_DIGEST,
  dataSize: u16,
});
export type TPMS_NV_PUBLIC = Decoded<typeof TPMS_NV_PUBLIC>;

export const TPM2B_NV_PUBLIC = sized('TPM2B_NV_PUBLIC', TPMS_NV_PUBLIC);

export const TPMS_CONTEXT = struct('TPMS_CONTEXT', {
  sequence: u64,
  savedHandle: u32,
  hierarchy: TPM_HANDLE,
  contextBlob: buffer('TPM2B_CONTEXT_DATA', 5120),
});
export type TPMS_CONTEXT = Decoded<typeof TPMS_CONTEXT>;

export const TPMS_CREATION_DATA = struct('TPMS_CREATION_DATA', {
  pcrSelect: TPML_PCR_SELECTION,
  pcrDigest: TPM2B_DIGEST,
  locality: TPMA_LOCALITY,
  parentNameAlg: TPM_ALG_ID,
  parentName: TPM2B_NAME,
  parentQualifiedName: TPM2B_NAME,
  outsideInfo: TPM2B_DATA,
});
export type TPMS_CREATION_DATA = Decoded<typeof TPMS_CREATION_DATA>;

export const TPM2B_CREATION_DATA = sized('TPM2B_CREATION_DATA', TPMS_CREATION_DATA);
