// Commands of TPM 2.0 Part 3 as data: handles with the role that authorizes each, parameters, and what comes back.
// Execution, sessions, explanation and recordings all follow from this table.
import { type Fields, i32, struct, u16, u32, type Values, yesNo } from './codec.ts';
import { TPM_CC } from './constants.ts';
import * as S from './structures.ts';

/** Who must agree to the use of a handle: nobody, its user, or its administrator [TPM2 Part 1, 19.2]. */
export type AuthRole = 'none' | 'user' | 'admin';

export type Handles = Record<string, AuthRole>;

export interface Command<
  H extends Handles = Handles,
  P extends Fields = Fields,
  RH extends string = string,
  R extends Fields = Fields,
> {
  /** As in Part 3 without `TPM2_`. */
  readonly name: keyof typeof TPM_CC;
  readonly code: number;
  /** In wire order; those that need authorization come first. */
  readonly handles: H;
  readonly parameters: ReturnType<typeof struct<P>>;
  readonly responseHandles: readonly RH[];
  readonly response: ReturnType<typeof struct<R>>;
  /** Whether a session can encrypt the first parameter, and the first one of the response: both must be TPM2B. */
  readonly decryptable: boolean;
  readonly encryptable: boolean;
}

export type Parameters<C> = C extends Command<Handles, infer P, string, Fields> ? Values<P> : never;

const table = new Map<number, Command>();

function command<H extends Handles, P extends Fields, RH extends string, R extends Fields>(
  name: keyof typeof TPM_CC,
  handles: H,
  parameters: P,
  responseHandles: readonly RH[],
  response: R,
): Command<H, P, RH, R> {
  const described: Command<H, P, RH, R> = {
    name,
    code: TPM_CC[name],
    handles,
    parameters: struct(name, parameters),
    responseHandles,
    response: struct(`${name} response`, response),
    decryptable: Object.values(parameters)[0]?.sized === true,
    encryptable: Object.values(response)[0]?.sized === true,
  };
  table.set(described.code, described as unknown as Command);
  return described;
}

/** The command behind a command code, undefined if it is none of those below. */
export function commandOf(code: number): Command | undefined {
  return table.get(code);
}

// Start-up and self-test [TPM2 Part 3, 9 and 10]

export const Startup = command('Startup', {}, { startupType: S.SU }, [], {});
export const Shutdown = command('Shutdown', {}, { shutdownType: S.SU }, [], {});
export const SelfTest = command('SelfTest', {}, { fullTest: yesNo }, [], {});
export const GetTestResult = command('GetTestResult', {}, {}, [], {
  outData: S.TPM2B_MAX_BUFFER,
  testResult: u32,
});

// Sessions [TPM2 Part 3, 11]

export const StartAuthSession = command(
  'StartAuthSession',
  { tpmKey: 'none', bind: 'none' },
  {
    nonceCaller: S.TPM2B_NONCE,
    encryptedSalt: S.TPM2B_ENCRYPTED_SECRET,
    sessionType: S.SE,
    symmetric: S.TPMT_SYM_DEF,
    authHash: S.TPM_ALG_ID,
  },
  ['sessionHandle'],
  { nonceTPM: S.TPM2B_NONCE },
);
export const PolicyRestart = command('PolicyRestart', { sessionHandle: 'none' }, {}, [], {});

// Objects [TPM2 Part 3, 12]

const creation = {
  inSensitive: S.TPM2B_SENSITIVE_CREATE,
  inPublic: S.TPM2B_PUBLIC,
  outsideInfo: S.TPM2B_DATA,
  creationPCR: S.TPML_PCR_SELECTION,
};
const created = {
  outPublic: S.TPM2B_PUBLIC,
  creationData: S.TPM2B_CREATION_DATA,
  creationHash: S.TPM2B_DIGEST,
  creationTicket: S.TPMT_TK_CREATION,
};
export const Create = command('Create', { parentHandle: 'user' }, creation, [], {
  outPrivate: S.TPM2B_PRIVATE,
  ...created,
});
export const CreatePrimary = command('CreatePrimary', { primaryHandle: 'user' }, creation, ['objectHandle'], {
  ...created,
  name: S.TPM2B_NAME,
});
export const Load = command(
  'Load',
  { parentHandle: 'user' },
  { inPrivate: S.TPM2B_PRIVATE, inPublic: S.TPM2B_PUBLIC },
  ['objectHandle'],
  { name: S.TPM2B_NAME },
);
export const LoadExternal = command(
  'LoadExternal',
  {},
  { inPrivate: S.TPM2B_SENSITIVE, inPublic: S.TPM2B_PUBLIC, hierarchy: S.TPM_HANDLE },
  ['objectHandle'],
  { name: S.TPM2B_NAME },
);
export const ReadPublic = command('ReadPublic', { objectHandle: 'none' }, {}, [], {
  outPublic: S.TPM2B_PUBLIC,
  name: S.TPM2B_NAME,
  qualifiedName: S.TPM2B_NAME,
});
export const ActivateCredential = command(
  'ActivateCredential',
  { activateHandle: 'admin', keyHandle: 'user' },
  { credentialBlob: S.TPM2B_ID_OBJECT, secret: S.TPM2B_ENCRYPTED_SECRET },
  [],
  { certInfo: S.TPM2B_DIGEST },
);
export const MakeCredential = command(
  'MakeCredential',
  { handle: 'none' },
  { credential: S.TPM2B_DIGEST, objectName: S.TPM2B_NAME },
  [],
  { credentialBlob: S.TPM2B_ID_OBJECT, secret: S.TPM2B_ENCRYPTED_SECRET },
);
export const Unseal = command('Unseal', { itemHandle: 'user' }, {}, [], { outData: S.TPM2B_SENSITIVE_DATA });

