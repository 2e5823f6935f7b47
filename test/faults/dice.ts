// Chance by number: the same seed throws the same, whoever asks first.
import { createHash } from 'node:crypto';

/** One number in [0, 1) for a name: those of other names say nothing of it. */
export function chance(seed: number, ...name: (string | number)[]): number {
  const text = [seed, ...name].join(' ');
  return createHash('sha256').update(text).digest().readUInt32BE() / 2 ** 32;
}

/** Numbers one after the other. */
export class Dice {
  readonly #seed: number;
  #thrown = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  throw(): number {
    return chance(this.#seed, 'dice', this.#thrown++);
  }

  /** From `least` up to `most`, whole. */
  between(least: number, most: number): number {
    return least + Math.floor(this.throw() * (most - least + 1));
  }

  /** Small ones as often as large ones: from `least` to ten times that as often as to a hundred times. */
  scaled(least: number, most: number): number {
    return Math.round(least * (most / least) ** this.throw());
  }

  of<Value>(values: readonly Value[]): Value {
    return values[this.between(0, values.length - 1)] as Value;
  }
}
