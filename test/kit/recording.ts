// A small chart, and recordings of it: as the recorder makes them, and as somebody spoils them.
import { createHash } from 'node:crypto';
import { type AnyStateMachine, assign, createActor, setup } from 'xstate';
import { Recorder, type Sink } from '../../formats/recording/recorder.ts';
import type { Charts } from '../../formats/recording/replay.ts';
import { port, type Stamp } from '../../machines/port.ts';

export interface LampContext {
  count: number;
  pin: string | null;
  last: { at: number; why?: string } | null;
}

type LampEvent = Stamp & ({ type: 'press'; pin: string } | { type: 'off' } | { type: 'break' });

/** @param change makes the chart of another day */
export function lamp(change: { limit?: number; onPress?: 'on' | 'warm'; port?: string } = {}) {
  const { limit = 2, onPress = 'warm', port: name = 'heat' } = change;
  return setup({
    types: { context: {} as LampContext, events: {} as LampEvent, input: {} as Stamp },
    actors: { heat: port<{ pin: string }, { pin: string }>('heat'), cool: port<{ pin: string }>('cool') },
    guards: { worn: ({ context }) => context.count >= limit },
    actions: {
      ignored: () => {},
      click: (_, _params: { loud: boolean }) => {},
      count: assign(({ context, event }) => ({
        count: context.count + 1,
        pin: event.type === 'press' ? event.pin : context.pin,
        last: { at: event.at },
      })),
    },
  }).createMachine({
    id: 'lamp',
    description: 'A lamp.',
    meta: { secret: ['pin'] },
    context: { count: 0, pin: null, last: null },
    initial: 'off',
    on: { '*': { actions: 'ignored' } },
    states: {
      off: {
        on: {
          press: [
            { guard: 'worn', target: 'broken' },
            { target: onPress, actions: ['count', { type: 'click', params: { loud: true } }] },
          ],
        },
      },
      warm: {
        invoke: {
          id: 'heat',
          src: name as 'heat',
          input: ({ context }) => ({ pin: context.pin ?? '' }),
          onDone: 'on',
          onError: 'off',
        },
      },
      on: { on: { off: 'off' } },
      broken: {},
    },
  });
}

export const chartsOf = (...charts: AnyStateMachine[]): Charts =>
  new Map(charts.map((chart) => [chart.id, chart]));

/** Fake time: a millisecond a line. */
export function testRecorder(device = 'd'.repeat(64)): Recorder {
  let time = 1000;
  return new Recorder({
    by: 'test 1',
    device,
    now: () => time,
    mono: () => time++,
    hash: (text) => createHash('sha256').update(text).digest('hex'),
    label: (secret) => `withheld:${secret.length}`,
  });
}

export interface LampRun {
  recorder: Recorder;
  /** What a sink was given. */
  lines: string[];
  press(pin?: string): void;
  send(event: { type: string } & Record<string, unknown>): void;
  stop(): void;
}

/** A lamp that runs and is recorded. */
export function runLamp(
  options: { recorder?: Recorder; chart?: AnyStateMachine; sink?: Partial<Sink>; attach?: boolean } = {},
): LampRun {
  const { recorder = testRecorder(), chart = lamp(), sink = {}, attach = true } = options;
  const lines: string[] = [];
  const idle = {
    getInitialSnapshot: () => ({ status: 'active', output: undefined, error: undefined }),
    transition: (snapshot: unknown) => snapshot,
    getPersistedSnapshot: (snapshot: unknown) => snapshot,
  };
  if (attach) recorder.attach({ line: (text) => void lines.push(text), ...sink });
  const tap = recorder.chart('lamp', chart);
  const actor = createActor(chart.provide({ actors: { heat: idle, cool: idle } } as never), {
    input: { at: 1, dice: 0 } as never,
    inspect: (event) => tap.inspect(event),
  });
  actor.start();
  const send = (event: object) => actor.send({ at: 5, dice: 0, ...event } as never);
  return {
    recorder,
    lines,
    send,
    press(pin = '1234') {
      send({ type: 'press', pin });
      send({ type: 'xstate.done.actor.heat', output: { at: 6, dice: 0, value: { pin } } });
      send({ type: 'off' });
    },
    stop: () => void actor.stop(),
  };
}

/** A whole recording of three presses, the last of which breaks the lamp. */
export function lampRecording(chart: AnyStateMachine = lamp()): string {
  const run = runLamp({ chart });
  run.press('1234');
  run.press('99');
  run.send({ type: 'press', pin: '7' });
  run.stop();
  return `${run.lines.join('\n')}\n`;
}
