// EVC's HTTPS server: the operator API under /api/v1 for those with a token, and image files for devices.
import type { IncomingMessage } from 'node:http';
import type { Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { Ajv2020 } from 'ajv/dist/2020.js';
import Fastify, { type FastifyInstance } from 'fastify';
import { Places, sourceOf } from '../../broker/places.ts';
import type { Evc } from '../evc.ts';
import type { Caller } from '../tokens.ts';
import { type BrokerLogin, serveBrokerLogin } from './broker-login.ts';
import { serveHealth } from './health.ts';
import { Idempotency } from './idempotency.ts';
import { serveImages } from './images.ts';
import { serveLogin, sessionOf } from './login.ts';
import { Api, type Operation, unknownRoute, usualBody } from './operation.ts';
import { addOperations } from './operations.ts';
import { Guests, servePage } from './page.ts';
import { RequestError, sendProblem } from './problem.ts';
import { binary, type ServiceView } from './service.ts';
import type { StepStream } from './stream.ts';
import { bearerOf } from './token.ts';

export interface ApiOptions {
  evc: Evc;
  stream: StepStream;
  /** SHA-256 of the token that set-up made, hex. */
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
  /** Most connections at once, and half of them from one address; those beyond are closed before they have said anything. */
  connections?: number;
  /** ms for the handshake of TLS. */
  handshake?: number;
  /** ms after which whoever reads on is looked at again. */
  recheck?: number;
  /** Whether devices reach EVC through its broker; without it they do. */
  brokerReady?(): boolean;
  /** Facts of this EVC, for `evc status`. */
  service(): ServiceView;
}

export interface ApiServer {
  port: number;
  /** All that can be asked. */
  operations: readonly Operation[];
  /** Every route, those of the API and the others, as `METHOD /path`. */
  routes: readonly string[];
  /** Shows another certificate from the next handshake on. */
  renew(key: string, certificate: string): void;
  close(): Promise<void>;
}

/** Connections at once: each costs a channel of TLS, before anybody has shown a token. */
const mostConnections = 5000;
/** As long as the broker gives, ms. */
const usualHandshake = 10_000;
/** Bytes of a request that are read though it was answered, so that its connection serves others. */
const unread = 64 * 1024;
/** ms from an answer to the end of a connection on which more comes than anybody reads. */
const lingering = 1000;

/** Old answers to requests that were sent twice are looked for this often, ms. */
const sweeping = 3_600_000;

/** Listens. Rejects with an error that names the port when it is taken. */
export async function startApi(options: ApiOptions): Promise<ApiServer> {
  const { evc, host, port } = options;
  const { store, runner, recorder, operator, clock } = evc;
  const app = Fastify({
    https: {
      key: options.key,
      cert: options.certificate,
      minVersion: 'TLSv1.2',
      handshakeTimeout: options.handshake ?? usualHandshake,
    },
    bodyLimit: usualBody,
    forceCloseConnections: true,
    requestTimeout: 0,
    // A firmware is named in up to 200 characters, and each may be three in a path.
    routerOptions: { maxParamLength: 600 },
  }) as unknown as FastifyInstance;
  checkRequests(app);
  app.setErrorHandler((error, _request, reply) => sendProblem(reply, error));
  app.setNotFoundHandler((request, reply) => sendProblem(reply, unknownRoute(request)));
  app.addHook('onResponse', async ({ raw }) => leaveUnread(raw));
  const routes: string[] = [];
  app.addHook('onRoute', ({ method, url }) => void routes.push(`${String(method)} ${url}`));

  await evc.tokens.first(options.tokenHash);
  const callerOf = async (token: string): Promise<Caller> => {
    const caller = await evc.tokens.check(token);
    if (typeof caller === 'string') throw new RequestError(caller, 401, refusals[caller]);
    return caller;
  };
  const idempotency = new Idempotency({ store, clock });
  const find = (words: string, accounts: readonly string[] | null) => operator.find(words, accounts);
  const api = new Api(app, {
    idempotency,
    find,
    now: () => clock.now(),
    ...(options.recheck === undefined ? {} : { recheck: options.recheck }),
    untilRevoked: (id, end) => evc.streams.until(id, end),
    caller: async (headers) => {
      const token = bearerOf(headers.authorization);
      if (token !== null) return callerOf(token);
      const session = sessionOf(headers);
      if (session !== null) return evc.sessions.check(session);
      throw new RequestError('auth.missing', 401, 'the API wants a token: Authorization: Bearer …');
    },
  });
  app.addContentTypeParser(binary, (_request, payload, done) => done(null, payload));
  const guests = new Guests();
  const { stream, uploads, service } = options;
  const ownUrl = () => `https://${service().hosts[0] ?? 'localhost'}:${service().httpsPort}`;
  addOperations(api, { evc, stream, guests, uploads, service, ownUrl });
  if (options.brokerLogin) serveBrokerLogin(app, options.brokerLogin);
  serveHealth(app, {
    store: () => store.nextTimer(),
    broker: options.brokerReady ?? (() => true),
    stopping: () => evc.stopping,
    now: () => clock.now(),
  });
  serveLogin(app, { login: evc.login, ownUrl });
  serveImages(app, (sha256) => evc.catalogue.file(sha256));
  const name = options.service().hosts[0] ?? 'EVC';
  servePage(app, guests, {
    name,
    logins: async () => (await evc.oidc.show()) !== null,
    caller: callerOf,
    untilRefused: (caller, check, end) => api.untilRefused(caller, check, end),
    runner,
    recorder,
    find,
    now: Date.now,
  });
  const sweep = setInterval(() => {
    void idempotency.sweep().catch(() => undefined);
    void evc.sessions.sweep().catch(() => undefined);
  }, sweeping).unref();
  app.addHook('onClose', async () => clearInterval(sweep));
  const { connections = mostConnections } = options;
  const places = new Places(connections);
  app.server.maxConnections = connections;
  app.server.on('connection', (socket: Socket) => {
    const giveBack = places.take(sourceOf(socket.remoteAddress));
    if (giveBack) socket.once('close', giveBack);
    else socket.destroy();
  });
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    throw listenError(error as NodeJS.ErrnoException, host, port);
  }
  const { port: taken } = app.server.address() as AddressInfo;
  const renew = (key: string, cert: string) =>
    (app.server as unknown as Server).setSecureContext({ key, cert, minVersion: 'TLSv1.2' });
  return { port: taken, operations: api.all, routes, renew, close: () => app.close() };
}

