// A provider of logins: OpenID Connect's authorization code flow with PKCE, as openid-client does it. What is said to it and what
// it says is bounded in time and size; what it refuses or says wrongly has a code of ours, and never its words.
import type * as Client from 'openid-client';
import type { Clock } from '../../machines/clock.ts';
import { RequestError } from '../api/problem.ts';
import { claimOf } from './roles.ts';
import { isPlain, type OidcSettings } from './settings.ts';

/** What binds an answer to the question: kept by the browser that asked, where nobody reads or changes it. */
export interface Asked {
  state: string;
  nonce: string;
  /** PKCE's code verifier [RFC 7636, 4.1]. */
  verifier: string;
}

/** Seconds for one answer of the provider. */
const patience = 10;
/** Bytes of an answer. */
const largest = 1024 * 1024;
/** Seconds that the provider's clock may be off. */
const tolerance = 30;
/** What a provider says of itself is asked again after that, ms. */
const stale = 3_600_000;
/** Errors that concern EVC, and not the person [RFC 6749, 4.1.2.1 and 5.2]. */
const ofClient = new Set([
  'invalid_client',
  'unauthorized_client',
  'invalid_request',
  'invalid_scope',
  'unsupported_grant_type',
  'unsupported_response_type',
]);

/** Who came, and what proves it. */
export interface Answered {
  claims: Client.IDToken;
  /** The ID token itself [OpenID Connect Core 1.0, 2]. */
  idToken: string;
}

type Library = typeof Client;
type Reachable = Pick<OidcSettings, 'issuer' | 'clientId' | 'clientSecret'>;

export class Provider {
  readonly #clock: Clock;
  #found: { issuer: string; at: number; metadata: Promise<Client.ServerMetadata> } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Asks the provider what it says of itself. Throws RequestError oidc.unreachable. */
  async discover({ issuer }: Pick<Reachable, 'issuer'>): Promise<void> {
    this.#found = null;
    await this.#metadata(await import('openid-client'), issuer);
  }

