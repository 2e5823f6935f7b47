// Who may ask EVC for what: tokens with a role, for all accounts or some, until a time. Kept by their hashes alone.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../machines/clock.ts';
import { firstTokenId, makeToken, tokenIdOf, tokenMatches } from './api/token.ts';
import { checkName, type Decision, evcItself, OperatorError } from './decision.ts';
import type { Store } from './store/store.ts';

/** Each may do what those before it may. */
export const roles = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof roles)[number];

/** Who asks. */
export interface Caller {
  /** Id of the token. */
  id: string;
  name: string;
  role: Role;
  /** Of these accounts alone; null: of all. */
  accounts: readonly string[] | null;
  /** ms since the epoch; null: never. */
  expires: number | null;
}

export interface TokenView extends Caller {
  created: number;
  by: string;
  revoked: { at: number; by: string } | null;
}

interface StoredToken extends Omit<TokenView, 'id'> {
  /** SHA-256 of the token, hex. */
  hash: string;
}

export interface TokenWish {
  name: string;
  role: Role;
  accounts?: readonly string[] | null;
  expires?: number | null;
}

export type Refused = 'auth.wrong' | 'auth.expired' | 'auth.revoked';

/** Of nothing: what is compared where there is no such token, so that its absence takes as long. */
const nobody = '0'.repeat(64);
/** That let somebody in. */
const mostTokens = 1000;
/** Those that let nobody in any more as well. */
const mostKept = 2000;

/** What has no end, and ends with the token or session that it was asked with. */
export class OpenStreams {
  readonly #open = new Map<string, Set<() => void>>();

  /** Calls back when this token or session is taken back here, unless the result is called before. */
  until(id: string, end: () => void): () => void {
    const open = this.#open.get(id) ?? new Set();
    open.add(end);
    this.#open.set(id, open);
    return () => {
      open.delete(end);
      if (open.size === 0) this.#open.delete(id);
    };
  }

  end(id: string): void {
    for (const end of [...(this.#open.get(id) ?? [])]) end();
  }
}

export class Tokens {
  readonly #streams: OpenStreams;
  readonly #store: Store;
  readonly #clock: Clock;

  constructor({ store, clock, streams }: { store: Store; clock: Clock; streams: OpenStreams }) {
    this.#streams = streams;
    this.#store = store;
    this.#clock = clock;
  }

  /**
   * The token of set-up, as the data folder has its hash. Whoever can write there decides who administers, so another hash
   * than before takes the place of the former one, revoked or not.
   */
  async first(hash: string): Promise<void> {
    const created = this.#clock.now();
    const nothing = { accounts: null, expires: null, revoked: null } as const;
    await this.#store.update<StoredToken>('token', firstTokenId, (found) =>
      found?.hash === hash
        ? found
        : { name: firstTokenId, role: 'admin', by: 'evc init', created, hash, ...nothing },
    );
  }

  /** Whose token it is, or why it is nobody's. */
  async check(token: string): Promise<Caller | Refused> {
    const id = tokenIdOf(token) ?? firstTokenId;
    const found = await this.#store.get<StoredToken>('token', id);
    if (!tokenMatches(token, found?.hash ?? nobody) || !found) return 'auth.wrong';
    if (found.revoked) return 'auth.revoked';
    if (found.expires !== null && found.expires <= this.#clock.now()) return 'auth.expired';
    const { name, role, accounts, expires } = found;
    return { id, name, role, accounts, expires };
  }

  /**
   * The token itself is told here and never again.
   * Throws OperatorError token.name, token.exists, token.too-many, account.unknown.
   */
  async add(wish: TokenWish, { by }: Decision = evcItself): Promise<{ token: string; view: TokenView }> {
    const { name, role, accounts = null, expires = null } = wish;
    checkName('token.name', 'a token', name);
    const all = await this.list();
    if (all.some((one) => one.name === name && one.revoked === null))
      throw new OperatorError('token.exists', 409, `there is a token ${name} already`);
    const now = this.#clock.now();
    const [live, dead] = [all.filter((one) => isLive(one, now)), all.filter((one) => !isLive(one, now))];
    if (live.length >= mostTokens)
      throw new OperatorError('token.too-many', 409, `EVC keeps ${mostTokens} tokens at most`);
    for (const account of accounts ?? [])
      if (!(await this.#store.get('account', account)))
        throw new OperatorError('account.unknown', 404, `there is no account ${account}`);
    await this.#forget(dead, all.length + 1 - mostKept);
    const id = randomBytes(6).toString('hex');
    const { token, hash } = makeToken(id);
    const stored: StoredToken = {
      name,
      role,
      accounts,
      expires,
      by,
      hash,
      created: now,
      revoked: null,
    };
    await this.#store.put('token', id, stored);
    const view = viewOf(id, stored);
    await this.#audit(by, 'token.added', null, view, '');
    return { token, view };
  }

  async list(): Promise<TokenView[]> {
    return (await this.#store.all<StoredToken>('token')).map(({ id, body }) => viewOf(id, body));
  }

  /** Calls back when this token is taken back here, unless the result is called before. */
  untilRevoked(id: string, end: () => void): () => void {
    return this.#streams.until(id, end);
  }

  /** By name or id; from now on it lets nobody in. Throws OperatorError token.unknown. */
  async revoke(words: string, { by, reason = '' }: Decision): Promise<TokenView> {
    const open = (await this.list()).filter(({ revoked }) => revoked === null);
    const before = open.find(({ id, name }) => id === words || name === words);
    if (!before) throw new OperatorError('token.unknown', 404, `no token is called ${words}`);
    const revoked = { at: this.#clock.now(), by };
    const stored = await this.#store.update<StoredToken>('token', before.id, (found) => {
      if (!found) throw new OperatorError('token.unknown', 404, `no token is called ${words}`);
      return { ...found, revoked };
    });
    const after = viewOf(before.id, stored);
    this.#streams.end(before.id);
    await this.#audit(by, 'token.revoked', before, after, reason);
    return after;
  }

  async #forget(dead: readonly TokenView[], count: number): Promise<void> {
    // Set-up would make the first one anew, and what was taken back would let somebody in again.
    const oldest = dead.filter(({ id }) => id !== firstTokenId).sort((a, b) => a.created - b.created);
    for (const { id } of oldest.slice(0, Math.max(0, count))) await this.#store.remove('token', id);
  }

  async #audit(by: string, what: string, before: TokenView | null, after: TokenView, reason: string) {
    const { id: subject } = after;
    await this.#store.audit({ at: this.#clock.now(), by, what, subject, account: '', reason, before, after });
  }
}

export function mayAct(caller: Caller, role: Role): boolean {
  return roles.indexOf(caller.role) >= roles.indexOf(role);
}

function isLive({ revoked, expires }: TokenView, now: number): boolean {
  return revoked === null && (expires === null || expires > now);
}

function viewOf(id: string, { hash: _, ...view }: StoredToken): TokenView {
  return { id, ...view };
}