/**
 * Who was answered before its body came would send all of it: Node reads it to its end and throws it away, which it begins when the
 * answer is finished, so that only a later pause counts. The peer has a moment to read the answer, and the connection ends.
 */
function leaveUnread({ complete, headers, socket }: IncomingMessage): void {
  const small =
    headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= unread;
  if (complete || small) return;
  setImmediate(() => socket.pause());
  setTimeout(() => socket.destroy(), lingering).unref();
}

/** What comes in is checked by its schema; in an address everything is text, and a number is taken from it. */
function checkRequests(app: FastifyInstance): void {
  const options = { useDefaults: true, allErrors: false, strict: false } as const;
  const bodies = new Ajv2020(options);
  const addresses = new Ajv2020({ ...options, coerceTypes: true });
  app.setValidatorCompiler(({ schema, httpPart }) =>
    (httpPart === 'body' ? bodies : addresses).compile(schema as object),
  );
  // Schemas of answers describe them, and leave nothing out.
  app.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
}

const refusals = {
  'auth.wrong': 'this is no token of this EVC',
  'auth.expired': 'this token has run out; an administrator makes another',
  'auth.revoked': 'this token was taken back; an administrator makes another',
} as const;

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const why: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${host} is taken by another program; stop it, or choose another with --https-port`,
    EACCES: `port ${port} needs privileges; choose one above 1023 with --https-port`,
  };
  return new Error(why[error.code ?? ''] ?? `cannot listen on ${host}:${port} (${error.code})`, {
    cause: error,
  });
}
