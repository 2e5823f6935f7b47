// What EVC keeps or hands out and reads back itself: encrypted and bound to its use with a key that stands nowhere.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { secretOf } from './pki.ts';

const ivSize = 12;
const tagSize = 16;

/** AES-256-GCM as base64url. @param use what it is for: a seal of one use opens for no other */
export function seal(secret: Uint8Array, use: string, plain: Uint8Array): string {
  const iv = randomBytes(ivSize);
  const cipher = createCipheriv('aes-256-gcm', secretOf(secret, use, '', ''), iv, { authTagLength: tagSize });
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString('base64url');
}

/** Null for what was not sealed with this secret for this use, or was changed. */
export function unseal(secret: Uint8Array, use: string, sealed: string): Buffer | null {
  const bytes = Buffer.from(sealed, 'base64url');
  if (bytes.length < ivSize + tagSize) return null;
  try {
    const key = secretOf(secret, use, '', '');
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, ivSize), {
      authTagLength: tagSize,
    });
    decipher.setAuthTag(bytes.subarray(-tagSize));
    return Buffer.concat([decipher.update(bytes.subarray(ivSize, -tagSize)), decipher.final()]);
  } catch {
    return null;
  }
}