// Key agreement, hashing, random numbers [TPM2 Part 3, 14 to 16]

export const ECDH_ZGen = command('ECDH_ZGen', { keyHandle: 'user' }, { inPoint: S.TPM2B_ECC_POINT }, [], {
  outPoint: S.TPM2B_ECC_POINT,
});
export const Hash = command(
  'Hash',
  {},
  { data: S.TPM2B_MAX_BUFFER, hashAlg: S.TPM_ALG_ID, hierarchy: S.TPM_HANDLE },
  [],
  { outHash: S.TPM2B_DIGEST, validation: S.TPMT_TK_HASHCHECK },
);
export const GetRandom = command('GetRandom', {}, { bytesRequested: u16 }, [], {
  randomBytes: S.TPM2B_DIGEST,
});

// Attestation and signatures [TPM2 Part 3, 18 and 20]

export const Certify = command(
  'Certify',
  { objectHandle: 'admin', signHandle: 'user' },
  { qualifyingData: S.TPM2B_DATA, inScheme: S.TPMT_SIG_SCHEME },
  [],
  { certifyInfo: S.TPM2B_ATTEST, signature: S.TPMT_SIGNATURE },
);
export const Quote = command(
  'Quote',
  { signHandle: 'user' },
  { qualifyingData: S.TPM2B_DATA, inScheme: S.TPMT_SIG_SCHEME, PCRselect: S.TPML_PCR_SELECTION },
  [],
  { quoted: S.TPM2B_ATTEST, signature: S.TPMT_SIGNATURE },
);
export const VerifySignature = command(
  'VerifySignature',
  { keyHandle: 'none' },
  { digest: S.TPM2B_DIGEST, signature: S.TPMT_SIGNATURE },
  [],
  { validation: S.TPMT_TK_VERIFIED },
);
export const Sign = command(
  'Sign',
  { keyHandle: 'user' },
  { digest: S.TPM2B_DIGEST, inScheme: S.TPMT_SIG_SCHEME, validation: S.TPMT_TK_HASHCHECK },
  [],
  { signature: S.TPMT_SIGNATURE },
);

// Platform configuration registers [TPM2 Part 3, 22]

export const PCR_Extend = command(
  'PCR_Extend',
  { pcrHandle: 'user' },
  { digests: S.TPML_DIGEST_VALUES },
  [],
  {},
);
export const PCR_Event = command('PCR_Event', { pcrHandle: 'user' }, { eventData: S.TPM2B_EVENT }, [], {
  digests: S.TPML_DIGEST_VALUES,
});
export const PCR_Read = command('PCR_Read', {}, { pcrSelectionIn: S.TPML_PCR_SELECTION }, [], {
  pcrUpdateCounter: u32,
  pcrSelectionOut: S.TPML_PCR_SELECTION,
  pcrValues: S.TPML_DIGEST,
});
export const PCR_Reset = command('PCR_Reset', { pcrHandle: 'user' }, {}, [], {});

// Policies [TPM2 Part 3, 23]

