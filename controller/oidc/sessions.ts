// Sessions of people who logged in at their provider: a secret that the browser keeps in a cookie, known here by its hash alone,
// for a role and a time. They are no tokens: nothing but the page can use one.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../machines/clock.ts';
import { makeToken, tokenIdOf, tokenMatches } from '../api/token.ts';
import { type Decision, OperatorError } from '../decision.ts';
import type { Store } from '../store/store.ts';
import type { Caller, OpenStreams, Role } from '../tokens.ts';

/** Who somebody is at their provider. */
export interface Person {
  issuer: string;
  /** `sub`: names a person at that provider for good. */
  subject: string;
  /** As people know them; empty where the provider does not say. */
  username: string;
}

export interface SessionView extends Person {
  id: string;
  role: Role;
  accounts: readonly string[] | null;
  /** ms since the epoch. */
  began: number;
  expires: number;
}

interface Kept extends Omit<SessionView, 'id'> {
  /** SHA-256, hex. */
  hash: string;
  /** The provider's ID token, sealed: what it takes to log out there. Null without one; absent where it began before there was one. */
  hint?: string | null;
}

/** What somebody may do, how long (ms), and the sealed ID token. */
type Begins = Pick<SessionView, 'role' | 'accounts'> & { lasts: number; hint: string | null };

export interface SessionsOptions {
  store: Store;
  clock: Clock;
  /** What ends with a session. */
  streams: OpenStreams;
}

/** Of all, and of one person; the oldest of theirs ends with one more. */
const mostSessions = 5000;
const mostOfOne = 10;
/** Of nothing: what is compared where there is no such session, so that its absence takes as long. */
const nobody = '0'.repeat(64);

export class Sessions {
  readonly #options: SessionsOptions;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** The secret is told here and never again. Throws OperatorError session.too-many. */
  async begin(
    person: Person,
    { role, accounts, lasts, hint }: Begins,
  ): Promise<{ secret: string; session: SessionView }> {
    const { store, clock } = this.#options;
    await this.sweep();
    const all = await this.list();
    const theirs = all
      .filter(({ issuer, subject }) => issuer === person.issuer && subject === person.subject)
      .sort((a, b) => a.began - b.began);
    if (all.length >= mostSessions && theirs.length < mostOfOne)
      throw new OperatorError('session.too-many', 503, `EVC keeps ${mostSessions} sessions at most`);
    for (const { id } of theirs.slice(0, Math.max(0, theirs.length + 1 - mostOfOne))) await this.#remove(id);
    const id = randomBytes(9).toString('hex');
    const { token: secret, hash } = makeToken(id);
    const began = clock.now();
    const kept: Kept = { ...person, role, accounts, began, expires: began + lasts, hash, hint };
    await store.put('session', id, kept);
    const session = viewOf(id, kept);
    await this.#audit('session.began', nameOf(person), session, '');
    return { secret, session };
  }

  /** Whose session it is. Throws OperatorError auth.session, auth.session-over. */
  async check(secret: string): Promise<Caller> {
    const { store, clock } = this.#options;
    const id = tokenIdOf(secret) ?? '';
    const kept = id === '' ? null : await store.get<Kept>('session', id);
    if (!tokenMatches(secret, kept?.hash ?? nobody) || !kept)
      throw new OperatorError('auth.session', 401, 'this session has ended; log in again');
    if (kept.expires <= clock.now())
      throw new OperatorError('auth.session-over', 401, 'this session has run out; log in again');
    const { role, accounts, expires } = kept;
    return { id, name: nameOf(kept), role, accounts, expires };
  }

  async list(): Promise<SessionView[]> {
    return (await this.#options.store.all<Kept>('session')).map(({ id, body }) => viewOf(id, body));
  }

  /** The sealed ID token with which it began; null where it has none, or is no more. */
  async hint(id: string): Promise<string | null> {
    return (await this.#options.store.get<Kept>('session', id))?.hint ?? null;
  }

  /** From now on it lets nobody in. Throws OperatorError session.unknown. */
  async end(id: string, { by, reason = '' }: Decision): Promise<SessionView> {
    const kept = await this.#options.store.get<Kept>('session', id);
    if (!kept || !(await this.#remove(id)))
      throw new OperatorError('session.unknown', 404, `there is no session ${id}`);
    const session = viewOf(id, kept);
    await this.#audit('session.ended', by, session, reason);
    return session;
  }

  /** Whoever logs in to do what another provider or another rule allows, logs in anew. */
  async endAll(): Promise<void> {
    for (const id of await this.#options.store.ids('session')) await this.#remove(id);
  }

  /** Takes away those that have run out. */
  async sweep(): Promise<void> {
    const now = this.#options.clock.now();
    for (const { id, expires } of await this.list()) if (expires <= now) await this.#remove(id);
  }

  async #remove(id: string): Promise<boolean> {
    const removed = await this.#options.store.remove('session', id);
    this.#options.streams.end(id);
    return removed;
  }

  #audit(what: string, by: string, session: SessionView, reason: string) {
    const { store, clock } = this.#options;
    const { id: subject } = session;
    const [before, after] = what === 'session.began' ? [null, session] : [session, null];
    return store.audit({ at: clock.now(), by, what, subject, account: '', reason, before, after });
  }
}

/** As decisions are kept with; no token can be called so. */
export function nameOf({ subject }: Pick<Person, 'subject'>): string {
  return `oidc:${subject}`;
}

function viewOf(id: string, { hash: _, hint: __, ...view }: Kept): SessionView {
  return { id, ...view };
}
