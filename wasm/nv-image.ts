// The NV memory of a TPM at rest. Authenticated encryption, because whoever reads it has the TPM's seeds and whoever
// writes it decides what the TPM is. Old images are not kept out: that needs a counter outside the file.
//
//   offset  size
//        0     8  "EVETPMNV"
//        8     2  version, big endian
//       10    32  layout: WasmTpm.layout of the build that wrote it
//       42    12  nonce
//       54 65536  NV memory, AES-256-GCM; everything before it is additional authenticated data
//    65590    16  tag
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { nvSize } from './tpm.ts';

const magic = Buffer.from('EVETPMNV', 'latin1');
const version = 1;
const versionAt = 8;
const layoutAt = 10;
const nonceAt = 42;
const sealedAt = 54;
const tagSize = 16;

/** Size of an image in bytes. */
export const nvImageSize = sealedAt + nvSize + tagSize;

/**
 * - `format`: no NV image at all.
 * - `truncated`: not as long as it has to be.
 * - `version`: written by a later release.
 * - `layout`: written by a build of the TPM that keeps its memory otherwise.
 * - `sealed`: the key is not the one it was written with, or the image was changed.
 */
export class NvImageError extends Error {
  readonly code: 'format' | 'truncated' | 'version' | 'layout' | 'sealed';
  constructor(code: NvImageError['code'], message: string) {
    super(message);
    this.name = 'NvImageError';
    this.code = code;
  }
}

function checkKey(key: Uint8Array): void {
  if (key.length !== 32) throw new TypeError(`the key of an NV image has 32 bytes, not ${key.length}`);
}

/** Encrypts an NV memory (`nvSize` bytes) of a TPM with this `layout` (32 bytes) under `key` (32 bytes). */
export function sealNvImage(nv: Uint8Array, layout: Uint8Array, key: Uint8Array): Uint8Array {
  checkKey(key);
  if (nv.length !== nvSize) throw new TypeError(`an NV memory has ${nvSize} bytes, not ${nv.length}`);
  const image = Buffer.alloc(nvImageSize);
  magic.copy(image);
  image.writeUInt16BE(version, versionAt);
  image.set(layout, layoutAt);
  // Random nonces repeat with a chance of 2^-32 after 2^32 images of one key; a TPM writes a few per minute.
  image.set(randomBytes(sealedAt - nonceAt), nonceAt);
  const cipher = createCipheriv('aes-256-gcm', key, image.subarray(nonceAt, sealedAt));
  cipher.setAAD(image.subarray(0, sealedAt));
  image.set(cipher.update(nv), sealedAt);
  cipher.final();
  image.set(cipher.getAuthTag(), sealedAt + nvSize);
  return image;
}

/** The NV memory in an image, for a TPM with this `layout`. Throws NvImageError, which says what to do. */
export function openNvImage(image: Uint8Array, layout: Uint8Array, key: Uint8Array): Uint8Array {
  checkKey(key);
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  const start = bytes.subarray(0, magic.length);
  if (!start.equals(magic.subarray(0, start.length)))
    throw new NvImageError('format', 'this is not the state of a TPM; give the path of the right file');
  if (bytes.length < layoutAt) throw truncated(bytes.length);
  const written = bytes.readUInt16BE(versionAt);
  if (written !== version)
    throw new NvImageError(
      'version',
      `the state of this TPM has format ${written}, this release reads ${version}; use the release that wrote it`,
    );
  if (bytes.length < nonceAt) throw truncated(bytes.length);
  if (!bytes.subarray(layoutAt, nonceAt).equals(layout))
    throw new NvImageError(
      'layout',
      'the state of this TPM was written by another build of it; use the release that wrote it, or move the file away and enrol a new TPM',
    );
  if (bytes.length !== nvImageSize) throw truncated(bytes.length);
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(nonceAt, sealedAt), {
    authTagLength: tagSize,
  });
  decipher.setAAD(bytes.subarray(0, sealedAt));
  decipher.setAuthTag(bytes.subarray(sealedAt + nvSize));
  const nv = decipher.update(bytes.subarray(sealedAt, sealedAt + nvSize));
  try {
    decipher.final();
  } catch {
    nv.fill(0);
    throw new NvImageError(
      'sealed',
      'the state of this TPM does not open: its key is another one, or the file was changed; put back the key or a backup',
    );
  }
  return nv;
}

function truncated(size: number): NvImageError {
  return new NvImageError(
    'truncated',
    `the state of this TPM has ${size} bytes instead of ${nvImageSize}; put back a backup, or move the file away and enrol a new TPM`,
  );
}
