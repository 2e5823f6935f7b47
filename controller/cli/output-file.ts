// Where a recording goes: a file, packed where its name says so, or standard output.
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { Failure } from './failure.ts';

export interface Output {
  /** Resolves when there is room for more. */
  write(text: string): Promise<void>;
  /** Resolves when everything is in the file. */
  close(): Promise<void>;
}

/** `undefined` and `-` are standard output. Rejects with Failure where the file cannot be made. */
export async function openOutput(path: string | undefined): Promise<Output> {
  if (path === undefined || path === '-') return outputOf(process.stdout, async () => undefined);
  const file = createWriteStream(path, { mode: 0o600 });
  const closed = new Promise<void>((resolve, reject) => {
    file.once('close', resolve);
    file.once('error', (error) => reject(unwritable(path, error)));
  });
  closed.catch(() => undefined);
  await new Promise<void>((resolve, reject) => {
    file.once('ready', () => resolve());
    file.once('error', (error) => reject(unwritable(path, error)));
  });
  if (!path.endsWith('.gz')) return outputOf(file, () => ended(file, closed));
  const packed = createGzip();
  packed.pipe(file);
  return outputOf(packed, () => ended(packed, closed));
}

function outputOf(out: Writable, close: () => Promise<void>): Output {
  return {
    write: (text) =>
      new Promise((resolve, reject) => {
        if (out.destroyed) reject(new Failure('the file took no more', { code: 'output.failed' }));
        else if (out.write(text)) resolve();
        else out.once('drain', resolve);
      }),
    close,
  };
}

async function ended(out: Writable, closed: Promise<void>): Promise<void> {
  out.end();
  await closed;
}

function unwritable(path: string, cause: Error): Failure {
  const hint = 'give another file with -o FILE';
  return new Failure(`${path} cannot be written: ${cause.message}`, { code: 'output.failed', hint, cause });
}
