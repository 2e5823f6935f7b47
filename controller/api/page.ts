// The inspector's page at EVC's own port, and the way in for charts of others. The page itself is no secret; what it shows comes
// from the API, which wants the token.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { pageAnswer, pageFiles, pageHeaders, targetOf } from '../../inspector/server/page.ts';
import { hangUp, Readers, streamTo } from '../../inspector/server/readers.ts';
import { refuse, StatelyEndpoint } from '../../inspector/server/stately.ts';
import type { RecordRecorder } from '../record/recorder.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { Caller } from '../tokens.ts';
import type { Operations } from './operation.ts';
import { RequestError } from './problem.ts';
import { bearerOf } from './token.ts';

export interface PageOptions {
  /** Shown in the page. */
  name: string;
  /** Whether people can log in at a provider. */
  logins(): Promise<boolean>;
  /** Whose token this is; rejects where it is nobody's. */
  caller(token: string): Promise<Caller>;
  /** Calls back when this caller is let in no more, unless the result is called before. */
  untilRefused(caller: Caller, check: () => Promise<Caller>, end: () => void): () => void;
  runner: RecordRunner;
  recorder: RecordRecorder;
  find(words: string, accounts: readonly string[] | null): Promise<string>;
  now(): number;
}

/** Where clients of Stately's inspector connect: `wss://EVC/inspect?token=…`, since they can send no header. */
const inspectPath = '/inspect';
const mostReaders = 20;

/** Charts that clients of Stately's inspector show. */
export class Guests {
  readonly readers = new Readers('guests');

  serve(api: Operations, now: () => number): void {
    api.add({
      id: 'followGuests',
      method: 'GET',
      path: '/api/v1/guests/recording',
      summary: 'Charts that others show here in Stately’s protocol, as lines of a recording',
      tag: 'service',
      role: 'viewer',
      reach: 'fleet',
      produces: 'application/x-ndjson',
      answer: { type: 'string' },
      run: ({ reply, untilRefused }) => {
        if (this.readers.count >= mostReaders)
          throw new RequestError('events.too-many', 503, `${mostReaders} others read the guests already`);
        reply.hijack();
        let detach = () => {};
        const forget = untilRefused(() => hangUp(reply.raw));
        detach = this.readers.attach(
          streamTo(reply.raw, {}, () => {
            detach();
            forget();
          }),
          now(),
        );
      },
    });
  }
}

export function servePage(app: FastifyInstance, guests: Guests, options: PageOptions): void {
  for (const [path, file] of pageFiles())
    app.get(path, (request, reply) => {
      const { status, headers, body } = pageAnswer(file, request.headers);
      return reply.code(status).headers(headers).send(body);
    });
  app.get('/inspector.json', async (_request, reply) =>
    reply.headers(pageHeaders).send({ by: 'evc', name: options.name, logins: await options.logins() }),
  );

  const stately = new StatelyEndpoint({
    now: options.now,
    guests: guests.readers,
    listen: (sink, query) => {
      const words = query.get('device');
      let stop = () => {};
      let gone = false;
      if (words !== null) {
        const begin = async () => {
          const device = await options.find(words, null);
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
    const target = targetOf(request);
    if (target?.pathname !== inspectPath) return refuse(socket, '404 Not Found');
    const token = bearerOf(request.headers.authorization) ?? target.searchParams.get('token') ?? '';
    options.caller(token).then(
      // Clients are shown what other clients show, so there is no part of it for some accounts.
      (caller) =>
        caller.accounts === null
          ? stately.upgrade(request, socket, head, (end) =>
              options.untilRefused(caller, () => options.caller(token), end),
            )
          : refuse(socket, '403 Forbidden'),
      () => refuse(socket, '401 Unauthorized'),
    );
  });
  app.addHook('onClose', async () => stately.close());
}
