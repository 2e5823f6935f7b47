// What happened, as the views look at it: the lines of one recording, read from a file or arriving now, and what is worth
// finding in them. Made once while lines come in, so that a view never goes through all of them.
import type { Header, Line, StateValue } from '../formats/recording/format.ts';
import { keyOf, Playback, type Stand } from '../formats/recording/playback.ts';
import { type Refusal, refusalOf } from './refusal.ts';
import { stateText } from './text.ts';

/** A chart, or one region of it, in one state. It ends where the next one of its lane begins. */
export interface Span {
  /** Index of the line that it begins with. */
  from: number;
  state: string;
  /** What it is the how-many-eth try of; 1 for the first. */
  attempt: number;
  /** Whether something was refused while it lasted. */
  refused: boolean;
}

export interface Lane {
  /** Key of the chart in a `Stand`. */
  key: string;
  /** Region of a parallel chart; empty for a whole one. */
  region: string;
  spans: Span[];
}

export interface ChartDefinition {
  id: string;
  hash: string;
  definition: object;
}

export class Track {
  readonly name: string;
  readonly live: boolean;
  header: Header | null = null;
  notes: string[] = [];
  readonly lines: Line[] = [];
  readonly lanes: Lane[] = [];
  /** By hash. */
  readonly charts = new Map<string, ChartDefinition>();
  /** Hash of the chart of each key. */
  readonly running = new Map<string, string>();
  /** Indices of lines with something wrong, and what. */
  readonly refusals: number[] = [];
  readonly evidence: number[] = [];
  /** Bytes by SHA-256, base64. */
  readonly blobs = new Map<string, string>();
  /** Indices of lines at which a chart came to rest. */
  readonly steps: number[] = [];
  readonly #playback: Playback;
  readonly #laneOf = new Map<string, Lane>();
  /** Where a line stands on an axis on which long waits are short. */
  #places = new Float64Array(1024);

  constructor(name: string, live: boolean) {
    this.name = name;
    this.live = live;
    this.#playback = new Playback(this.lines);
  }

  add(lines: readonly Line[]): void {
    for (const line of lines) this.#take(line);
  }

  /** How everything stood after a line. */
  stand(index: number): Stand {
    return this.#playback.at(index);
  }

  refusal(index: number): Refusal | null {
    const line = this.lines[index];
    return line ? refusalOf(line) : null;
  }

  /** Place of a line on the axis. */
  place(index: number): number {
    if (this.lines.length === 0) return 0;
    return this.#places[Math.max(0, Math.min(index, this.lines.length - 1))] ?? 0;
  }

  /** The last line that is not after a place on the axis. */
  indexAt(place: number): number {
    let low = 0;
    let high = this.lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#places[middle] ?? 0) <= place) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The span of a lane at a line; -1 before its first. */
  spanAt(lane: Lane, index: number): number {
    return lastBefore(lane.spans.length, (i) => (lane.spans[i] as Span).from <= index);
  }

  /** Index of the event that led to a step: the newest one of the same actor before it. */
  cause(step: number): number {
    const line = this.lines[step];
    if (!line || !('actor' in line)) return -1;
    if (line.kind === 'event') return step;
    for (let i = step - 1; i >= 0 && i > step - 500; i--) {
      const before = this.lines[i];
      if (!before || !('actor' in before) || before.actor !== line.actor) continue;
      if (before.kind === 'event') return i;
      if (before.kind === 'snapshot') return -1;
    }
    return -1;
  }

  #take(line: Line): void {
    const index = this.lines.length;
    this.lines.push(line);
    this.#locate(index, line);
    switch (line.kind) {
      case 'chart':
        this.charts.set(line.hash, { id: line.chart, hash: line.hash, definition: line.definition });
        return;
      case 'blob':
        this.blobs.set(line.sha256, line.bytes);
        return;
      case 'evidence':
        this.evidence.push(index);
        break;
      case 'actor':
        this.running.set(keyOf(line), line.hash);
        this.steps.push(index);
        this.#stands(index, keyOf(line), line.value, line.context);
        return;
      case 'snapshot':
        this.steps.push(index);
        this.#stands(index, keyOf(line), line.value, line.context);
        return;
      case 'stop':
        this.#stands(index, keyOf(line), '', {});
        return;
      default:
    }
    const refusal = refusalOf(line);
    if (!refusal) return;
    this.refusals.push(index);
    if (refusal.weight !== 'refused') return;
    for (const lane of this.lanes) {
      if (lane.key !== keyOf(line)) continue;
      const last = lane.spans.at(-1);
      if (last && lane.region === '') last.refused = true;
    }
  }

  #stands(index: number, key: string, value: StateValue, context: Record<string, unknown>): void {
    const regions =
      typeof value === 'object' && Object.keys(value).length > 1
        ? Object.entries(value)
        : [['', value] as const];
    for (const [region, inner] of regions) {
      const id = `${key}\n${region}`;
      let lane = this.#laneOf.get(id);
      if (!lane) {
        if (this.lanes.length >= mostLanes) return;
        lane = { key, region, spans: [] };
        this.#laneOf.set(id, lane);
        const after = this.lanes.findLastIndex((other) => other.key === key);
        this.lanes.splice(after < 0 ? this.lanes.length : after + 1, 0, lane);
      }
      const state = stateText(inner);
      const last = lane.spans.at(-1);
      const attempt =
        region === '' && typeof context.attempt === 'number' ? context.attempt : (last?.attempt ?? 1);
      if (last?.state === state && last.attempt === attempt) continue;
      lane.spans.push({ from: index, state, attempt, refused: badStates.has(state) });
    }
  }

  #locate(index: number, line: Line): void {
    if (index >= this.#places.length) {
      const larger = new Float64Array(this.#places.length * 2);
      larger.set(this.#places);
      this.#places = larger;
    }
    const before = this.lines[index - 1];
    if (!before) return;
    const gap = Math.max(0, line.at - before.at);
    // A wait of an hour is four times as wide as one of a second, and not 3600 times.
    this.#places[index] = (this.#places[index - 1] ?? 0) + 1 + 6 * Math.log2(1 + gap / 50);
  }
}

const mostLanes = 200;
/** States of records and tasks in which a refusal stands. */
const badStates: ReadonlySet<string> = new Set([
  'uud',
  'umd',
  'refused',
  'rolledBack',
  'failed',
  'lost',
  'lockedOut',
]);

/** The last of `count` things for which a test holds, where it holds up to one and not after it; -1 for none. */
export function lastBefore(count: number, holds: (index: number) => boolean): number {
  let low = -1;
  let high = count - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}