  /** Where the browser goes, and what the answer is held to. Throws RequestError oidc.unreachable. */
  async ask(
    settings: OidcSettings,
    redirectUri: string,
    anew: boolean,
  ): Promise<{ url: string; asked: Asked }> {
    const library = await import('openid-client');
    const config = await this.#config(library, settings);
    const asked = {
      state: library.randomState(),
      nonce: library.randomNonce(),
      verifier: library.randomPKCECodeVerifier(),
    };
    const { href } = library.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope: ['openid', ...settings.scopes].join(' '),
      state: asked.state,
      nonce: asked.nonce,
      code_challenge: await library.calculatePKCECodeChallenge(asked.verifier),
      code_challenge_method: 'S256',
      ...(anew ? { prompt: 'login' } : {}),
    });
    return { url: href, asked };
  }

  /**
   * Takes the code for claims about the person, from the ID token, and from the userinfo endpoint where `roleClaim` is not in it.
   * Throws RequestError oidc.denied, oidc.code, oidc.token, oidc.client, oidc.unreachable.
   *
   * @param answer the address with which the browser came back
   */
  async answered(settings: OidcSettings, answer: URL, asked: Asked): Promise<Answered> {
    const library = await import('openid-client');
    const config = await this.#config(library, settings);
    try {
      const tokens = await library.authorizationCodeGrant(config, answer, {
        expectedState: asked.state,
        expectedNonce: asked.nonce,
        pkceCodeVerifier: asked.verifier,
        idTokenExpected: true,
      });
      const claims = tokens.claims();
      const { id_token: idToken } = tokens;
      if (!claims || idToken === undefined) throw problem('oidc.token', 401, 'the provider gave no ID token');
      const more = config.serverMetadata().userinfo_endpoint;
      if (claimOf(claims, settings.roleClaim) !== undefined || more === undefined) return { claims, idToken };
      const told = await library.fetchUserInfo(config, tokens.access_token, claims.sub);
      return { claims: { ...told, ...claims }, idToken };
    } catch (error) {
      throw refusalOf(library, error);
    }
  }

  /**
   * Where a browser goes to end the session at the provider [OpenID Connect RP-Initiated Logout 1.0, 2]; null where it has no such
   * place, or one that is none for a browser. Throws RequestError oidc.unreachable.
   *
   * @param idToken whose session it is; null: the provider asks the person
   * @param back where it leads then; the provider has to allow it
   */
  async leave(settings: OidcSettings, idToken: string | null, back: string): Promise<string | null> {
    const library = await import('openid-client');
    const config = await this.#config(library, settings);
    const { end_session_endpoint: place = '' } = config.serverMetadata();
    const safe = isPlain(settings.issuer) ? ['https:', 'http:'] : ['https:'];
    if (!URL.canParse(place) || !safe.includes(new URL(place).protocol)) return null;
    return library.buildEndSessionUrl(config, {
      post_logout_redirect_uri: back,
      ...(idToken === null ? {} : { id_token_hint: idToken }),
    }).href;
  }

  async #config(library: Library, settings: OidcSettings): Promise<Client.Configuration> {
    const { issuer, clientId, clientSecret } = settings;
    const metadata = await this.#metadata(library, issuer);
    const client = {
      [library.clockTolerance]: tolerance,
      // EVC's clock is what counts everywhere.
      [library.clockSkew]: Math.round((this.#clock.now() - Date.now()) / 1000),
    };
    const auth = authOf(library, metadata, clientSecret);
    const config = new library.Configuration(metadata, clientId, client, auth);
    config.timeout = patience;
    config[library.customFetch] = boundedFetch;
    if (isPlain(issuer)) library.allowInsecureRequests(config);
    return config;
  }

  async #metadata(library: Library, issuer: string): Promise<Client.ServerMetadata> {
    const now = this.#clock.now();
    if (this.#found?.issuer !== issuer || now - this.#found.at > stale)
      this.#found = { issuer, at: now, metadata: discovered(library, issuer) };
    const { metadata } = this.#found;
    try {
      return await metadata;
    } catch (error) {
      if (this.#found?.metadata === metadata) this.#found = null;
      throw refusalOf(library, error, 'oidc.unreachable');
    }
  }
}

async function discovered(library: Library, issuer: string): Promise<Client.ServerMetadata> {
  const config = await library.discovery(new URL(issuer), 'evc', undefined, library.None(), {
    timeout: patience,
    [library.customFetch]: boundedFetch,
    execute: isPlain(issuer) ? [library.allowInsecureRequests] : [],
  });
  return config.serverMetadata();
}

/** As the provider wants it; without a word of it, it is client_secret_basic [OpenID Connect Discovery 1.0, 3]. */
function authOf(
  library: Library,
  { token_endpoint_auth_methods_supported: methods = ['client_secret_basic'] }: Client.ServerMetadata,
  secret: string | null,
): Client.ClientAuth {
  if (secret === null) return library.None();
  return methods.includes('client_secret_basic')
    ? library.ClientSecretBasic(secret)
    : library.ClientSecretPost(secret);
}

const boundedFetch: Client.CustomFetch = async (url, options) => {
  const answer = await fetch(url, options as RequestInit);
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of answer.body ?? []) {
    size += (piece as Uint8Array).length;
    if (size > largest) throw new TypeError('the answer of the provider is larger than any should be');
    pieces.push(piece as Uint8Array);
  }
  const { status, headers } = answer;
  const body = [101, 204, 205, 304].includes(status) ? null : Buffer.concat(pieces);
  const plain = new Headers(headers);
  // It is unpacked already.
  plain.delete('content-encoding');
  plain.delete('content-length');
  return new Response(body, { status, headers: plain });
};

function refusalOf(library: Library, error: unknown, otherwise = 'oidc.token'): RequestError {
  if (error instanceof RequestError) return error;
  if (error instanceof library.AuthorizationResponseError || error instanceof library.ResponseBodyError) {
    if (ofClient.has(error.error))
      return problem('oidc.client', 502, `the provider refuses EVC itself: ${named(error.error)}`);
    return error instanceof library.ResponseBodyError
      ? problem('oidc.code', 401, `the provider does not take the code: ${named(error.error)}`)
      : problem('oidc.denied', 403, `the provider did not log this person in: ${named(error.error)}`);
  }
  // With a header that says how EVC should have said who it is [RFC 6749, 5.2].
  if (error instanceof library.WWWAuthenticateChallengeError)
    return problem('oidc.client', 502, 'the provider does not take EVC for its client');
  const { code = '' } = error as { code?: string };
  if (
    error instanceof TypeError ||
    /TIMEOUT|RESPONSE_IS_NOT_CONFORM/.test(code) ||
    otherwise !== 'oidc.token'
  )
    return problem('oidc.unreachable', 503, 'the provider of logins does not answer as one');
  return problem('oidc.token', 401, 'what the provider says of this person does not hold');
}

/** A name of an error, and nothing that somebody may have written in its place. */
function named(error: string): string {
  return /^[a-z_]{1,40}$/.test(error) ? error : 'another error';
}

function problem(code: string, status: number, detail: string): RequestError {
  return new RequestError(code, status, detail);
}
