// The catalogue: which measurements a version of an image, or of a firmware, causes, and the file that devices fetch. Known
// from the log of a reference boot in a place that is trusted, from the files alone (measure.ts), or from a signed manifest.
import { randomUUID, verify, type X509Certificate } from 'node:crypto';
import { createReadStream, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { imageManifest } from '../../formats/wire/image-manifest.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { type Pki, signRaw } from '../pki.ts';
import type { Store } from '../store/store.ts';
import type { KnownEntry } from '../verify/entries.ts';
import { CatalogueError } from './error.ts';
import { writeHashed } from './file.ts';

/** Where measurements are known from. */
export type Source =
  | { kind: 'log' }
  | { kind: 'files' }
  /** A manifest; `signer` is the name of the key that signed it. */
  | { kind: 'manifest'; signer: string };

export interface CatalogueImage {
  version: string;
  /** Of the file, hex; empty when only measurements are known. */
  sha256: string;
  size: number;
  /** EVC's, base64. */
  signature: string;
  entries: KnownEntry[];
  source: Source;
  added: number;
}

/** A firmware, by the words that a device reports: `vendor-version-date`. */
export interface CatalogueFirmware {
  firmware: string;
  /** Empty where nobody said. */
  vendor: string;
  entries: KnownEntry[];
  source: Source;
  added: number;
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

  /** Adds a version, with the file of the image if there is one; a file that was there before stays. */
  async add(
    image: Pick<CatalogueImage, 'version' | 'entries' | 'source' | 'added'>,
    file?: { path: string },
  ): Promise<CatalogueImage> {
    const before = await this.get(image.version);
    const { sha256 = '', size = 0, signature = '' } = before ?? {};
    const added: CatalogueImage = { ...image, sha256, size, signature };
    if (file) {
      const temporary = join(this.#folder, `.incoming-${randomUUID()}`);
      Object.assign(added, await writeHashed(temporary, 0o644, createReadStream(file.path)));
      renameSync(temporary, this.file(added.sha256));
      added.signature = this.#signed(added);
    }
    await this.#store.put('image', image.version, added);
    return added;
  }

  #signed(image: CatalogueImage): string {
    return Buffer.from(signRaw(this.#pki.signing.key, imageManifest(image))).toString('base64');
  }

  /** Signed anew where a key that EVC had before signed it. What nobody of EVC signed stays as it is, and devices refuse it. */
  #signature(image: CatalogueImage): string {
    const { signing, formerSigning } = this.#pki;
    const by = ({ publicKey }: X509Certificate) => {
      const key = { key: publicKey, dsaEncoding: 'ieee-p1363' as const };
      return verify('sha256', imageManifest(image), key, Buffer.from(image.signature, 'base64'));
    };
    if (by(signing.certificate) || !formerSigning.some(by)) return image.signature;
    return this.#signed(image);
  }

  async get(version: string): Promise<CatalogueImage | null> {
    const image = await this.#store.get<CatalogueImage>('image', version);
    return image && upgraded(image);
  }

  async images(): Promise<CatalogueImage[]> {
    return (await this.#store.all<CatalogueImage>('image')).map(({ body }) => upgraded(body));
  }

  versions(): Promise<string[]> {
    return this.#store.ids('image');
  }

  file(sha256: string): string {
    return join(this.#folder, sha256);
  }

  async entries(version: string): Promise<readonly KnownEntry[]> {
    return (await this.get(version))?.entries ?? [];
  }

  async addFirmware(firmware: CatalogueFirmware): Promise<CatalogueFirmware> {
    await this.#store.put('firmware', firmware.firmware, firmware);
    return firmware;
  }

  firmware(firmware: string): Promise<CatalogueFirmware | null> {
    return this.#store.get('firmware', firmware);
  }

  async firmwares(): Promise<CatalogueFirmware[]> {
    return (await this.#store.all<CatalogueFirmware>('firmware')).map(({ body }) => body);
  }

  /** What a device is told of an image. Throws CatalogueError image.unknown, image.no-file. */
  async baseOs(
    version: string,
    base: string,
    retryCounter: number,
    testWindow: number,
  ): Promise<BaseOsConfig> {
    const image = await this.get(version);
    if (!image)
      throw new CatalogueError(
        'image.unknown',
        `the catalogue has no image ${version}; add it with: evc image add ${version} …`,
      );
    if (image.sha256 === '')
      throw new CatalogueError(
        'image.no-file',
        `image ${version} has measurements and no file to fetch; add it with: evc image add ${version} --file …`,
      );
    const { sha256, size } = image;
    const signature = this.#signature(image);
    // The same the next time: a device takes another signature for another wish.
    if (signature !== image.signature) await this.#store.put('image', version, { ...image, signature });
    return { version, url: `${base}/images/${sha256}`, sha256, size, signature, testWindow, retryCounter };
  }
}

/** Images that an earlier EVC stored know of each measurement its PCR, digest and words. */
function upgraded(image: CatalogueImage): CatalogueImage {
  if (image.source !== undefined) return image;
  const old = image.entries as unknown as { entry: string; text: string }[];
  const entries = old.map(({ entry, text }): KnownEntry => {
    const [pcr = '', sha256 = ''] = entry.split(':');
    return { pcr: Number(pcr), type: '', subject: '', text, digests: { sha256 } };
  });
  return { ...image, entries, source: { kind: 'log' } };
}
