// Integrity tokens of this boot: made here, known outside by their hash alone. They live where a reboot forgets them.
import { createHash, randomBytes } from 'node:crypto';
import { Refusal } from './refusal.ts';
import type { StateFolder } from './state.ts';

const size = 32;

export class Tokens {
  readonly #run: StateFolder;

  constructor(run: StateFolder) {
    this.#run = run;
  }

  /** SHA-256 of a fresh token, hex. */
  make(): string {
    const token = randomBytes(size);
    const hash = createHash('sha256').update(token).digest('hex');
    this.#run.write(file(hash), token);
    return hash;
  }

  /** Throws Refusal token.gone. */
  read(hash: string): Uint8Array {
    const token = /^[0-9a-f]{64}$/.test(hash) ? this.#run.read(file(hash)) : null;
    if (!token) throw new Refusal('token.gone', 'the integrity token of this attempt is not here any more');
    return token;
  }
}

function file(hash: string): string {
  return `tokens/${hash}`;
}
