// Sealed boxes, EVC's side: opening what devices encrypted for its exchange key.
import { createDecipheriv, createECDH, type ECDH, hkdfSync, type KeyObject } from 'node:crypto';
import { type BoxPurpose, boxInfo, decodeBox } from '../formats/wire/box.ts';
import { WireError } from '../formats/wire/wire-error.ts';

/** Opens a box for the P-256 private key. Throws WireError wire.malformed for what was not made for it. */
export function openBox(key: KeyObject, box: Uint8Array, purpose: BoxPurpose, context: string): Uint8Array {
  const { ephemeral, iv, data } = decodeBox(box);
  const info = boxInfo(purpose, context);
  try {
    const { ecdh, point } = openerOf(key);
    // Refuses a point that is not on the curve.
    const z = ecdh.computeSecret(ephemeral);
    const salt = Buffer.concat([ephemeral, point]);
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

/** A private key, ready for the point of a box: made once, since making it costs more than a box does. */
interface Opener {
  ecdh: ECDH;
  /** Uncompressed, 65 bytes. */
  point: Buffer;
}

const openers = new WeakMap<KeyObject, Opener>();

function openerOf(key: KeyObject): Opener {
  let opener = openers.get(key);
  if (!opener) {
    const ecdh = createECDH('prime256v1');
    const { d = '' } = key.export({ format: 'jwk' });
    ecdh.setPrivateKey(Buffer.from(d, 'base64url'));
    opener = { ecdh, point: ecdh.getPublicKey() };
    openers.set(key, opener);
  }
  return opener;
}
