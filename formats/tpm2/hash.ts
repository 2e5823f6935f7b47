// Hash algorithms under their everyday names. The hash itself is handed in, so that all of this runs in a browser too.
import { TPM_ALG } from './constants.ts';

export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512';

/**
 * Digest of some bytes; `node:crypto` on a device or controller. It may write the digest to the start of `into`, which
 * may be the data themselves, and return that; a new array otherwise.
 */
export type Hash = (algorithm: HashName, data: Uint8Array, into?: Uint8Array) => Uint8Array;

/** HMAC of some bytes under a key, which may be empty. */
export type Hmac = (algorithm: HashName, key: Uint8Array, data: Uint8Array) => Uint8Array;

const hashes: readonly { name: HashName; id: number; size: number }[] = [
  { name: 'sha1', id: TPM_ALG.SHA1, size: 20 },
  { name: 'sha256', id: TPM_ALG.SHA256, size: 32 },
  { name: 'sha384', id: TPM_ALG.SHA384, size: 48 },
  { name: 'sha512', id: TPM_ALG.SHA512, size: 64 },
];
const byName = new Map(hashes.map((hash) => [hash.name, hash]));
const byId = new Map(hashes.map((hash) => [hash.id, hash]));

/** TPM_ALG_ID of a hash. */
export function hashId(name: HashName): number {
  const hash = byName.get(name);
  if (!hash) throw new TypeError(`unknown hash ${name}`);
  return hash.id;
}

/** Digest size in bytes. */
export function digestSize(name: HashName): number {
  const hash = byName.get(name);
  if (!hash) throw new TypeError(`unknown hash ${name}`);
  return hash.size;
}

/** The hash behind a TPM_ALG_ID, undefined if it is none that can be computed here. */
export function hashName(id: number): HashName | undefined {
  return byId.get(id)?.name;
}

/** Joins byte strings. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
