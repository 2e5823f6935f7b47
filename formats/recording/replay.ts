// Drives today's charts with what reached the recorded ones, stamps and all, and compares every step: the state, what is
// remembered, the transitions, the actions and what was asked of the ports. Ports are not performed: their answers are recorded.
import { type AnyActorRef, type AnyStateMachine, createActor, type InspectionEvent } from 'xstate';
import { definitionOf } from './definition.ts';
import { type Difference, differences, same } from './diff.ts';
import { type Kind, type Line, type LineOf, limits, type StateValue } from './format.ts';
import { contextAfter, keyOf } from './playback.ts';
import { Recorder, silent } from './recorder.ts';

/** Kinds of lines that say nothing about charts: a reader may pass them over. */
export const besideCharts: ReadonlySet<Kind> = new Set(['message', 'tpm', 'blob', 'evidence']);

/** Today's charts, by their ids. */
export type Charts = ReadonlyMap<string, AnyStateMachine>;

/** The first place where a chart of today does not do what the recorded one did. */
export interface Divergence {
  /** Number of the line that began the step. */
  n: number;
  at: number;
  component: string;
  chart: string;
  /** Whether the definition of the chart is another one than in the recording. */
  chartChanged: boolean;
  /** What reached it; `xstate.init` for its beginning. */
  event: { type: string } & Record<string, unknown>;
  /** The state in which it reached it; null at the beginning. */
  state: StateValue | null;
  /** What is different: where it went, what it remembers, how it got there, what it did or asked for. */
  differs: 'state' | 'context' | 'transitions' | 'effects' | 'status' | 'error';
  expected: unknown;
  got: unknown;
  /** Of the context, expected against got. */
  context: Difference[];
}

/** One step that was replayed. */
export interface Step {
  n: number;
  at: number;
  component: string;
  chart: string;
  event: { type: string } & Record<string, unknown>;
  before: StateValue | null;
  after: StateValue;
  context: Readonly<Record<string, unknown>>;
}

export interface ReplayOptions {
  charts: Charts;
  /** Called for each step as it came out today. True ends the replay. */
  onStep?(step: Step): boolean | undefined;
  /** May put another event in the place of a recorded one; then nothing is compared any more for this chart. */
  replace?(
    line: LineOf<'event'>,
    context: Readonly<Record<string, unknown>>,
  ): LineOf<'event'>['event'] | null;
}

export interface ReplayResult {
  steps: number;
  /** null where every step came out as recorded. */
  divergence: Divergence | null;
  /** Ids of charts whose definition is another one than when it was recorded. */
  changed: string[];
  /** Ids of charts that there are no more: their lines were passed over. */
  unknown: string[];
  /** Steps that could not be checked, since lines before them were dropped. */
  unchecked: number;
}

/** Replays lines as they come; `end` gives the result. */
export class Replay {
  readonly #options: ReplayOptions;
  readonly #lives = new Map<string, Life>();
  readonly #unknown = new Set<string>();
  readonly #changed = new Set<string>();
  #steps = 0;
  #unchecked = 0;
  #divergence: Divergence | null = null;
  #over = false;

  constructor(options: ReplayOptions) {
    this.#options = options;
  }

  /** Whether more lines change nothing any more. */
  get over(): boolean {
    return this.#over;
  }

