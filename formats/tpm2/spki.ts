// Public areas as JSON Web Keys [RFC 7517, RFC 7518 section 6]: `createPublicKey({ key, format: 'jwk' })` of Node and
// `importKey('jwk', …)` of browsers both take them.
import { TPM_ALG, TPM_ECC_CURVE } from './constants.ts';
import type { TPMT_PUBLIC } from './structures.ts';

export type PublicJwk =
  | { kty: 'EC'; crv: 'P-256' | 'P-384' | 'P-521'; x: string; y: string }
  | { kty: 'RSA'; n: string; e: string };

const curves = new Map<number, { crv: 'P-256' | 'P-384' | 'P-521'; size: number }>([
  [TPM_ECC_CURVE.NIST_P256, { crv: 'P-256', size: 32 }],
  [TPM_ECC_CURVE.NIST_P384, { crv: 'P-384', size: 48 }],
  [TPM_ECC_CURVE.NIST_P521, { crv: 'P-521', size: 66 }],
]);

/** Width of a coordinate in bytes, undefined if the curve has no JSON Web Key. */
export function coordinateSize(curveID: number): number | undefined {
  return curves.get(curveID)?.size;
}

/**
 * A number in exactly `size` bytes. Some TPMs drop leading zero bytes, about one key in 128 has one to drop.
 * @throws RangeError if it does not fit.
 */
export function fixedWidth(number: Uint8Array, size: number): Uint8Array {
  const first = number.findIndex((byte) => byte !== 0);
  const significant = first < 0 ? new Uint8Array() : number.subarray(first);
  if (significant.length > size)
    throw new RangeError(`a number of ${significant.length} bytes, room for ${size}`);
  const padded = new Uint8Array(size);
  padded.set(significant, size - significant.length);
  return padded;
}

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

function base64url(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const rest = bytes.length - i;
    const bits = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    for (let n = 0; n < Math.min(rest, 3) + 1; n++) text += alphabet[(bits >>> (18 - 6 * n)) & 63];
  }
  return text;
}

/** A number without leading zeros, as RSA members are written. */
function shortest(number: Uint8Array): Uint8Array {
  const first = number.findIndex((byte) => byte !== 0);
  return first < 0 ? Uint8Array.of(0) : number.subarray(first);
}

function exponentBytes(exponent: number): Uint8Array {
  // 0 stands for the default [TPM2 Part 2, 12.2.3.5].
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, exponent === 0 ? 65537 : exponent);
  return shortest(bytes);
}

/** An RSA key of big-endian numbers. */
export function rsaJwk(modulus: Uint8Array, exponent: Uint8Array): PublicJwk {
  return { kty: 'RSA', n: base64url(shortest(modulus)), e: base64url(shortest(exponent)) };
}

/**
 * A point on a NIST curve, its coordinates at full width.
 * @throws RangeError if the curve has no JSON Web Key, or a coordinate is wider than its field.
 */
export function eccJwk(curveID: number, x: Uint8Array, y: Uint8Array): PublicJwk {
  const curve = curves.get(curveID);
  if (!curve) throw new RangeError(`no JSON Web Key for curve 0x${curveID.toString(16)}`);
  return {
    kty: 'EC',
    crv: curve.crv,
    x: base64url(fixedWidth(x, curve.size)),
    y: base64url(fixedWidth(y, curve.size)),
  };
}

/** Whether two keys are the same one. */
export function sameJwk(one: PublicJwk, other: PublicJwk): boolean {
  if (one.kty === 'RSA') return other.kty === 'RSA' && one.n === other.n && one.e === other.e;
  return other.kty === 'EC' && one.crv === other.crv && one.x === other.x && one.y === other.y;
}

/**
 * The key of a public area as a JSON Web Key.
 * @throws RangeError if it is neither RSA nor on one of the curves P-256, P-384, P-521, or if a coordinate is wider
 * than its field.
 */
export function publicJwk(publicArea: TPMT_PUBLIC): PublicJwk {
  if (publicArea.type === TPM_ALG.RSA)
    return rsaJwk(publicArea.unique, exponentBytes(publicArea.parameters.exponent));
  if (publicArea.type === TPM_ALG.ECC)
    return eccJwk(publicArea.parameters.curveID, publicArea.unique.x, publicArea.unique.y);
  throw new RangeError(`a public area of type 0x${publicArea.type.toString(16)} has no public key`);
}
