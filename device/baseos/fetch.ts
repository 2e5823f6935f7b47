// Fetching an image: over HTTPS from EVC, from where an earlier try stopped, and into a file that says so.
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import https from 'node:https';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { Refusal } from '../refusal.ts';

/** Largest image, bytes. */
const largest = 4 * 1024 ** 3;
const idle = 30_000;

/**
 * Fetches `wanted` into `path`; a partial file beside it is continued with a range request.
 * Throws Refusal baseos.image-oversize, link.http, link.down.
 */
export async function fetchImage(
  wanted: BaseOsConfig,
  path: string,
  root: string,
  signal: AbortSignal,
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
  if (from < wanted.size) await download(wanted, partial, from, root, signal);
  const { size } = statSync(partial);
  if (size !== wanted.size) {
    // Not what EVC announced, so there is nothing to continue from.
    rmSync(partial);
    throw new Refusal('baseos.image-size', `the image has ${size} bytes, and EVC announced ${wanted.size}`);
  }
  renameSync(partial, path);
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

async function download(
  wanted: BaseOsConfig,
  partial: string,
  from: number,
  root: string,
  signal: AbortSignal,
): Promise<void> {
  const response = await get(wanted.url, from, root, signal);
  const resumed = response.statusCode === 206;
  if (!resumed && response.statusCode !== 200) {
    response.destroy();
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
  await pipeline(response, bounded, createWriteStream(partial, { flags: resumed ? 'a' : 'w' }), { signal });
}

function get(url: string, from: number, root: string, signal: AbortSignal) {
  return new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    const headers = from > 0 ? { range: `bytes=${from}-` } : {};
    const request = https.get(url, { ca: root, headers, signal, timeout: idle }, resolve);
    request.on('timeout', () =>
      request.destroy(new Refusal('link.timeout', `EVC sent nothing for ${idle / 1000} s`)),
    );
    request.on('error', (error: NodeJS.ErrnoException) => {
      reject(
        error instanceof Refusal
          ? error
          : new Refusal('link.down', `the image server is out of reach: ${error.code}`),
      );
    });
  });
}
