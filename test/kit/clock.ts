// Simulated time: nothing waits, and every timer fires in its order.
import type { Clock } from '../../machines/clock.ts';

interface Sleeper {
  at: number;
  order: number;
  wake(): void;
}

export class SimulatedClock implements Clock {
  #now: number;
  #seed: number;
  #order = 0;
  readonly #sleepers = new Set<Sleeper>();

  constructor(now = Date.UTC(2026, 0, 1), seed = 1) {
    this.#now = now;
    this.#seed = seed;
  }

  now(): number {
    return this.#now;
  }

  /** Mulberry32: small, and the same numbers for the same seed. */
  random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  sleepUntil(at: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (at <= this.#now) return resolve();
      const stop = () => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason);
      };
      const sleeper: Sleeper = {
        at,
        order: this.#order++,
        wake: () => {
          this.#sleepers.delete(sleeper);
          signal?.removeEventListener('abort', stop);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** When the next sleeper wakes, null when nobody sleeps. */
  next(): number | null {
    let next: number | null = null;
    for (const { at } of this.#sleepers) if (next === null || at < next) next = at;
    return next;
  }

  /** Time that goes by in the middle of work: whoever is due wakes at the next advance. */
  pass(ms: number): void {
    this.#now += ms;
  }

  /** Moves to a time and wakes who is due, in order. */
  advanceTo(at: number): void {
    this.#now = Math.max(this.#now, at);
    const due = [...this.#sleepers].filter((sleeper) => sleeper.at <= this.#now);
    due.sort((a, b) => a.at - b.at || a.order - b.order);
    for (const sleeper of due) sleeper.wake();
  }
}
