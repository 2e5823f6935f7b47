// What differs between two values, path by path: contexts before and after a step, or as expected and as they came.
import { limits } from './format.ts';

export interface Difference {
  /** `waiting.until`, `findings[2].code`; empty for the whole. */
  path: string;
  /** undefined where there is nothing. */
  before: unknown;
  after: unknown;
}

const mostDifferences = 1000;

/** As JSON has them: undefined is the same as absent. Throws RangeError where they are nested deeper than `limits.depth`. */
export function same(one: unknown, other: unknown, depth = 0): boolean {
  if (one === other) return true;
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false;
  tooDeep(depth);
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  if (Array.isArray(one) && Array.isArray(other))
    return one.length === other.length && one.every((item, i) => same(item, other[i], depth + 1));
  const a = one as Record<string, unknown>;
  const b = other as Record<string, unknown>;
  for (const key of Object.keys(a)) {
    const value = a[key];
    if (value === undefined) {
      if (own(b, key) !== undefined) return false;
    } else if (!same(value, own(b, key), depth + 1)) return false;
  }
  for (const key of Object.keys(b)) if (b[key] !== undefined && own(a, key) === undefined) return false;
  return true;
}

/** The differences, in the order of the fields; a thousand at the most. */
export function differences(before: unknown, after: unknown): Difference[] {
  const found: Difference[] = [];
  collect('', before, after, found, 0);
  return found;
}

function collect(path: string, before: unknown, after: unknown, into: Difference[], depth: number): void {
  if (into.length >= mostDifferences || same(before, after, depth)) return;
  const nested =
    isObject(before) && isObject(after) && Array.isArray(before) === Array.isArray(after)
      ? [before, after]
      : null;
  if (!nested) {
    into.push({ path, before, after });
    return;
  }
  tooDeep(depth);
  const [a, b] = nested as [Record<string, unknown>, Record<string, unknown>];
  const step = (key: string) =>
    Array.isArray(before) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`;
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)]))
    collect(step(key), own(a, key), own(b, key), into, depth + 1);
}

function own(value: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function tooDeep(depth: number): void {
  if (depth > limits.depth) throw new RangeError(`nested deeper than ${limits.depth}`);
}
