// What every decision of a person has: who, why, and on what they looked. Whoever decides says why, and it is kept.

/** Something that cannot be done as asked; `status` is HTTP's. */
export class OperatorError extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, status: number, message: string) {
    super(message);
    this.name = 'OperatorError';
    this.code = code;
    this.status = status;
  }
}

export interface Decision {
  /** Name of the token. */
  by: string;
  reason?: string;
  /** Version of the record that it rests on; the record has it still, or nothing is done. */
  ifRevision?: number;
}

/** What EVC does of its own accord. */
export const evcItself: Decision = { by: 'evc' };

const longestReason = 500;

/** A reason as it is kept. Throws OperatorError reason.missing. */
export function checkReason(reason: string): string {
  const text = reason.trim();
  if (text.length === 0 || text.length > longestReason) {
    throw new OperatorError('reason.missing', 422, `say why, in 1 to ${longestReason} characters`);
  }
  return text;
}

const name = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Names of accounts and tokens, and labels. Throws OperatorError with the code. */
export function checkName(code: string, what: string, text: string): void {
  if (!name.test(text))
    throw new OperatorError(code, 422, `${what} is named with 1 to 64 letters, digits, ., _ and -`);
}
