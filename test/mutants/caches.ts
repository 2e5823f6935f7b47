// In place of lru-cache: what was kept for one mutant is forgotten for the next.
import { LRUCache as Original } from 'lru-cache';
import { shared } from './suites.ts';

export class LRUCache<K extends object | string, V extends object | string> extends Original<K, V> {
  constructor(options: Original.Options<K, V, unknown>) {
    super(options);
    shared.keptCaches.add(this);
  }
}
