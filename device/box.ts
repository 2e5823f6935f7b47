// Sealed boxes, the device's side: sealing to any P-256 key, opening with one that may live in the TPM.
import { createCipheriv, createDecipheriv, createECDH, hkdfSync, randomBytes } from 'node:crypto';
import { type BoxPurpose, boxInfo, decodeBox, encodeBox } from '../formats/wire/box.ts';
import { Refusal } from './refusal.ts';

/**
 * Encrypts for the holder of the key of `recipient` (uncompressed P-256 point, 65 bytes).
 * `context` is authenticated, and has to be the same when it is opened.
 */
export function sealBox(
  recipient: Uint8Array,
  plain: Uint8Array,
  purpose: BoxPurpose,
  context: string,
): Uint8Array {
  const pair = createECDH('prime256v1');
  const ephemeral = pair.generateKeys();
  const info = boxInfo(purpose, context);
  const key = keyOf(pair.computeSecret(recipient), ephemeral, recipient, info);
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(info);
  const data = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  key.fill(0);
  return encodeBox({ ephemeral, iv, data });
}

/**
 * Opens a box for `recipient`; `agree` is its ECDH: ephemeral point in, 32 bytes of shared x coordinate out.
 * Throws Refusal box.unreadable.
 */
export async function openBox(
  recipient: Uint8Array,
  agree: (ephemeral: Uint8Array) => Promise<Uint8Array> | Uint8Array,
  box: Uint8Array,
  purpose: BoxPurpose,
  context: string,
): Promise<Uint8Array> {
  const { ephemeral, iv, data } = decodeBox(box);
  const info = boxInfo(purpose, context);
  const key = keyOf(await agree(ephemeral), ephemeral, recipient, info);
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
  decipher.setAAD(info).setAuthTag(data.subarray(data.length - 16));
  try {
    return Buffer.concat([decipher.update(data.subarray(0, data.length - 16)), decipher.final()]);
  } catch (cause) {
    throw new Refusal('box.unreadable', `the ${purpose} was not encrypted for this device, or was changed`, {
      cause,
    });
  } finally {
    key.fill(0);
  }
}

/** Both points are bound into the key, so that a box does not open under another ephemeral key. */
function keyOf(z: Uint8Array, ephemeral: Uint8Array, recipient: Uint8Array, info: Uint8Array): Buffer {
  const salt = Buffer.concat([ephemeral, recipient]);
  return Buffer.from(hkdfSync('sha256', z, salt, info, 32));
}
