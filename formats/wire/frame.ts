// The frame around a container: MQTT 3.1.1 has no properties, so status, deadline and retry-after travel here.
// 16 bytes, big-endian: version u8 · kind u8 · status u16 · retry-after u32 (ms) · deadline u64 (ms since the epoch)
import { WireError } from './wire-error.ts';

export interface Frame {
  kind: 'request' | 'reply' | 'push';
  /** HTTP's numbers, as EVE's API gives them; 0 but in a reply. */
  status: number;
  /** ms; 0 when the peer has no wish. */
  retryAfter: number;
  /** After this time nobody waits for the answer any more, ms since the epoch; 0 for none. */
  deadline: number;
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
  view.setUint32(4, Math.min(Math.max(0, Math.round(frame.retryAfter)), 0xffffffff));
  view.setBigUint64(8, BigInt(Math.max(0, Math.round(frame.deadline))));
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
  const deadline = Number(view.getBigUint64(8));
  if (!Number.isSafeInteger(deadline))
    throw new WireError('wire.frame', 'the deadline of a frame is no time');
  return {
    kind,
    status: view.getUint16(2),
    retryAfter: view.getUint32(4),
    deadline,
    container: bytes.subarray(headerSize),
  };
}
