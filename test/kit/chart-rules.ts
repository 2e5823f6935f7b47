// The rules that hold for every chart (machines/README.md), as tests.

import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AnyStateMachine, AnyStateNode } from 'xstate';
import { Coverage, nodesOf } from './coverage.ts';
import { type Exceptions, type Exploration, explore, type Stimuli } from './explore.ts';

export interface ChartRules<Machine extends AnyStateMachine> extends Exceptions {
  stimuli: Stimuli<Machine>;
  /** Transitions that the tests before took. */
  coverage: Coverage;
}

/** Adds the tests to a suite, after its own ones: the last prints how much of the chart was taken. */
export function testRules<Machine extends AnyStateMachine>(
  test: Test,
  chart: Machine,
  { stimuli, coverage, ...exceptions }: ChartRules<Machine>,
): void {
  const explored = new Coverage(chart);
  let exploration: Exploration;

  test('rules: everything is named and described', () => {
    assert.equal(namelessOf(chart), []);
  });

  test('rules: no effect, guard or action is declared and not used', () => {
    assert.equal(unusedOf(chart), []);
  });

  test('rules: no event breaks it or goes unnoticed, no wait is without an end, a restart loses nothing', async () => {
    exploration = await explore(chart, stimuli, explored, exceptions);
    assert.equal(exploration.problems, []);
  });

  test('rules: every state is reached, and every exception is needed', () => {
    const atoms = nodesOf(chart.root).filter(({ type }) => type === 'atomic' || type === 'final');
    const lasting = atoms.filter((node) => !passesOn(node)).map(({ path }) => path.join('.'));
    assert.equal(
      lasting.filter((state) => !exploration.states.has(state)),
      [],
    );
    assert.equal(
      Object.keys(exceptions.resting).filter((state) => !lasting.includes(state)),
      [],
    );
  });

  test('rules: every transition is taken', () => {
    const own = `${coverage.taken} of ${coverage.total}`;
    console.log(
      `FIGURES: ${chart.id}: its tests take ${own} transitions, ${exploration.steps} steps of the exploration ${explored.taken}`,
    );
    for (const name of coverage.missing) console.log(`  by the exploration alone: ${name}`);
    assert.equal(explored.missing, []);
  });
}

/** A state that is left in the same step in which it is entered. */
function passesOn(node: AnyStateNode): boolean {
  return (node.always ?? []).some(({ guard }) => guard === undefined);
}

interface Named {
  states?: Record<string, Named>;
  description?: unknown;
  invoke?: unknown;
  on?: Record<string, unknown>;
  always?: unknown;
  entry?: unknown;
  exit?: unknown;
}

interface Invoke {
  id?: unknown;
  src?: unknown;
  onDone?: unknown;
  onError?: unknown;
}

interface Reference {
  kind: 'actor' | 'action' | 'guard';
  where: string;
  name: unknown;
}

function many(value: unknown): unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

/** Every mention of an effect, an action or a guard in a definition. */
function referencesOf(node: Named, where: string): Reference[] {
  const name = (value: unknown) =>
    typeof value === 'object' && value !== null ? (value as { type?: unknown }).type : value;
  const transitions = (value: unknown): Reference[] =>
    many(value)
      .filter((transition) => typeof transition === 'object')
      .flatMap((transition) => {
        const { guard, actions } = transition as { guard?: unknown; actions?: unknown };
        return [
          ...many(guard).map((value) => ({ kind: 'guard' as const, where, name: name(value) })),
          ...many(actions).map((value) => ({ kind: 'action' as const, where, name: name(value) })),
        ];
      });
  return [
    ...many(node.entry)
      .concat(many(node.exit))
      .map((value) => ({ kind: 'action' as const, where, name: name(value) })),
    ...transitions(node.always),
    ...Object.values(node.on ?? {}).flatMap(transitions),
    ...(many(node.invoke) as Invoke[]).flatMap(({ src, onDone, onError }) => [
      { kind: 'actor' as const, where, name: src },
      ...transitions(onDone),
      ...transitions(onError),
    ]),
    ...Object.entries(node.states ?? {}).flatMap(([key, child]) => referencesOf(child, `${where}.${key}`)),
  ];
}

/** States without a description, effects without an id, and what has no name. */
export function namelessOf(chart: AnyStateMachine): string[] {
  const states = (node: Named, where: string): string[] => [
    ...(typeof node.description === 'string' && node.description !== ''
      ? []
      : [`${where} has no description`]),
    ...(many(node.invoke) as Invoke[]).flatMap(({ id, onDone, onError }) => [
      ...(typeof id === 'string' ? [] : [`${where} invokes without an id`]),
      ...(onDone && onError ? [] : [`${where} does not say how it goes on from what it invokes`]),
    ]),
    ...Object.entries(node.states ?? {}).flatMap(([key, child]) => states(child, `${where}.${key}`)),
  ];
  const nameless = referencesOf(chart.config as Named, chart.id).filter(
    ({ name }) => typeof name !== 'string',
  );
  return [
    ...states(chart.config as Named, chart.id),
    ...nameless.map(({ kind, where }) => `${where} has a nameless ${kind}`),
  ];
}

/** What a chart declares and never mentions. */
export function unusedOf(chart: AnyStateMachine): string[] {
  const used = referencesOf(chart.config as Named, chart.id);
  const { actors, actions, guards } = chart.implementations;
  const check = (kind: Reference['kind'], names: string[]) => {
    const mentioned = new Set(used.filter((reference) => reference.kind === kind).map(({ name }) => name));
    return names.filter((name) => !mentioned.has(name)).map((name) => `${kind} ${name}`);
  };
  return [
    ...check('actor', Object.keys(actors)),
    ...check('action', Object.keys(actions)),
    ...check('guard', Object.keys(guards)),
  ];
}
