// Response codes: what went wrong, which handle, parameter or session it concerns, and whether to send the same command
// again [TPM2 Part 2, 6.6; Part 1, 39].

/** What a response code is about. `layer`: not from the TPM but from software in front of it. */
export type ResponseKind =
  | 'success'
  | 'error'
  | 'warning'
  | 'handle'
  | 'parameter'
  | 'session'
  | 'vendor'
  | 'layer'
  | 'tpm1';

export interface ResponseCode {
  code: number;
  /** `TPM_RC_VALUE`; for a code that no one defined, the number in hex. */
  name: string;
  sentence: string;
  kind: ResponseKind;
  /** Which handle, parameter or session, counted from 1; 0 if the TPM did not say or it concerns none. */
  number: number;
  /** The same bytes, sent again a little later, can succeed. */
  retry: boolean;
}

type Entry = readonly [name: string, sentence: string, retry?: 'retry'];

// Without a number [TPM2 Part 2, table 17, TPM_RC_VER1].
const errors: Record<number, Entry> = {
  0: ['INITIALIZE', 'the TPM waits for TPM2_Startup, or has had it already'],
  1: ['FAILURE', 'a self-test failed; the TPM does nothing more until it is reset'],
  3: ['SEQUENCE', 'a sequence handle was used out of its order'],
  11: ['PRIVATE', 'not in use'],
  25: ['HMAC', 'not in use'],
  32: ['DISABLED', 'the command or its hierarchy is disabled'],
  33: ['EXCLUSIVE', 'the audit sequence required exclusivity'],
  36: ['AUTH_TYPE', 'this kind of authorization does not fit the command'],
  37: ['AUTH_MISSING', 'a handle needs an authorization session and has none'],
  38: ['POLICY', 'the policy failed in a numeric operation, or PolicyOR found no match'],
  39: ['PCR', 'a PCR check failed'],
  40: ['PCR_CHANGED', 'a PCR changed since the policy checked it'],
  45: ['UPGRADE', 'a firmware upgrade is under way'],
  46: ['TOO_MANY_CONTEXTS', 'the counter of saved contexts is at its maximum'],
  47: ['AUTH_UNAVAILABLE', 'this entity cannot be authorized with its authValue or its policy'],
  48: ['REBOOT', 'the TPM must be reset before it works again'],
  49: ['UNBALANCED', 'key sizes of symmetric and asymmetric algorithm, or of hash and curve, do not match'],
  66: ['COMMAND_SIZE', 'the command size differs from the bytes received'],
  67: ['COMMAND_CODE', 'the TPM does not have this command'],
  68: ['AUTHSIZE', 'the size of the authorization area is out of range'],
  69: ['AUTH_CONTEXT', 'this command takes no authorization session'],
  70: ['NV_RANGE', 'offset and size reach beyond the NV index'],
  71: ['NV_SIZE', 'the size is more than an NV index may have'],
  72: ['NV_LOCKED', 'the NV index is locked'],
  73: ['NV_AUTHORIZATION', 'this authorization does not allow the NV access'],
  74: ['NV_UNINITIALIZED', 'the NV index was never written, or lost its state'],
  75: ['NV_SPACE', 'no space for another NV index or persistent object'],
  76: ['NV_DEFINED', 'the NV index or persistent object exists already'],
  80: ['BAD_CONTEXT', 'the saved context is not valid'],
  81: ['CPHASH', 'the policy is bound to other parameters'],
  82: ['PARENT', 'the handle is no parent for this object'],
  83: ['NEEDS_TEST', 'a function has to be tested first'],
  84: ['NO_RESULT', 'the result does not fit or is the point at infinity'],
  85: ['SENSITIVE', 'the sensitive area did not decrypt to what it should be'],
};

