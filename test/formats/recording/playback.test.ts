import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { differences, same } from '../../../formats/recording/diff.ts';
import type { Line } from '../../../formats/recording/format.ts';
import { after, nextStep, Playback, type Stand } from '../../../formats/recording/playback.ts';
import { readRecording } from '../../../formats/recording/read.ts';
import { lampRecording, runLamp } from '../../kit/recording.ts';

const { lines } = readRecording(lampRecording());

/** The slow way: through every line. */
function walked(all: readonly Line[], index: number): Stand {
  return all.slice(0, index + 1).reduce<Stand>((stand, line, i) => after(stand, line, i), new Map());
}

test('at any line it stands as if one had gone there step by step, in whatever order one asks', () => {
  const run = runLamp();
  for (let i = 0; i < 700; i++) run.send({ type: i % 7 === 0 ? 'press' : 'off', pin: `${i}` });
  const many = readRecording(run.lines.join('\n')).lines;
  assert.ok(many.length > 2500);
  const playback = new Playback(many);
  let seed = 7;
  for (let i = 0; i < 60; i++) {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    const index = (seed % (many.length + 20)) - 10;
    assert.equal(playback.at(index), walked(many, index), `line ${index}`);
  }
});

test('a chart stands with its whole context, since the step that brought it there', () => {
  const index = lines.findIndex((line) => line.kind === 'event' && line.event.type === 'off');
  const standing = new Playback(lines).at(index).get('lamp');
  assert.equal([standing?.value, standing?.status, standing?.stale], ['on', 'active', false]);
  assert.equal(standing?.context, { count: 1, pin: 'withheld:4', last: { at: 5 } });
  assert.is(lines[standing?.line ?? -1]?.kind, 'snapshot');
});

test('it stops with its chart, and what was dropped makes it stale', () => {
  const playback = new Playback(lines);
  assert.is(playback.at(lines.length).get('lamp')?.status, 'stopped');
  const gap: Line = { n: 99, at: 1, mono: 1, component: 'recorder', kind: 'dropped', lines: 3, why: '' };
  assert.is(new Playback([...lines, gap]).at(lines.length).get('lamp')?.stale, true);
});

test('steps are found in both directions', () => {
  const there = [];
  for (let i = nextStep(lines, -1); i >= 0; i = nextStep(lines, i)) there.push(i);
  const back = [];
  for (let i = nextStep(lines, lines.length, -1); i >= 0; i = nextStep(lines, i, -1)) back.push(i);
  assert.is(there.length, 8);
  assert.equal(back.reverse(), there);
});

test('differences have paths; what is absent is undefined, and undefined is absent', () => {
  assert.equal(differences({ a: 1, b: [1, { c: 2 }] }, { a: 1, b: [1, { c: 3 }, 4], d: null }), [
    { path: 'b[1].c', before: 2, after: 3 },
    { path: 'b[2]', before: undefined, after: 4 },
    { path: 'd', before: undefined, after: null },
  ]);
  assert.is(same({ a: undefined, b: 1 }, { b: 1 }), true);
  assert.is(same({ a: null }, {}), false);
  assert.is(same([], {}), false);
  assert.equal(differences(1, 1), []);
  assert.equal(differences({ a: {} }, { a: [] }), [{ path: 'a', before: {}, after: [] }]);
});

test('names of JavaScript are names like any other', () => {
  const hostile = JSON.parse('{"__proto__":{"x":1},"constructor":2}');
  assert.equal(
    differences(hostile, {}).map(({ path }) => path),
    ['__proto__', 'constructor'],
  );
  assert.is(same(hostile, {}), false);
  assert.is(same({}, hostile), false);
});

test.run();
