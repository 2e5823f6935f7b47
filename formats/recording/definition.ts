// The definition of a chart, whole: XState's own leaves out the transitions without an event.
import type { AnyStateMachine, AnyStateNode } from 'xstate';

type Plain = { transitions: object[]; states: Record<string, Plain> };

const known = new WeakMap<AnyStateMachine, object>();

/** As `chart.definition` in JSON, with its eventless transitions among `transitions`, their `eventType` empty. */
export function definitionOf(chart: AnyStateMachine): object {
  const made = known.get(chart) ?? completed(chart.root, plain(chart.definition) as Plain);
  known.set(chart, made);
  return made;
}

const texts = new WeakMap<AnyStateMachine, string>();

/** Its JSON, made once: of all charts together it is most of a short recording. */
export function definitionJson(chart: AnyStateMachine): string {
  const made = texts.get(chart) ?? JSON.stringify(definitionOf(chart));
  texts.set(chart, made);
  return made;
}

function completed(node: AnyStateNode, definition: Plain): Plain {
  definition.transitions.push(...(plain(node.always ?? []) as object[]));
  for (const [name, inner] of Object.entries(definition.states))
    completed(node.states[name] as AnyStateNode, inner);
  return definition;
}

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
