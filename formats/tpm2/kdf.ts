// The two key derivation functions of TPM 2.0. Both are counter modes; only whole bytes are asked for here.
import { concat, digestSize, type Hash, type HashName, type Hmac } from './hash.ts';

function counter(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** The label and the zero byte that ends it. */
function labelled(label: string): Uint8Array {
  return concat(new TextEncoder().encode(label), Uint8Array.of(0));
}

function inCounterMode(algorithm: HashName, bits: number, block: (i: Uint8Array) => Uint8Array): Uint8Array {
  if (!Number.isInteger(bits) || bits <= 0 || bits % 8 !== 0)
    throw new TypeError('needs a multiple of 8 bits');
  const size = bits / 8;
  const blocks = Array.from({ length: Math.ceil(size / digestSize(algorithm)) }, (_, i) =>
    block(counter(i + 1)),
  );
  return concat(...blocks).subarray(0, size);
}

/** KDFa: SP800-108 with HMAC [TPM2 Part 1, 11.4.10.2]. Returns `bits` / 8 bytes. */
export function kdfA(
  hmac: Hmac,
  algorithm: HashName,
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Uint8Array {
  const tail = concat(labelled(label), contextU, contextV, counter(bits));
  return inCounterMode(algorithm, bits, (i) => hmac(algorithm, key, concat(i, tail)));
}

/**
 * KDFe: SP800-56A for a secret agreed on by ECDH [TPM2 Part 1, 11.4.10.3]. `z` and the two x coordinates have the
 * full width of the field: a leading zero that is dropped gives another key. Returns `bits` / 8 bytes.
 */
export function kdfE(
  hash: Hash,
  algorithm: HashName,
  z: Uint8Array,
  use: string,
  partyUx: Uint8Array,
  partyVx: Uint8Array,
  bits: number,
): Uint8Array {
  const tail = concat(z, labelled(use), partyUx, partyVx);
  return inCounterMode(algorithm, bits, (i) => hash(algorithm, concat(i, tail)));
}
