// Who is let in when more comes than EVC can do: power is back in a whole region, and everything boots at once. A device is let
// in, and not a request: what has begun its attestation ends it, newcomers wait while there is a chance of an answer in time,
// and the rest is told when to come back, each at another moment. Reports wait behind all of them.
import type { Clock } from '../machines/clock.ts';

export interface AdmissionLimits {
  /** Requests that are worked at together; what is stored shares its writes. */
  atWork: number;
  /** Requests, and bytes, that wait. */
  queued: number;
  bytes: number;
  /** Requests of one device that wait. */
  ofDevice: number;
  /** A newcomer that would wait longer is put off instead, ms. */
  wait: number;
}

export const admissionLimits: AdmissionLimits = {
  atWork: 256,
  queued: 4000,
  bytes: 64 * 1024 * 1024,
  ofDevice: 16,
  // A device asks again after ten seconds; what it needs after the first answer has to fit in as well.
  wait: 3000,
};

export interface AdmissionOptions {
  clock: Clock;
  /** Does the work. Never rejects. */
  handle(request: Offered): Promise<void>;
  /** Answers that the device shall come back after so many ms. Never rejects. */
  putOff(request: Offered, retryAfter: number): Promise<void>;
  /** Whose device it is; asked once for a device that is not known yet. */
  accountOf(device: string): Promise<string>;
  limits?: Partial<AdmissionLimits>;
  /** Ends the pause before `onShed`. */
  signal?: AbortSignal;
  /** Requests that were put off, or dropped, since the last time; once a second while there are any. */
  onShed?(shed: Shed): void;
}

/** A message of a device, and what its topic says. */
export interface Offered {
  device: string;
  /** Of the topic; reports are `info`. */
  endpoint: string;
  topic: string;
  payload: Uint8Array;
  /** When it came, ms since the epoch. */
  arrived: number;
}

export interface Shed {
  /** Told to come back later. */
  putOff: number;
  /** Of a device that has too many waiting: not even answered. */
  dropped: number;
  byAccount: Record<string, number>;
}

interface Waiting extends Offered {
  account: string;
}

/** In the order in which they are served. */
const ranks = ['underWay', 'newcomer', 'report'] as const;
type Rank = (typeof ranks)[number];

/** How long a device counts as under way after its last request, ms. */
const underWayFor = 30_000;
/** Requests from the first of an attestation to the last: nonce, quote, key, config. */
const requestsOfDevice = 4;
const leastRetry = 1000;
const mostRetry = 300_000;
/** Of the time that a device is told, so that those of one moment do not come back as one. */
const jitter = 0.25;
/**
 * Nobody is told more than this, or than twice as long as there has been too much: what a request costs while thousands shake
 * hands says little about what it costs afterwards, and a device that was sent away for minutes does not come back sooner.
 */
