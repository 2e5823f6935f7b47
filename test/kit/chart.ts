// Runs one chart with ports that the test answers: nothing happens by itself, and time is simulated.
import { setImmediate } from 'node:timers/promises';
import {
  type Actor,
  type AnyStateMachine,
  type ContextFrom,
  createActor,
  type EventFromLogic,
  fromPromise,
  type InspectionEvent,
  type SnapshotFrom,
} from 'xstate';
import type { PortsOf } from '../../device/component.ts';
import type { Failure, Stamp } from '../../machines/port.ts';
import { SimulatedClock } from './clock.ts';
import type { Coverage } from './coverage.ts';

/** An event as a test writes it: the run stamps it. */
export type Unstamped<Event> = Event extends Stamp ? Omit<Event, keyof Stamp> : never;
export type EventOf<Machine extends AnyStateMachine> = Unstamped<EventFromLogic<Machine>>;
export type PortName<Machine extends AnyStateMachine> = keyof PortsOf<Machine> & string;
export type ValueOf<
  Machine extends AnyStateMachine,
  Name extends keyof PortsOf<Machine>,
> = PortsOf<Machine>[Name] extends (...input: never[]) => infer Value ? Awaited<Value> : never;

export interface RunOptions {
  clock?: SimulatedClock;
  /** Of every stamp, unless the test changes it. */
  dice?: number;
  input?: object;
  /** As JSON would bring it back. */
  snapshot?: object;
  coverage?: Coverage;
}

interface Call {
  port: string;
  input: unknown;
  resolve(value: unknown): void;
  reject(reason: unknown): void;
}

/** Ports do not know whose they are; the actor system that invoked them does. */
const runs = new WeakMap<object, ChartRun<AnyStateMachine>>();
const provided = new WeakMap<AnyStateMachine, AnyStateMachine>();

/** The chart with ports that reach the run of the actor that invoked them. The same for every run of a chart. */
export function withPorts<Machine extends AnyStateMachine>(chart: Machine): Machine {
  const known = provided.get(chart);
  if (known) return known as Machine;
  const actors: Record<string, unknown> = {};
  for (const name of Object.keys(chart.implementations.actors)) {
    actors[name] = fromPromise(({ input, signal, system }) => runOf(system).begin(name, input, signal));
  }
  const actions = {
    ignored: ({ event, system }: { event: { type: string }; system: object }) =>
      runOf(system).ignored.push(event.type),
  };
  const machine = chart.provide({ actors, actions } as never);
  provided.set(chart, machine);
  return machine as Machine;
}

function runOf(system: object): ChartRun<AnyStateMachine> {
  const run = runs.get(system);
  if (!run) throw new TypeError('this chart was not started by a run');
  return run;
}

export class ChartRun<Machine extends AnyStateMachine> {
  readonly chart: Machine;
  readonly clock: SimulatedClock;
  dice: number;
  /** Types of events that the chart recorded as ignored. */
  readonly ignored: string[] = [];
  /** Transitions with an effect that the last stimulus led to, initial ones aside. */
  taken = 0;
  error: unknown = null;
  readonly #actor: Actor<AnyStateMachine>;
  readonly #options: RunOptions;
  readonly #calls: Call[] = [];
  #breakClock: ((reason: unknown) => void) | null = null;

