// Image files for devices: public, since each is signed, and in ranges, since links break.
import { createReadStream, type ReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { RequestError } from './problem.ts';

const mostAtOnce = 4;

export function serveImages(app: FastifyInstance, fileOf: (sha256: string) => string): void {
  const underWay = new WeakMap<Socket, number>();
  app.get<{ Params: { sha256: string } }>('/images/:sha256', async (request, reply) => {
    const { sha256 } = request.params;
    const { socket } = request.raw;
    const open = underWay.get(socket) ?? 0;
    // Answers to requests that come without waiting stand in a row, and each holds its file open.
    if (open >= mostAtOnce)
      throw new RequestError(
        'image.busy',
        503,
        `${mostAtOnce} images are on their way on this connection already`,
      );
    underWay.set(socket, open + 1);
    reply.raw.once('close', () => underWay.set(socket, (underWay.get(socket) ?? 1) - 1));
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw unknownImage(sha256);
    const path = fileOf(sha256);
    const { size } = await stat(path).catch(() => {
      throw unknownImage(sha256);
    });
    reply
      .type('application/octet-stream')
      .header('accept-ranges', 'bytes')
      // The name is the hash of the content, so it never changes.
      .header('etag', `"${sha256}"`)
      .header('cache-control', 'public, max-age=31536000, immutable');
    const range = rangeOf(request.headers.range, size);
    if (range === 'none') {
      reply.header('content-range', `bytes */${size}`);
      throw new RequestError(
        'image.range',
        416,
        `the image has ${size} bytes, and none of them is in that range`,
      );
    }
    if (range === 'whole') {
      reply.header('content-length', size);
      return reply.send(readFor(socket, path));
    }
    const { from, to } = range;
    reply
      .code(206)
      .header('content-range', `bytes ${from}-${to}/${size}`)
      .header('content-length', to - from + 1);
    return reply.send(readFor(socket, path, { start: from, end: to }));
  });
}

/** Closes with the connection: an answer that is still behind another is not told of its end. */
function readFor(socket: Socket, path: string, range: { start?: number; end?: number } = {}): ReadStream {
  const file = createReadStream(path, range);
  const close = () => file.destroy();
  socket.once('close', close);
  file.once('close', () => socket.off('close', close));
  if (socket.destroyed) close();
  return file;
}

/**
 * One range of bytes [RFC 9110, 14.1.2]. Several at once, or another unit, may be answered with the whole file, and are.
 * `none`: not one byte of the file is in it.
 */
export function rangeOf(
  header: string | undefined,
  size: number,
): 'whole' | 'none' | { from: number; to: number } {
  const found = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '');
  if (!found || (found[1] === '' && found[2] === '')) return 'whole';
  const [, first = '', last = ''] = found;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'none' : { from: size - length, to: size - 1 };
  }
  const from = Number(first);
  if (last !== '' && Number(last) < from) return 'whole';
  if (from >= size) return 'none';
  return { from, to: last === '' ? size - 1 : Math.min(Number(last), size - 1) };
}

function unknownImage(sha256: string): RequestError {
  return new RequestError('image.unknown', 404, `there is no image file ${sha256.slice(0, 64)}`);
}
