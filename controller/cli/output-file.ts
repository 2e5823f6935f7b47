// Where a recording goes: a file, packed where its name says so, or standard output.
import { randomUUID } from 'node:crypto';
import { createWriteStream, existsSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { pipeline, type Writable } from 'node:stream';
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
  if (path === undefined || path === '-')
    return outputOf(process.stdout, async () => undefined, 'standard output');
  return openFile(path, path, 'w');
}

/**
 * Writes a file that takes the place of the one there only when all of it is written; what is no file, such as a pipe, is
 * written to as it is. Rejects with Failure where it cannot be made, and as `fill` does: what was there stands then.
 */
export async function replaceOutput(path: string, fill: (output: Output) => Promise<void>): Promise<void> {
  const there = path !== '-' && existsSync(path);
  const inPlace = path === '-' || (there && !statSync(path).isFile());
  // A link stays a link.
  const target = there ? realpathSync(path) : path;
  const beside = `${target}.${randomUUID().slice(0, 8)}.new`;
  const output = await (inPlace ? openOutput(path) : openFile(beside, path, 'wx'));
  try {
    await fill(output);
    await output.close();
    if (!inPlace) replace(beside, target, path);
  } catch (error) {
    await output.close().catch(() => undefined);
    if (!inPlace) rmSync(beside, { force: true });
    throw error;
  }
}

function replace(beside: string, target: string, path: string): void {
  try {
    renameSync(beside, target);
  } catch (error) {
    throw unwritable(path, error as Error);
  }
}

/** @param path what the person calls it */
async function openFile(name: string, path: string, flags: 'w' | 'wx'): Promise<Output> {
  const file = createWriteStream(name, { mode: 0o600, flags });
  const closed = new Promise<void>((resolve, reject) => {
    file.once('close', resolve);
    file.once('error', (error) => reject(unwritable(path, error)));
  });
  closed.catch(() => undefined);
  await new Promise<void>((resolve, reject) => {
    file.once('ready', () => resolve());
    file.once('error', (error) => reject(unwritable(path, error)));
  });
  if (!path.endsWith('.gz')) return outputOf(file, () => ended(file, closed), path);
  const packed = createGzip();
  // A pipe alone would leave the packing to wait for a file that is gone.
  pipeline(packed, file, () => undefined);
  return outputOf(packed, () => ended(packed, closed), path);
}

function outputOf(out: Writable, close: () => Promise<void>, path: string): Output {
  const failure = () =>
    out.errored
      ? unwritable(path, out.errored)
      : new Failure('the file took no more', { code: 'output.failed' });
  return {
    write: (text) =>
      new Promise((resolve, reject) => {
        if (out.destroyed) return reject(failure());
        if (out.write(text)) return resolve();
        const settle = () => {
          out.removeListener('drain', settle);
          out.removeListener('close', settle);
          if (out.destroyed) reject(failure());
          else resolve();
        };
        out.once('drain', settle);
        out.once('close', settle);
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
