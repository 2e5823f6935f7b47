// What many seeds came to.
import { faultKinds, sequenceNames } from './plan.ts';
import type { Played } from './run.ts';

export class Tally {
  seeds = 0;
  broken = 0;
  readonly #began = performance.now();
  #faults = 0;
  #messages = 0;
  #simulated = 0;
  readonly #kinds = new Set<string>();
  readonly #sequences = new Set<string>();

  added(played: Played): Played {
    const { plan, broken, faults, messages, time } = played;
    this.seeds++;
    if (broken !== null) this.broken++;
    this.#faults += faults;
    this.#messages += messages;
    this.#simulated += time;
    this.#sequences.add(plan.sequence);
    for (const { kind } of plan.faults) this.#kinds.add(kind);
    return played;
  }

  get line(): string {
    const hours = (this.#simulated / 3_600_000).toFixed(0);
    const seconds = ((performance.now() - this.#began) / 1000).toFixed(0);
    return (
      `${this.seeds} seeds, ${this.#faults} faults of ${this.#kinds.size} of ${faultKinds.length} kinds in ` +
      `${this.#sequences.size} of ${sequenceNames.length} sequences, ${this.#messages} messages, ` +
      `${hours} simulated hours in ${seconds} s; ${this.broken} ended badly`
    );
  }
}
