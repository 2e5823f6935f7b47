// What went wrong, for the person at the terminal: what, where, and the next thing to do.
import { ImageError } from '../boot/image.ts';
import { AddonMissing } from '../native/addon.ts';
import { Refusal, reasonOf } from '../refusal.ts';
import { KeyError } from '../tpm/keys.ts';
import { TransportError } from '../tpm/transport.ts';
import { NvImageError, TpmStateError } from '../tpm/transports/wasm.ts';

/** Exit codes, as `eve --help` lists them. */
export const exitCodes = { done: 0, failed: 1, usage: 2 } as const;

/** A failure that says what to do. */
export class Failure extends Error {
  readonly hint: string;
  readonly exitCode: number;
  constructor(message: string, hint = '', exitCode: number = exitCodes.failed, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Failure';
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** Anything that was thrown, as lines for the terminal. */
export function explain(error: unknown): { code: string; text: string; hint: string; exitCode: number } {
  const exitCode = error instanceof Failure ? error.exitCode : exitCodes.failed;
  if (error instanceof Failure) return { code: 'failed', text: error.message, hint: error.hint, exitCode };
  if (error instanceof ImageError) {
    return {
      code: 'image.broken',
      text: error.message,
      hint: 'make one with: eve image create DIR --version 1.0.0',
      exitCode,
    };
  }
  if (error instanceof TpmStateError || error instanceof NvImageError) {
    return { code: `tpm.state-${error.code}`, text: error.message, hint: '', exitCode };
  }
  if (error instanceof TransportError)
    return { code: 'tpm.lost', text: error.message, hint: error.hint, exitCode };
  if (error instanceof AddonMissing)
    return { code: error.code, text: error.message, hint: error.hint, exitCode };
  if (error instanceof KeyError) return { code: 'tpm.failed', text: error.message, hint: '', exitCode };
  const system = error as NodeJS.ErrnoException;
  const { code, text } = reasonOf(error);
  if (typeof system.code === 'string' && !(error instanceof Refusal)) {
    return {
      code: code === 'internal.error' ? system.code : code,
      text: code === 'internal.error' ? system.message : `${text} (${system.path ?? system.syscall ?? ''})`,
      hint: hints[system.code] ?? '',
      exitCode,
    };
  }
  const plain = code === 'internal.error' && error instanceof Error ? error.message : text;
  return { code, text: plain, hint: '', exitCode };
}

const hints: Record<string, string> = {
  EACCES: 'choose folders that you may write to, such as --state ./device-1',
  EROFS: 'choose folders on a disk that can be written, such as --state ./device-1',
  ENOSPC: 'free some space, and start again',
  ENOTDIR: 'a file stands where a folder belongs; move it away',
  EEXIST: 'a file stands where a folder belongs; move it away',
};
