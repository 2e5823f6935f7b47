// EVC's HTTPS server: the operator API under /api/v1 with a bearer token, and image files for devices.
import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import type { Evc } from '../evc.ts';
import { type BrokerLogin, serveBrokerLogin } from './broker-login.ts';
import { serveCatalogue } from './catalogue.ts';
import { serveImages } from './images.ts';
import { servePage } from './page.ts';
import { RequestError, sendProblem } from './problem.ts';
import { serveRecordings } from './recordings.ts';
import { type ServiceView, serveApi } from './routes.ts';
import type { StepStream } from './stream.ts';
import { bearerOf, tokenMatches } from './token.ts';

export interface ApiOptions {
  evc: Evc;
  stream: StepStream;
  /** SHA-256 of the administrator's token, hex. */
  tokenHash: string;
  /** Where uploads wait until they become images. */
  uploads: string;
  host: string;
  port: number;
  /** PEM. */
  key: string;
  certificate: string;
  /** For a broker that is not EVC's own. */
  brokerLogin?: BrokerLogin;
  /** Facts of this EVC, for `evc status`. */
  service(): ServiceView;
}

export interface ApiServer {
  port: number;
  close(): Promise<void>;
}

const largestBody = 8 * 1024 * 1024;

/** Listens. Rejects with an error that names the port when it is taken. */
export async function startApi(options: ApiOptions): Promise<ApiServer> {
  const { evc, host, port } = options;
  const app = Fastify({
    https: { key: options.key, cert: options.certificate, minVersion: 'TLSv1.2' },
    bodyLimit: largestBody,
    forceCloseConnections: true,
    requestTimeout: 0,
    // A firmware is named in up to 200 characters, and each may be three in a path.
    routerOptions: { maxParamLength: 600 },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  }) as unknown as FastifyInstance;
  app.setErrorHandler((error, _request, reply) => sendProblem(reply, error));
  app.setNotFoundHandler((request, reply) =>
    sendProblem(
      reply,
      new RequestError('route.unknown', 404, `nothing is at ${request.method} ${request.url.slice(0, 200)}`),
    ),
  );
  app.addHook('onRequest', async (request, reply) => {
    if (!request.url.startsWith('/api/')) return;
    const token = bearerOf(request.headers.authorization);
    if (token !== null && tokenMatches(token, options.tokenHash)) return;
    reply.header('www-authenticate', 'Bearer realm="evc"');
    throw token === null
      ? new RequestError(
          'auth.missing',
          401,
          'the API wants the administrator’s token: Authorization: Bearer …',
        )
      : new RequestError('auth.wrong', 401, 'this is not the administrator’s token');
  });
  if (options.brokerLogin) serveBrokerLogin(app, options.brokerLogin);
  serveImages(app, (sha256) => evc.catalogue.file(sha256));
  serveApi(app, evc.operator, { uploads: options.uploads, service: options.service });
  serveCatalogue(app, evc.curator, options.uploads);
  options.stream.serve(app);
  const { store, runner, recorder, operator } = evc;
  servePage(app, {
    name: options.service().hosts[0] ?? 'EVC',
    tokenHash: options.tokenHash,
    runner,
    recorder,
    find: (words) => operator.find(words),
    now: Date.now,
  });
  serveRecordings(app, { store, runner, recorder, find: (words) => operator.find(words) });
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    throw listenError(error as NodeJS.ErrnoException, host, port);
  }
  return { port: (app.server.address() as AddressInfo).port, close: () => app.close() };
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const why: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${host} is taken by another program; stop it, or choose another with --https-port`,
    EACCES: `port ${port} needs privileges; choose one above 1023 with --https-port`,
  };
  return new Error(why[error.code ?? ''] ?? `cannot listen on ${host}:${port} (${error.code})`, {
    cause: error,
  });
}
