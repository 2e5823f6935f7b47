// The messages of Stately's inspector (@statelyai/inspect 0.7), in and out: what an actor is, what it was sent, how it
// stands. They say less than a recording (no transitions, no actions) and are made a moment late, so they are for
// looking on, and never for a replay.
import { createMachine } from 'xstate';
import { definitionOf } from './definition.ts';
import type { Body, Line, StateValue } from './format.ts';

type Loose = Record<string, unknown>;

export interface StatelyMessage {
  type: '@xstate.actor' | '@xstate.event' | '@xstate.snapshot';
  sessionId: string;
  rootId: string;
  /** ms since the epoch. */
  createdAt: string;
  id: string | null;
  _version: string;
  [field: string]: unknown;
}

const version = '0.7.2';
/** Actors that one client may show. */
const mostActors = 500;
const longestName = 200;

/** Makes messages of the lines of a recording. */
export class StatelyWriter {
  readonly #definitions = new Map<string, string>();
  readonly #sessions = new Map<string, { value: StateValue; context: Loose }>();

  /** None for a line that the protocol has no word for. */
  write(line: Line): StatelyMessage[] {
    if (line.kind === 'chart') {
      this.#definitions.set(line.hash, JSON.stringify(configOf(line.definition)));
      return [];
    }
    if (line.kind === 'actor') {
      const { actor, component, hash, value, context } = line;
      this.#sessions.set(actor, { value, context });
      const definition = this.#definitions.get(hash);
      const snapshot = snapshotOf('active', value, context);
      const fields = { name: component, parentId: undefined, definition, snapshot };
      return [message('@xstate.actor', actor, line.at, fields)];
    }
    if (line.kind === 'event')
      return [message('@xstate.event', line.actor, line.at, { event: line.event, sourceId: undefined })];
    if (line.kind === 'snapshot') {
      const context = { ...this.#sessions.get(line.actor)?.context, ...line.context };
      for (const name of line.removed ?? []) delete context[name];
      this.#sessions.set(line.actor, { value: line.value, context });
      const snapshot = snapshotOf(line.status, line.value, context);
      return [message('@xstate.snapshot', line.actor, line.at, { event: { type: '' }, snapshot })];
    }
    if (line.kind === 'stop') {
      const { value = '', context = {} } = this.#sessions.get(line.actor) ?? {};
      this.#sessions.delete(line.actor);
      return [
        message('@xstate.snapshot', line.actor, line.at, {
          event: { type: 'xstate.stop' },
          snapshot: snapshotOf('stopped', value, context),
        }),
      ];
    }
    return [];
  }
}

function snapshotOf(status: string, value: StateValue, context: Loose): object {
  return { status, value, context, children: {}, historyValue: {}, tags: [] };
}

function message(type: StatelyMessage['type'], session: string, at: number, fields: Loose): StatelyMessage {
  return {
    ...fields,
    type,
    sessionId: session,
    rootId: session,
    id: null,
    createdAt: String(at),
    _version: version,
  };
}

/** Makes lines of messages that a client sends. Whoever sends them is not believed: what does not fit gives nothing. */
export class StatelyReader {
  readonly #now: () => number;
  readonly #prefix: string;
  readonly #actors = new Map<string, { component: string; context: Loose; known: boolean }>();
  #n = 1;

  /** @param prefix tells the actors of one client from those of another */
  constructor(prefix: string, now: () => number) {
    this.#prefix = prefix;
    this.#now = now;
  }

  read(given: unknown): Line[] {
    const { type, sessionId } = loose(given);
    if (typeof sessionId !== 'string' || sessionId === '') return [];
    const actor = `${this.#prefix}${sessionId.slice(0, longestName)}`;
    if (type === '@xstate.actor') return this.#actor(actor, loose(given));
    if (type === '@xstate.event') return this.#event(actor, loose(given));
    if (type === '@xstate.snapshot') return this.#snapshot(actor, loose(given));
    return [];
  }

