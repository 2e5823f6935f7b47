// AES-256-GCM with additional data, as everything of the vault is encrypted: 12 bytes of IV, then data, then 16 bytes of tag.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { Refusal } from '../refusal.ts';

const algorithm = 'aes-256-gcm';
const ivSize = 12;
const tagSize = 16;

export interface Sealed {
  iv: Uint8Array;
  /** With the tag at its end. */
  data: Uint8Array;
}

export function seal(key: Uint8Array, plain: Uint8Array, aad: Uint8Array): Sealed {
  const iv = randomBytes(ivSize);
  const cipher = createCipheriv(algorithm, key, iv).setAAD(aad);
  return { iv, data: Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]) };
}

/** Throws Refusal vault.broken. */
export function open(key: Uint8Array, { iv, data }: Sealed, aad: Uint8Array): Buffer {
  const cut = data.length - tagSize;
  try {
    const decipher = createDecipheriv(algorithm, key, iv, { authTagLength: tagSize });
    decipher.setAAD(aad).setAuthTag(data.subarray(cut));
    return Buffer.concat([decipher.update(data.subarray(0, cut)), decipher.final()]);
  } catch (cause) {
    throw new Refusal(
      'vault.broken',
      'something in the vault was changed or damaged; restore it from a backup',
      { cause },
    );
  }
}

/** Both in one piece, for a file. */
export function joined({ iv, data }: Sealed): Uint8Array {
  return Buffer.concat([iv, data]);
}

export function parted(bytes: Uint8Array): Sealed {
  return { iv: bytes.subarray(0, ivSize), data: bytes.subarray(ivSize) };
}
