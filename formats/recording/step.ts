// One step of a chart that is no running actor, but a snapshot between two steps, as the record of a device is: the lines
// that it makes. The chart is pure, so making the step once more to look at it changes nothing.
import { type AnyStateMachine, createActor } from 'xstate';
import type { Body, StateValue } from './format.ts';
import { Recorder, silent } from './recorder.ts';

/** `begin` says how it stood, and the rest what came of the event. `life` names the actor in the lines. */
export function stepBodies(
  chart: AnyStateMachine,
  before: { value: unknown; context: object },
  event: { type: string },
  life: string,
): Body[] {
  const bodies: Body[] = [];
  const recorder = new Recorder(silent);
  recorder.follow((_, body) => {
    if (body.kind !== 'actor') bodies.push('actor' in body ? { ...body, actor: life } : body);
  });
  const tap = recorder.chart('', chart);
  const actor = createActor(chart, { snapshot: before as never, inspect: (seen) => tap.inspect(seen) });
  tap.restored();
  actor.start();
  actor.send(event as never);
  actor.stop();
  return bodies.filter(({ kind }) => kind !== 'stop');
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
