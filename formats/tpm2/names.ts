// Names: how a TPM, a policy and an authorization refer to an entity without trusting a handle [TPM2 Part 1, 16].
import { encode } from './codec.ts';
import { concat, type Hash, hashName } from './hash.ts';
import { TPMS_NV_PUBLIC, TPMT_PUBLIC } from './structures.ts';

function bigEndian(length: 2 | 4, value: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  if (length === 2) view.setUint16(0, value);
  else view.setUint32(0, value);
  return bytes;
}

function named(hash: Hash, nameAlg: number, ...parts: Uint8Array[]): Uint8Array {
  const algorithm = hashName(nameAlg);
  if (!algorithm) throw new RangeError(`cannot name with algorithm 0x${nameAlg.toString(16)}`);
  return concat(bigEndian(2, nameAlg), hash(algorithm, concat(...parts)));
}

/** The name of what has no public area: PCRs, sessions and permanent handles are called by their handle. */
export function handleName(handle: number): Uint8Array {
  return bigEndian(4, handle);
}

/**
 * The name of a key or sealed object: nameAlg and digest of its public area.
 * @throws RangeError if its nameAlg cannot be computed here.
 */
export function objectName(hash: Hash, publicArea: TPMT_PUBLIC): Uint8Array {
  return named(hash, publicArea.nameAlg, encode(TPMT_PUBLIC, publicArea));
}

/** The name of an NV index. It changes with the first write, which sets WRITTEN. */
export function nvName(hash: Hash, nvPublic: TPMS_NV_PUBLIC): Uint8Array {
  return named(hash, nvPublic.nameAlg, encode(TPMS_NV_PUBLIC, nvPublic));
}

/**
 * The name of an object together with all its ancestors up to the hierarchy: the qualifiedSigner of a quote.
 * @param parent qualified name of the parent; for a primary, `handleName` of its hierarchy.
 */
export function qualifiedName(hash: Hash, parent: Uint8Array, name: Uint8Array): Uint8Array {
  const nameAlg = ((name[0] ?? 0) << 8) | (name[1] ?? 0);
  return named(hash, nameAlg, parent, name);
}
