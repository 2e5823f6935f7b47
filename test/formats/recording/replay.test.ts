import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LineOf } from '../../../formats/recording/format.ts';
import { readRecording } from '../../../formats/recording/read.ts';
import { type Divergence, replay } from '../../../formats/recording/replay.ts';
import { chartsOf, lamp, lampRecording } from '../../kit/recording.ts';

const { lines } = readRecording(lampRecording());

/** The first divergence from the lamp as it was recorded; there must be one. */
function divergenceOf(change: Parameters<typeof lamp>[0]): Divergence {
  const { divergence, changed } = replay(lines, { charts: chartsOf(lamp(change)) });
  assert.ok(divergence, 'there is one');
  assert.equal(changed.length === 1, divergence.chartChanged);
  return divergence;
}

test('a chart that goes elsewhere: the state, the event, where it went and where it should have gone', () => {
  const { chart, component, state, event, differs, expected, got, chartChanged } = divergenceOf({
    onPress: 'on',
  });
  assert.equal([chart, component, state, event.type], ['lamp', 'lamp', 'off', 'press']);
  assert.equal([differs, expected, got, chartChanged], ['state', 'warm', 'on', true]);
});

test('a guard that decides otherwise shows where it decides, and what is remembered then', () => {
  const { n, state, differs, expected, got, chartChanged, context } = divergenceOf({ limit: 1 });
  const second = lines.filter((line) => line.kind === 'event' && line.event.type === 'press')[1];
  assert.is(n, second?.n, 'the second press');
  assert.equal([state, differs, expected, got], ['off', 'state', 'warm', 'broken']);
  assert.is(chartChanged, false, 'the definition says nothing of what a guard does');
  assert.equal(
    context.map(({ path, before, after }) => [path, before, after]),
    [
      ['count', 2, 1],
      ['pin', 'withheld:2', 'withheld:4'],
    ],
  );
});

test('another port is asked: the state is the same, and the effect is not', () => {
  const { differs, expected, got } = divergenceOf({ port: 'cool' });
  assert.is(differs, 'effects');
  const port = (effects: unknown) => (effects as { port?: string }[]).find(({ port }) => port)?.port;
  assert.equal([port(expected), port(got)], ['heat', 'cool']);
});

/** The recording with one line changed. */
function spoiled<K extends LineOf<never>['kind']>(
  _: K,
  change: (line: never) => void,
  which: (line: never) => boolean,
) {
  const copy = structuredClone(lines);
  const line = copy.find((candidate) => which(candidate as never));
  assert.ok(line);
  change(line as never);
  return replay(copy, { charts: chartsOf(lamp()) }).divergence;
}

test('a context that was recorded otherwise is found, with its path', () => {
  const divergence = spoiled(
    'snapshot' as never,
    (line: LineOf<'snapshot'>) => {
      line.context = { ...line.context, last: { at: 77 } };
    },
    (line: LineOf<'snapshot'>) => line.kind === 'snapshot',
  );
  assert.is(divergence?.differs, 'context');
  assert.equal(divergence?.context, [{ path: 'last.at', before: 77, after: 5 }]);
});

test('a step whose event is missing is not compared, and counted', () => {
  const event = lines.findIndex((line) => line.kind === 'event' && line.event.type === 'off');
  const result = replay(
    lines.filter((_, i) => i !== event),
    { charts: chartsOf(lamp()) },
  );
  assert.is(result.unchecked, 1);
});

test('a chart that is gone is named', () => {
  assert.equal(replay(lines, { charts: new Map() }), {
    steps: 0,
    divergence: null,
    changed: [],
    unknown: ['lamp'],
    unchecked: 7,
  });
});

test('a chart that throws is a divergence, and no end of the program', () => {
  const chart = lamp().provide({
    guards: {
      worn: () => {
        throw new Error('worn out');
      },
    },
  });
  const { divergence } = replay(lines, { charts: chartsOf(chart) });
  assert.is(divergence?.differs, 'error');
  assert.match(String(divergence?.got), /worn out/);
});

test('each step is told as it came out, and who has seen enough ends it', () => {
  const seen: string[] = [];
  const { steps } = replay(lines, {
    charts: chartsOf(lamp()),
    onStep: ({ event, before, after }) => {
      seen.push(`${event.type}: ${before} → ${after}`);
      return seen.length === 3;
    },
  });
  assert.is(steps, 3);
  assert.equal(seen, ['xstate.init: null → off', 'press: off → warm', 'xstate.done.actor.heat: warm → on']);
});

test('with another event in its place, a chart goes on from there and is not compared any more', () => {
  const after: unknown[] = [];
  const { divergence } = replay(lines, {
    charts: chartsOf(lamp()),
    replace: ({ event }) =>
      event.type === 'xstate.done.actor.heat'
        ? { type: 'xstate.error.actor.heat', error: { code: 'x', at: 1, dice: 0 } }
        : null,
    onStep: (step) => void after.push(step.after),
  });
  assert.is(divergence, null);
  assert.equal(after, ['off', 'warm', 'off', 'off', 'warm', 'off', 'off', 'broken']);
});

test.run();
