// Event logs by their hash. A fleet boots alike, so a few logs serve all of it: those asked for lately need no reading.
import { LRUCache } from 'lru-cache';
import type { Store } from './store/store.ts';

/** Bytes. */
const memory = 32 * 1024 * 1024;
/** Logs of a device in a day that are kept though no baseline needs them: entries that extend no PCR make any number of them. */
const mostOffered = 20;
const day = 86_400_000;

export class KnownLogs {
  readonly #store: Pick<Store, 'blob' | 'putBlob'>;
  readonly #recent = new LRUCache<string, Uint8Array>({
    maxSize: memory,
    sizeCalculation: ({ length }) => length + 200,
  });

  readonly #offered = new LRUCache<string, number>({ max: 100_000, ttl: day, noUpdateTTL: true });

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

  /**
   * Keeps it, so that the device need not send it again, unless that device has offered too many. One that is not kept is sent again.
   */
  async offer(device: string, sha256: string, bytes: Uint8Array): Promise<void> {
    if (this.#recent.has(sha256)) return;
    const before = this.#offered.get(device) ?? 0;
    if (before >= mostOffered) return;
    this.#offered.set(device, before + 1);
    await this.keep(sha256, bytes);
  }

  /** Resolves when it is stored. @param sha256 of the bytes, hex: computed on this side */
  async keep(sha256: string, bytes: Uint8Array): Promise<void> {
    if (this.#recent.has(sha256)) return;
    await this.#store.putBlob(sha256, bytes);
    this.#recent.set(sha256, bytes);
  }
}
