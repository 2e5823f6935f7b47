// What a port throws when it cannot answer: a reason that charts, operators and tests know by its code.
import { WireError } from '../formats/wire/wire-error.ts';
import type { Failure } from '../machines/port.ts';
import { BootError } from './boot/extend.ts';
import { SessionError } from './tpm/authorization.ts';
import { ResponseError } from './tpm/execute.ts';
import { TransportError } from './tpm/transport.ts';

export class Refusal extends Error {
  readonly code: string;
  readonly retryAfter?: number;
  readonly details?: Record<string, unknown>;

  constructor(
    code: string,
    text: string,
    more: { retryAfter?: number; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(text, 'cause' in more ? { cause: more.cause } : {});
    this.name = 'Refusal';
    this.code = code;
    if (more.retryAfter !== undefined) this.retryAfter = more.retryAfter;
    if (more.details !== undefined) this.details = more.details;
  }
}

const fileCodes: Record<string, [code: string, text: string]> = {
  ENOSPC: ['disk.full', 'the disk is full; free some space, nothing that was stored is lost'],
  EDQUOT: ['disk.full', 'the quota of the disk is used up; nothing that was stored is lost'],
  EROFS: ['disk.read-only', 'the disk is mounted read-only'],
  EACCES: ['disk.forbidden', 'the file permissions do not let this program in'],
  EIO: ['disk.failed', 'the disk reports an input/output error'],
};

const sessionReasons: Record<SessionError['code'], { code: string; text: string }> = {
  'hmac-mismatch': {
    code: 'tpm.bus',
    text: 'a response was changed between the TPM and this program; it is not believed',
  },
  'salt-key-name': {
    code: 'tpm.other',
    text: 'the key that answers for the TPM is not the one of this device',
  },
  broken: { code: 'tpm.lost', text: 'the TPM is out of reach: a response of this session was lost' },
};

function reasonOfAnswer(rcName: string): { code: string; text: string } {
  if (rcName === 'TPM_RC_LOCKOUT')
    return { code: 'tpm.lockout', text: 'the TPM refuses for a while, after too many wrong authorisations' };
  if (/_(MEMORY|HANDLES)$/.test(rcName))
    return {
      code: 'tpm.memory',
      text: `the TPM has no room: ${rcName}; what was left in it is flushed first`,
    };
  // It waits for TPM2_Startup, and the PCRs that it would have after that say nothing of this boot [TPM2 Part 1, 12.2.3].
  if (rcName === 'TPM_RC_INITIALIZE')
    return {
      code: 'tpm.reset',
      text: 'the TPM lost its power while this device ran, and what it measured is gone; restart the device',
    };
  return { code: 'tpm.error', text: `the TPM answers ${rcName}` };
}

/** Anything that was thrown, as a reason. What is not ours is named and never quoted: its text may hold a secret. */
export function reasonOf(error: unknown): Omit<Failure, 'at' | 'dice'> {
  if (error instanceof Refusal) {
    return {
      code: error.code,
      text: error.message,
      ...(error.retryAfter === undefined ? {} : { retryAfter: error.retryAfter }),
      ...(error.details === undefined ? {} : { details: error.details }),
    };
  }
  if (error instanceof BootError) {
    const why = reasonOf(error.cause);
    return { ...why, text: `${error.message}: ${why.text}` };
  }
  if (error instanceof TransportError)
    return { code: 'tpm.lost', text: `the TPM is out of reach: ${error.message}` };
  const { code, rcName, name, syscall } = error as {
    code?: string;
    rcName?: string;
    name?: string;
    syscall?: string;
  };
  if (error instanceof WireError) return { code: error.code, text: error.message };
  if (typeof code === 'string' && Object.hasOwn(fileCodes, code)) {
    const [reason, text] = fileCodes[code] as [string, string];
    return { code: reason, text };
  }
  if (typeof rcName === 'string') return reasonOfAnswer(rcName);
  if (error instanceof SessionError) return sessionReasons[error.code];
  if (error instanceof ResponseError)
    return { code: 'tpm.rubbish', text: `what came from the TPM is no response: ${error.message}` };
  const where = typeof code === 'string' ? ` (${code}${syscall ? ` in ${syscall}` : ''})` : '';
  return { code: 'internal.error', text: `${name ?? 'an error'}${where} that nobody expected here` };
}
