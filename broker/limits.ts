// Limits of a connection. Aedes has none: it buffers a CONNECT of any size, and one subscriber that stops reading stalls
// every publisher of its topics. Both are mended at the stream, where nobody gets around them.
import type { Duplex } from 'node:stream';

export interface Limits {
  /** Largest packet, bytes. */
  packet: number;
  /** Largest CONNECT, bytes. */
  connect: number;
  /** Bytes that may wait for a slow reader before it is cut. */
  backlog: number;
  /** Packets a second, over ten seconds. */
  rate: number;
  /** Pieces that one packet may come in: until it is whole each costs far more than the byte that it may be. */
  pieces: number;
  /** ms for the handshake of TLS, and as many again for the CONNECT. */
  login: number;
  /** Handshakes of TLS a second. Half of `login` is as long as one may wait for its turn. */
  handshakes: number;
}

export const defaultLimits: Limits = {
  packet: 640 * 1024,
  connect: 4096,
  backlog: 2 * 1024 * 1024,
  rate: 200,
  // The largest packet in segments of 256 bytes, and room.
  pieces: 4096,
  login: 10_000,
  handshakes: 250,
};

export type LimitReason =
  | 'limit.packet'
  | 'limit.connect'
  | 'limit.malformed'
  | 'limit.slow-reader'
  | 'limit.rate';

/** ms over which packets are counted. */
export const rateWindow = 10_000;

/**
 * Guards a connection; `onCut` says why it was ended. Returns the same stream.
 *
 * @param now ms of a clock that nobody sets back
 */
export function guard(
  stream: Duplex,
  limits: Limits,
  onCut: (reason: LimitReason) => void,
  now: () => number = () => performance.now(),
): Duplex {
  const cut = (reason: LimitReason) => {
    if (stream.destroyed) return;
    onCut(reason);
    stream.destroy();
  };
  const scan = packetScanner(limits, cut, now);
  const read = stream.read.bind(stream);
  stream.read = (size?: number) => {
    const chunk = read(size) as Buffer | null;
    if (chunk && !scan(chunk)) return null;
    return chunk;
  };
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
  stream.write = ((...args: unknown[]) => {
    write(...args);
    if (stream.writableLength > limits.backlog) cut('limit.slow-reader');
    // Never back-pressure: Aedes would make the publishers wait for this reader.
    return true;
  }) as typeof stream.write;
  return stream;
}

/** Follows the fixed headers [MQTT 3.1.1, 2.2] through the bytes of a connection; false once it was cut. */
function packetScanner(
  limits: Limits,
  cut: (reason: LimitReason) => void,
  now: () => number,
): (chunk: Uint8Array) => boolean {
  let state: 'type' | 'length' | 'body' = 'type';
  let length = 0;
  let shift = 0;
  let left = 0;
  let first = true;
  let windowStart = now();
  let packets = 0;
  let pieces = 0;

  return (chunk) => {
    pieces++;
    const at = now();
    if (at - windowStart > rateWindow) {
      windowStart = at;
      packets = 0;
    }
    for (let i = 0; i < chunk.length; ) {
      if (state === 'body') {
        const step = Math.min(left, chunk.length - i);
        i += step;
        left -= step;
        if (left === 0) state = 'type';
        continue;
      }
      const byte = chunk[i++] as number;
      if (state === 'type') {
        state = 'length';
        pieces = 1;
        length = 0;
        shift = 0;
        packets++;
        continue;
      }
      length += (byte & 0x7f) * 2 ** shift;
      shift += 7;
      if (byte & 0x80) {
        if (shift > 21) return refuse('limit.malformed');
        continue;
      }
      if (length > (first ? limits.connect : limits.packet))
        return refuse(first ? 'limit.connect' : 'limit.packet');
      first = false;
      left = length;
      state = length === 0 ? 'type' : 'body';
    }
    if (state !== 'type' && pieces > limits.pieces) return refuse('limit.rate');
    if (packets > limits.rate * (rateWindow / 1000)) return refuse('limit.rate');
    return true;
  };

  function refuse(reason: LimitReason): false {
    cut(reason);
    return false;
  }
}
