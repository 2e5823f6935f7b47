// What went wrong, for the person at the terminal: what, where, and the next thing to do.
import { StoreError } from '../store/store.ts';

/** Exit codes, as `evc --help` lists them. */
export const exitCodes = { done: 0, failed: 1, usage: 2, unreachable: 3, refused: 4 } as const;

/** A failure that says what to do. */
export class Failure extends Error {
  readonly hint: string;
  readonly exitCode: number;
  readonly code: string;
  constructor(
    message: string,
    more: { hint?: string; exitCode?: number; code?: string; cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.name = 'Failure';
    this.hint = more.hint ?? '';
    this.exitCode = more.exitCode ?? exitCodes.failed;
    this.code = more.code ?? 'failed';
  }
}

/** Anything that was thrown, as lines for the terminal. */
export function explain(error: unknown): Pick<Failure, 'code' | 'hint' | 'exitCode'> & { text: string } {
  if (error instanceof Failure) {
    const { code, hint, exitCode, message } = error;
    return { code, hint, exitCode, text: message };
  }
  const exitCode = exitCodes.failed;
  if (error instanceof StoreError) {
    return { code: `store.${error.code}`, hint: storeHints[error.code], exitCode, text: error.message };
  }
  const { code, message, path, cause } = error as NodeJS.ErrnoException;
  const system = code ?? (cause as NodeJS.ErrnoException | undefined)?.code ?? '';
  return {
    code: system === '' ? 'failed' : system,
    hint: hints[system] ?? '',
    exitCode,
    text: path === undefined || message.includes(path) ? message : `${message} (${path})`,
  };
}

const storeHints: Record<StoreError['code'], string> = {
  version: 'install the version of EVC that wrote it, or give this one a folder of its own with --data',
  broken: 'put a backup of the data folder back; the devices need no change for that',
  full: 'free some space, and start again',
  taken: 'an EVC runs on this data folder already; evc status shows it',
  closed: 'this EVC is on its way down; start it again',
  ahead: 'upgrade this EVC, or leave the device to the newer one',
  newer: 'use it as it is with evc serve --store; or give an empty database',
  unreachable: 'look at the address in --store or EVC_STORE, and whether PostgreSQL runs there',
};

const hints: Record<string, string> = {
  EACCES: 'choose a folder that you may write to with --data DIR',
  EROFS: 'choose a folder on a disk that can be written with --data DIR',
  ENOSPC: 'free some space, and start again; what was stored is safe',
  ENOTDIR: 'a file stands where a folder belongs; choose another with --data DIR',
  EEXIST: 'a file stands where a folder belongs; choose another with --data DIR',
  EADDRINUSE: 'see who listens there with: ss -ltnp',
};
