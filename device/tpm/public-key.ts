// The key in a public area, for node:crypto.
import { createPublicKey, type KeyObject } from 'node:crypto';
import { publicJwk } from '../../formats/tpm2/spki.ts';
import type { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';

/**
 * The public key of an RSA or ECC object.
 * @throws RangeError if it is of another kind or on a curve that cannot be used here.
 * @throws Error of node:crypto if the point is not on its curve.
 */
export function publicKeyOf(publicArea: TPMT_PUBLIC): KeyObject {
  return createPublicKey({ key: publicJwk(publicArea), format: 'jwk' });
}
