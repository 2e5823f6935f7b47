// One step of a chart that is no running actor, but a snapshot between two steps, as the record of a device is: what it leads to,
// what it asks for, and the lines that it makes in a recording.
import { type AnyActorScope, type AnyMachineSnapshot, type AnyStateMachine, createActor } from 'xstate';
import type { Body, StateValue } from './format.ts';
import { snapshotBody, takenOf } from './recorder.ts';

export interface Taken<Snapshot> {
  after: Snapshot;
  /** What it asked for, in order. */
  actions: readonly { type: string; params?: unknown }[];
  /** Its lines; `life` names the actor in them. */
  bodies(life: string): Body[];
}

type Happening = { transitions: readonly object[] } | { action: { type: string; params?: unknown } };

/**
 * As `transition` of XState does it, which tells the actions and not the transitions: those are seen by an inspector alone.
 * The chart has to be one that starts no other actors.
 */
export function takeStep<Snapshot extends AnyMachineSnapshot>(
  chart: AnyStateMachine,
  before: Snapshot,
  event: { type: string },
): Taken<Snapshot> {
  const happenings: Happening[] = [];
  const self = actorOf(chart);
  const nothing = () => {};
  const scope = {
    self,
    id: '',
    sessionId: '',
    defer: nothing,
    logger: nothing,
    emit: nothing,
    stopChild: nothing,
    system: {
      _sendInspectionEvent(seen: { type: string; _transitions?: readonly object[] }) {
        if (seen.type === '@xstate.microstep') happenings.push({ transitions: seen._transitions ?? [] });
      },
    },
    actionExecutor({ type, params }: { type: string; params?: unknown }) {
      happenings.push({ action: { type, params } });
    },
  };
  const after = chart.transition(before, event, scope as unknown as AnyActorScope) as Snapshot;
  return {
    after,
    actions: happenings.flatMap((one) => ('action' in one ? [one.action] : [])),
    bodies: (life) => [
      { kind: 'event', actor: life, event } as Body,
      ...happenings.flatMap((one): Body[] => {
        if ('transitions' in one)
          return [{ kind: 'microstep', actor: life, transitions: one.transitions.map(takenOf) }];
        const { type, params } = one.action;
        return /^xstate\./.test(type) ? [] : [{ kind: 'action', actor: life, action: type, params } as Body];
      }),
      snapshotBody(life, before.context, after as never),
    ],
  };
}

/** Never started: charts name themselves by it. */
const actors = new WeakMap<AnyStateMachine, object>();

function actorOf(chart: AnyStateMachine): object {
  const actor = actors.get(chart) ?? createActor(chart);
  actors.set(chart, actor);
  return actor;
}

/** How a chart stands, for the beginning of a recording or after a gap in one. */
export function standing(
  chart: AnyStateMachine,
  hash: string,
  { value, context }: { value: unknown; context: object },
  life: string,
): Body {
  return {
    kind: 'actor',
    actor: life,
    chart: chart.id,
    hash,
    restored: true,
    value: value as StateValue,
    context: context as Record<string, unknown>,
  };
}
