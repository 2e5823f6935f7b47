// Sealed boxes, EVC's side: opening what devices encrypted for its exchange key.
import { createDecipheriv, createPublicKey, diffieHellman, hkdfSync, type KeyObject } from 'node:crypto';
import { type BoxPurpose, boxInfo, decodeBox } from '../formats/wire/box.ts';
import { WireError } from '../formats/wire/wire-error.ts';

/** Opens a box for the P-256 private key. Throws WireError wire.malformed for what was not made for it. */
export function openBox(key: KeyObject, box: Uint8Array, purpose: BoxPurpose, context: string): Uint8Array {
  const { ephemeral, iv, data } = decodeBox(box);
  const info = boxInfo(purpose, context);
  try {
    const z = diffieHellman({ privateKey: key, publicKey: publicKeyOf(ephemeral) });
    const salt = Buffer.concat([ephemeral, pointOf(key)]);
    const derived = Buffer.from(hkdfSync('sha256', z, salt, info, 32));
    const decipher = createDecipheriv('aes-256-gcm', derived, iv, { authTagLength: 16 });
    derived.fill(0);
    decipher.setAAD(info).setAuthTag(data.subarray(data.length - 16));
    return Buffer.concat([decipher.update(data.subarray(0, data.length - 16)), decipher.final()]);
  } catch (cause) {
    throw new WireError('wire.malformed', `the ${purpose} was not encrypted for this EVC, or was changed`, {
      cause,
    });
  }
}

function publicKeyOf(point: Uint8Array): KeyObject {
  const coordinate = (from: number) => Buffer.from(point.subarray(from, from + 32)).toString('base64url');
  return createPublicKey({
    key: { kty: 'EC', crv: 'P-256', x: coordinate(1), y: coordinate(33) },
    format: 'jwk',
  });
}

function pointOf(key: KeyObject): Buffer {
  const { x = '', y = '' } = createPublicKey(key).export({ format: 'jwk' });
  return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}
