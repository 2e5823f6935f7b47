// Where everything stood at any line of a recording: forwards step by step, and to any place without going through it all.
import type { Line, LineOf, StateValue } from './format.ts';

/** A chart at a moment. Never changed: each step makes a new one. */
export interface Standing {
  component: string;
  actor: string;
  chart: string;
  hash: string;
  status: string;
  value: StateValue;
  context: Readonly<Record<string, unknown>>;
  /** Time of the step that it stands since, ms since the epoch, and the index of its line. */
  since: number;
  line: number;
  /** Whether lines were dropped, so that this is how it stood before them. */
  stale: boolean;
}

/** By component, and the device where a recording is of several. */
export type Stand = ReadonlyMap<string, Standing>;

/** Every so many lines the stand is kept, so that seeking goes through no more than these. */
const every = 1000;

export class Playback {
  readonly lines: readonly Line[];
  readonly #kept: Stand[] = [new Map()];
  /** Lines that `#kept` covers. */
  #walked = 0;
  #at = 0;
  #stand: Stand = new Map();

  constructor(lines: readonly Line[]) {
    this.lines = lines;
  }

  /** How it stands after the line with this index; before everything for -1. */
  at(index: number): Stand {
    const end = Math.max(0, Math.min(index + 1, this.lines.length));
    if (end < this.#at || end - this.#at > every) {
      const kept = Math.min(Math.floor(end / every), this.#kept.length - 1);
      if (end < this.#at || kept * every > this.#at) {
        this.#at = kept * every;
        this.#stand = this.#kept[kept] as Stand;
      }
    }
    while (this.#at < end) {
      this.#stand = after(this.#stand, this.lines[this.#at] as Line, this.#at);
      this.#at++;
      if (this.#at % every === 0 && this.#at > this.#walked) {
        this.#walked = this.#at;
        this.#kept.push(this.#stand);
      }
    }
    return this.#stand;
  }
}

/** The index of the line at which a chart came to rest next (or, with -1, before): a `snapshot` or `actor`; -1 for none. */
export function nextStep(lines: readonly Line[], index: number, direction: 1 | -1 = 1): number {
  for (let i = index + direction; i >= 0 && i < lines.length; i += direction) {
    const { kind } = lines[i] as Line;
    if (kind === 'snapshot' || kind === 'actor') return i;
  }
  return -1;
}

/** The stand after one more line. */
export function after(stand: Stand, line: Line, index: number): Stand {
  if (line.kind === 'dropped') return mapped(stand, (standing) => ({ ...standing, stale: true }));
  if (line.kind !== 'actor' && line.kind !== 'snapshot' && line.kind !== 'stop') return stand;
  const key = keyOf(line);
  const next = new Map(stand);
  if (line.kind === 'actor') {
    const { component, actor, chart, hash, value, context, at } = line;
    const status = 'active';
    next.set(key, {
      component,
      actor,
      chart,
      hash,
      status,
      value,
      context,
      since: at,
      line: index,
      stale: false,
    });
    return next;
  }
  const before = stand.get(key);
  if (before?.actor !== line.actor) return stand;
  if (line.kind === 'stop') next.set(key, { ...before, status: 'stopped' });
  else {
    const { status, value, at } = line;
    next.set(key, {
      ...before,
      status,
      value,
      context: contextAfter(before.context, line),
      since: at,
      line: index,
    });
  }
  return next;
}

/** What a chart remembers after a step. */
export function contextAfter(
  before: Readonly<Record<string, unknown>>,
  { context, removed = [] }: Pick<LineOf<'snapshot'>, 'context' | 'removed'>,
): Record<string, unknown> {
  const merged = { ...before, ...context };
  for (const name of removed) delete merged[name];
  return merged;
}

/** Under which a chart stands in a `Stand`. */
export function keyOf({ component, device }: Pick<Line, 'component' | 'device'>): string {
  return device === undefined ? component : `${device}/${component}`;
}

function mapped(stand: Stand, change: (standing: Standing) => Standing): Stand {
  return new Map([...stand].map(([key, standing]) => [key, change(standing)]));
}
