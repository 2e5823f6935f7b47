// A chart as it is drawn, out of its definition (one that stands in a recording will do): boxes in boxes, and between them
// transitions, those that differ in nothing but their event together.

/** What is read of a definition; all else in it is left alone. */
export interface Definition {
  id: string;
  key: string;
  type: string;
  description?: string;
  order: number;
  initial?: { target?: readonly string[] } | null;
  states: Record<string, Definition>;
  transitions: readonly TransitionDefinition[];
  entry: readonly Named[];
  exit: readonly Named[];
  invoke: readonly { id: string; src: unknown }[];
}

type Named = string | { type?: string; params?: unknown };

interface TransitionDefinition {
  eventType: string;
  target?: readonly string[];
  guard?: Named;
  actions?: readonly Named[];
  reenter?: boolean;
}

export interface State {
  id: string;
  name: string;
  kind: 'atomic' | 'compound' | 'parallel' | 'final' | 'history';
  /** One of several that are active together. */
  region: boolean;
  description: string;
  parent: string | null;
  children: State[];
  /** Id of the state that it begins in; null where it has none. */
  initial: string | null;
  /** What it does by itself: `[entry /, awaitQuote]`, `[asks, sendQuote]`. */
  lines: [word: string, text: string][];
}

export interface Transition {
  /** Unique in the chart. */
  id: string;
  from: string;
  /** null where it goes nowhere. */
  to: string | null;
  /** As in recordings: `quote.made`, `xstate.done.actor.sendQuote`; empty for one without an event. */
  events: string[];
  guard: string;
  actions: string[];
  /** Leaves its state even where it comes back to it. */
  reenter: boolean;
}

export interface Chart {
  root: State;
  /** Every state by its id. */
  states: ReadonlyMap<string, State>;
  transitions: Transition[];
}

const kinds: ReadonlySet<string> = new Set(['atomic', 'compound', 'parallel', 'final', 'history']);

/** @param definition of `definitionOf`, or as it stands in a recording */
export function chartOf(definition: object): Chart {
  const plain = JSON.parse(JSON.stringify(definition)) as Definition;
  const states = new Map<string, State>();
  const transitions: Transition[] = [];
  const walk = (node: Definition, parent: State | null): State => {
    const [initial] = node.initial?.target ?? [];
    const state: State = {
      id: node.id,
      name: node.key === '(machine)' ? node.id : node.key,
      kind: (kinds.has(node.type) ? node.type : 'atomic') as State['kind'],
      region: parent?.kind === 'parallel',
      description: node.description ?? '',
      parent: parent?.id ?? null,
      children: [],
      initial: node.type === 'compound' && initial !== undefined ? idOf(initial) : null,
      lines: [
        ...own(node.entry).map((name): [string, string] => ['entry /', name]),
        ...own(node.exit).map((name): [string, string] => ['exit /', name]),
        ...node.invoke.map(({ id, src }): [string, string] => ['asks', typeof src === 'string' ? src : id]),
      ],
    };
    states.set(state.id, state);
    transitions.push(...mergedTransitions(node));
    const inner = Object.values(node.states).sort((a, b) => a.order - b.order);
    state.children = inner.map((child) => walk(child, state));
    return state;
  };
  const root = walk(plain, null);
  return { root, states, transitions };
}

/** Transitions of one state that differ in nothing but their event become one. */
function mergedTransitions(node: Definition): Transition[] {
  const merged = new Map<string, Transition>();
  for (const { eventType, target = [], guard, actions = [], reenter = false } of node.transitions) {
    for (const to of target.length > 0 ? target.map(idOf) : [null]) {
      const named = own(actions);
      const guardName = guard === undefined ? '' : guardOf(guard);
      // Without an event the order of its guards matters, so each stays on its own.
      const key = JSON.stringify([to, guardName, named, reenter, eventType === '' ? merged.size : '']);
      const known = merged.get(key);
      if (known) {
        known.events.push(eventType);
        continue;
      }
      const id = `${node.id}:${merged.size}`;
      merged.set(key, {
        id,
        from: node.id,
        to,
        events: [eventType],
        guard: guardName,
        actions: named,
        reenter: reenter || to === node.id,
      });
    }
  }
  return [...merged.values()];
}

/** Events as a person says them: the end of a wait, the answer or the failure of a port. */
export function eventText(events: readonly string[]): string {
  const words = events.map((event) => {
    if (event === '') return 'always';
    const [, end, id] = /^xstate\.(done|error)\.actor\.(.+)$/.exec(event) ?? [];
    if (id === 'wait') return 'elapsed';
    if (end === 'done') return 'done';
    if (end === 'error') return 'fails';
    return event;
  });
  return [...new Set(words)].join(', ');
}

/** Ids of the states that are active, for a value of the chart as XState has it. */
export function activeIds(chart: Chart, value: unknown): string[] {
  const ids: string[] = [];
  const walk = (state: State, inner: unknown) => {
    ids.push(state.id);
    for (const child of state.children) {
      if (typeof inner === 'string') {
        if (child.name === inner) walk(child, undefined);
      } else if (typeof inner === 'object' && inner !== null && Object.hasOwn(inner, child.name))
        walk(child, (inner as Record<string, unknown>)[child.name]);
    }
  };
  walk(chart.root, value);
  return ids;
}

/** The transition that a recording says was taken; null where the chart has none such. */
export function takenIn(
  chart: Chart,
  taken: { from: string; event: string; to: readonly string[]; actions: readonly string[] },
): Transition | null {
  const [to = null] = taken.to;
  const fits = chart.transitions.filter(
    (one) => one.from === taken.from && one.to === to && one.events.includes(taken.event),
  );
  const same = fits.find(({ actions }) => actions.join() === taken.actions.join());
  return same ?? fits[0] ?? null;
}

/** Names of actions that a chart gives itself; those of XState’s own making are not drawn. */
function own(actions: readonly Named[]): string[] {
  return actions.map(nameOf).filter((name) => !/^xstate\./.test(name));
}

function nameOf(named: Named): string {
  return typeof named === 'string' ? named : (named.type ?? '');
}

/** A guard with the words that it is asked with: `timerIs nonce`. */
function guardOf(guard: Named): string {
  const params = typeof guard === 'string' ? undefined : guard.params;
  const words = typeof params === 'object' && params !== null ? Object.values(params).flat() : [];
  return [nameOf(guard), ...words.filter((word) => typeof word === 'string')].join(' ');
}

function idOf(target: string): string {
  return target.startsWith('#') ? target.slice(1) : target;
}
