// Logging in at a provider, as browsers do it: two addresses that they are led to, and two cookies that no script reads.
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { askedFor, callbackPath, type Login } from '../oidc/login.ts';
import { problemOf, RequestError, sendProblem } from './problem.ts';

export interface LoginRoutes {
  login: Login;
  ownUrl(): string;
}

/**
 * `__Host-` [RFC 6265bis, 4.1.3.2]: this host alone set it, over TLS. The session is for what our own page asks; the question has to
 * come along when the provider leads the browser back, which another site does.
 */
const session = { name: '__Host-evc-session', sameSite: 'Strict' } as const;
const question = { name: '__Host-evc-login', sameSite: 'Lax' } as const;
/** Only our own page can send it along: another site would have to be allowed to, and none is. */
const ofPage = 'x-evc-page';
/** Characters of a cookie that is looked at. */
const longest = 2000;
/** Of the query with which a provider leads back. */
const longestQuery = 6000;

/** The secret of the session with which the page asks; null where there is none. Throws RequestError auth.cross-site. */
export function sessionOf(headers: IncomingHttpHeaders): string | null {
  const secret = cookieOf(headers.cookie, session.name);
  if (secret === null) return null;
  if (headers[ofPage] === '1') return secret;
  throw new RequestError(
    'auth.cross-site',
    403,
    `a session is for EVC's own page, which says so in ${ofPage}; others use a token`,
  );
}

/** Forgets the session, in the browser. */
export function forgetSession(reply: FastifyReply): void {
  reply.header('set-cookie', setCookie(session, '', 0));
}

export function serveLogin(app: FastifyInstance, { login, ownUrl }: LoginRoutes): void {
  // `?as=other`: whom the provider knows already is asked who they are all the same.
  app.get<{ Querystring: { as?: unknown } }>('/oidc/login', async (request, reply) => {
    reply.headers(silent);
    try {
      const { url, question: asked } = await login.begin(ownUrl(), request.query.as === 'other');
      return reply.header('set-cookie', setCookie(question, asked, askedFor / 1000)).redirect(url, 302);
    } catch (error) {
      return refuse(request, reply, error);
    }
  });
  app.get(callbackPath, async (request, reply) => {
    reply.headers(silent).header('set-cookie', setCookie(question, '', 0));
    try {
      const query = request.url.slice(callbackPath.length + 1);
      if (query.length > longestQuery)
        throw new RequestError('request.too-large', 413, 'this is longer than what any provider says');
      const { secret, seconds } = await login.finish(query, cookieOf(request.headers.cookie, question.name));
      return reply.header('set-cookie', setCookie(session, secret, seconds)).redirect('/', 303);
    } catch (error) {
      return refuse(request, reply, error);
    }
  });
}

/** Addresses with codes in them are kept nowhere and told to nobody. */
const silent = { 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' } as const;

/** A person is led back to the page, which says what the code means; anybody else gets the problem. */
function refuse(request: FastifyRequest, reply: FastifyReply, error: unknown): FastifyReply {
  if (!/\btext\/html\b/.test(request.headers.accept ?? '')) return sendProblem(reply, error);
  return reply.redirect(`/#refused=${encodeURIComponent(problemOf(error).code)}`, 303);
}

function setCookie({ name, sameSite }: typeof session | typeof question, value: string, seconds: number) {
  return `${name}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; Secure; SameSite=${sameSite}`;
}

function cookieOf(header: string | undefined, name: string): string | null {
  const found = header
    ?.split(';')
    .map((pair) => pair.trim())
    .find((pair) => pair.startsWith(`${name}=`))
    ?.slice(name.length + 1);
  return found && found.length <= longest ? found : null;
}
