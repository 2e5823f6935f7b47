// The catalogue of images: which measurements a version causes, and the file that devices fetch. Known from the log of a
// reference boot, in a place that is trusted.
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { checkLog, replay } from '../../formats/eventlog/replay.ts';
import { imageManifest } from '../../formats/wire/image-manifest.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { type Pki, signRaw } from '../pki.ts';
import type { Store } from '../store/store.ts';
import { hash } from '../verify/hash.ts';
import { entriesOf, type KnownEntries } from '../verify/policy.ts';

export interface CatalogueImage {
  version: string;
  /** Of the file, hex; empty when only measurements are known. */
  sha256: string;
  size: number;
  /** EVC's, base64. */
  signature: string;
  entries: { entry: string; text: string }[];
  added: number;
}

export class CatalogueError extends Error {
  readonly code = 'catalogue.log';
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CatalogueError';
  }
}

export class Catalogue {
  readonly #store: Store;
  readonly #pki: Pki;
  readonly #folder: string;

  constructor(store: Store, pki: Pki, folder: string) {
    this.#store = store;
    this.#pki = pki;
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  /** Adds a version: the file of the image, if there is one, and the logs of a reference boot. Throws CatalogueError. */
  async add(
    version: string,
    added: number,
    logs: readonly Uint8Array[],
    file?: { path: string },
  ): Promise<CatalogueImage> {
    const entries = measurements(logs);
    const image: CatalogueImage = { version, sha256: '', size: 0, signature: '', entries, added };
    if (file) {
      const temporary = join(this.#folder, `.incoming-${randomUUID()}`);
      try {
        const { sha256, size } = await copy(file.path, temporary);
        Object.assign(image, { sha256, size });
        renameSync(temporary, this.file(sha256));
      } catch (error) {
        rmSync(temporary, { force: true });
        throw error;
      }
      image.signature = Buffer.from(signRaw(this.#pki.signing.key, imageManifest(image))).toString('base64');
    }
    await this.#store.put('image', version, image);
    return image;
  }

  get(version: string): Promise<CatalogueImage | null> {
    return this.#store.get('image', version);
  }

  async versions(): Promise<string[]> {
    return (await this.#store.all('image')).map(({ id }) => id);
  }

  file(sha256: string): string {
    return join(this.#folder, sha256);
  }

  async entries(version: string): Promise<KnownEntries> {
    const image = await this.get(version);
    return new Set(image?.entries.map(({ entry }) => entry) ?? []);
  }

  async firmwareEntries(version: string): Promise<KnownEntries> {
    const firmware = await this.#store.get<{ entries: string[] }>('firmware', version);
    return new Set(firmware?.entries ?? []);
  }

  /** What a device is told of an image. Throws CatalogueError when there is no file to fetch. */
  async baseOs(
    version: string,
    base: string,
    retryCounter: number,
    testWindow: number,
  ): Promise<BaseOsConfig> {
    const image = await this.get(version);
    if (!image)
      throw new CatalogueError(
        `the catalogue has no image ${version}; add it with: evc image add ${version} …`,
      );
    if (image.sha256 === '')
      throw new CatalogueError(`image ${version} has measurements and no file to fetch`);
    const { sha256, size, signature } = image;
    return { version, url: `${base}/images/${sha256}`, sha256, size, signature, testWindow, retryCounter };
  }
}

/** Copies a file, on the disk before it resolves, and hashes what it copied. */
async function copy(from: string, to: string): Promise<{ sha256: string; size: number }> {
  const digest = createHash('sha256');
  let size = 0;
  const counted = async function* (source: AsyncIterable<Buffer>) {
    for await (const chunk of source) {
      digest.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  };
  await pipeline(createReadStream(from), counted, createWriteStream(to, { mode: 0o644, flush: true }));
  return { sha256: digest.digest('hex'), size };
}

/** Measurements of a reference boot, SHA-256 bank. A log that was cut short is no reference. */
function measurements(logs: readonly Uint8Array[]): CatalogueImage['entries'] {
  try {
    const parsed = logs.map((log) => parseLog(log));
    const cut = parsed.find(({ truncated }) => truncated);
    if (cut?.truncated) throw cut.truncated;
    const { pcrs } = replay(parsed, 'sha256', hash);
    const check = checkLog(parsed, pcrs, 'sha256', hash);
    if (!check.ok) throw new RangeError('the log does not lead to its own values');
    if (check.log.events.length === 0) throw new RangeError('it measures nothing');
    return entriesOf(check.log);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unreadable';
    throw new CatalogueError(`this is no log of a reference boot: ${why}`, { cause });
  }
}
