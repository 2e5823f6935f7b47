// EVC with a real provider of logins, and the people who log in there.
import * as assert from 'uvu/assert';
import { type ApiAnswer, ApiBench } from './api.ts';
import { clientId, clientSecret, LocalProvider, type ProviderOptions } from './provider.ts';

const people = {
  ann: { groups: ['staff', 'evc-admins'] },
  ben: { groups: ['plant-7'] },
  cat: { groups: ['staff'] },
  dan: { realm_access: { roles: ['plant-7'] } },
  eve: { groups: { 'evc-admins': true } },
};
/** What EVC makes of them. */
export const roles = [
  { value: 'evc-admins', role: 'admin', accounts: null },
  { value: 'plant-7', role: 'operator', accounts: ['factory'] },
];
/** What the page says of itself. */
export const page = { 'x-evc-page': '1' };

interface Begun {
  url: string;
  cookie: string;
}

export class LoginBench {
  readonly api: ApiBench;
  readonly provider: LocalProvider;

  private constructor(api: ApiBench, provider: LocalProvider) {
    this.api = api;
    this.provider = provider;
  }

  static async open(options: Partial<ProviderOptions> = {}): Promise<LoginBench> {
    // The provider has the time of day, as providers do.
    const api = await ApiBench.open(Date.now());
    const redirectUris = [`${api.url}/oidc/callback`];
    const logoutUris = [`${api.url}/`];
    return new LoginBench(api, await LocalProvider.start({ redirectUris, logoutUris, people, ...options }));
  }

  async close(): Promise<void> {
    await this.provider.close();
    await this.api.close();
  }

  set(more: object = {}) {
    const wish = { issuer: this.provider.issuer, clientId, clientSecret, roles, publicUrl: this.api.url };
    return this.api.call('PUT', '/api/v1/oidc', { body: { ...wish, ...more } });
  }

  async begin(): Promise<Begun> {
    const answer = await this.api.call('GET', '/oidc/login', { token: null });
    assert.is(answer.status, 302, answer.body.toString());
    const [cookie = ''] = [answer.headers['set-cookie']].flat();
    assert.match(
      `${cookie}`,
      /^__Host-evc-login=[\w-]+; Path=\/; Max-Age=600; HttpOnly; Secure; SameSite=Lax$/,
    );
    return { url: `${answer.headers.location}`, cookie: `${cookie}`.split(';')[0] ?? '' };
  }

  finish(back: URL, cookie: string, headers: Record<string, string> = {}) {
    const path = `${back.pathname}${back.search}`;
    return this.api.call('GET', path, {
      token: null,
      headers: { ...(cookie ? { cookie } : {}), ...headers },
    });
  }

  /** What a person gets who does all as it has to be. */
  async person(name: string) {
    const { url, cookie } = await this.begin();
    return this.finish(await this.provider.logIn(url, name), cookie);
  }

  /** The cookie of a session. */
  async session(name: string): Promise<string> {
    return this.sessionIn(await this.person(name));
  }

  /** The cookie that a finished login gave. */
  sessionIn(answer: ApiAnswer): string {
    assert.is(answer.status, 303, answer.body.toString());
    assert.is(answer.headers.location, '/');
    const cookies = [answer.headers['set-cookie']].flat().map(String);
    const set = cookies.find((line) => line.startsWith('__Host-evc-session=')) ?? '';
    assert.match(
      set,
      /^__Host-evc-session=evc_[\w-]+; Path=\/; Max-Age=28800; HttpOnly; Secure; SameSite=Strict$/,
    );
    assert.ok(cookies.includes('__Host-evc-login=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax'));
    return set.split(';')[0] ?? '';
  }

  as(cookie: string, method: string, path: string, headers: Record<string, string> = page, body?: object) {
    return this.api.call(method, path, { token: null, headers: { cookie, ...headers }, body });
  }
}
