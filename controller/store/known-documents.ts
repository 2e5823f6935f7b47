// Documents that every verdict asks for and that seldom change. Whoever has a store for himself alone sees every change of
// them, so what he has read stays true until then.
import { LRUCache } from 'lru-cache';
import type { DocumentKind, Store } from './store.ts';

/** Characters of JSON. */
const memory = 16 * 1024 * 1024;
const kinds: ReadonlySet<DocumentKind> = new Set(['image', 'firmware', 'allow-rule']);

export type Documents = Pick<Store, 'get' | 'all' | 'ids' | 'put' | 'remove' | 'update'>;

/** The same documents, read once. What is read is parsed for each who asks, so nobody changes another's. */
export function knownDocuments(store: Documents): Documents {
  const known = new LRUCache<string, string>({
    maxSize: memory,
    sizeCalculation: ({ length }, key) => length + key.length,
  });
  /**
   * Changes of a kind, counted when they are asked for and again when they are made. Part of the name, so nothing is found that
   * was read before: and what was read in between may be of before.
   */
  const changes = new Map<DocumentKind, number>();

  async function read<Value>(kind: DocumentKind, key: string, ask: () => Promise<Value>): Promise<Value> {
    if (!kinds.has(kind)) return ask();
    const name = `${kind} ${changes.get(kind) ?? 0} ${key}`;
    const text = known.get(name);
    if (text !== undefined) return JSON.parse(text) as Value;
    const value = await ask();
    known.set(name, JSON.stringify(value));
    return value;
  }

  async function changed<Value>(kind: DocumentKind, ask: () => Promise<Value>): Promise<Value> {
    const count = () => kinds.has(kind) && changes.set(kind, (changes.get(kind) ?? 0) + 1);
    count();
    return ask().finally(count);
  }

  return {
    get: (kind, id) => read(kind, `one ${id}`, () => store.get(kind, id)),
    all: (kind) => read(kind, 'all', () => store.all(kind)),
    ids: (kind) => read(kind, 'ids', () => store.ids(kind)),
    put: (kind, id, body) => changed(kind, () => store.put(kind, id, body)),
    remove: (kind, id) => changed(kind, () => store.remove(kind, id)),
    update: (kind, id, change) => changed(kind, () => store.update(kind, id, change)),
  };
}