// With the number of a handle, parameter or session [TPM2 Part 2, table 17, RC_FMT1].
const numbered: Record<number, Entry> = {
  1: ['ASYMMETRIC', 'the asymmetric algorithm is not supported or not correct'],
  2: ['ATTRIBUTES', 'the attributes contradict each other or the operation'],
  3: ['HASH', 'the hash algorithm is not supported or not appropriate'],
  4: ['VALUE', 'the value is out of range or not correct for the context'],
  5: ['HIERARCHY', 'the hierarchy is not enabled or not correct here'],
  7: ['KEY_SIZE', 'the key size is not supported'],
  8: ['MGF', 'the mask generation function is not supported'],
  9: ['MODE', 'the mode of operation is not supported'],
  10: ['TYPE', 'the type is not appropriate'],
  11: ['HANDLE', 'the handle refers to nothing, or to the wrong kind of thing'],
  12: ['KDF', 'the key derivation function is not supported or not appropriate'],
  13: ['RANGE', 'the value is out of the allowed range'],
  14: ['AUTH_FAIL', 'the authorization failed, and the failure was counted against dictionary attacks'],
  15: ['NONCE', 'the nonce has a wrong size or value'],
  16: ['PP', 'physical presence is required'],
  18: ['SCHEME', 'the scheme is not supported or does not fit the key'],
  21: ['SIZE', 'the structure has a wrong size'],
  22: ['SYMMETRIC', 'the symmetric algorithm or key size is not supported or not correct'],
  23: ['TAG', 'the structure tag is not correct'],
  24: ['SELECTOR', 'the selector of a union is not correct'],
  26: ['INSUFFICIENT', 'the TPM needed more bytes than there were'],
  27: ['SIGNATURE', 'the signature is not valid'],
  28: ['KEY', 'the key does not fit this use'],
  29: ['POLICY_FAIL', 'the policy of the session is not the one that the object requires'],
  31: ['INTEGRITY', 'the integrity check failed: the bytes were changed, or are from another TPM or parent'],
  32: ['TICKET', 'the ticket is not valid'],
  33: ['RESERVED_BITS', 'reserved bits are not zero'],
  34: ['BAD_AUTH', 'the authorization failed; it is not counted against dictionary attacks'],
  35: ['EXPIRED', 'the policy has expired'],
  36: ['POLICY_CC', 'the policy is for another command'],
  37: ['BINDING', 'public and sensitive parts of the object do not belong together'],
  38: ['CURVE', 'the curve is not supported'],
  39: ['ECC_POINT', 'the point is not on the curve'],
};

// The command was well-formed but could not run now [TPM2 Part 2, table 17, RC_WARN].
const warnings: Record<number, Entry> = {
  1: ['CONTEXT_GAP', 'the gap between saved session contexts is too large; load the oldest session'],
  2: ['OBJECT_MEMORY', 'no memory for another object; flush one'],
  3: ['SESSION_MEMORY', 'no memory for another session; flush or save one'],
  4: ['MEMORY', 'no memory for the operation; flush objects or sessions'],
  5: ['SESSION_HANDLES', 'no session handle is free; flush a session'],
  6: ['OBJECT_HANDLES', 'no object handle is free; a reboot is needed'],
  7: ['LOCALITY', 'the locality is not allowed here'],
  8: ['YIELDED', 'the TPM put the command aside; send it again', 'retry'],
  9: ['CANCELED', 'the command was canceled on request'],
  10: ['TESTING', 'the TPM is still testing itself; send the command again', 'retry'],
  32: ['NV_RATE', 'the TPM slows writes down to spare its memory; send the command again', 'retry'],
  33: [
    'LOCKOUT',
    'too many failed authorizations; objects under dictionary-attack protection are locked out',
  ],
  34: ['RETRY', 'the TPM could not start the command; send it again', 'retry'],
  35: ['NV_UNAVAILABLE', 'the NV memory is not accessible at the moment; send the command again', 'retry'],
  127: ['NOT_USED', 'not in use'],
};
for (let n = 0; n < 7; n++) {
  warnings[0x10 + n] = [
    `REFERENCE_H${n}`,
    `handle ${n + 1} refers to an object or session that is not loaded`,
  ];
  warnings[0x18 + n] = [`REFERENCE_S${n}`, `authorization session ${n + 1} is not loaded`];
}

// Layers above a TPM's own 12 bits. Linux and resource managers pass the codes of a TPM on; the others have codes of
// their own, which never come as the response to a command [TSS 2.0 Overview, 3.2].
const resourceManagers = [11, 12];
const layerShift = 16;

function hex(code: number): string {
  return `0x${code.toString(16).padStart(3, '0')}`;
}

