// Event logs by their hash. A fleet boots alike, so a few logs serve all of it: those asked for lately need no reading.
import { LRUCache } from 'lru-cache';
import type { Store } from './store/store.ts';

/** Bytes. */
const memory = 32 * 1024 * 1024;

export class KnownLogs {
  readonly #store: Pick<Store, 'blob' | 'putBlob'>;
  readonly #recent = new LRUCache<string, Uint8Array>({
    maxSize: memory,
    sizeCalculation: ({ length }) => length + 200,
  });

  constructor(store: Pick<Store, 'blob' | 'putBlob'>) {
    this.#store = store;
  }

  /** The log of this SHA-256, hex; null for one that EVC does not have. */
  async find(sha256: string): Promise<Uint8Array | null> {
    const recent = this.#recent.get(sha256);
    if (recent) return recent;
    const bytes = await this.#store.blob(sha256);
    if (bytes) this.#recent.set(sha256, bytes);
    return bytes;
  }

  /** Resolves when it is stored. @param sha256 of the bytes, hex: computed on this side */
  async keep(sha256: string, bytes: Uint8Array): Promise<void> {
    if (this.#recent.has(sha256)) return;
    await this.#store.putBlob(sha256, bytes);
    this.#recent.set(sha256, bytes);
  }
}
