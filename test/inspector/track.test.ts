import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ArrowKind, Arrows, arrowOf, lifelines } from '../../inspector/arrows.ts';
import { comparePairs } from '../../inspector/compare.ts';
import { Model, readTrack } from '../../inspector/model.ts';
import { shorten, stateText, visible } from '../../inspector/text.ts';
import type { Track } from '../../inspector/track.ts';
import { projectRoot } from '../kit/root.ts';

/** A recording that is kept, read in pieces as a browser has them. */
async function opened(name: string): Promise<Track> {
  const path = join(fileURLToPath(projectRoot), 'test/recordings', `${name}.jsonl.gz`);
  const text = gunzipSync(readFileSync(path)).toString('utf8');
  async function* pieces() {
    for (let at = 0; at < text.length; at += 65_536) yield text.slice(at, at + 65_536);
  }
  return readTrack({ name, size: text.length, pieces: pieces() });
}

const refused = await opened('s3-unknown-software');
const good = await opened('s1-onboarding');
const all = new Set<ArrowKind>(['mqtt', 'bus', 'event', 'port', 'tpm', 'mark']);

test('a recording has its refusals, evidence, charts and lanes', () => {
  const codes = refused.refusals.map((index) => refused.refusal(index)?.code);
  assert.ok(codes.includes('policy.software.unknown'));
  assert.ok(refused.evidence.length >= 2);
  assert.ok(refused.charts.size >= 9);
  assert.ok(refused.lanes.some(({ key, region }) => key === 'device-record' && region === 'integrity'));
  assert.equal(
    good.refusals.filter((index) => good.refusal(index)?.weight === 'refused'),
    [],
  );
});

test('the spans of a lane are its states, one after the other', () => {
  const lane = refused.lanes.find(({ region }) => region === 'integrity');
  const states = lane?.spans.map(({ state }) => state) ?? [];
  assert.equal(states.slice(0, 4), ['unattested', 'challenged', 'verifying', 'trusted']);
  assert.ok(states.includes('uud'));
  assert.ok(states.every((state, i) => state !== states[i - 1]));
});

test('places on the axis rise, and lead back to their lines', () => {
  for (let i = 1; i < refused.lines.length; i++) assert.ok(refused.place(i) > refused.place(i - 1));
  for (const i of [0, 7, 500, refused.lines.length - 1]) assert.is(refused.indexAt(refused.place(i)), i);
});

test('arrows lead from the task over the broker to EVC, and back', () => {
  const arrows = refused.lines.flatMap((line) => arrowOf(line, refused) ?? []);
  const quote = arrows.find(({ text }) => text === 'attest quote');
  assert.equal([quote?.from, quote?.via, quote?.to], ['attest-task', 'broker', 'EVC']);
  const answer = arrows.find(({ weight, kind }) => kind === 'mqtt' && weight === 'refused');
  assert.equal([answer?.from, answer?.to], ['EVC', 'attest-task']);
  const names = lifelines(refused, all);
  for (const { from, to } of arrows) assert.ok(names.includes(from) && names.includes(to), `${from} → ${to}`);
});

test('arrows are found by what they say, and for new lines alone', () => {
  const found = new Arrows(refused, all, new Set(), 'sendQuote');
  found.update();
  const count = found.rows.length;
  assert.ok(count > 0);
  found.update();
  assert.is(found.rows.length, count);
});

test('stepping comes to every step, and the refusal is one key away', () => {
  const model = new Model((work) => work());
  model.show(refused);
  model.seek(0);
  let steps = 0;
  while (model.step(1)) steps++;
  assert.is(steps, refused.steps.filter((index) => index > 0).length);
  model.seek(0);
  assert.ok(model.nextRefusal());
  assert.is(refused.refusal(model.at)?.code, 'policy.software.unknown');
  assert.ok(model.step(-1));
});

test('two recordings are the same up to where they are not', () => {
  assert.ok(comparePairs(refused, refused).every(({ same }) => same));
  const pairs = comparePairs(good, refused);
  const first = pairs.findIndex(({ same }) => !same);
  assert.ok(first > 0, 'they begin alike');
  const lefts = pairs.map(({ left }) => left).filter((index) => index >= 0);
  assert.equal(lefts, good.steps, 'no step is lost, and their order is kept');
});

test('text that hides or reorders is written out', () => {
  assert.is(visible('a\u202eb\u200b\u0007'), 'a\\u202eb\\u200b\\u0007');
  assert.is(visible('grün – 日本 🙂\n'), 'grün – 日本 🙂\n');
  assert.is(shorten('abcdef', 4), 'abc…');
  assert.is(stateText({ a: { b: 'c' }, d: 'e' }), 'a.b.c · d.e');
});

test.run();
