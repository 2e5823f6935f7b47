// A real provider of logins on this machine: oidc-provider, with people who need no password, and a browser's way through it.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import OidcProvider, { type Configuration } from 'oidc-provider';
import * as assert from 'uvu/assert';

export const clientId = 'evc';
export const clientSecret = 'the-secret-of-evc-at-its-provider-0123456789';

export interface ProviderOptions {
  /** Where it may lead back to. */
  redirectUris: readonly string[];
  /** Where it may lead back to whom it logged out; absent: it has no log-out. */
  logoutUris?: readonly string[] | undefined;
  /** What it says of each person besides their name. */
  people: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Claims stand in the ID token; else only at the userinfo endpoint. */
  inIdToken?: boolean;
  /** Seconds that an ID token is good for. */
  idTokenLasts?: number;
}

/** By name. */
export type Cookies = Map<string, string>;

export class LocalProvider {
  readonly issuer: string;
  readonly #server: Server;

  private constructor(server: Server, issuer: string) {
    this.#server = server;
    this.issuer = issuer;
  }

  static async start(options: ProviderOptions): Promise<LocalProvider> {
    let handle: (request: IncomingMessage, response: ServerResponse) => void = () => undefined;
    const server = createServer((request, response) => handle(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const provider = new OidcProvider(issuer, configuration(options));
    const callback = provider.callback();
    handle = (request, response) => {
      if (request.url?.startsWith('/interaction/')) void interact(provider, request, response);
      else void callback(request, response);
    };
    return new LocalProvider(server, issuer);
  }

  /**
   * As a browser does: from the address that EVC leads to, through the login, to the address that leads back.
   *
   * @param cookies of the browser, by which the provider may know somebody already
   */
  logIn(url: string, person: string | null, cookies: Cookies = new Map()): Promise<URL> {
    return this.#walk(url, cookies, person === null ? {} : { person });
  }

  /** From the address that EVC names, through the question, to the address that leads back. */
  logOut(url: string, cookies: Cookies): Promise<URL> {
    return this.#walk(url, cookies, { logout: 'yes' });
  }

  /** Follows what it leads to and sends its forms, with what they hide and these words, until it leads elsewhere. */
  async #walk(url: string, cookies: Cookies, words: Record<string, string>): Promise<URL> {
    let next = new URL(url);
    let body: URLSearchParams | null = null;
    for (let steps = 0; steps < 10; steps++) {
      const answer: Response = await fetch(next, {
        redirect: 'manual',
        headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
        ...(body ? { method: 'POST', body } : {}),
      });
      for (const line of answer.headers.getSetCookie()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
        cookies.set(name, value);
      }
      const location = answer.headers.get('location');
      if (location === null) {
        const page = await answer.text();
        assert.is(answer.status, 200, page);
        assert.match(page, '<form');
        next = new URL(/<form[^>]* action="([^"]+)"/.exec(page)?.[1] ?? next, next);
        const hidden = page.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)"/g);
        body = new URLSearchParams();
        for (const [, name = '', value = ''] of hidden) body.set(name, value);
        for (const [name, value] of Object.entries(words)) body.set(name, value);
        continue;
      }
      body = null;
      next = new URL(location, next);
      if (next.origin !== this.issuer) return next;
    }
    throw new Error('the provider leads in circles');
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

function configuration({
  redirectUris,
  logoutUris,
  people,
  inIdToken,
  idTokenLasts = 3600,
}: ProviderOptions) {
  return {
    clients: [
      {
        client_id: clientId,
        client_secret: clientSecret,
        redirect_uris: [...redirectUris],
        post_logout_redirect_uris: [...(logoutUris ?? [])],
        grant_types: ['authorization_code'],
        response_types: ['code'],
      },
    ],
    cookies: { keys: ['a key of this test'] },
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups', 'realm_access'] },
    conformIdTokenClaims: !inIdToken,
    features: { devInteractions: { enabled: false }, rpInitiatedLogout: logout(logoutUris) },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    ttl: {
      IdToken: idTokenLasts,
      AccessToken: 600,
      AuthorizationCode: 600,
      Grant: 600,
      Session: 600,
      Interaction: 600,
    },
    findAccount: (_, id) =>
      id in people
        ? {
            accountId: id,
            claims: async () => ({ sub: id, preferred_username: `${id}@example.com`, ...people[id] }),
          }
        : undefined,
    // Nobody is asked whether EVC may know them: it is the fleet's own.
    loadExistingGrant: async ({ oidc }) => {
      const { client, session, provider } = oidc;
      const grant = new provider.Grant({
        ...(client ? { clientId: client.clientId } : {}),
        ...(session?.accountId ? { accountId: session.accountId } : {}),
      });
      grant.addOIDCScope('openid profile email');
      await grant.save();
      return grant;
    },
  } satisfies Configuration;
}

/** Whoever is logged in is asked whether they want to be no more. */
function logout(uris: readonly string[] | undefined) {
  return {
    enabled: uris !== undefined,
    logoutSource: (context: { body?: unknown }, form: string) => {
      context.body = `${form}<button form="op.logoutForm" name="logout" value="yes">Log out</button>`;
    },
  };
}

/** Asks for a name; without one, the person went no further. */
async function interact(provider: OidcProvider, request: IncomingMessage, response: ServerResponse) {
  if (request.method !== 'POST') {
    response.setHeader('content-type', 'text/html');
    response.end('<form method="post"><input name="person" aria-label="person"><button>Go</button></form>');
    return;
  }
  let text = '';
  for await (const piece of request) text += piece;
  const person = new URLSearchParams(text).get('person');
  await provider.interactionFinished(
    request,
    response,
    person === null ? { error: 'access_denied' } : { login: { accountId: person } },
    { mergeWithLastSubmission: false },
  );
}