  push(line: Line): void {
    if (this.#over) return;
    switch (line.kind) {
      case 'chart':
        this.#meet(line);
        return;
      case 'actor':
        this.#begin(line);
        return;
      case 'event':
        this.#lifeOf(line)?.event(line);
        return;
      case 'microstep':
      case 'action':
      case 'invoke':
        this.#lifeOf(line)?.expected.push(line);
        return;
      case 'snapshot':
        this.#finish(line);
        return;
      case 'stop':
        this.#lifeOf(line)?.stop();
        this.#lives.delete(lifeKey(line));
        return;
      case 'dropped':
        for (const life of this.#lives.values()) life.stop();
        this.#lives.clear();
        return;
    }
  }

  end(): ReplayResult {
    for (const life of this.#lives.values()) life.stop();
    this.#lives.clear();
    return {
      steps: this.#steps,
      divergence: this.#divergence,
      changed: [...this.#changed],
      unknown: [...this.#unknown],
      unchecked: this.#unchecked,
    };
  }

  #meet({ chart, hash, definition }: LineOf<'chart'>): void {
    const today = this.#options.charts.get(chart);
    if (today && !isOf(today, hash, definition)) this.#changed.add(chart);
  }

  #lifeOf(line: Line & { actor: string }): Life | undefined {
    return this.#lives.get(lifeKey(line));
  }

  #begin(line: LineOf<'actor'>): void {
    const chart = this.#options.charts.get(line.chart);
    if (!chart) {
      this.#unknown.add(line.chart);
      return;
    }
    this.#lives.get(lifeKey(line))?.stop();
    const life = new Life(chart, line);
    this.#lives.set(lifeKey(line), life);
    const { value, context } = life;
    this.#steps++;
    const step = { ...placeOf(line), chart: chart.id, event: { type: 'xstate.init' }, before: null };
    if (this.#options.onStep?.({ ...step, after: value, context })) this.#over = true;
    const fault = life.faultOfBeginning(line);
    if (fault) this.#diverge(step, fault);
  }

  #finish(line: LineOf<'snapshot'>): void {
    const life = this.#lifeOf(line);
    if (!life?.input) {
      this.#unchecked++;
      return;
    }
    const { input, chart } = life;
    const before = life.value;
    const other = this.#options.replace?.(input, life.context) ?? null;
    const fault = life.step(other ?? input.event, line, other !== null);
    this.#steps++;
    const step = { ...placeOf(input), chart: chart.id, event: other ?? input.event, before };
    if (this.#options.onStep?.({ ...step, after: life.value, context: life.context })) this.#over = true;
    if (fault) this.#diverge(step, fault);
  }

  #diverge(
    { before: state, n, at, component, chart, event }: Omit<Step, 'after' | 'context'>,
    fault: Fault,
  ): void {
    const chartChanged = this.#changed.has(chart);
    this.#divergence = { n, at, component, chart, chartChanged, event, state, ...fault };
    this.#over = true;
  }
}

/** By chart: the hashes of definitions that were compared, and whether they were its own. */
const compared = new WeakMap<AnyStateMachine, Map<string, boolean>>();

/** Whether a definition is that of a chart of today. The hash is what the recording calls it, and saves comparing it again. */
function isOf(chart: AnyStateMachine, hash: string, definition: object): boolean {
  const known = compared.get(chart) ?? new Map<string, boolean>();
  compared.set(chart, known);
  const own = known.get(hash) ?? JSON.stringify(definitionOf(chart)) === JSON.stringify(definition);
  if (known.size < limits.charts) known.set(hash, own);
  return own;
}

/** Replays a whole recording, up to its first divergence. */
export function replay(lines: Iterable<Line>, options: ReplayOptions): ReplayResult {
  const running = new Replay(options);
  for (const line of lines) {
    running.push(line);
    if (running.over) break;
  }
  return running.end();
}

const sharedDepth = 3;

type Fault = Pick<Divergence, 'differs' | 'expected' | 'got' | 'context'>;
type Did = LineOf<'microstep'> | LineOf<'action'> | LineOf<'invoke'>;

/** One life of a chart, as it comes out today. */
class Life {
  readonly chart: AnyStateMachine;
  /** The event of the step that is being read. */
  input: LineOf<'event'> | null = null;
  /** What the recorded chart did in it. */
  expected: Did[] = [];
  readonly #actor: AnyActorRef;
  #recorded: Record<string, unknown>;
  #got: Did[] = [];
  #after: Pick<LineOf<'snapshot'>, 'status' | 'value' | 'context' | 'removed'> | null = null;
  #begun: LineOf<'actor'> | null = null;
  #compares = true;
  #error: unknown;

  constructor(chart: AnyStateMachine, line: LineOf<'actor'>) {
    this.chart = chart;
    this.#recorded = line.context;
    const machine = inert(chart);
    // The same recorder that made the lines, so that what is compared was made in the same way.
    const recorder = new Recorder(silent);
    recorder.follow((component, body) => {
      if (component === '') this.#take(body as Line);
    });
    const tap = recorder.chart('', machine);
    const snapshot = line.restored
      ? machine.resolveState({ value: line.value as never, context: shared(line.context, 0) as never })
      : undefined;
    this.#actor = createActor(machine, {
      ...(snapshot ? { snapshot } : {}),
      input: line.input as never,
      inspect: (event: InspectionEvent) => tap.inspect(event),
    }) as AnyActorRef;
    // What a chart throws is a divergence, and not the end of this process.
    this.#actor.subscribe({
      error: (error: unknown) => {
        this.#error ??= error;
      },
    });
    this.#actor.start();
  }

  get value(): StateValue {
    return this.#snapshot.value;
  }

  get context(): Readonly<Record<string, unknown>> {
    return this.#snapshot.context;
  }

  get #snapshot(): { value: StateValue; context: Record<string, unknown> } {
    return this.#actor.getSnapshot() as never;
  }

  event(line: LineOf<'event'>): void {
    this.input = line;
    this.expected = [];
  }

  /** Makes the step that was read, and says what is different in it. */
  step(event: LineOf<'event'>['event'], line: LineOf<'snapshot'>, replaced: boolean): Fault | null {
    const { expected } = this;
    this.input = null;
    this.#got = [];
    this.#after = null;
    this.#actor.send(event);
    const recorded = contextAfter(this.#recorded, line);
    this.#recorded = recorded;
    if (replaced) this.#compares = false;
    if (!this.#compares) return null;
    const got = this.#after as LineOf<'snapshot'> | null;
    if (this.#error !== undefined || !got) {
      const text = this.#error instanceof Error ? this.#error.message : String(this.#error);
      return this.#fault('error', line.value, text, recorded);
    }
    if (!same(line.value, got.value)) return this.#fault('state', line.value, got.value, recorded);
    if (line.status !== got.status) return this.#fault('status', line.status, got.status, recorded);
    for (const key of keysOf(line, got)) {
      if (same(recorded[key], this.context[key])) continue;
      return this.#fault('context', recorded[key], this.context[key], recorded);
    }
    const fault = faultOf('transitions', of('microstep', expected), of('microstep', this.#got));
    const effects = fault ?? faultOf('effects', effectsOf(expected), effectsOf(this.#got));
    return effects && { ...effects, context: [] };
  }

  faultOfBeginning(line: LineOf<'actor'>): Fault | null {
    if (this.#error !== undefined || !this.#begun)
      return this.#fault('error', line.value, String(this.#error), line.context);
    if (!same(line.value, this.value)) return this.#fault('state', line.value, this.value, line.context);
    if (line.restored || same(line.context, this.context)) return null;
    return this.#fault('context', line.context, this.context, line.context);
  }

  stop(): void {
    this.#actor.stop();
  }

  #take(body: Line): void {
    if (body.kind === 'microstep' || body.kind === 'action' || body.kind === 'invoke') this.#got.push(body);
    else if (body.kind === 'snapshot') this.#after = body;
    else if (body.kind === 'actor') this.#begun = body;
  }

  #fault(
    differs: Divergence['differs'],
    expected: unknown,
    got: unknown,
    recorded: Record<string, unknown>,
  ): Fault {
    return { differs, expected, got, context: differences(recorded, this.context) };
  }
}

/**
 * A context in which what is equal is one object again, down to a few levels: a chart may ask whether something is still the same,
 * as info-task does of what is on its way and what waits, and in a line of JSON it is there twice.
 */
function shared(value: unknown, depth: number, seen = new Map<string, unknown>()): unknown {
  if (typeof value !== 'object' || value === null || depth > sharedDepth) return value;
  const text = JSON.stringify(value);
  if (seen.has(text)) return seen.get(text);
  const copy = Array.isArray(value)
    ? value.map((item) => shared(item, depth + 1, seen))
    : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shared(item, depth + 1, seen)]));
  seen.set(text, copy);
  return copy;
}

const inertCharts = new WeakMap<AnyStateMachine, AnyStateMachine>();

/** The chart with ports that never answer: their answers come from the recording. */
function inert(chart: AnyStateMachine): AnyStateMachine {
  const known = inertCharts.get(chart);
  if (known) return known;
  const port = {
    getInitialSnapshot: () => ({ status: 'active', output: undefined, error: undefined }),
    transition: (snapshot: unknown) => snapshot,
    getPersistedSnapshot: (snapshot: unknown) => snapshot,
  };
  const actors = Object.fromEntries(Object.keys(chart.implementations.actors).map((name) => [name, port]));
  const made = chart.provide({ actors } as never);
  inertCharts.set(chart, made);
  return made;
}

function of<K extends Did['kind']>(kind: K, done: readonly Did[]): Extract<Did, { kind: K }>[] {
  return done.filter((one) => one.kind === kind) as Extract<Did, { kind: K }>[];
}

function effectsOf(done: readonly Did[]): object[] {
  return done.flatMap<object>((one) => {
    if (one.kind === 'action') return [{ action: one.action, params: one.params }];
    return one.kind === 'invoke' ? [{ invoke: one.id, port: one.port, input: one.input }] : [];
  });
}

function faultOf(
  differs: 'transitions' | 'effects',
  expected: readonly object[],
  got: readonly object[],
): Pick<Fault, 'differs' | 'expected' | 'got'> | null {
  const plain = (one: object) => ('transitions' in one ? (one as LineOf<'microstep'>).transitions : one);
  const a = expected.map(plain);
  const b = got.map(plain);
  return same(a, b) ? null : { differs, expected: a, got: b };
}

/** The fields that either of them changed. */
function* keysOf(
  one: Pick<LineOf<'snapshot'>, 'context' | 'removed'>,
  other: Pick<LineOf<'snapshot'>, 'context' | 'removed'>,
): Iterable<string> {
  yield* Object.keys(one.context);
  if (one.removed) yield* one.removed;
  for (const key of Object.keys(other.context)) if (!Object.hasOwn(one.context, key)) yield key;
  if (other.removed) yield* other.removed;
}

function lifeKey(line: Line & { actor: string }): string {
  return `${keyOf(line)} ${line.actor}`;
}

function placeOf({ n, at, component }: Line): Pick<Line, 'n' | 'at' | 'component'> {
  return { n, at, component };
}
