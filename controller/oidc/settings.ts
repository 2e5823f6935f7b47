// Which provider EVC believes who a person is, and what EVC is there. The client's secret is kept sealed, and told to nobody.
import { type Decision, OperatorError } from '../decision.ts';
import { seal, unseal } from '../seal.ts';
import type { Store } from '../store/store.ts';
import type { RoleRule } from './roles.ts';

export interface OidcWish {
  /** URL of the provider, as its discovery document and its tokens name it. */
  issuer: string;
  clientId: string;
  /** Null for a public client: PKCE alone. */
  clientSecret: string | null;
  /** Where EVC learns what a person may do. */
  roleClaim: string;
  roles: readonly RoleRule[];
  /** Besides openid. */
  scopes: readonly string[];
  /** How long a session lasts. */
  hours: number;
  /** `https://HOST[:PORT]` under which browsers reach EVC; null: as EVC knows itself. */
  publicUrl: string | null;
}

export interface OidcView extends Omit<OidcWish, 'clientSecret'> {
  /** Whether it has a secret. */
  confidential: boolean;
  by: string;
  /** ms since the epoch. */
  at: number;
}

interface Kept extends OidcView {
  sealed: string | null;
}

/** As a login needs them. */
export type OidcSettings = OidcView & Pick<OidcWish, 'clientSecret'>;

const id = 'oidc';
const use = 'oidc client';
const loopback = new Set(['localhost', '127.0.0.1', '[::1]']);

export class OidcSettingsStore {
  readonly #store: Store;
  readonly #secret: Uint8Array;

  /** @param secret of EVC, which the client's is sealed with */
  constructor(store: Store, secret: Uint8Array) {
    this.#store = store;
    this.#secret = secret;
  }

  async show(): Promise<OidcView | null> {
    const kept = await this.#store.get<Kept>('setting', id);
    return kept && viewOf(kept);
  }

  /** Throws OperatorError oidc.secret where EVC's own secret is another than it was sealed with. */
  async read(): Promise<OidcSettings | null> {
    const kept = await this.#store.get<Kept>('setting', id);
    if (!kept) return null;
    if (kept.sealed === null) return { ...viewOf(kept), clientSecret: null };
    const clientSecret = unseal(this.#secret, use, kept.sealed)?.toString('utf8');
    if (clientSecret === undefined)
      throw new OperatorError('oidc.secret', 503, 'the secret of EVC at its provider cannot be opened');
    return { ...viewOf(kept), clientSecret };
  }

  /** Throws OperatorError oidc.issuer, oidc.public-url, account.unknown. */
  async check(wish: OidcWish): Promise<void> {
    if (!secureUrl(wish.issuer))
      throw new OperatorError(
        'oidc.issuer',
        422,
        'an issuer is https://HOST/PATH, or http:// on this machine, without query, fragment or password',
      );
    const { publicUrl } = wish;
    if (publicUrl !== null && new URL(safe(publicUrl)).origin !== publicUrl)
      throw new OperatorError(
        'oidc.public-url',
        422,
        'browsers reach EVC at https://HOST or https://HOST:PORT',
      );
    for (const account of wish.roles.flatMap(({ accounts }) => accounts ?? []))
      if (!(await this.#store.get('account', account)))
        throw new OperatorError('account.unknown', 404, `there is no account ${account}`);
  }

  async set(wish: OidcWish, { by }: Decision, at: number): Promise<OidcView> {
    const { clientSecret, ...rest } = wish;
    const before = await this.show();
    const sealed = clientSecret === null ? null : seal(this.#secret, use, Buffer.from(clientSecret));
    const kept: Kept = { ...rest, confidential: clientSecret !== null, by, at, sealed };
    await this.#store.put('setting', id, kept);
    const after = viewOf(kept);
    await this.#audit('oidc.changed', by, '', at, before, after);
    return after;
  }

  /** Throws OperatorError oidc.unset. */
  async remove({ by, reason = '' }: Decision, at: number): Promise<OidcView> {
    const before = await this.show();
    if (!before || !(await this.#store.remove('setting', id))) throw unset();
    await this.#audit('oidc.removed', by, reason, at, before, null);
    return before;
  }

  #audit(
    what: string,
    by: string,
    reason: string,
    at: number,
    before: OidcView | null,
    after: OidcView | null,
  ) {
    return this.#store.audit({ at, by, what, subject: id, account: '', reason, before, after });
  }
}

export function unset(): OperatorError {
  return new OperatorError('oidc.unset', 404, 'no provider of logins is set: evc oidc set');
}

/** Whether it is on this machine and so may do without TLS. */
export function isPlain(issuer: string): boolean {
  return new URL(issuer).protocol === 'http:';
}

function viewOf({ sealed: _, ...view }: Kept): OidcView {
  return view;
}

function secureUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, search, hash } = new URL(text);
  if (`${username}${password}${search}${hash}` !== '') return false;
  return protocol === 'https:' || (protocol === 'http:' && loopback.has(hostname));
}

/** What is no https: has an origin that nobody writes. */
function safe(text: string): string {
  return URL.canParse(text) && new URL(text).protocol === 'https:' ? text : 'about:blank';
}
