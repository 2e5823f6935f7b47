// Manifests: measurements of images and of firmware as files, to take them from one EVC to another or from a vendor.
import * as v from 'valibot';
import { evePolicyPcrs } from '../../machines/pcrs.ts';
import type { KnownEntry } from '../verify/entries.ts';
import type { CatalogueFirmware, CatalogueImage } from './catalogue.ts';
import { parseJson } from './envelope.ts';
import { CatalogueError } from './error.ts';

/** Version that this EVC writes, and the newest that it reads. */
export const manifestVersion = 1;
export type ManifestKind = 'images' | 'firmware';

export const payloadTypes: Record<ManifestKind, string> = {
  images: 'application/vnd.eve-attest.images+json',
  firmware: 'application/vnd.eve-attest.firmware+json',
};

/** As in the catalogue, and without what only EVC knows: the file of an image is signed by the EVC that offers it. */
export type ManifestImage = Pick<CatalogueImage, 'version' | 'entries'>;
export type ManifestFirmware = Pick<CatalogueFirmware, 'firmware' | 'vendor' | 'entries'>;

const mostItems = 1000;
const mostEntries = 5000;

const name = v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/));
const words = (most: number) => v.pipe(v.string(), v.maxLength(most));
const digest = (size: number) => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${2 * size}}$`)));
const entry = v.strictObject({
  pcr: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(23)),
  type: words(64),
  subject: words(2100),
  text: words(2100),
  digests: v.strictObject({
    sha256: digest(32),
    sha1: v.exactOptional(digest(20)),
    sha384: v.exactOptional(digest(48)),
    sha512: v.exactOptional(digest(64)),
  }),
  required: v.exactOptional(v.boolean()),
  alternative: v.exactOptional(words(64)),
});
const entries = v.pipe(v.array(entry), v.minLength(1), v.maxLength(mostEntries));
/** Printable: it goes to terminals and is compared with what devices report. */
export const firmwareName = v.pipe(v.string(), v.regex(/^[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?$/));
const firmwareVendor = v.pipe(v.string(), v.regex(/^[\x20-\x7e]{0,100}$/));

const items = {
  images: v.pipe(v.array(v.strictObject({ version: name, entries })), v.minLength(1), v.maxLength(mostItems)),
  firmware: v.pipe(
    v.array(v.strictObject({ firmware: firmwareName, vendor: firmwareVendor, entries })),
    v.minLength(1),
    v.maxLength(mostItems),
  ),
};

/** The bytes of a manifest. */
export function writeManifest(kind: 'images', list: readonly ManifestImage[]): Uint8Array;
export function writeManifest(kind: 'firmware', list: readonly ManifestFirmware[]): Uint8Array;
export function writeManifest(kind: ManifestKind, list: readonly object[]): Uint8Array {
  const manifest = { format: `eve-attest ${kind}`, version: manifestVersion, [kind]: list };
  return new TextEncoder().encode(`${JSON.stringify(manifest)}\n`);
}

/**
 * Reads a manifest of its kind. Throws CatalogueError manifest.malformed with the place, manifest.version for one of a
 * newer EVC, manifest.too-large.
 */
export function readManifest(kind: 'images', bytes: Uint8Array): ManifestImage[];
export function readManifest(kind: 'firmware', bytes: Uint8Array): ManifestFirmware[];
export function readManifest(kind: ManifestKind, bytes: Uint8Array): (ManifestImage | ManifestFirmware)[] {
  const value = parseJson(bytes);
  const head = v.safeParse(v.object({ format: v.string(), version: v.pipe(v.number(), v.integer()) }), value);
  if (!head.success || head.output.format !== `eve-attest ${kind}`)
    throw new CatalogueError('manifest.malformed', `this is no manifest of ${kind}`);
  const { version } = head.output;
  if (version > manifestVersion || version < 1)
    throw new CatalogueError(
      'manifest.version',
      `this manifest is of version ${version}, and this EVC reads ${manifestVersion} at most`,
    );
  const schema = v.strictObject({ format: v.string(), version: v.number(), [kind]: items[kind] });
  const read = v.safeParse(schema, value, { abortEarly: true });
  if (!read.success) {
    const [issue] = read.issues;
    const where = v.getDotPath(issue) ?? 'the manifest';
    throw new CatalogueError('manifest.malformed', `${where}: ${issue.message.slice(0, 200)}`);
  }
  const list = (read.output as Record<string, unknown>)[kind] as (ManifestImage | ManifestFirmware)[];
  checkOnce(kind, list);
  return list;
}

/** Entries that no policy looks at are no part of what a version is known by. */
export function ofPolicy(list: readonly KnownEntry[]): KnownEntry[] {
  return list.filter(({ pcr }) => evePolicyPcrs.includes(pcr));
}

function checkOnce(kind: ManifestKind, list: readonly (ManifestImage | ManifestFirmware)[]): void {
  const seen = new Set<string>();
  for (const item of list) {
    const id = 'version' in item ? item.version : item.firmware;
    if (seen.has(id)) throw new CatalogueError('manifest.malformed', `${kind} ${id} is there twice`);
    seen.add(id);
  }
}
