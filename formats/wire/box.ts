// The public side of a SealedBox: what is bound into it. Ephemeral P-256 ECDH, HKDF-SHA-256, AES-256-GCM; whoever seals
// or opens brings the cryptography.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { SealedBoxSchema } from './eve_pb.ts';
import { WireError } from './wire-error.ts';

export interface Box {
  /** Uncompressed P-256 point, 65 bytes. */
  ephemeral: Uint8Array;
  /** 12 bytes. */
  iv: Uint8Array;
  /** Ciphertext and 16 bytes of tag. */
  data: Uint8Array;
}

const version = 1;
const largest = 4096;

/** What a box is for. A box for one purpose never opens as another. */
export type BoxPurpose = 'integrity token' | 'vault key in transit' | 'vault key for the TPM';

/** HKDF's info and the cipher's associated data: version, purpose, and a context such as a device id or key id. */
export function boxInfo(purpose: BoxPurpose, context: string): Uint8Array {
  return new TextEncoder().encode(`eve-attest box ${version}\0${purpose}\0${context}`);
}

export function encodeBox(box: Box): Uint8Array {
  return toBinary(SealedBoxSchema, create(SealedBoxSchema, { version, ...box }));
}

/** Throws WireError wire.malformed. */
export function decodeBox(bytes: Uint8Array): Box {
  if (bytes.length > largest) throw new WireError('wire.malformed', `a sealed box of ${bytes.length} bytes`);
  try {
    const { version: sent, ephemeral, iv, data } = fromBinary(SealedBoxSchema, bytes);
    if (
      sent === version &&
      ephemeral.length === 65 &&
      ephemeral[0] === 4 &&
      iv.length === 12 &&
      data.length >= 16
    ) {
      return { ephemeral, iv, data };
    }
  } catch (cause) {
    throw new WireError('wire.malformed', 'these bytes are no sealed box', { cause });
  }
  throw new WireError('wire.malformed', 'a sealed box of another version, or with fields of the wrong size');
}
