// Which transitions of a chart were taken, and which were not.
import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition, InspectionEvent } from 'xstate';
import { withPorts } from './chart.ts';

export class Coverage {
  readonly #keys = new Map<AnyTransitionDefinition, string>();
  readonly #taken = new Set<string>();

  /** `machine`: what runs, where that is not the chart with its ports. */
  constructor(chart: AnyStateMachine, machine: AnyStateMachine = withPorts(chart)) {
    for (const node of nodesOf(machine.root)) {
      for (const transition of transitionsOf(node)) this.#keys.set(transition.definition, transition.name);
    }
  }

  /** As inspector of an actor. */
  inspect = (event: InspectionEvent): void => {
    if (event.type === '@xstate.microstep') for (const taken of event._transitions) this.take(taken);
  };

  take(transition: AnyTransitionDefinition): void {
    const key = this.#keys.get(transition);
    if (key !== undefined) this.#taken.add(key);
  }

  get total(): number {
    return new Set(this.#keys.values()).size;
  }

  get taken(): number {
    return this.#taken.size;
  }

  get missing(): string[] {
    return [...new Set(this.#keys.values())].filter((name) => !this.#taken.has(name));
  }
}

/** A state and all below it. */
export function nodesOf(node: AnyStateNode): AnyStateNode[] {
  return [node, ...Object.values(node.states as Record<string, AnyStateNode>).flatMap(nodesOf)];
}

/** The transitions of one state, named `state: event → target`, with their place among those of the same event. */
export function transitionsOf(node: AnyStateNode): { name: string; definition: AnyTransitionDefinition }[] {
  const all = [...node.transitions.values(), node.always ?? []];
  return all.flatMap((group) =>
    group.map((definition: AnyTransitionDefinition, place: number) => {
      const target = definition.target?.map(({ id }) => id).join(', ') ?? 'itself';
      const order = group.length > 1 ? ` [${place}]` : '';
      return { name: `${node.id}: ${definition.eventType || 'always'}${order} → ${target}`, definition };
    }),
  );
}
