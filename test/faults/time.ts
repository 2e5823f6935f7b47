// Time that goes wrong: clocks that are set while they run, and work that takes time which nobody can see coming.
import { type Clock, clockOf } from '../../machines/clock.ts';
import { SimulatedClock } from '../kit/clock.ts';
import { chance } from './dice.ts';

/** What is thrown at a moment is the same whoever asks, so that the order of what happens at one moment changes nothing. */
export class SeededClock extends SimulatedClock {
  readonly #seed: number;
  readonly #began: number;

  constructor(seed: number, now: number) {
    super(now);
    this.#seed = seed;
    this.#began = now;
  }

  override random(): number {
    return chance(this.#seed, 'clock', this.elapsed);
  }

  /** ms since it began. */
  get elapsed(): number {
    return this.now() - this.#began;
  }
}

/** A clock that can be set, as a machine has it. */
export class SettableClock implements Clock {
  /** How far it is ahead, ms. */
  offset = 0;
  readonly #clock: Clock;

  constructor(time: SimulatedClock) {
    this.#clock = clockOf({
      now: () => time.now() + this.offset,
      random: () => time.random(),
      sleep: (ms, signal) => time.sleepUntil(time.now() + ms, signal),
    });
  }

  now = () => this.#clock.now();
  random = () => this.#clock.random();
  sleepUntil = (at: number, signal?: AbortSignal) => this.#clock.sleepUntil(at, signal);
}
