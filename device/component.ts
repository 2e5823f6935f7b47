// Runs one chart: gives it its ports and its clock, stamps what reaches it, shows its state on the bus, and keeps its
// snapshot so that a component that dies goes on where it was.
import { createHash } from 'node:crypto';
import { type AnyStateMachine, createActor, fromPromise, type PromiseActorLogic } from 'xstate';
import type { Bus } from '../broker/bus.ts';
import type { Clock } from '../machines/clock.ts';
import type { Answer, Publications } from '../machines/port.ts';
import type { DeviceRecorder } from './recorder.ts';
import { reasonOf } from './refusal.ts';

type ActorsOf<Machine extends AnyStateMachine> = Required<
  NonNullable<Parameters<Machine['provide']>[0]['actors']>
>;

/** The ports of a chart as plain functions: its own input in, its own value out, a Refusal thrown. */
export type PortsOf<Machine extends AnyStateMachine> = {
  [Name in Exclude<keyof ActorsOf<Machine>, 'sleepUntil'>]: ActorsOf<Machine>[Name] extends PromiseActorLogic<
    Answer<infer Value>,
    infer Input
  >
    ? (input: Input, signal: AbortSignal) => Promise<Value> | Value
    : never;
};

/** What happened inside a component; the story, the inspector and recordings are made from these. */
export type ComponentEvent =
  | { kind: 'event'; component: string; at: number; event: { type: string }; state: unknown }
  | { kind: 'ignored'; component: string; at: number; event: { type: string }; state: unknown }
  | { kind: 'state'; component: string; at: number; state: unknown; context: object }
  | {
      kind: 'port';
      component: string;
      at: number;
      port: string;
      phase: 'begins' | 'ends' | 'fails';
      code?: string;
    }
  | { kind: 'failed'; component: string; at: number; text: string };

export interface ComponentOptions<Machine extends AnyStateMachine> {
  name: string;
  chart: Machine;
  ports: PortsOf<Machine>;
  input?: object;
  publications(snapshot: never): Publications;
  bus: Bus;
  clock: Clock;
  /** Where the snapshot is kept between two lives of this component in one boot. */
  snapshots?: { load(name: string): object | null; save(name: string, snapshot: object): void };
  /** Called for everything that happens, in order. */
  watch?(event: ComponentEvent): void;
  recorder?: DeviceRecorder | undefined;
}

export interface RunningComponent {
  readonly name: string;
  send(event: { type: string }): void;
  /** The chart's own value, as XState has it. */
  value(): unknown;
  context(): object;
  stop(): void;
}

/** Starts a chart, from its last snapshot where there is one that fits. */
export function startComponent<Machine extends AnyStateMachine>(
  options: ComponentOptions<Machine>,
): RunningComponent {
  const { name, clock, bus } = options;
  const watch = options.watch ?? (() => {});
  const stamp = () => ({ at: clock.now(), dice: clock.random() });

  const actors: Record<string, unknown> = {
    sleepUntil: fromPromise<Answer<null>, { at: number }>(async ({ input, signal }) => {
      await clock.sleepUntil(input.at, signal);
      return { value: null, ...stamp() };
    }),
  };
  for (const [port, perform] of Object.entries(options.ports) as [string, PortFunction][]) {
    actors[port] = fromPromise<Answer<unknown>, unknown>(async ({ input, signal }) => {
      watch({ kind: 'port', component: name, at: clock.now(), port, phase: 'begins' });
      try {
        const value = await perform(input, signal);
        watch({ kind: 'port', component: name, at: clock.now(), port, phase: 'ends' });
        return { value, ...stamp() };
      } catch (error) {
        const reason = reasonOf(error);
        watch({ kind: 'port', component: name, at: clock.now(), port, phase: 'fails', code: reason.code });
        throw { ...reason, ...stamp() };
      }
    });
  }

  const machine = options.chart.provide({
    actors,
    actions: {
      ignored: ({ event }: { event: { type: string } }) =>
        watch({ kind: 'ignored', component: name, at: clock.now(), event, state: actor.getSnapshot().value }),
    },
  } as never);

  const tap = options.recorder?.chart(name, options.chart);
  const create = (snapshot: object | null) => {
    const created = createActor(machine, {
      ...(snapshot ? { snapshot: snapshot as never } : {}),
      input: { ...options.input, ...stamp() } as never,
      ...(tap ? { inspect: tap.inspect } : {}),
    });
    if (snapshot) tap?.restored();
    return created;
  };
  const version = versionOf(options.chart);
  const kept = options.snapshots?.load(name) as Partial<Kept> | null | undefined;
  // A snapshot of another version of the chart may name a state or a port that is gone: start over, nothing but time is lost.
  const fits = kept?.chart === version && kept.snapshot;
  let actor = create(fits || null);
  if (actor.getSnapshot().status !== 'active') actor = create(null);

  const shown = new Map<string, string>();
  actor.subscribe({
    next(snapshot) {
      watch({
        kind: 'state',
        component: name,
        at: clock.now(),
        state: snapshot.value,
        context: snapshot.context,
      });
      for (const [type, body] of Object.entries(options.publications(snapshot as never))) {
        const text = JSON.stringify(body);
        if (shown.get(type) === text || (body === null && !shown.has(type))) continue;
        shown.set(type, text);
        bus.publish(`${name}/${type}`, body);
      }
      options.snapshots?.save(name, {
        chart: version,
        snapshot: actor.getPersistedSnapshot(),
      } satisfies Kept);
    },
    error(error) {
      const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      watch({ kind: 'failed', component: name, at: clock.now(), text });
    },
  });
  actor.start();
  return {
    name,
    send(event) {
      if (actor.getSnapshot().status !== 'active') return;
      watch({ kind: 'event', component: name, at: clock.now(), event, state: actor.getSnapshot().value });
      actor.send({ ...event, ...stamp() } as never);
    },
    value: () => actor.getSnapshot().value,
    context: () => actor.getSnapshot().context as object,
    stop() {
      actor.stop();
    },
  };
}

/** A snapshot as it is kept between two lives. */
interface Kept {
  /** Of the chart that it is a state of. */
  chart: string;
  snapshot: object;
}

const versions = new WeakMap<AnyStateMachine, string>();

function versionOf(chart: AnyStateMachine): string {
  const known =
    versions.get(chart) ?? createHash('sha256').update(JSON.stringify(chart.definition)).digest('hex');
  versions.set(chart, known);
  return known;
}

type PortFunction = (input: unknown, signal: AbortSignal) => unknown;
