// A person logs in at their provider: out with the question, back with its answer, and in with a session or a refusal.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../../machines/clock.ts';
import { RequestError } from '../api/problem.ts';
import { type Decision, OperatorError } from '../decision.ts';
import { seal, unseal } from '../seal.ts';
import { type Asked, Provider } from './provider.ts';
import { roleOf } from './roles.ts';
import type { Sessions, SessionView } from './sessions.ts';
import { type OidcSettingsStore, type OidcView, type OidcWish, unset } from './settings.ts';

export interface LoginOptions {
  settings: OidcSettingsStore;
  sessions: Sessions;
  clock: Clock;
  /** EVC's own, which questions are sealed with. */
  secret: Uint8Array;
}

interface Question extends Asked {
  /** ms since the epoch. */
  until: number;
  /** Whom it was asked; who is somebody else meanwhile gives no answer to it. */
  issuer: string;
  redirectUri: string;
}

/** ms from the question to its answer. */
export const askedFor = 600_000;
const use = 'oidc login';
const useOfToken = 'oidc id token';
/** Characters of an ID token that is kept to log out with, and goes into an address then. */
const longestToken = 4096;
/** Questions that were answered, while they could be again. */
const mostAnswered = 10_000;
/** Logins that wait for the provider at once. */
const mostAtOnce = 20;
const hour = 3_600_000;
/** Characters of `sub` [OpenID Connect Core 1.0, 2] and of a name that is shown. */
const longest = 255;

export const callbackPath = '/oidc/callback';
/** Where a provider leads back to whom it logged out. */
export const backPath = '/';

export class Login {
  readonly #options: LoginOptions;
  readonly #provider: Provider;
  readonly #answered: LRUCache<string, true>;
  #underWay = 0;

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#provider = new Provider(options.clock);
    this.#answered = new LRUCache({ max: mostAnswered });
  }

  /** Takes this provider from now on, once it answered; whoever logged in before does so anew. Throws as `check`, oidc.unreachable. */
  async set(wish: OidcWish, decision: Decision): Promise<OidcView> {
    const { settings, sessions, clock } = this.#options;
    await settings.check(wish);
    await this.#provider.discover(wish);
    const view = await settings.set(wish, decision, clock.now());
    await sessions.endAll();
    return view;
  }

  /** Throws OperatorError oidc.unset. */
  async remove(decision: Decision): Promise<OidcView> {
    const { settings, sessions, clock } = this.#options;
    const view = await settings.remove(decision, clock.now());
    await sessions.endAll();
    return view;
  }

  /**
   * Where the browser goes, and what it is to bring back. Nothing is kept here of it, so nobody fills anything by asking.
   * Throws OperatorError oidc.unset; RequestError oidc.unreachable, oidc.busy.
   *
   * @param anew the provider asks who somebody is, though it may know
   */
  async begin(ownUrl: string, anew = false): Promise<{ url: string; question: string }> {
    const settings = await this.#options.settings.read();
    if (!settings) throw unset();
    return this.#limited(async () => {
      const redirectUri = `${settings.publicUrl ?? ownUrl}${callbackPath}`;
      const { url, asked } = await this.#provider.ask(settings, redirectUri, anew);
      const until = this.#options.clock.now() + askedFor;
      const question: Question = { ...asked, until, issuer: settings.issuer, redirectUri };
      return { url, question: seal(this.#options.secret, use, Buffer.from(JSON.stringify(question))) };
    });
  }

  /**
   * The secret of a session. Throws RequestError oidc.state, oidc.expired, oidc.no-role and what Provider.answered does.
   *
   * @param query of the address with which the browser came back
   * @param brought what it was to bring back; null where it has none
   */
  async finish(query: string, brought: string | null): Promise<{ secret: string; seconds: number }> {
    const { settings: kept, sessions, clock, secret } = this.#options;
    const settings = await kept.read();
    if (!settings) throw unset();
    const parameters = new URLSearchParams(query);
    const question = brought === null ? null : questionOf(unseal(secret, use, brought));
    if (!question || parameters.getAll('state').join() !== question.state)
      throw refused('oidc.state', 400, 'this browser began no such login, or began another since');
    if (question.until <= clock.now() || question.issuer !== settings.issuer)
      throw refused('oidc.expired', 400, 'this login took longer than ten minutes; log in again');
    if (this.#answered.has(question.state))
      throw refused('oidc.state', 400, 'this login was finished already; log in again');
    this.#answered.set(question.state, true);
    const answer = new URL(`${question.redirectUri}?${parameters}`);
    const { claims, idToken } = await this.#limited(() =>
      this.#provider.answered(settings, answer, question),
    );
    const rule = roleOf(claims, settings.roleClaim, settings.roles);
    if (!rule)
      throw refused(
        'oidc.no-role',
        403,
        'the provider knows this person, and nothing that it says of them gives a role here',
      );
    const { role, accounts } = rule;
    const username = claims.preferred_username ?? claims.email;
    const person = {
      issuer: settings.issuer,
      subject: claims.sub.slice(0, longest),
      username: typeof username === 'string' ? username.slice(0, longest) : '',
    };
    const seconds = settings.hours * (hour / 1000);
    const hint = idToken.length > longestToken ? null : seal(secret, useOfToken, Buffer.from(idToken));
    const begun = await sessions.begin(person, { role, accounts, lasts: seconds * 1000, hint });
    return { secret: begun.secret, seconds };
  }

  /**
   * Ends a session here, whatever becomes of it at the provider. Throws OperatorError session.unknown.
   *
   * @returns `provider`: where the browser goes to be logged out there as well, with the ID token in it; null where the provider
   * has no such place, or does not answer
   */
  async logOut(
    id: string,
    decision: Decision,
    ownUrl: string,
  ): Promise<{ session: SessionView; provider: string | null }> {
    const { settings: kept, sessions, secret } = this.#options;
    const hint = await sessions.hint(id);
    const session = await sessions.end(id, decision);
    try {
      const settings = await kept.read();
      if (settings?.issuer !== session.issuer) return { session, provider: null };
      const idToken = hint === null ? null : (unseal(secret, useOfToken, hint)?.toString('utf8') ?? null);
      const back = `${settings.publicUrl ?? ownUrl}${backPath}`;
      const provider = await this.#limited(() => this.#provider.leave(settings, idToken, back));
      return { session, provider };
    } catch (error) {
      if (error instanceof RequestError || error instanceof OperatorError) return { session, provider: null };
      throw error;
    }
  }

  /** Nobody makes EVC ask a provider without end. */
  async #limited<Value>(work: () => Promise<Value>): Promise<Value> {
    if (this.#underWay >= mostAtOnce)
      throw refused('oidc.busy', 503, `${mostAtOnce} others log in at this moment; try again`);
    this.#underWay++;
    try {
      return await work();
    } finally {
      this.#underWay--;
    }
  }
}

/** What was sealed here is as it was made. */
function questionOf(plain: Buffer | null): Question | null {
  return plain && (JSON.parse(plain.toString('utf8')) as Question);
}

function refused(code: string, status: number, detail: string): RequestError {
  return new RequestError(code, status, detail);
}
