// Explores a chart: from every state that is reached, every event, every answer and failure of a port in flight, and the
// end of every wait. Each step starts from a snapshot that went through JSON, as after a power cut.
import type { AnyStateMachine } from 'xstate';
import { ChartRun, type EventOf, type PortName, type ValueOf } from './chart.ts';
import { SimulatedClock } from './clock.ts';
import type { Coverage } from './coverage.ts';

export interface Stimuli<Machine extends AnyStateMachine> {
  events: EventOf<Machine>[];
  answers: { [Name in PortName<Machine>]: ValueOf<Machine, Name>[] };
  /** Codes that the chart tells apart; every port fails with another one as well. */
  failures?: { [Name in PortName<Machine>]?: string[] };
  input?: object;
}

export interface Exploration {
  /** State values that were reached. */
  states: Set<string>;
  steps: number;
  /** What broke a rule of the charts, with the steps that lead to it. */
  problems: string[];
}

export interface Exceptions {
  /** States that wait for an event alone, and may; each with the reason. */
  resting: Record<string, string>;
  /** States that do something else while a pause runs; each with the reason. */
  pausing?: Record<string, string>;
}

interface Node {
  snapshot: object;
  at: number;
  path: string[];
}

/** Numbers that only count or tell the time do not make another state. */
const counters = new Set([
  'attempt',
  'refusals',
  'quotes',
  'restarts',
  'count',
  'full',
  'waiting',
  'error',
  'at',
  'why',
]);
const mostNodes = 20_000;

export async function explore<Machine extends AnyStateMachine>(
  chart: Machine,
  stimuli: Stimuli<Machine>,
  coverage: Coverage,
  exceptions: Exceptions,
): Promise<Exploration> {
  const problems: string[] = [];
  const seen = new Set<string>();
  const states = new Set<string>();
  const queue: Node[] = [];
  let steps = 0;

  const visit = (run: ChartRun<Machine>, path: string[]) => {
    const key = keyOf(run);
    if (seen.has(key)) return;
    seen.add(key);
    states.add(run.state);
    if (!run.done) queue.push({ snapshot: run.persisted(), at: run.clock.now(), path });
  };
  const say = (path: string[], problem: string) => {
    if (problems.length < 20) problems.push(`${problem} (after ${path.join(', ') || 'the start'})`);
  };

  const options = { coverage, ...(stimuli.input ? { input: stimuli.input } : {}) };
  const first = await ChartRun.start(chart, options);
  visit(first, []);
  first.stop();

  for (let node = queue.shift(); node; node = queue.shift()) {
    if (seen.size > mostNodes)
      throw new Error(`more than ${mostNodes} states of ${chart.id}: use fewer stimuli`);
    const restore = (at = node.at) =>
      ChartRun.start(chart, { ...options, clock: new SimulatedClock(at), snapshot: node.snapshot });
    const still = await restore();
    for (const problem of faultsOf(still, node, exceptions)) say(node.path, problem);
    const wait = still.clock.next();
    const { ports } = still;
    still.stop();

    for (const { name, act, event } of stepsFrom(stimuli, ports, wait)) {
      const run = await restore();
      const before = run.state;
      steps++;
      await act(run);
      const path = [...node.path, name];
      if (run.error !== null) say(path, `${before} breaks: ${String(run.error)}`);
      else if (event && run.taken === 0) say(path, `${before} drops ${name} and does not say so`);
      else visit(run, path);
      run.stop();
    }
  }
  return { states, steps, problems };
}

interface Step<Machine extends AnyStateMachine> {
  name: string;
  event: boolean;
  act(run: ChartRun<Machine>): Promise<void>;
}

function stepsFrom<Machine extends AnyStateMachine>(
  { events, answers, failures }: Stimuli<Machine>,
  ports: string[],
  wait: number | null,
): Step<Machine>[] {
  const foreign = { type: 'weather.changed' } as unknown as EventOf<Machine>;
  return [
    ...[...events, foreign].map((event) => ({
      name: (event as unknown as { type: string }).type,
      event: true,
      act: (run: ChartRun<Machine>) => run.send(event),
    })),
    ...(ports as PortName<Machine>[]).flatMap((port) => [
      ...answers[port].map((value) => ({
        name: `${port} answers`,
        event: false,
        act: (run: ChartRun<Machine>) => run.answer(port, value),
      })),
      ...['internal.error', ...(failures?.[port] ?? [])].map((code) => ({
        name: `${port} fails with ${code}`,
        event: false,
        act: (run: ChartRun<Machine>) => run.fail(port, code, { details: { pcrs: [4] } }),
      })),
    ]),
    ...(wait === null
      ? []
      : [
          { name: 'the wait ends', event: false, act: (run: ChartRun<Machine>) => run.elapse() },
          { name: 'the clock fails', event: false, act: (run: ChartRun<Machine>) => run.failClock() },
        ]),
  ];
}

/** What a restored chart must be: the same, with its ports asked again and its wait ending when it would have. */
function faultsOf<Machine extends AnyStateMachine>(
  run: ChartRun<Machine>,
  node: Node,
  { resting, pausing = {} }: Exceptions,
): string[] {
  const faults: string[] = [];
  const { state, ports } = run;
  const context = run.context as { waiting: { for: string; since: number; until: number } | null };
  const sleeping = run.clock.next();
  const stored = node.snapshot as {
    context: object;
    children: Record<string, { src: string; snapshot: { input?: unknown } }>;
  };
  if (JSON.stringify(run.context) !== JSON.stringify(stored.context))
    faults.push(`${state} is not the same after a restart`);
  const invoked = Object.values(stored.children).filter(({ src }) => src !== 'sleepUntil');
  const inputs = ports.map((port) => run.inputOf(port as PortName<Machine>));
  if (JSON.stringify(invoked.map(({ src }) => src)) !== JSON.stringify(ports))
    faults.push(`${state} loses a port in a restart`);
  if (JSON.stringify(invoked.map(({ snapshot }) => snapshot.input)) !== JSON.stringify(inputs)) {
    faults.push(`${state} asks a port for something else after a restart`);
  }
  const ends = ports.length > 0 || sleeping !== null || run.done || state in resting;
  if (!ends) faults.push(`${state} waits without an end`);
  const waits = Object.values(stored.children).some(({ src }) => src === 'sleepUntil');
  if (waits && !context.waiting) faults.push(`${state} waits and does not say for what`);
  if (!waits && context.waiting && !(state in pausing))
    faults.push(`${state} says that it waits for ${context.waiting.for}, and does not`);
  if (context.waiting && !(Number.isFinite(context.waiting.until) && context.waiting.for !== '')) {
    faults.push(`${state} does not say until when it waits`);
  }
  if (waits && sleeping !== null && sleeping !== context.waiting?.until) {
    faults.push(`${state} wakes at another time than it says`);
  }
  return faults;
}

function keyOf<Machine extends AnyStateMachine>(run: ChartRun<Machine>): string {
  return JSON.stringify([run.state, run.context], (name, value: unknown) => {
    if (counters.has(name)) return undefined;
    return typeof value === 'number' ? Math.sign(value) : value;
  });
}
