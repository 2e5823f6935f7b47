// The frame around a container: MQTT 3.1.1 has no properties, so status, patience and retry-after travel here.
// 16 bytes, big-endian: version u8 · kind u8 · status u16 · wait u32 (ms: patience of a request, retry-after of a reply) · 8 zeros
// A peer whose clock is not ours has no time of day to tell us, so there is none in it. Earlier programs wrote one into the last
// eight bytes, which nobody reads any more.
import { WireError } from './wire-error.ts';

export interface Frame {
  kind: 'request' | 'reply' | 'push';
  /** HTTP's numbers, as EVE's API gives them; 0 but in a reply. */
  status: number;
  /** ms; 0 when the peer has no wish, and in a request. */
  retryAfter: number;
  /** How long somebody waits for the answer to a request, ms; 0 where that is not said, and but in a request. */
  patience: number;
  /** AuthContainer. */
  container: Uint8Array;
}

const headerSize = 16;
const version = 1;
const kinds = ['request', 'reply', 'push'] as const;

/** Largest container that either side takes, bytes. */
export const maxContainer = 512 * 1024;

export function encodeFrame(frame: Frame): Uint8Array {
  if (frame.container.length > maxContainer) {
    throw new WireError(
      'wire.oversize',
      `a container of ${frame.container.length} bytes, where ${maxContainer} are the most`,
    );
  }
  const bytes = new Uint8Array(headerSize + frame.container.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, version);
  view.setUint8(1, kinds.indexOf(frame.kind));
  view.setUint16(2, frame.status);
  const wait = frame.kind === 'request' ? frame.patience : frame.retryAfter;
  view.setUint32(4, Math.min(Math.max(0, Math.round(wait)), 0xffffffff));
  bytes.set(frame.container, headerSize);
  return bytes;
}

/** Throws WireError wire.frame or wire.oversize. */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.length < headerSize) {
    throw new WireError(
      'wire.frame',
      `a frame of ${bytes.length} bytes, where its header alone has ${headerSize}`,
    );
  }
  if (bytes.length > headerSize + maxContainer) {
    throw new WireError(
      'wire.oversize',
      `a message of ${bytes.length} bytes, where ${maxContainer} are the most`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint8(0) !== version) {
    throw new WireError('wire.frame', `frame version ${view.getUint8(0)}, where this side speaks ${version}`);
  }
  const kind = kinds[view.getUint8(1)];
  if (!kind) throw new WireError('wire.frame', `frame kind ${view.getUint8(1)} does not exist`);
  const wait = view.getUint32(4);
  return {
    kind,
    status: view.getUint16(2),
    retryAfter: kind === 'request' ? 0 : wait,
    patience: kind === 'request' ? wait : 0,
    container: bytes.subarray(headerSize),
  };
}
