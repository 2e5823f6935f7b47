// One chart as the exploration sees it: states that differ in what matters have a number each, and a step from one of them
// by one event is made once, however many states of the whole it is part of.
import { type AnyStateMachine, initialTransition, transition } from 'xstate';
import { namesIn, type Renaming, renamed } from './names.ts';
import { now } from './time.ts';

export type ChartEvent = { type: string } & Record<string, unknown>;

/** A port that a chart waits for. */
export interface Invoked {
  id: string;
  port: string;
  input: Record<string, unknown>;
}

/** A state of one chart. */
export interface Standing {
  number: number;
  /** As XState has it. */
  value: unknown;
  context: Record<string, unknown>;
  status: string;
  /** Ports in flight, waits aside. */
  invoked: readonly Invoked[];
  /** Whether it waits until a time, which is what `context.waiting` says. */
  sleeps: boolean;
  /** Bodies that it shows, as JSON, by type. */
  shown: Readonly<Record<string, string>>;
  /** Names in what decides, in the order in which they stand there; and in all that it remembers. */
  names: readonly string[];
  text: string;
}

export interface Action {
  type: string;
  params: Record<string, unknown>;
}

/** What came of one event. */
export interface Stepped {
  to: Standing;
  /** Ids of what was asked anew, and of what is not waited for any more. */
  begun: readonly string[];
  ended: readonly string[];
  /** Types whose body is another one than before, with that body. */
  published: readonly { type: string; body: object | null }[];
  /** Actions other than those of XState. */
  actions: readonly Action[];
  /** Whether any transition with an effect was taken. */
  counted: boolean;
  /** What the chart threw. */
  error: string | null;
}

interface Snapshot {
  value: unknown;
  context: Record<string, unknown>;
  status: string;
  children: Record<string, Child>;
}

interface Child {
  src: unknown;
  getSnapshot(): { input?: Record<string, unknown> };
}

export interface ChartOptions {
  /** What it shows the others. */
  publications?(snapshot: never): Record<string, object | null>;
  /**
   * The part of its memory that decides what it can do from here on. Left out is what only counts, tells the time or says why:
   * two states that are the same without it take the same transitions for the same events.
   */
  essence(context: never, value: unknown): unknown;
}

export const stamp = { at: now, dice: 0.5 } as const;

export class Chart {
  readonly machine: AnyStateMachine;
  readonly name: string;
  readonly #options: ChartOptions;
  readonly #numbers = new Map<string, number>();
  readonly #standings: Standing[] = [];
  readonly #snapshots: Snapshot[] = [];
  readonly #steps = new Map<string, Stepped>();
  readonly #renamed = new Map<string, Standing>();
  readonly #begins = new Map<string, Standing>();
  /** Steps that were made, and not remembered. */
  made = 0;

  constructor(name: string, machine: AnyStateMachine, options: ChartOptions) {
    this.name = name;
    this.machine = machine;
    this.#options = options;
  }

  get size(): number {
    return this.#standings.length;
  }

  standing(number: number): Standing {
    return this.#standings[number] as Standing;
  }

  /** Its first state, of a boot or of a device. */
  begin(input: object = {}): Standing {
    const key = JSON.stringify(input);
    const known = this.#begins.get(key);
    if (known) return known;
    const [snapshot] = initialTransition(this.machine, { ...input, ...stamp } as never);
    const begun = this.#intern(snapshot as unknown as Snapshot);
    this.#begins.set(key, begun);
    return begun;
  }

  /** The same state with other names. */
  renamed(from: Standing, renaming: Renaming): Standing {
    const moved = from.names.some((name) => renaming.map.get(name) !== name);
    if (!moved && !namesIn(from.text).some((name) => renaming.map.get(name) !== name)) return from;
    const key = `${from.number} ${renaming.key}`;
    const known = this.#renamed.get(key);
    if (known) return known;
    const snapshot = this.#snapshots[from.number] as Snapshot;
    const children = Object.fromEntries(
      Object.entries(snapshot.children).map(([id, child]) => {
        const { input } = child.getSnapshot();
        const other = Object.create(child) as Child;
        other.getSnapshot = () => (input ? { input: renamed(input, renaming) } : {});
        return [id, other];
      }),
    );
    const made = this.#intern({ ...snapshot, context: renamed(snapshot.context, renaming), children });
    this.#renamed.set(key, made);
    return made;
  }

  step(from: Standing, event: ChartEvent): Stepped {
    const key = `${from.number} ${JSON.stringify(event)}`;
    const known = this.#steps.get(key);
    if (known) return known;
    const made = this.#make(from, event);
    this.#steps.set(key, made);
    return made;
  }

  #make(from: Standing, event: ChartEvent): Stepped {
    this.made++;
    const before = this.#snapshots[from.number] as Snapshot;
    let after: Snapshot;
    let actions: Action[];
    try {
      const [snapshot, done] = transition(this.machine, before as never, { ...stamp, ...event } as never);
      after = snapshot as unknown as Snapshot;
      actions = done as unknown as Action[];
    } catch (error) {
      return { ...nothing, to: from, error: error instanceof Error ? error.message : String(error) };
    }
    const to = this.#intern(after);
    const ids = new Set([...Object.keys(before.children), ...Object.keys(after.children)]);
    const another = [...ids].filter((id) => before.children[id] !== after.children[id]);
    const shown = this.#shown(after);
    return {
      to,
      begun: another.filter((id) => after.children[id]),
      ended: another.filter((id) => before.children[id]),
      published: Object.entries(shown)
        .filter(([type, text]) => text !== (from.shown[type] ?? 'null'))
        .map(([type, text]) => ({ type, body: JSON.parse(text) as object | null })),
      actions: actions.filter(({ type }) => !type.startsWith('xstate.')),
      counted: to !== from || before.context !== after.context || another.length > 0,
      error: null,
    };
  }

  #intern(snapshot: Snapshot): Standing {
    const { value, context, status, children } = snapshot;
    const invoked = Object.entries(children)
      .filter(([, { src }]) => src !== 'sleepUntil')
      .map(([id, child]) => ({ id, port: String(child.src), input: child.getSnapshot().input ?? {} }));
    const sleeps = Object.values(children).some(({ src }) => src === 'sleepUntil');
    const inputs = invoked.map(({ id, input }) => [id, withoutStamp(input)]);
    const key = JSON.stringify([
      value,
      status,
      sleeps,
      inputs,
      this.#options.essence(context as never, value),
    ]);
    const number = this.#numbers.get(key);
    if (number !== undefined) return this.#standings[number] as Standing;
    const standing: Standing = {
      number: this.#standings.length,
      value,
      context,
      status,
      invoked,
      sleeps,
      shown: this.#shown(snapshot),
      names: namesIn(key),
      text: JSON.stringify(context),
    };
    this.#numbers.set(key, standing.number);
    this.#standings.push(standing);
    this.#snapshots.push(snapshot);
    return standing;
  }

  #shown(snapshot: Snapshot): Record<string, string> {
    const { publications } = this.#options;
    if (!publications) return {};
    const bodies = Object.entries(publications(snapshot as never));
    return Object.fromEntries(bodies.map(([type, body]) => [type, JSON.stringify(body)]));
  }
}

const nothing = { begun: [], ended: [], published: [], actions: [], counted: false };

function withoutStamp({ at: _, dice: __, ...input }: Record<string, unknown>): object {
  return input;
}
