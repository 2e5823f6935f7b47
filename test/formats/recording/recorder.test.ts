import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRecording } from '../../../formats/recording/read.ts';
import { replay } from '../../../formats/recording/replay.ts';
import { chartsOf, lamp, lampRecording, runLamp, testRecorder } from '../../kit/recording.ts';

const parsed = (lines: readonly string[]) => lines.map((line) => JSON.parse(line) as Record<string, unknown>);

test('a step is an event, what came of it, and where the chart stands', () => {
  const run = runLamp();
  run.send({ type: 'press', pin: '1234' });
  const [header, chart, actor, ...step] = parsed(run.lines);
  assert.is(header?.recording, 'eve-attest recording');
  assert.is(header?.version, 1);
  assert.equal([chart?.kind, chart?.chart], ['chart', 'lamp']);
  assert.equal(actor?.context, { count: 0, pin: null, last: null });
  assert.equal(actor?.input, { at: 1, dice: 0 });
  assert.equal(
    step.map(({ kind }) => kind),
    ['event', 'action', 'microstep', 'invoke', 'snapshot'],
  );
  assert.equal(step[2]?.transitions, [
    { from: 'lamp.off', event: 'press', to: ['lamp.warm'], actions: ['count', 'click'] },
  ]);
  assert.equal([step[1]?.action, step[1]?.params], ['click', { loud: true }]);
  assert.equal([step[3]?.id, step[3]?.port], ['heat', 'heat']);
  assert.equal(step[4]?.context, { count: 1, pin: 'withheld:4', last: { at: 5 } });
});

test('only what changed of the context is written', () => {
  const run = runLamp();
  run.press();
  const snapshots = parsed(run.lines).filter(({ kind }) => kind === 'snapshot');
  assert.equal(
    snapshots.map(({ context }) => Object.keys(context as object)),
    [['count', 'pin', 'last'], [], []],
  );
});

test('secret fields are labels everywhere, however deep, and the rest is not touched', () => {
  const run = runLamp();
  run.send({ type: 'other', deep: [{ pin: { a: ['open sesame', 12, true, null] } }], pins: '1234' });
  const [event] = parsed(run.lines).filter(({ kind }) => kind === 'event');
  assert.equal(event?.event, {
    at: 5,
    dice: 0,
    type: 'other',
    deep: [{ pin: { a: ['withheld:11', 'withheld:2', true, null] } }],
    pins: '1234',
  });
});

test('a secret is found under its name however it is written, and not in a text that looks like one', () => {
  const run = runLamp();
  run.send({ type: 'other', text: 'the "pin":"1234" is said here', toJSON: undefined });
  run.send({ type: 'other', inner: { toJSON: () => ({ pin: 'hidden' }) } });
  const events = parsed(run.lines).filter(({ kind }) => kind === 'event');
  assert.match(JSON.stringify(events[0]), 'is said here');
  assert.match(JSON.stringify(events[1]), '"inner":{"pin":"withheld:6"}');
});

test('a field that has nothing in it hides no other', () => {
  const run = runLamp();
  const empty = [{ pin: '' }, { pin: {} }, { pin: [] }, { pin: null }];
  run.send({ type: 'other', empty });
  run.send({ type: 'other', empty, full: [{ pin: 0 }, { pin: false }, { pin: ' ' }, { pin: { '': 'x' } }] });
  const events = parsed(run.lines).flatMap((line) => (line.kind === 'event' ? [line.event] : []));
  assert.equal((events[0] as { empty?: object }).empty, empty);
  assert.equal((events[1] as { full?: object }).full, [
    { pin: 'withheld:1' },
    { pin: false },
    { pin: 'withheld:1' },
    { pin: { '': 'withheld:1' } },
  ]);
});

test('nothing is made of what nobody listens to', () => {
  let asked = 0;
  const counting = {
    toJSON: () => {
      asked++;
      return 'x';
    },
  };
  const run = runLamp({ attach: false });
  run.send({ type: 'press', pin: counting });
  assert.is(asked, 0);
  assert.is(run.recorder.on, false);
});

test('who listens late is told how everything stands, and it replays from there', () => {
  const run = runLamp({ attach: false });
  run.press();
  const late: string[] = [];
  const leave = run.recorder.attach({ line: (text) => void late.push(text) });
  run.send({ type: 'press', pin: '9' });
  leave();
  run.send({ type: 'off' });
  const { lines } = readRecording(late.join('\n'));
  const [, actor] = lines;
  assert.is(actor?.kind === 'actor' && actor.restored, true);
  assert.is(lines.filter(({ kind }) => kind === 'event').length, 1);
  const { divergence, steps } = replay(lines, { charts: chartsOf(lamp()) });
  assert.is(divergence, null);
  assert.is(steps, 2);
});

test('a slow reader misses lines, is told how many, and goes on where the charts stand', () => {
  let room = true;
  const run = runLamp({ sink: { room: () => room } });
  run.send({ type: 'press', pin: '1' });
  const before = run.lines.length;
  room = false;
  run.send({ type: 'xstate.done.actor.heat', output: { at: 6, dice: 0, value: {} } });
  assert.is(run.lines.length, before, 'nothing is kept for it');
  room = true;
  run.send({ type: 'off' });
  const { lines } = readRecording(run.lines.join('\n'));
  const dropped = lines.find((line) => line.kind === 'dropped');
  assert.is(dropped?.kind === 'dropped' && dropped.lines, 3);
  const result = replay(lines, { charts: chartsOf(lamp()) });
  assert.is(result.divergence, null);
  assert.is(result.steps, 4, 'beginning, press, how it stands, off');
});

test('a gap that ends in the middle of a step lasts to the end of it', () => {
  let count = 0;
  const run = runLamp({ sink: { room: () => ++count !== 5 } });
  run.press();
  run.press();
  const { lines } = readRecording(run.lines.join('\n'));
  assert.ok(lines.some(({ kind }) => kind === 'dropped'));
  assert.is(replay(lines, { charts: chartsOf(lamp()) }).divergence, null);
});

test('a line that is longer than a reader takes is left out, and that is said', () => {
  const run = runLamp();
  run.send({ type: 'other', text: 'x'.repeat(3 * 1024 * 1024) });
  run.press();
  const { lines } = readRecording(run.lines.join('\n'));
  const [dropped] = lines.filter((line) => line.kind === 'dropped');
  assert.match(dropped?.kind === 'dropped' ? dropped.why : '', /^a line of 3145\d+ characters$/);
});

test('a device that is known later is named in a line, and the reader fills it in', () => {
  const recorder = testRecorder('');
  const run = runLamp({ recorder });
  recorder.identify('');
  recorder.identify('ab');
  recorder.identify('ab');
  const { header, lines } = readRecording(run.lines.join('\n'));
  assert.is(header.device, 'ab');
  assert.is(lines.filter(({ kind }) => kind === 'device').length, 1);
});

test('a recording replays', () => {
  const { lines } = readRecording(lampRecording());
  assert.equal(replay(lines, { charts: chartsOf(lamp()) }), {
    steps: 8,
    divergence: null,
    changed: [],
    unknown: [],
    unchecked: 0,
  });
});

test.run();