  /** The client is gone, and its charts with it. */
  end(): Line[] {
    const charts = [...this.#actors].filter(([, { known }]) => known);
    this.#actors.clear();
    return charts.map(([actor, { component }]) => this.#line(component, { kind: 'stop', actor }));
  }

  #actor(actor: string, given: Loose): Line[] {
    if (this.#actors.size >= mostActors) return [];
    const name = typeof given.name === 'string' && given.name !== '' ? given.name : actor;
    const component = this.#free(`${this.#prefix}${name.slice(0, longestName)}`);
    const definition = chartOf(given.definition);
    // An actor without states, such as a promise, has no chart to draw.
    const { value, context, status } = standOf(given.snapshot);
    this.#actors.set(actor, { component, context, known: definition !== null });
    if (!definition) return [];
    const hash = `stately:${actor}`;
    const chart = typeof loose(definition).id === 'string' ? String(loose(definition).id) : name;
    const lines = [
      this.#line(component, { kind: 'chart', chart, hash, definition }),
      this.#line(component, { kind: 'actor', actor, chart, hash, restored: false, value, context }),
    ];
    return status === 'stopped' ? [...lines, this.#line(component, { kind: 'stop', actor })] : lines;
  }

  #event(actor: string, { event }: Loose): Line[] {
    const known = this.#actors.get(actor);
    const { type } = loose(event);
    if (!known?.known || typeof type !== 'string') return [];
    return [this.#line(known.component, { kind: 'event', actor, event: { ...loose(event), type } })];
  }

  #snapshot(actor: string, { snapshot }: Loose): Line[] {
    const known = this.#actors.get(actor);
    if (!known?.known) return [];
    const { value, context, status } = standOf(snapshot);
    if (status === 'stopped') return [this.#line(known.component, { kind: 'stop', actor })];
    const removed = Object.keys(known.context).filter((name) => !Object.hasOwn(context, name));
    known.context = context;
    return [this.#line(known.component, { kind: 'snapshot', actor, status, value, context, removed })];
  }

  #free(name: string): string {
    const taken = new Set([...this.#actors.values()].map(({ component }) => component));
    for (let i = 1; ; i++) {
      const one = i === 1 ? name : `${name} ${i}`;
      if (!taken.has(one)) return one;
    }
  }

  #line(component: string, body: Body): Line {
    const at = this.#now();
    return { n: this.#n++, at, mono: at, component, ...body } as Line;
  }
}

function standOf(snapshot: unknown): { value: StateValue; context: Loose; status: string } {
  const { value, context, status } = loose(snapshot);
  return {
    value: plainValue(value, 0),
    context: loose(context),
    status: typeof status === 'string' ? status : 'active',
  };
}

function plainValue(value: unknown, depth: number): StateValue {
  if (typeof value === 'string') return value;
  if (depth > 30) return '';
  return Object.fromEntries(
    Object.entries(loose(value)).map(([name, inner]) => [name, plainValue(inner, depth + 1)]),
  );
}

/** What a client calls a definition is the configuration that its chart was made of. null for what is no chart. */
function chartOf(given: unknown): object | null {
  if (typeof given !== 'string') return null;
  try {
    const config: unknown = JSON.parse(given);
    return 'states' in loose(config) ? definitionOf(createMachine(config as never)) : null;
  } catch {
    return null;
  }
}

/** The configuration of a chart out of its definition, as those who make a machine of it expect it. */
function configOf(definition: object): object {
  const { id, type, description, initial, states, transitions, entry, exit, invoke } = definition as Loose;
  const inner = Object.entries(loose(states)) as [string, Loose][];
  const [first] = (loose(initial).target ?? []) as string[];
  const begins = inner.find(([, child]) => `#${child.id}` === first)?.[0];
  const on: Record<string, object[]> = {};
  const always: object[] = [];
  for (const { eventType, target, guard, actions, reenter } of (transitions ?? []) as Loose[]) {
    const transition = { target, guard, actions, reenter };
    if (eventType === '') always.push(transition);
    else if (typeof eventType === 'string') {
      on[eventType] ??= [];
      on[eventType].push(transition);
    }
  }
  const parallel = type === 'parallel' || type === 'final' || type === 'history' ? { type } : {};
  return {
    id,
    ...parallel,
    description,
    ...(begins === undefined ? {} : { initial: begins }),
    ...(inner.length === 0
      ? {}
      : { states: Object.fromEntries(inner.map(([key, child]) => [key, configOf(child)])) }),
    on,
    ...(always.length === 0 ? {} : { always }),
    entry,
    exit,
    invoke: ((invoke ?? []) as Loose[]).map(({ id: actor, src }) => ({ id: actor, src })),
  };
}

function loose(value: unknown): Loose {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Loose) : {};
}
