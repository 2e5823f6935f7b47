// One operation of the API: what it is called, who may ask for it, what comes in and goes out. Everything else follows from this:
// the checks before it, and the document that describes it. What reaches `run` has been checked.
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Decision } from '../decision.ts';
import { type Caller, mayAct, type Role } from '../tokens.ts';
import type { Idempotency } from './idempotency.ts';
import { Preconditions } from './preconditions.ts';
import { RequestError } from './problem.ts';

/**
 * What of a fleet an operation touches, for tokens that are of some accounts alone: `device`, the one in its path, which has to be
 * of theirs; `own`, it looks to it itself; `fleet`, everything, so it is not for them; `shared`, what everybody may know.
 */
export type Reach = 'device' | 'own' | 'fleet' | 'shared';

export interface Given<Params, Query, Body> {
  params: Params;
  query: Query;
  body: Body;
  /** Id of the device in the path; empty where there is none. */
  device: string;
  caller: Caller;
  /** What a decision is kept with. */
  decision: Decision;
  /** For what has no end: calls back when the token lets nobody in any more; the result stops that. */
  untilRefused(end: () => void): () => void;
  /** The tag of If-Match, without its quotes. */
  ifMatch: string | undefined;
  request: FastifyRequest;
  reply: FastifyReply;
}

export interface Operation<Params = unknown, Query = unknown, Body = unknown> {
  /** As clients call it. */
  id: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  /** A line, for the document. */
  summary: string;
  tag: string;
  role: Role;
  reach: Reach;
  params?: object;
  query?: object;
  body?: object;
  /** The answer, when it went well, and its status. */
  answer: object;
  status?: 200 | 201;
  /** Another type of answer than JSON. */
  produces?: string;
  /** A body that is no JSON; it comes as a stream. */
  consumes?: string;
  /** If-Match holds it to what was looked at; without it, it is done as things stand. */
  versioned?: boolean;
  /** The answer is told once: it is not kept for whoever repeats the request. */
  secret?: boolean;
  /** Bytes of a body, where it may have more than others. */
  bodyLimit?: number;
  run(given: Given<Params, Query, Body>): unknown;
}

export interface AccessOptions {
  /** Whose token or session this is. */
  caller(headers: IncomingHttpHeaders): Promise<Caller>;
  /** Id of the device that these words name to this caller. */
  find(words: string, accounts: readonly string[] | null): Promise<string>;
  idempotency: Idempotency;
  /** Calls back when the token or session is taken back, unless the result is called before. */
  untilRevoked(id: string, end: () => void): () => void;
  now(): number;
  /** ms after which whoever reads on is looked at again. */
  recheck?: number;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    operation?: Operation;
  }
  interface FastifyRequest {
    caller: Caller | null;
  }
}

/** ms that a timer of Node counts; whoever reads on for that long reads anew. */
const longestTimer = 2 ** 31 - 1;

const usualRecheck = 15_000;

export const usualBody = 8 * 1024 * 1024;

/** All that can be asked, in the order of the document. */
export class Operations {
  readonly all: Operation[] = [];

  add<Params, Query, Body>(operation: Operation<Params, Query, Body>): void {
    this.all.push(operation as unknown as Operation);
  }
}

/** Takes operations in, and stands before them. */
export class Api extends Operations {
  readonly #app: FastifyInstance;
  readonly #options: AccessOptions;

