// Handshakes of TLS begin at a pace: each costs as much as the requests of a whole attestation, and anybody may ask for one. Where
// they come from takes turns, so that who dials from elsewhere does not wait behind a flood; and where logins fail waits longer.

/** ms between two looks: a timer of less would cost more than it spreads. */
const every = 20;
/** ms that a source waits for each login that failed, and at most for all of them. */
const failed = { each: 40, most: 10_000 };
/** Sources that are known for it; of more the first is forgotten. */
const failedKnown = 10_000;

export interface PaceOptions {
  /** How many begin in a second; after a second without any, twice as many in the next. */
  perSecond: number;
  /** ms after which nobody waits any more: who was served then would have given up during the handshake, and its turn were lost. */
  patience: number;
  /** ms of a clock that nobody sets back. */
  now?(): number;
  /** Calls back after `every` ms. */
  later?(work: () => void): void;
}

export interface Comer {
  /** Its turn. False where it is gone: the turn is that of the next. */
  begin(): boolean;
  /** It has waited for longer than it may. */
  refuse(): void;
}

export class Pace {
  readonly #perSecond: number;
  readonly #patience: number;
  readonly #now: () => number;
  readonly #later: (work: () => void) => void;
  /** By source, in the order of their turns; each in the order in which they came, with when they did. */
  readonly #waiting = new Map<string, [Comer, number][]>();
  /** By source, until when it waits for its failures. */
  readonly #failing = new Map<string, number>();
  #credit: number;
  #at: number;
  #looking = false;

  constructor(options: PaceOptions) {
    this.#perSecond = options.perSecond;
    this.#patience = options.patience;
    this.#now = options.now ?? (() => performance.now());
    this.#later = options.later ?? ((work) => void setTimeout(work, every).unref());
    this.#credit = this.#perSecond;
    this.#at = this.#now();
  }

  /** Begins now, or when it is the turn of this source. */
  come(source: string, comer: Comer): void {
    const before = this.#waiting.get(source);
    if (before) before.push([comer, this.#now()]);
    else this.#waiting.set(source, [[comer, this.#now()]]);
    this.#run();
  }

  /** A login from there failed. */
  fail(source: string): void {
    const now = this.#now();
    const until = Math.max(now, this.#failing.get(source) ?? 0) + failed.each;
    this.#failing.delete(source);
    // The first of them failed last the longest ago.
    for (const [old, end] of this.#failing) {
      if (end > now && this.#failing.size < failedKnown) break;
      this.#failing.delete(old);
    }
    this.#failing.set(source, Math.min(until, now + failed.most));
  }

  #run(): void {
    const now = this.#now();
    // By the clock and not by looks: a busy process looks seldom, and would let in ever fewer.
    this.#credit = Math.min(this.#perSecond, this.#credit + ((now - this.#at) * this.#perSecond) / 1000);
    this.#at = now;
    // A source that is put back comes up again after all others.
    for (const [source, comers] of this.#waiting) {
      if (this.#credit < 1) break;
      if ((this.#failing.get(source) ?? 0) > now) continue;
      while (comers[0] && now - comers[0][1] > this.#patience) comers.shift()?.[0].refuse();
      const next = comers.shift();
      this.#waiting.delete(source);
      if (comers.length > 0) this.#waiting.set(source, comers);
      if (next?.[0].begin()) this.#credit--;
    }
    if (this.#waiting.size === 0 || this.#looking) return;
    this.#looking = true;
    this.#later(() => {
      this.#looking = false;
      this.#run();
    });
  }
}