const approval = {
  nonceTPM: S.TPM2B_NONCE,
  cpHashA: S.TPM2B_DIGEST,
  policyRef: S.TPM2B_NONCE,
  expiration: i32,
};
const approved = { timeout: S.TPM2B_DATA, policyTicket: S.TPMT_TK_AUTH };
export const PolicySigned = command(
  'PolicySigned',
  { authObject: 'none', policySession: 'none' },
  { ...approval, auth: S.TPMT_SIGNATURE },
  [],
  approved,
);
export const PolicySecret = command(
  'PolicySecret',
  { authHandle: 'user', policySession: 'none' },
  approval,
  [],
  approved,
);
export const PolicyOR = command('PolicyOR', { policySession: 'none' }, { pHashList: S.TPML_DIGEST }, [], {});
export const PolicyPCR = command(
  'PolicyPCR',
  { policySession: 'none' },
  { pcrDigest: S.TPM2B_DIGEST, pcrs: S.TPML_PCR_SELECTION },
  [],
  {},
);
export const PolicyLocality = command(
  'PolicyLocality',
  { policySession: 'none' },
  { locality: S.TPMA_LOCALITY },
  [],
  {},
);
export const PolicyNV = command(
  'PolicyNV',
  { authHandle: 'user', nvIndex: 'none', policySession: 'none' },
  { operandB: S.TPM2B_DIGEST, offset: u16, operation: S.EO },
  [],
  {},
);
export const PolicyCommandCode = command(
  'PolicyCommandCode',
  { policySession: 'none' },
  { code: S.CC },
  [],
  {},
);
export const PolicyAuthorize = command(
  'PolicyAuthorize',
  { policySession: 'none' },
  {
    approvedPolicy: S.TPM2B_DIGEST,
    policyRef: S.TPM2B_NONCE,
    keySign: S.TPM2B_NAME,
    checkTicket: S.TPMT_TK_VERIFIED,
  },
  [],
  {},
);
export const PolicyAuthValue = command('PolicyAuthValue', { policySession: 'none' }, {}, [], {});
export const PolicyGetDigest = command('PolicyGetDigest', { policySession: 'none' }, {}, [], {
  policyDigest: S.TPM2B_DIGEST,
});

// Hierarchies, dictionary attacks, contexts [TPM2 Part 3, 24, 25 and 28]

export const Clear = command('Clear', { authHandle: 'user' }, {}, [], {});
export const HierarchyChangeAuth = command(
  'HierarchyChangeAuth',
  { authHandle: 'user' },
  { newAuth: S.TPM2B_AUTH },
  [],
  {},
);
export const DictionaryAttackLockReset = command(
  'DictionaryAttackLockReset',
  { lockHandle: 'user' },
  {},
  [],
  {},
);
export const ContextSave = command('ContextSave', { saveHandle: 'none' }, {}, [], {
  context: S.TPMS_CONTEXT,
});
export const ContextLoad = command('ContextLoad', {}, { context: S.TPMS_CONTEXT }, ['loadedHandle'], {});
export const FlushContext = command('FlushContext', {}, { flushHandle: S.TPM_HANDLE }, [], {});
export const EvictControl = command(
  'EvictControl',
  { auth: 'user', objectHandle: 'none' },
  { persistentHandle: S.TPM_HANDLE },
  [],
  {},
);

// Clock and capabilities [TPM2 Part 3, 29 and 30]

export const ReadClock = command('ReadClock', {}, {}, [], { currentTime: S.TPMS_TIME_INFO });
export const GetCapability = command(
  'GetCapability',
  {},
  { capability: S.CAP, property: u32, propertyCount: u32 },
  [],
  { moreData: yesNo, capabilityData: S.TPMS_CAPABILITY_DATA },
);

// NV storage [TPM2 Part 3, 31]

export const NV_DefineSpace = command(
  'NV_DefineSpace',
  { authHandle: 'user' },
  { auth: S.TPM2B_AUTH, publicInfo: S.TPM2B_NV_PUBLIC },
  [],
  {},
);
export const NV_UndefineSpace = command(
  'NV_UndefineSpace',
  { authHandle: 'user', nvIndex: 'none' },
  {},
  [],
  {},
);
export const NV_ReadPublic = command('NV_ReadPublic', { nvIndex: 'none' }, {}, [], {
  nvPublic: S.TPM2B_NV_PUBLIC,
  nvName: S.TPM2B_NAME,
});
export const NV_Write = command(
  'NV_Write',
  { authHandle: 'user', nvIndex: 'none' },
  { data: S.TPM2B_MAX_NV_BUFFER, offset: u16 },
  [],
  {},
);
export const NV_Increment = command('NV_Increment', { authHandle: 'user', nvIndex: 'none' }, {}, [], {});
export const NV_Read = command(
  'NV_Read',
  { authHandle: 'user', nvIndex: 'none' },
  { size: u16, offset: u16 },
  [],
  { data: S.TPM2B_MAX_NV_BUFFER },
);
