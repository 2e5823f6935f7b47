// Integrity tokens of this boot: made here, known outside by their hash alone. They live where a reboot forgets them.
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { Refusal } from './refusal.ts';
import type { StateFolder } from './state.ts';

const size = 32;
const confirmed = 'tokens';
/** Of what EVC has not confirmed, or not last: gone with the next attempt, since a device that is refused makes one for ever. */
const proposed = 'tokens/proposed';
const isHash = (name: string) => /^[0-9a-f]{64}$/.test(name);

export class Tokens {
  readonly #run: StateFolder;

  constructor(run: StateFolder) {
    this.#run = run;
  }

  /** SHA-256 of a fresh token, hex. Those before it are gone, but for the one that was confirmed last. */
  make(): string {
    rmSync(this.#run.file(proposed), { recursive: true, force: true });
    const token = randomBytes(size);
    const hash = createHash('sha256').update(token).digest('hex');
    this.#run.write(`${proposed}/${hash}`, token);
    return hash;
  }

  /** EVC confirmed it. Moves files alone, for which a full disk has room. */
  confirm(hash: string): void {
    if (this.#run.has(`${proposed}/${hash}`)) this.#move(hash, proposed, confirmed);
    // After it, so that a crash between leaves one too many; and not removed yet, since a component may be about to use it.
    mkdirSync(this.#run.file(proposed), { recursive: true, mode: 0o700 });
    for (const name of readdirSync(this.#run.file(confirmed)))
      if (isHash(name) && name !== hash) this.#move(name, confirmed, proposed);
  }

  /** Throws Refusal token.gone. */
  read(hash: string): Uint8Array {
    // In this order: one that is confirmed no more moves meanwhile.
    const token = isHash(hash)
      ? (this.#run.read(`${confirmed}/${hash}`) ?? this.#run.read(`${proposed}/${hash}`))
      : null;
    if (!token) throw new Refusal('token.gone', 'the integrity token of this attempt is not here any more');
    return token;
  }

  #move(hash: string, from: string, to: string): void {
    renameSync(this.#run.file(`${from}/${hash}`), this.#run.file(`${to}/${hash}`));
  }
}
