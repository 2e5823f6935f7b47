// Reports that could not be sent, on disk: the newest of each key, over restarts and reboots.
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';

const folder = 'outbox';
const most = 100;

export class Outbox {
  readonly #state: StateFolder;

  constructor(state: StateFolder) {
    this.#state = state;
  }

  keep(key: string, body: object): void {
    this.#state.checkpoint(file(key), { key, body });
  }

  drop(key: string): void {
    this.#state.forget(file(key));
  }

  load(): Record<string, object> {
    const found: Record<string, object> = {};
    if (!this.#state.has(folder)) return found;
    const names = readdirSync(this.#state.file(folder)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    for (const name of names.slice(0, most)) {
      const entry = this.#whole(`${folder}/${name}`);
      if (entry) found[entry.key] = entry.body;
    }
    return found;
  }

  /** A report that is damaged is not worth a device that stops: the next one of its kind takes its place. */
  #whole(name: string): { key: string; body: object } | null {
    try {
      return this.#state.restore(name);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#state.forget(name);
      return null;
    }
  }
}

function file(key: string): string {
  return `${folder}/${createHash('sha256').update(key).digest('hex')}`;
}
