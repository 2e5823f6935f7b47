import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assign, setup } from 'xstate';
import { Bus, startBus } from '../../broker/bus.ts';
import {
  type ComponentEvent,
  type ComponentOptions,
  type RunningComponent,
  startComponent,
} from '../../device/component.ts';
import { Refusal } from '../../device/refusal.ts';
import { elapsed, failureOf, port, type Stamp, sleepUntil } from '../../machines/port.ts';
import { SimulatedClock } from '../kit/clock.ts';

interface Context {
  shown: string;
  error: string;
  at: number;
  waiting: { until: number } | null;
}

/** A chart of the kind that devices run, small enough to see all of it. */
const chart = setup({
  types: {
    context: {} as Context,
    events: {} as Stamp & ({ type: 'go'; what: string } | { type: 'wait'; ms: number } | { type: 'back' }),
    input: {} as Stamp,
  },
  actors: { work: port<string, { what: string }>('work'), sleepUntil },
  actions: { ignored: () => {} },
}).createMachine({
  id: 'test',
  context: ({ input }) => ({ shown: '', error: '', at: input.at, waiting: null }),
  initial: 'idle',
  on: { '*': { actions: 'ignored' } },
  states: {
    idle: {
      on: {
        go: { target: 'working', actions: assign(({ event }) => ({ shown: event.what })) },
        wait: {
          target: 'waiting',
          actions: assign(({ event }) => ({ waiting: { until: event.at + event.ms } })),
        },
      },
    },
    working: {
      invoke: {
        src: 'work',
        input: ({ context }) => ({ what: context.shown }),
        onDone: {
          target: 'idle',
          actions: assign(({ event }) => ({ shown: event.output.value, at: event.output.at })),
        },
        onError: { target: 'failed', actions: assign(({ event }) => ({ error: failureOf(event).code })) },
      },
    },
    waiting: { invoke: elapsed({ target: 'idle' }) },
    failed: { on: { back: 'idle' } },
  },
});

interface Bench {
  bus: Bus;
  clock: SimulatedClock;
  events: ComponentEvent[];
  start(more?: Partial<ComponentOptions<typeof chart>>): RunningComponent;
  until(condition: () => boolean): Promise<void>;
}

async function withBench(work: (bench: Bench) => Promise<void>): Promise<void> {
  const server = await startBus();
  const bus = await Bus.open(server.connect);
  const clock = new SimulatedClock();
  const events: ComponentEvent[] = [];
  const started: RunningComponent[] = [];
  const wakers = new Set<() => void>();
  const wake = () => {
    for (const waker of wakers) waker();
  };
  // After the listeners of the test, whenever those came.
  bus.listen(() => queueMicrotask(wake));
  try {
    await work({
      bus,
      clock,
      events,
      start(more = {}) {
        const component = startComponent({
          name: 'test',
          chart,
          bus,
          clock,
          ports: { work: ({ what }) => what.toUpperCase() },
          publications: ({ context }: { context: Context }) => ({
            Shown: context.shown ? { shown: context.shown } : null,
          }),
          watch(event) {
            events.push(event);
            wake();
          },
          ...more,
        } as ComponentOptions<typeof chart>);
        started.push(component);
        return component;
      },
      until: (condition) =>
        new Promise((resolve) => {
          const look = () => {
            if (!condition()) return;
            wakers.delete(look);
            resolve();
          };
          wakers.add(look);
          look();
        }),
    });
  } finally {
    for (const component of started) component.stop();
    await bus.close();
    await server.close();
  }
}

const go = (what: string) => ({ type: 'go', what });

test('an event runs a port, and all of it is told in order', () =>
  withBench(async ({ start, events, until, clock }) => {
    const component = start();
    component.send(go('a'));
    await until(() => component.value() === 'idle' && (component.context() as Context).shown === 'A');
    const told = events.map((event) =>
      event.kind === 'port'
        ? `${event.port} ${event.phase}`
        : event.kind === 'state'
          ? String(event.state)
          : event.kind,
    );
    assert.equal(told, ['idle', 'event', 'work begins', 'working', 'work ends', 'idle']);
    assert.is((component.context() as Context).at, clock.now());
  }));