  private constructor(chart: Machine, options: RunOptions) {
    this.chart = chart;
    this.clock = options.clock ?? new SimulatedClock();
    this.dice = options.dice ?? 0.5;
    this.#options = options;
    this.#actor = createActor(withPorts(chart) as AnyStateMachine, {
      input: { ...options.input, ...this.stamp() },
      ...(options.snapshot ? { snapshot: options.snapshot as never } : {}),
      inspect: (event) => this.#inspect(event),
    });
    runs.set(this.#actor.system, this as unknown as ChartRun<AnyStateMachine>);
    this.#actor.subscribe({
      error: (error) => {
        this.error = error;
      },
    });
  }

  static async start<Machine extends AnyStateMachine>(
    chart: Machine,
    options: RunOptions = {},
  ): Promise<ChartRun<Machine>> {
    const run = new ChartRun(chart, options);
    run.#actor.start();
    await settled();
    return run;
  }

  get snapshot(): SnapshotFrom<Machine> {
    return this.#actor.getSnapshot() as SnapshotFrom<Machine>;
  }

  get context(): ContextFrom<Machine> {
    return this.#actor.getSnapshot().context;
  }

  /** The state in one string: `attestWait.sending`; parallel regions by commas. */
  get state(): string {
    return stateText(this.#actor.getSnapshot().value);
  }

  get done(): boolean {
    return this.#actor.getSnapshot().status === 'done';
  }

  /** Ports in flight, in the order in which they were invoked; waits aside. */
  get ports(): string[] {
    return this.#calls.map(({ port }) => port);
  }

  stamp(): Stamp {
    return { at: this.clock.now(), dice: this.dice };
  }

  /** What a port in flight was asked. */
  inputOf(port: PortName<Machine>): unknown {
    return this.#call(port).input;
  }

  async send(event: EventOf<Machine>): Promise<void> {
    this.taken = 0;
    this.#actor.send({ ...event, ...this.stamp() } as never);
    await settled();
  }

  async answer<Name extends PortName<Machine>>(port: Name, value: ValueOf<Machine, Name>): Promise<void> {
    this.taken = 0;
    this.#end(port).resolve({ value, ...this.stamp() });
    await settled();
  }

  async fail(
    port: PortName<Machine>,
    code: string,
    more: Partial<Pick<Failure, 'text' | 'retryAfter' | 'details'>> = {},
  ): Promise<void> {
    this.taken = 0;
    this.#end(port).reject({ code, text: `${port} fails`, ...more, ...this.stamp() });
    await settled();
  }

  /** Moves to the time at which the wait ends. */
  async elapse(): Promise<void> {
    const at = this.clock.next();
    if (at === null) throw new TypeError(`nothing is waited for in ${this.state}`);
    this.taken = 0;
    this.clock.advanceTo(at);
    await settled();
  }

  /** The clock fails while it is waited for. */
  async failClock(): Promise<void> {
    if (!this.#breakClock) throw new TypeError(`nothing is waited for in ${this.state}`);
    this.taken = 0;
    this.#breakClock(new Error('the clock is broken'));
    await settled();
  }

  /** What a store would keep of the chart at this moment. */
  persisted(): object {
    return JSON.parse(JSON.stringify(this.#actor.getPersistedSnapshot()));
  }

  /** The power goes, and comes back `ms` later. */
  async restart(ms = 0): Promise<ChartRun<Machine>> {
    const snapshot = this.persisted();
    this.stop();
    await settled();
    this.clock.advanceTo(this.clock.now() + ms);
    return ChartRun.start(this.chart, { ...this.#options, clock: this.clock, dice: this.dice, snapshot });
  }

  stop(): void {
    this.#actor.stop();
  }

  /** For the ports: not for tests. */
  begin(port: string, input: unknown, signal: AbortSignal): Promise<unknown> {
    if (port === 'sleepUntil') {
      const { at } = input as { at: number };
      const broken = new Promise<never>((_, reject) => {
        this.#breakClock = reject;
      });
      return Promise.race([this.clock.sleepUntil(at, signal), broken]).then(() => ({
        value: null,
        ...this.stamp(),
      }));
    }
    return new Promise((resolve, reject) => {
      const call: Call = { port, input, resolve, reject };
      this.#calls.push(call);
      signal.addEventListener('abort', () => {
        const index = this.#calls.indexOf(call);
        if (index >= 0) this.#calls.splice(index, 1);
      });
    });
  }

  #call(port: string): Call {
    const call = this.#calls.find((candidate) => candidate.port === port);
    if (!call)
      throw new TypeError(
        `${port} is not in flight in ${this.state}, only ${this.ports.join(', ') || 'nothing'}`,
      );
    return call;
  }

  #end(port: string): Call {
    const call = this.#call(port);
    this.#calls.splice(this.#calls.indexOf(call), 1);
    return call;
  }

  #inspect(event: InspectionEvent): void {
    if (event.type !== '@xstate.microstep' || event.actorRef !== this.#actor) return;
    for (const transition of event._transitions) {
      if (transition.actions.length > 0 || transition.target !== undefined) this.taken++;
      this.#options.coverage?.take(transition);
    }
  }
}

/** Everything that promises still had to do is done: no real time passes for it. */
export async function settled(): Promise<void> {
  await setImmediate();
}

export function stateText(value: unknown): string {
  if (typeof value === 'string') return value;
  return Object.entries(value as object)
    .map(([name, inner]) => `${name}.${stateText(inner)}`)
    .join(',');
}
