// Files of images, read as they are hashed: never whole in memory, however large they are.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, rmSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { BankDigests } from '../../formats/eventlog/eve-boot.ts';
import { FormatError } from '../../formats/format-error.ts';
import type { Range } from '../../formats/image/authenticode.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import { CatalogueError } from './error.ts';

/** Banks that firmware measures into; a baseline looks at SHA-256. */
export const measuredBanks: readonly HashName[] = ['sha1', 'sha256', 'sha384'];

/** The first bytes of a file, and its size; fewer bytes where the file has fewer. */
export async function startOf(path: string, length: number): Promise<{ header: Uint8Array; size: number }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(length, size));
    let at = 0;
    while (at < buffer.length) {
      const { bytesRead } = await file.read(buffer, at, buffer.length - at, at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return { header: buffer.subarray(0, at), size };
  } finally {
    await file.close();
  }
}

/** Hashes ranges of a file, one after the other, into every bank in one pass; without ranges all of it. */
export async function hashFile(
  path: string,
  ranges: readonly Range[] = [{ start: 0, end: Number.POSITIVE_INFINITY }],
  banks: readonly HashName[] = measuredBanks,
): Promise<BankDigests> {
  const hashes = banks.map((bank) => [bank, createHash(bank)] as const);
  for (const { start, end } of ranges) {
    if (end <= start) continue;
    let left = end - start;
    for await (const chunk of createReadStream(path, { start, end: end - 1 })) {
      left -= (chunk as Buffer).length;
      for (const [, hash] of hashes) hash.update(chunk as Buffer);
    }
    if (left > 0 && left !== Number.POSITIVE_INFINITY)
      throw new CatalogueError('image.file', `${path} became shorter while it was read`);
  }
  return Object.fromEntries(hashes.map(([bank, hash]) => [bank, hash.digest()]));
}

/** Writes a file as it hashes it, on the disk before it resolves (SHA-256 in hex, bytes); where that fails, none is left. */
export async function writeHashed(
  path: string,
  mode: number,
  source: AsyncIterable<Buffer>,
): Promise<{ sha256: string; size: number }> {
  const digest = createHash('sha256');
  let size = 0;
  const counted = async function* (chunks: AsyncIterable<Buffer>) {
    for await (const chunk of chunks) {
      digest.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  };
  const file = createWriteStream(path, { mode, flush: true });
  try {
    await pipeline(source, counted, file);
  } catch (error) {
    // A source may fail while the file is being opened, which goes on and makes it.
    if (!file.closed) await new Promise<void>((resolve) => file.once('close', resolve));
    rmSync(path, { force: true });
    throw error;
  }
  return { sha256: digest.digest('hex'), size };
}

/** A file that is there and is a file; throws CatalogueError image.file. */
export async function fileSize(path: string): Promise<number> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CatalogueError('image.file', `${path} cannot be read (${cause.code})`, { cause });
  });
  if (!found.isFile()) throw new CatalogueError('image.file', `${path} is no file`);
  return found.size;
}

/** Names the file in what its format is refused for. */
export async function ofFile<Value>(path: string, work: () => Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new CatalogueError('image.file', `${path}: ${cause.message}`, { cause });
  }
}
