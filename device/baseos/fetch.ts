// Fetching an image: over HTTPS from EVC, from where an earlier try stopped, and into a file that says so.
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { Refusal } from '../refusal.ts';

/** Largest image, bytes. */
const largest = 4 * 1024 ** 3;
/** ms without a byte. */
const patience = 30_000;

/**
 * Fetches `wanted` into `path`; a partial file beside it is continued with a range request.
 * Throws Refusal baseos.image-oversize, baseos.image-size, link.http, link.down, link.lost; errors of the disk.
 */
export async function fetchImage(
  wanted: BaseOsConfig,
  path: string,
  root: string,
  signal: AbortSignal,
  idle = patience,
): Promise<void> {
  if (wanted.size > largest) {
    throw new Refusal(
      'baseos.image-oversize',
      `an image of ${wanted.size} bytes, where ${largest} are the most`,
    );
  }
  if (existsSync(path) && statSync(path).size === wanted.size) return;
  mkdirSync(dirname(path), { recursive: true });
  const partial = `${path}.part`;
  const have = existsSync(partial) ? statSync(partial).size : 0;
  if (have > wanted.size) rmSync(partial);
  const from = have > wanted.size ? 0 : have;
  if (from < wanted.size) await download(wanted, partial, from, { root, signal, idle });
  const { size } = statSync(partial);
  if (size !== wanted.size) {
    // Not what EVC announced, so there is nothing to continue from.
    rmSync(partial);
    throw new Refusal('baseos.image-size', `the image has ${size} bytes, and EVC announced ${wanted.size}`);
  }
  renameSync(partial, path);
}

/** Drops all images of a folder but one, whole or begun: each that stayed would take room for ever. Throws errors of the disk. */
export function dropImages(folder: string, kept?: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (kept === undefined || (name !== kept && name !== `${kept}.part`)) rmSync(join(folder, name));
}

/** Throws Refusal baseos.image-hash. */
export async function checkImageHash(path: string, sha256: string): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  const got = hash.digest('hex');
  if (got === sha256) return;
  rmSync(path);
  throw new Refusal('baseos.image-hash', `the image has SHA-256 ${got}, and EVC announced ${sha256}`);
}

interface How {
  root: string;
  signal: AbortSignal;
  /** ms. */
  idle: number;
}

async function download(wanted: BaseOsConfig, partial: string, from: number, how: How): Promise<void> {
  const response = await get(wanted.url, from, how);
  const resumed = response.statusCode === 206;
  const elsewhere = resumed && !response.headers['content-range']?.startsWith(`bytes ${from}-`);
  if (elsewhere || (!resumed && response.statusCode !== 200)) {
    response.destroy();
    // What cannot be continued is begun again.
    if (from > 0) rmSync(partial, { force: true });
    throw new Refusal('link.http', `EVC answers ${response.statusCode} for the image`);
  }
  let left = wanted.size - (resumed ? from : 0);
  const bounded = async function* (source: AsyncIterable<Buffer>) {
    for await (const chunk of source) {
      left -= chunk.length;
      if (left < 0) throw new Refusal('baseos.image-size', 'EVC sends more bytes than it announced');
      yield chunk;
    }
  };
  const file = createWriteStream(partial, { flags: resumed ? 'a' : 'w' });
  const closed = new Promise<void>((resolve) => file.once('close', resolve));
  try {
    await pipeline(response, bounded, file, { signal: how.signal });
  } catch (error) {
    // A write that is under way ends after the pipeline: nobody may continue from a size that still grows.
    await closed;
    if (error instanceof Refusal) rmSync(partial, { force: true });
    const { code, syscall } = error as NodeJS.ErrnoException;
    const lost = code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE' || syscall === 'read';
    if (!lost) throw error;
    throw new Refusal('link.lost', 'the connection broke while the image was on its way', { cause: error });
  }
}

function get(url: string, from: number, { root, signal, idle }: How): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = from > 0 ? { range: `bytes=${from}-` } : {};
    const request = https.get(url, { ca: root, headers, signal, timeout: idle }, resolve);
    request.on('timeout', () =>
      request.destroy(new Refusal('link.timeout', `EVC sent nothing for ${idle / 1000} s`)),
    );
    request.on('error', (error: NodeJS.ErrnoException) => {
      const down = () =>
        new Refusal('link.down', `the image server is out of reach: ${error.code}`, { cause: error });
      reject(error instanceof Refusal || error.name === 'AbortError' ? error : down());
    });
  });
}
