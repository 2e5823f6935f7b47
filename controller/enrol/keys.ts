// Onboarding keys as people have them: made, listed, taken back; and the devices that wait for somebody to let them in.
import type { Clock } from '../../machines/clock.ts';
import { type Decision, evcItself, OperatorError } from '../decision.ts';
import type { Document, Store } from '../store/store.ts';
import { addOnboardingKey, type OnboardingKey, usesOf, type WaitingDevice } from './onboarding.ts';

export interface KeyWish {
  name: string;
  account: string;
  limit: number;
  /** ms since the epoch. */
  expires: number;
  /** Each device waits for a person. */
  approval?: boolean;
}

/** Without the key itself, which only whoever installs devices has. */
export interface KeyView {
  id: string;
  name: string;
  account: string;
  limit: number;
  used: number;
  expires: number;
  approval: boolean;
  state: 'good' | 'expired' | 'used-up';
}

export interface KeysOptions {
  store: Store;
  clock: Clock;
}

export class OnboardingKeys {
  readonly #store: Store;
  readonly #clock: Clock;

  constructor({ store, clock }: KeysOptions) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Throws EnrolmentRefused account.unknown. */
  async add(
    wish: KeyWish,
    { by }: Decision = evcItself,
  ): Promise<{ id: string; key: string; certificate: string }> {
    const made = await addOnboardingKey(this.#store, this.#clock, wish);
    await this.#audit(by, 'key.added', made.id, wish.account, '', null, wish);
    return made;
  }

  async list(accounts: readonly string[] | null = null): Promise<KeyView[]> {
    const all = await this.#store.all<OnboardingKey>('onboarding-key');
    const now = this.#clock.now();
    return all
      .filter(({ body }) => accounts === null || accounts.includes(body.account))
      .map((document) => keyView(document, now));
  }

  /** Lets nobody in any more; devices that registered with it stay. By its id, or the start of it. Throws OperatorError key.unknown. */
  async revoke(
    words: string,
    decision: Decision,
    accounts: readonly string[] | null = null,
  ): Promise<KeyView> {
    const now = this.#clock.now();
    const known = (await this.list(accounts)).filter(({ id }) => id.startsWith(words.toLowerCase()));
    const [first] = known;
    if (!first || known.length > 1)
      throw new OperatorError(
        'key.unknown',
        404,
        `${known.length === 0 ? 'no' : 'more than one'} key is called ${words}`,
      );
    const body = await this.#store.update<OnboardingKey>('onboarding-key', first.id, (found) => {
      if (!found) throw new OperatorError('key.unknown', 404, `no key is called ${words}`);
      return { ...found, expires: Math.min(found.expires, now) };
    });
    const view = keyView({ id: first.id, body }, now);
    const { by, reason = '' } = decision;
    await this.#audit(by, 'key.revoked', first.id, first.account, reason, first, view);
    return view;
  }

  /** Devices that ask to be let in, the longest waiting first. */
  async waiting(accounts: readonly string[] | null = null): Promise<WaitingDevice[]> {
    const all = (await this.#store.all<WaitingDevice>('enrolment')).map(({ body }) => body);
    return all
      .filter(({ account }) => accounts === null || accounts.includes(account))
      .sort((one, other) => one.since - other.since);
  }

  /** Lets a device in, or sends it away for good. Throws OperatorError enrolment.unknown. */
  async answer(
    words: string,
    answer: 'approved' | 'refused',
    decision: Decision,
    accounts: readonly string[] | null = null,
  ): Promise<WaitingDevice> {
    const known = (await this.waiting(accounts)).filter(
      ({ device, serial }) => device.startsWith(words.toLowerCase()) || serial === words,
    );
    const [first] = known;
    if (!first || known.length > 1)
      throw new OperatorError(
        'enrolment.unknown',
        404,
        `${known.length === 0 ? 'no' : 'more than one'} device called ${words} asks to be let in`,
      );
    const { by, reason = '' } = decision;
    const after = await this.#store.update<WaitingDevice>('enrolment', first.device, (found) => ({
      ...(found ?? first),
      state: answer,
    }));
    const what = answer === 'approved' ? 'enrolment.approved' : 'enrolment.refused';
    await this.#audit(by, what, first.device, first.account, reason, first, after);
    return after;
  }

  async #audit(
    by: string,
    what: string,
    subject: string,
    account: string,
    reason: string,
    before: object | null,
    after: object,
  ): Promise<void> {
    await this.#store.audit({ at: this.#clock.now(), by, what, subject, account, reason, before, after });
  }
}

function keyView({ id, body }: Document<OnboardingKey>, now: number): KeyView {
  const { name, account, limit, expires, approval = false } = body;
  const used = usesOf(body);
  const state = expires <= now ? 'expired' : used >= limit ? 'used-up' : 'good';
  return { id, name, account, limit, used, expires, approval, state };
}
