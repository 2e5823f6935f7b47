// What a command is to read: a file or standard input, bounded, unpacked where it is gzip.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { exitCodes, Failure } from './failure.ts';

/** Bytes, as stored and once unpacked. */
const largest = 16 * 1024 * 1024;

/** `-` is standard input. Throws Failure input.unreadable, input.too-large. */
export function readInput(path: string): Buffer {
  const bytes = read(path);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: largest });
  } catch (cause) {
    const tooLarge = (cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
    throw tooLarge
      ? tooMuch(path)
      : unusable(`${nameOf(path)} begins as gzip and is none`, { code: 'input.unreadable', cause });
  }
}

export function nameOf(path: string): string {
  return path === '-' ? 'standard input' : path;
}

/** An input that nothing can be said about: exit code 2. */
export function unusable(text: string, more: { code: string; hint?: string; cause?: unknown }): Failure {
  return new Failure(text, { ...more, exitCode: exitCodes.usage });
}

function read(path: string): Buffer {
  let file = 0;
  try {
    file = path === '-' ? 0 : openSync(path, 'r');
    if (fstatSync(file).isDirectory()) throw new Error('it is a folder');
    const chunks: Buffer[] = [];
    for (let size = 0; ; ) {
      const chunk = Buffer.allocUnsafe(256 * 1024);
      const count = readSome(file, chunk);
      if (count === 0) return Buffer.concat(chunks);
      size += count;
      if (size > largest) throw tooMuch(path);
      chunks.push(chunk.subarray(0, count));
    }
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const why = cause instanceof Error ? cause.message : 'unreadable';
    throw unusable(`${nameOf(path)} cannot be read: ${why}`, { code: 'input.unreadable', cause });
  } finally {
    if (file > 0) closeSync(file);
  }
}

/** A pipe that has nothing yet says so once it is not blocking, and a closed one ends with EOF. */
function readSome(file: number, into: Buffer): number {
  for (;;) {
    try {
      return readSync(file, into, 0, into.length, null);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

function tooMuch(path: string): Failure {
  return unusable(`${nameOf(path)} has more than ${largest} bytes`, {
    code: 'input.too-large',
    hint: 'no event log or quote is that large; is it the right file?',
  });
}

/** A number of the command line, from 1. Throws Failure. */
export function countOf(option: string, text: string, most: number): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= most) return count;
  throw new Failure(`${option} ${text}`, { hint: `a number from 1 to ${most}`, exitCode: exitCodes.usage });
}

/** `on` or `off`. Throws Failure. */
export function switchOf(option: string, text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on';
  throw new Failure(`${option} ${text}`, { hint: 'known: on, off', exitCode: exitCodes.usage });
}
