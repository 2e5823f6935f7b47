// The inspector's page at EVC's own port, and the way in for charts of others. The page itself is no secret; what it shows comes
// from the API, which wants the token.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { pageFiles, pageHeaders } from '../../inspector/server/page.ts';
import { Readers, streamTo } from '../../inspector/server/readers.ts';
import { refuse, StatelyEndpoint } from '../../inspector/server/stately.ts';
import type { RecordRecorder } from '../record/recorder.ts';
import type { RecordRunner } from '../record/runner.ts';
import { bearerOf, tokenMatches } from './token.ts';

export interface PageOptions {
  /** Shown in the page. */
  name: string;
  tokenHash: string;
  runner: RecordRunner;
  recorder: RecordRecorder;
  find(words: string): Promise<string>;
  now(): number;
}

/** Where clients of Stately's inspector connect: `wss://EVC/inspect?token=…`, since they can send no header. */
const inspectPath = '/inspect';
const mostReaders = 20;

export function servePage(app: FastifyInstance, options: PageOptions): void {
  for (const [path, { type, bytes }] of pageFiles())
    app.get(path, (_request, reply) => reply.headers(pageHeaders).type(type).send(bytes));
  app.get('/inspector.json', (_request, reply) =>
    reply.headers(pageHeaders).send({ by: 'evc', name: options.name }),
  );

  const guests = new Readers('guests');
  app.get('/api/v1/guests/recording', (_request, reply) => {
    if (guests.count >= mostReaders) return reply.code(503).send();
    reply.hijack();
    let detach = () => {};
    detach = guests.attach(
      streamTo(reply.raw, {}, () => detach()),
      options.now(),
    );
    return reply;
  });
  const stately = new StatelyEndpoint({
    now: options.now,
    guests,
    listen: (sink, query) => {
      const words = query.get('device');
      let stop = () => {};
      let gone = false;
      if (words !== null) {
        const begin = async () => {
          const device = await options.find(words);
          const now = await options.runner.read(device);
          if (!gone) stop = options.recorder.listen(device, now, sink);
        };
        // No such device: the client is told nothing, and may show its own charts all the same.
        begin().catch(() => undefined);
      }
      return () => {
        gone = true;
        stop();
      };
    },
  });
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    if (pathname !== inspectPath) return refuse(socket, '404 Not Found');
    const token = bearerOf(request.headers.authorization) ?? searchParams.get('token') ?? '';
    if (!tokenMatches(token, options.tokenHash)) return refuse(socket, '401 Unauthorized');
    stately.upgrade(request, socket, head);
  });
  app.addHook('onClose', async () => stately.close());
}