  constructor(app: FastifyInstance, options: AccessOptions) {
    super();
    this.#app = app;
    this.#options = options;
    app.decorateRequest('caller', null);
    app.addHook('onRoute', ({ url, config }) => {
      if (url.startsWith('/api/') && !config?.operation)
        throw new TypeError(`${url} is a route of the API, and no operation says who may use it`);
    });
    app.addHook('onRequest', (request, reply) => this.#admit(request, reply));
  }

  override add<Params, Query, Body>(operation: Operation<Params, Query, Body>): void {
    super.add(operation);
    const { id, method, path, params, query, body, consumes, status = 200, bodyLimit } = operation;
    this.#app.route({
      method,
      url: path,
      exposeHeadRoute: false,
      ...(bodyLimit === undefined ? {} : { bodyLimit }),
      config: { operation: operation as unknown as Operation },
      schema: {
        ...(params ? { params } : {}),
        querystring: query ?? nothing,
        ...(body && !consumes ? { body } : {}),
      },
      handler: async (request, reply) => {
        const given = await this.#given<Params, Query, Body>(operation, request, reply);
        reply.code(status);
        if (method !== 'POST' || consumes) {
          const answer = await operation.run(given);
          return reply.statusCode === 304 ? reply.send() : answer;
        }
        const { idempotency } = this.#options;
        return idempotency.once(request, reply, { id, secret: operation.secret ?? false }, () =>
          Promise.resolve(operation.run(given)),
        );
      },
    });
  }

  /** Who asks, whether they may, and whether there is anything, before anything of a body is read. */
  async #admit(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { operation } = request.routeOptions.config as { operation?: Operation };
    if (!operation && !request.url.startsWith('/api/')) {
      if (request.is404) throw unknownRoute(request);
      return;
    }
    let caller: Caller;
    try {
      caller = await this.#options.caller(request.headers);
    } catch (error) {
      reply.header('www-authenticate', 'Bearer realm="evc"');
      throw error;
    }
    request.caller = caller;
    if (!operation) throw unknownRoute(request);
    const { role, reach, method, bodyLimit = usualBody } = operation;
    if (!mayAct(caller, role))
      throw new RequestError(
        'auth.role',
        403,
        `this is for the role ${role}; the token ${caller.name} is of ${caller.role}`,
      );
    if (reach === 'fleet' && caller.accounts !== null)
      throw new RequestError(
        'auth.scope',
        403,
        `this concerns all accounts; the token ${caller.name} is for ${caller.accounts.join(', ') || 'none'}`,
      );
    const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
    if (method !== 'GET' || (coding === undefined && Number(length ?? 0) === 0)) return;
    throw Number(length ?? 0) > bodyLimit
      ? new RequestError('request.too-large', 413, 'the request is larger than any should be')
      : new RequestError(
          'request.malformed',
          400,
          'a question has no body; what is asked stands in the address',
        );
  }

  async #given<Params, Query, Body>(
    { reach, versioned }: Operation<Params, Query, Body>,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<Given<Params, Query, Body>> {
    const caller = request.caller as Caller;
    const params = request.params as Params;
    const words = reach === 'device' ? (params as { device: string }).device : '';
    const device = words === '' ? '' : await this.#options.find(words, caller.accounts);
    const ifMatch = Preconditions.ifMatch(request, versioned ?? false);
    const body = (request.body ?? {}) as Body;
    const { reason } = body as { reason?: string };
    const ifRevision = device !== '' && ifMatch !== undefined ? Number(ifMatch) : undefined;
    const decision = {
      by: caller.name,
      ...(reason === undefined ? {} : { reason }),
      ...(ifRevision === undefined ? {} : { ifRevision }),
    };
    const query = request.query as Query;
    const check = async () => {
      const now = await this.#options.caller(request.headers);
      if (device !== '') await this.#options.find(device, now.accounts);
      return now;
    };
    const untilRefused = (end: () => void) => this.untilRefused(caller, check, end);
    return { params, query, body, device, caller, decision, untilRefused, ifMatch, request, reply };
  }

  /**
   * Calls back when this caller is let in no more, unless the result is called before.
   *
   * @param check asks again who it is, and whether what it reads is for it: another controller takes tokens back as well, and a device
   * is moved to another account
   */
  untilRefused({ id, expires }: Caller, check: () => Promise<Caller>, end: () => void): () => void {
    const { untilRevoked, now } = this.#options;
    const left = expires === null ? longestTimer : Math.min(longestTimer, expires - now());
    const timer = setTimeout(end, left);
    const look = setInterval(() => {
      // A store that does not answer says nothing about a token.
      check().catch(({ status }: { status?: number }) => (status === 401 || status === 404) && end());
    }, this.#options.recheck ?? usualRecheck).unref();
    const forget = untilRevoked(id, end);
    return () => {
      clearTimeout(timer);
      clearInterval(look);
      forget();
    };
  }
}

export function unknownRoute({ method, url }: FastifyRequest): RequestError {
  return new RequestError('route.unknown', 404, `nothing is at ${method} ${url.slice(0, 200)}`);
}

const nothing = { type: 'object', additionalProperties: false, properties: {} } as const;

/** Throws RequestError with the code where the caller's token is not for this account: to them it is not there. */
export function reach({ accounts }: Caller, account: string): void {
  if (accounts === null || accounts.includes(account)) return;
  throw new RequestError('account.unknown', 404, `there is no account ${account}`);
}
