// A link with a latency, for fleets on bad lines: what is sent arrives later, in order.
import { Duplex } from 'node:stream';
import type { Dialled } from './uplink.ts';

/** Both directions of a stream, each later by `latency` ms. */
export function slowed({ stream, channel }: Dialled, latency: number): Dialled {
  const timers = new Set<NodeJS.Timeout>();
  const later = (work: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, latency);
    timers.add(timer);
  };
  const slow = new Duplex({
    read() {
      stream.resume();
    },
    write(chunk, _encoding, done) {
      later(() => stream.write(chunk));
      done();
    },
    final(done) {
      later(() => stream.end());
      done();
    },
    destroy(error, done) {
      for (const timer of timers) clearTimeout(timer);
      stream.destroy();
      done(error);
    },
  });
  stream.on('data', (chunk) => later(() => slow.push(chunk)));
  stream.on('end', () => later(() => slow.push(null)));
  stream.on('error', (error) => slow.destroy(error));
  stream.on('close', () => slow.destroy());
  return { stream: slow, channel };
}
