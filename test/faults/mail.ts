// What carries the messages between broker and EVC, and what it does to them.
import { setImmediate } from 'node:timers/promises';
import { parseTopic } from '../../formats/wire/topics.ts';
import { Between } from '../kit/between.ts';
import { threadsBusy } from '../kit/threads.ts';
import { chance } from './dice.ts';
import type { Fault } from './plan.ts';
import { type SeededClock, SettableClock } from './time.ts';

/** Turns of the event loop: fewer than those after which a world takes itself for quiet. */
const stillTurns = 5;

type Deliver = (payload: Uint8Array) => Promise<void>;

export class Mail extends Between {
  readonly #seed: number;
  readonly #device: SettableClock;
  readonly #evc: SettableClock;
  /** Of messages, those that are on. */
  readonly #faults = new Set<Fault>();
  /** Messages of each kind and direction since the beginning. */
  readonly #seen = new Map<string, number>();
  readonly #box: { kind: string; carry(): Promise<void> }[] = [];
  /** Without it EVC sends to nobody. */
  brokerUp = true;
  /** Told of each message before anything happens to it. */
  onMessage: () => void = () => undefined;

  override readonly clock: SeededClock;

  constructor(seed: number, clock: SeededClock) {
    super();
    this.clock = clock;
    this.#seed = seed;
    this.#device = new SettableClock(clock);
    this.#evc = new SettableClock(clock);
  }

  override get deviceClock(): SettableClock {
    return this.#device;
  }

  override get evcClock(): SettableClock {
    return this.#evc;
  }

  begin(fault: Fault): void {
    this.#faults.add(fault);
  }

  end(fault: Fault): void {
    this.#faults.delete(fault);
  }

  override up(topic: string, payload: Uint8Array, deliver: (payload: Uint8Array) => void): void {
    void this.#carry('up', topic, payload, async (delivered) => deliver(delivered));
  }

  override down(topic: string, payload: Uint8Array, deliver: Deliver): Promise<void> {
    const toBroker: Deliver = async (delivered) => {
      if (!this.brokerUp) throw new Error('the broker is out of reach');
      await deliver(delivered);
    };
    return this.#carry('down', topic, payload, toBroker);
  }

  #carry(direction: string, topic: string, payload: Uint8Array, deliver: Deliver): Promise<void> {
    const kind = `${direction} ${parseTopic(topic).endpoint}`;
    return new Promise((resolve, reject) => {
      this.#box.push({ kind, carry: () => this.#handle(kind, payload, deliver).then(resolve, reject) });
      if (this.#box.length === 1) void this.#collect();
    });
  }

  /**
   * Which of two threads is done first is chance: what is sent at one moment is collected until none works, and goes on in an order
   * that does not depend on them.
   */
  async #collect(): Promise<void> {
    for (let still = 0; still < stillTurns; still = threadsBusy() ? 0 : still + 1) await setImmediate();
    const batch = this.#box.splice(0);
    batch.sort((a, b) => (a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : 0));
    for (const { carry } of batch) void carry();
  }

  #handle(kind: string, payload: Uint8Array, deliver: Deliver): Promise<void> {
    this.onMessage();
    const nth = (this.#seen.get(kind) ?? 0) + 1;
    this.#seen.set(kind, nth);
    let bytes = payload;
    let late = 0;
    const again: number[] = [];
    for (const fault of this.#faults) {
      const dice = (what: string) => chance(this.#seed, what, kind, nth);
      if (fault.kind !== 'slow link' && dice(fault.kind) >= fault.share) continue;
      if (fault.kind === 'drop') return Promise.resolve();
      if (fault.kind === 'corrupt') bytes = changed(bytes, dice('where'), dice('what'));
      else if (fault.kind === 'repeat') again.push(fault.ms);
      else if (fault.kind === 'reorder') late += Math.round(fault.ms * dice('late'));
      else late += fault.ms;
    }
    // What comes later came in time for whoever sent it.
    for (const ms of again) void this.#later(late + ms, bytes, deliver);
    if (late === 0) return deliver(bytes);
    void this.#later(late, bytes, deliver);
    return Promise.resolve();
  }

  async #later(ms: number, payload: Uint8Array, deliver: Deliver): Promise<void> {
    await this.clock.sleepUntil(this.clock.now() + ms);
    await deliver(payload).catch(() => undefined);
  }
}

function changed(bytes: Uint8Array, where: number, what: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const at = Math.floor(where * copy.length);
  copy[at] = (copy[at] as number) ^ (1 + Math.floor(what * 255));
  return copy;
}