const leastHorizon = 10_000;
const measuredEvery = 200;
const mostAccounts = 100;

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #limits: AdmissionLimits;
  readonly #queues: Record<Rank, FairQueue> = {
    underWay: new FairQueue(),
    newcomer: new FairQueue(),
    report: new FairQueue(),
  };
  /** Requests of each device that wait or are worked at. */
  readonly #ofDevice = new Map<string, number>();
  /** When each device that was let in had its last request, oldest first. */
  readonly #underWay = new Map<string, number>();
  #atWork = 0;
  #bytes = 0;
  #looking = 0;
  /** Of a request while there is a queue, ms. */
  #cost = 2;
  #measured = { at: 0, done: 0 };
  /** Until then everybody who was put off will have had a turn, ms since the epoch. */
  #promised = 0;
  /** When somebody was put off while nobody else was waiting to come back, ms since the epoch. */
  #since = 0;
  #shed: Shed = nothingShed();
  #telling: Promise<void> | null = null;
  readonly #idle = new Set<() => void>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#limits = { ...admissionLimits, ...options.limits };
  }

  /** Requests that wait, and those that are worked at. */
  get load(): { queued: number; atWork: number; underWay: number } {
    return { queued: this.#queued, atWork: this.#atWork, underWay: this.#underWay.size };
  }

  offer(request: Offered): void {
    const of = this.#ofDevice.get(request.device) ?? 0;
    if (of >= this.#limits.ofDevice || this.#bytes + request.payload.length > this.#limits.bytes) {
      this.#tell('', 'dropped');
      return;
    }
    this.#ofDevice.set(request.device, of + 1);
    this.#bytes += request.payload.length;
    this.#looking++;
    void this.#options
      .accountOf(request.device)
      .catch(() => '')
      .then((account) => {
        this.#looking--;
        this.#enter({ ...request, account });
      });
  }

  /** Resolves when nothing waits and nothing is worked at. */
  async settled(): Promise<void> {
    while (this.#atWork + this.#queued + this.#looking > 0)
      await new Promise<void>((resolve) => this.#idle.add(resolve));
  }

  get #queued(): number {
    return ranks.reduce((sum, rank) => sum + this.#queues[rank].size, 0);
  }

  #enter(request: Waiting): void {
    const rank = this.#rankOf(request);
    const other = this.#tooMuch(request, rank);
    if (other) this.#putOff(other);
    if (other === request) return;
    if (this.#queued === 0) this.#measured = { at: this.#options.clock.now(), done: 0 };
    this.#queues[rank].add(request);
    this.#work();
  }

  /** Who has to be put off so that this one can wait: itself, somebody who has not begun, or nobody. */
  #tooMuch(request: Waiting, rank: Rank): Waiting | null {
    const full = this.#queued >= this.#limits.queued;
    if (rank !== 'underWay')
      return full || this.#wait(rank, request.account) > this.#limits.wait ? request : null;
    if (!full) return null;
    return this.#queues.report.takeLongest() ?? this.#queues.newcomer.takeLongest() ?? request;
  }

  #rankOf({ device, endpoint }: Offered): Rank {
    if (endpoint === 'info') return 'report';
    const last = this.#underWay.get(device);
    return last !== undefined && last > this.#options.clock.now() - underWayFor ? 'underWay' : 'newcomer';
  }

  /** What a newcomer, or a report, of an account would have to wait, ms: each account has its turn. */
  #wait(rank: Rank, account: string): number {
    const ahead =
      this.#queues.underWay.size +
      (rank === 'report' ? this.#queues.newcomer.size : 0) +
      this.#queues[rank].ahead(account);
    return ahead * this.#cost;
  }

  #work(): void {
    while (this.#atWork < this.#limits.atWork) {
      const rank = ranks.find((one) => this.#queues[one].size > 0);
      const request = rank && this.#queues[rank].take();
      if (!request) break;
      this.#atWork++;
      if (rank !== 'report') this.#begin(request.device);
      void this.#options.handle(request).then(() => {
        this.#atWork--;
        this.#gone(request);
        this.#measure();
        this.#work();
      });
    }
    if (this.#atWork + this.#queued + this.#looking > 0) return;
    for (const resolve of this.#idle) resolve();
    this.#idle.clear();
  }

  #begin(device: string): void {
    const now = this.#options.clock.now();
    this.#underWay.delete(device);
    this.#underWay.set(device, now);
    for (const [old, last] of this.#underWay) {
      if (last > now - underWayFor) break;
      this.#underWay.delete(old);
    }
  }

  #gone({ device, payload }: Waiting): void {
    this.#bytes -= payload.length;
    const left = (this.#ofDevice.get(device) ?? 1) - 1;
    if (left > 0) this.#ofDevice.set(device, left);
    else this.#ofDevice.delete(device);
  }

  #measure(): void {
    const now = this.#options.clock.now();
    this.#measured.done++;
    const ms = now - this.#measured.at;
    if (ms < measuredEvery) return;
    if (this.#queued > 0) this.#cost = 0.7 * this.#cost + 0.3 * (ms / this.#measured.done);
    this.#measured = { at: now, done: 0 };
  }

  #putOff(request: Waiting): void {
    const { clock, putOff } = this.#options;
    const now = clock.now();
    if (this.#promised <= now) this.#since = now;
    const horizon = Math.min(mostRetry, Math.max(leastHorizon, 2 * (now - this.#since)));
    const backlog = this.#queued * this.#cost;
    const promised = Math.max(this.#promised, now + backlog) + requestsOfDevice * this.#cost;
    this.#promised = Math.min(promised, now + horizon);
    // Whoever has no turn before the horizon comes back anywhere around it.
    const turn =
      promised > this.#promised
        ? horizon * (0.5 + clock.random())
        : Math.max(leastRetry, promised - now) * (1 + jitter * clock.random());
    this.#tell(request.account, 'putOff');
    this.#atWork++;
    void putOff(request, Math.round(turn)).then(() => {
      this.#atWork--;
      this.#gone(request);
      this.#work();
    });
  }

  #tell(account: string, what: 'putOff' | 'dropped'): void {
    const { clock, onShed, signal } = this.#options;
    this.#shed[what]++;
    const { byAccount } = this.#shed;
    if (account in byAccount || Object.keys(byAccount).length < mostAccounts)
      byAccount[account] = (byAccount[account] ?? 0) + 1;
    if (!onShed || this.#telling) return;
    this.#telling = clock
      .sleepUntil(clock.now() + 1000, signal)
      .catch(() => undefined)
      .then(() => {
        this.#telling = null;
        onShed(this.#shed);
        this.#shed = nothingShed();
      });
  }
}

function nothingShed(): Shed {
  return { putOff: 0, dropped: 0, byAccount: Object.create(null) as Record<string, number> };
}

/** First come, first served within an account, and one after the other among accounts. */
class FairQueue {
  /** Whose turn it is stands first. */
  readonly #accounts = new Map<string, Waiting[]>();
  size = 0;

  add(request: Waiting): void {
    const queue = this.#accounts.get(request.account);
    if (queue) queue.push(request);
    else this.#accounts.set(request.account, [request]);
    this.size++;
  }

  take(): Waiting | undefined {
    const [first] = this.#accounts;
    if (!first) return undefined;
    const [account, queue] = first;
    this.#accounts.delete(account);
    const request = queue.shift();
    if (queue.length > 0) this.#accounts.set(account, queue);
    this.size--;
    return request;
  }

  /** The last to come of the account that has most. */
  takeLongest(): Waiting | undefined {
    let longest: [string, Waiting[]] | undefined;
    for (const entry of this.#accounts) if (!longest || entry[1].length > longest[1].length) longest = entry;
    if (!longest) return undefined;
    const [account, queue] = longest;
    const request = queue.pop();
    if (queue.length === 0) this.#accounts.delete(account);
    this.size--;
    return request;
  }

  /** How many are served before the next of an account would be. */
  ahead(account: string): number {
    const own = this.#accounts.get(account)?.length ?? 0;
    let ahead = own;
    for (const [other, { length }] of this.#accounts)
      if (other !== account) ahead += Math.min(length, own + 1);
    return ahead;
  }
}
