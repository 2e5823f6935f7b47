import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { same } from '../../../formats/recording/diff.ts';
import { limits, RecordingError } from '../../../formats/recording/format.ts';
import { RecordingReader, readRecording } from '../../../formats/recording/read.ts';
import { besideCharts, replay } from '../../../formats/recording/replay.ts';
import { chartsOf, lamp, lampRecording } from '../../kit/recording.ts';

const whole = lampRecording();
const [header = '', ...rest] = whole.split('\n');

/** The code and the text with which a recording is refused. */
/** @param size characters of each piece that is read */
function refusal(text: string, size = text.length + 1): [code: string, line: number, text: string] {
  try {
    const reader = new RecordingReader();
    for (let i = 0; i < text.length; i += size) reader.push(text.slice(i, i + size));
    reader.end();
  } catch (error) {
    if (error instanceof RecordingError) return [error.code, error.line, error.message];
    throw error;
  }
  throw new Error('it was read');
}

test('pieces of any size give the same lines', () => {
  const at = (size: number) => {
    const reader = new RecordingReader();
    const lines = [];
    for (let i = 0; i < whole.length; i += size) lines.push(...reader.push(whole.slice(i, i + size)));
    return [...lines, ...reader.end().lines];
  };
  const { lines } = readRecording(whole);
  for (const size of [1, 7, 4096]) assert.equal(at(size), lines);
});

test('kinds that nobody needs are passed over unread, and the rest replays as before', () => {
  const message = '{"n":900,"at":1,"mono":1,"component":"bus","kind":"message","anything":1}';
  const reader = new RecordingReader(undefined, besideCharts);
  const lines = reader.push(`${whole}${message}\n`);
  assert.equal(lines, readRecording(whole).lines);
  assert.equal(refusal(`${whole}${message}\n`)[0], 'malformed');
});

test('a last line that is cut off is left out, and that is said', () => {
  const { lines, notes } = readRecording(whole.slice(0, -30));
  assert.is(lines.length, readRecording(whole).lines.length - 1);
  assert.equal(notes, [`line ${rest.length} is cut off; everything before it is here`]);
});

test('cut off anywhere, it reads and replays as far as it goes', () => {
  for (let end = header.length + 1; end < whole.length; end += 101) {
    const { lines } = readRecording(whole.slice(0, end));
    assert.is(replay(lines, { charts: chartsOf(lamp()) }).divergence, null);
  }
});

test('a last line without its end, and empty lines, are fine', () => {
  assert.is(readRecording(whole.trimEnd()).notes.length, 0);
  assert.is(
    readRecording(whole.replaceAll('\n', '\n\r\n\n')).lines.length,
    readRecording(whole).lines.length,
  );
});

const spoiled: [what: string, text: string, expected: [code: string, line: number, text: RegExp]][] = [
  ['nothing', '', ['none', 0, /empty/]],
  ['a log', 'hello\nworld\n', ['none', 1, /does not say that it is one/]],
  ['other JSON', '{"a":1}\n', ['none', 1, /does not say that it is one/]],
  ['an array', '[1]\n', ['none', 1, /does not say that it is one/]],
  ['a header that is cut off', header.slice(0, 40), ['none', 1, /does not say that it is one/]],
  [
    'a version that is no number',
    header.replace('"version":1', '"version":"1"'),
    ['none', 1, /no recording/],
  ],
  ['version 0', header.replace('"version":1', '"version":0'), ['none', 1, /no recording/]],
  [
    'a newer version',
    header.replace('"version":1', '"version":7'),
    [
      'newer',
      1,
      /^this recording is of version 7, and this program reads versions up to 1; use a newer one$/,
    ],
  ],
  [
    'a header without a device',
    `${header.replace('"device"', '"dev"')}\n`,
    ['malformed', 1, /lacks a field/],
  ],
  ['rubbish in the middle', `${header}\nxx\n${rest[0]}\n`, ['malformed', 2, /line 2 .*no JSON object/]],
  ['an unknown kind', line({ kind: '__proto__' }), ['malformed', 2, /no kind of line "__proto__"/]],
  ['a kind that is long', line({ kind: 'x'.repeat(9999) }), ['malformed', 2, /no kind of line "x{39}$/]],
  ['an event without an event', line({ kind: 'event', actor: 'a' }), ['malformed', 2, /proper event/]],
  ['an event that is no object', line({ kind: 'event', actor: 'a', event: 'x' }), ['malformed', 2, /event/]],
  ['a state that is a number', line(actor({ value: 3 })), ['malformed', 2, /proper value/]],
  ['a context that is an array', line(actor({ context: [] })), ['malformed', 2, /proper context/]],
  [
    'a context that only its prototype has',
    line(actor({ context: undefined }), '"__proto__":{"context":{}}'),
    ['malformed', 2, /proper context/],
  ],
  ['a number that is not one', line({ kind: 'stop', actor: 'a', at: '1' }), ['malformed', 2, /proper at/]],
  [
    'transitions that are none',
    line({ kind: 'microstep', actor: 'a', transitions: [{ from: 'x' }] }),
    ['malformed', 2, /proper transitions/],
  ],
  ['numbers that go back', `${header}\n${stop(3)}\n${stop(3)}\n`, ['malformed', 3, /number 3 comes after 3/]],
  ['a line of 3 MB', `${header}\n${'x'.repeat(3e6)}`, ['oversize', 2, /longer than 2097152/]],
  ['a first line of 3 MB', 'x'.repeat(3e6), ['oversize', 1, /longer than 2097152/]],
  ['a line of 3 MB, ended', `${header}\n${'x'.repeat(3e6)}\n`, ['oversize', 2, /longer than 2097152/]],
];

function actor(change: object): object {
  return {
    kind: 'actor',
    actor: 'a',
    chart: 'c',
    hash: '',
    restored: true,
    value: 'x',
    context: {},
    ...change,
  };
}

function stop(n: number): string {
  return JSON.stringify({ n, at: 1, mono: 1, component: 'c', kind: 'stop', actor: 'a' });
}

/** A header and one line. */
function line(body: object, raw = ''): string {
  const text = JSON.stringify({ n: 1, at: 1, mono: 1, component: 'c', ...body });
  return `${header}\n${raw === '' ? text : `${text.slice(0, -1)},${raw}}`}\n`;
}

for (const [what, text, [code, where, message]] of spoiled) {
  test(`refused: ${what}`, () => {
    const refused = refusal(text);
    assert.equal(refused.slice(0, 2), [code, where]);
    assert.match(refused[2], message);
    assert.equal(refusal(text, 65_536), refused, 'as it arrives from a disk');
  });
}

test('what is nested deeper than anything of ours is a divergence, or refused where it is compared, and breaks nothing', () => {
  const deep = `${'['.repeat(10_000)}${']'.repeat(10_000)}`;
  const text = whole.replace('"context":{"count":1', `"context":{"deep":${deep},"count":1`);
  const { divergence } = replay(readRecording(text).lines, { charts: chartsOf(lamp()) });
  assert.is(divergence?.differs, 'context');
  const refused = (error: Error) => error instanceof RangeError && error.message === 'nested deeper than 64';
  assert.throws(() => same(JSON.parse(deep), JSON.parse(deep)), refused);
  assert.is(limits.depth, 64);
});

test.run();