test('whatever a port throws becomes a reason of the chart', () =>
  withBench(async ({ start, events, until }) => {
    const thrown: [unknown, string][] = [
      [new Refusal('vault.locked', 'locked'), 'vault.locked'],
      [Object.assign(new Error('x'), { code: 'ENOSPC' }), 'disk.full'],
      [new TypeError('password=hunter2'), 'internal.error'],
      ['text', 'internal.error'],
    ];
    for (const [error, code] of thrown) {
      const component = start({
        ports: {
          work: () => {
            throw error;
          },
        },
      });
      component.send(go('a'));
      await until(() => component.value() === 'failed');
      assert.is((component.context() as Context).error, code);
      const failed = events.findLast((event) => event.kind === 'port');
      assert.equal(failed?.kind === 'port' && [failed.phase, failed.code], ['fails', code]);
      component.stop();
    }
    assert.not(JSON.stringify(events).includes('hunter2'));
  }));

test('a state is published when it changes, and taken back', () =>
  withBench(async ({ bus, start, until }) => {
    const heard: unknown[] = [];
    bus.listen((topic, body) => heard.push([topic, body]));
    const component = start();
    component.send(go('a'));
    await until(() => (component.context() as Context).shown === 'A');
    // The same again: nothing to say.
    component.send({ type: 'unknown' });
    component.send(go('A'));
    await until(() => component.value() === 'idle');
    component.send(go('b'));
    await until(() => heard.length === 4);
    const shown = (text: string) => ['test/Shown', { shown: text }];
    assert.equal(heard, [shown('a'), shown('A'), shown('b'), shown('B')]);
    component.send(go(''));
    await until(() => heard.length === 5);
    assert.equal(heard.at(-1), ['test/Shown', null]);
  }));

test('an event that the chart does not know in its state is told as ignored', () =>
  withBench(async ({ start, events }) => {
    const component = start();
    component.send({ type: 'back' });
    component.send({ type: 'nonsense' });
    const ignored = events.flatMap((event) =>
      event.kind === 'ignored' ? [[event.event.type, event.state]] : [],
    );
    assert.equal(ignored, [
      ['back', 'idle'],
      ['nonsense', 'idle'],
    ]);
  }));

test('a wait ends by the clock that the component was given', () =>
  withBench(async ({ start, clock, until }) => {
    const component = start();
    component.send({ type: 'wait', ms: 5000 } as { type: string });
    assert.is(component.value(), 'waiting');
    while (clock.next() === null) await new Promise((resolve) => setImmediate(resolve));
    assert.is(clock.next(), clock.now() + 5000);
    clock.advanceTo(clock.now() + 5000);
    await until(() => component.value() === 'idle');
  }));

test('a component that is stopped does nothing more', () =>
  withBench(async ({ start, events }) => {
    const component = start();
    component.stop();
    const before = events.length;
    component.send(go('a'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.is(events.filter(({ kind }) => kind === 'event').length, 0);
    assert.ok(events.length >= before);
  }));

function memory(first: object | null = null) {
  let kept: object | null = first;
  return {
    load: () => kept,
    save: (_: string, snapshot: object) => {
      kept = JSON.parse(JSON.stringify(snapshot));
    },
  };
}

test('in its second life it goes on where it was, and runs its port again', () =>
  withBench(async ({ start, until }) => {
    const snapshots = memory();
    const first = start({ snapshots, ports: { work: () => new Promise(() => undefined) } });
    first.send(go('a'));
    assert.is(first.value(), 'working');
    first.stop();
    const second = start({ snapshots });
    await until(() => second.value() === 'idle');
    assert.is((second.context() as Context).shown, 'A');
  }));

test('a snapshot that fits no chart of today starts over', () =>
  withBench(async ({ start, until }) => {
    const snapshots = memory();
    const first = start({ snapshots });
    first.send(go('a'));
    await until(() => first.value() === 'idle' && (first.context() as Context).shown === 'A');
    first.stop();
    const kept = snapshots.load() as { chart: string; snapshot: object };
    const whole = { ...kept.snapshot };
    for (const odd of [
      { ...kept, chart: 'of before' },
      { ...kept, snapshot: { ...whole, value: 'a-state-of-before' } },
      { ...kept, snapshot: { ...whole, value: { idle: 'deeper' } } },
      { ...kept, snapshot: { ...whole, status: 'done' } },
      { ...kept, snapshot: { ...whole, status: 'error', error: { message: 'x' } } },
      { ...kept, snapshot: { ...whole, status: 'stopped' } },
      { ...kept, snapshot: {} },
      { ...kept, snapshot: { value: null } },
      { chart: kept.chart },
      whole,
      {},
    ]) {
      const component = start({ snapshots: memory(odd) });
      assert.equal(
        [component.value(), (component.context() as Context).shown],
        ['idle', ''],
        JSON.stringify(odd).slice(0, 100),
      );
      component.send(go('b'));
      await until(() => (component.context() as Context).shown === 'B');
      component.stop();
    }
  }));

test.run();