function entryOf(code: number): { kind: ResponseKind; number: number; entry: Entry | undefined } {
  if (code & 0x080) {
    const entry = numbered[code & 0x03f];
    const n = (code >>> 8) & 0xf;
    if (code & 0x040) return { kind: 'parameter', number: n, entry };
    return n & 0x8 ? { kind: 'session', number: n & 0x7, entry } : { kind: 'handle', number: n, entry };
  }
  if (!(code & 0x100)) return { kind: 'tpm1', number: 0, entry: undefined };
  if (code & 0x400) return { kind: 'vendor', number: 0, entry: undefined };
  if (!(code & 0x800)) return { kind: 'error', number: 0, entry: errors[code & 0x07f] };
  // Two ranges of warnings name their handle or session too.
  const low = code & 0x07f;
  if (low >= 0x10 && low <= 0x16) return { kind: 'handle', number: low - 0x0f, entry: warnings[low] };
  if (low >= 0x18 && low <= 0x1e) return { kind: 'session', number: low - 0x17, entry: warnings[low] };
  return { kind: 'warning', number: 0, entry: warnings[low] };
}

const unnamed: Partial<Record<ResponseKind, string>> = {
  vendor: 'an error of this vendor alone',
  tpm1: 'a TPM 1.2 code: this is no TPM 2.0, or it did not understand the command at all',
};

/** Reads a response code; every 32-bit number gets an answer. */
export function responseCode(code: number): ResponseCode {
  if (code === 0)
    return { code, name: 'TPM_RC_SUCCESS', sentence: 'done', kind: 'success', number: 0, retry: false };
  const layer = code >>> layerShift;
  if (resourceManagers.includes(layer)) {
    const inner = responseCode(code & 0xffff);
    return { ...inner, code, kind: 'layer', sentence: `resource manager: ${inner.sentence}` };
  }
  if (layer !== 0)
    return {
      code,
      name: hex(code),
      sentence: `a code of software layer ${layer}`,
      kind: 'layer',
      number: 0,
      retry: false,
    };
  if (code === 0x01e)
    return {
      code,
      name: 'TPM_RC_BAD_TAG',
      sentence: 'the tag of the command is not one of TPM 2.0',
      kind: 'error',
      number: 0,
      retry: false,
    };
  const { kind, number, entry } = entryOf(code);
  return {
    code,
    name: entry ? `TPM_RC_${entry[0]}` : hex(code),
    sentence: entry?.[1] ?? unnamed[kind] ?? 'a code that no specification defines',
    kind,
    number,
    retry: entry?.[2] === 'retry',
  };
}

/** All codes that have a name, without the numbers of handles, parameters and sessions. */
export const responseCodes: readonly ResponseCode[] = [
  0x01e,
  ...Object.keys(errors).map((low) => 0x100 | Number(low)),
  ...Object.keys(numbered).map((low) => 0x080 | Number(low)),
  ...Object.keys(warnings).map((low) => 0x900 | Number(low)),
].map(responseCode);

function canonical(name: string): number {
  const found = responseCodes.find((rc) => rc.name === `TPM_RC_${name}`);
  if (!found) throw new TypeError(`no response code ${name}`);
  return found.code;
}

/** The codes that callers decide by, without any number. Compare with `baseCode`. */
export const TPM_RC = {
  SUCCESS: 0,
  INITIALIZE: canonical('INITIALIZE'),
  FAILURE: canonical('FAILURE'),
  POLICY: canonical('POLICY'),
  PCR_CHANGED: canonical('PCR_CHANGED'),
  COMMAND_CODE: canonical('COMMAND_CODE'),
  NV_DEFINED: canonical('NV_DEFINED'),
  NV_UNINITIALIZED: canonical('NV_UNINITIALIZED'),
  NV_SPACE: canonical('NV_SPACE'),
  VALUE: canonical('VALUE'),
  HANDLE: canonical('HANDLE'),
  AUTH_FAIL: canonical('AUTH_FAIL'),
  BAD_AUTH: canonical('BAD_AUTH'),
  POLICY_FAIL: canonical('POLICY_FAIL'),
  INTEGRITY: canonical('INTEGRITY'),
  OBJECT_MEMORY: canonical('OBJECT_MEMORY'),
  SESSION_MEMORY: canonical('SESSION_MEMORY'),
  MEMORY: canonical('MEMORY'),
  SESSION_HANDLES: canonical('SESSION_HANDLES'),
  OBJECT_HANDLES: canonical('OBJECT_HANDLES'),
  YIELDED: canonical('YIELDED'),
  TESTING: canonical('TESTING'),
  NV_RATE: canonical('NV_RATE'),
  LOCKOUT: canonical('LOCKOUT'),
  RETRY: canonical('RETRY'),
} as const;

/** A response code without the number of the handle, parameter or session it concerns. */
export function baseCode(code: number): number {
  return code & 0x080 ? code & 0x0bf : code;
}
