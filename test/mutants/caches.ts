// In place of lru-cache: what was kept for one mutant is forgotten for the next.
import { LRUCache as Original } from 'lru-cache';

const all = new Set<{ clear(): void }>();

export class LRUCache<K extends object | string, V extends object | string> extends Original<K, V> {
  constructor(options: Original.Options<K, V, unknown>) {
    super(options);
    all.add(this);
  }
}

export function forgetAll(): void {
  for (const cache of all) cache.clear();
}
