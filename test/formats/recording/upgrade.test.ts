// Recordings of the first version stay readable: a fixture of version 1 is read as it is, and through made-up later versions.
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RecordingError, recordingVersion } from '../../../formats/recording/format.ts';
import { readRecording } from '../../../formats/recording/read.ts';
import { replay } from '../../../formats/recording/replay.ts';
import { type Loose, type Steps, steps, upgradeFrom } from '../../../formats/recording/upgrade.ts';
import { chartsOf, lamp, lampRecording } from '../../kit/recording.ts';

const first = readFileSync(new URL('../../fixtures/recording/lamp.v1.jsonl', import.meta.url), 'utf8');

/** Version 2 says `hash` as `sha256`, version 3 splits what a step drops into a line of its own. */
const invented: Steps = {
  1: { header: ({ by, ...rest }) => ({ ...rest, by: `${by} (v1)` }) },
  2: {
    line: (line: Loose) =>
      line.kind === 'stop'
        ? [line, { ...line, n: Number(line.n) + 1, kind: 'fault', code: 'made.up', text: 'of a step' }]
        : line,
  },
};

test('a recording of version 1 is read, and replays on the chart of its day', () => {
  const { version, lines, notes } = readRecording(first);
  assert.is(version, 1);
  assert.equal(notes, recordingVersion === 1 ? [] : ['made by version 1 of the format']);
  assert.is(replay(lines, { charts: chartsOf(lamp()) }).divergence, null);
  assert.is(lines.length, readRecording(lampRecording()).lines.length);
});

test('there is a step from every version to the next', () => {
  const from = Array.from({ length: recordingVersion - 1 }, (_, i) => i + 1);
  assert.equal(Object.keys(steps).map(Number), from);
});

test('steps are taken one after the other, on the header and on each line', () => {
  const { header, version, lines, notes } = readRecording(first, { steps: invented, version: 3 });
  assert.equal([version, header.version, header.by], [1, 3, 'test 1 (v1)']);
  assert.equal(notes, ['made by version 1 of the format']);
  const [last] = lines.slice(-1);
  assert.is(last?.kind === 'fault' && last.code, 'made.up');
  assert.is(replay(lines, { charts: chartsOf(lamp()) }).divergence, null);
});

test('a recording takes the steps from its own version on, and no other', () => {
  const { header, line } = upgradeFrom(
    { recording: 'eve-attest recording', version: 2, by: 'x' },
    { steps: invented, version: 3 },
  );
  assert.is(header.by, 'x');
  assert.is(line({ kind: 'stop', n: 1 }).length, 2);
});

test('a newer recording is refused with a sentence', () => {
  const newer = first.replace('"version":1', '"version":4');
  assert.throws(
    () => readRecording(newer, { steps: invented, version: 3 }),
    (error: Error) =>
      error instanceof RecordingError && error.code === 'newer' && /version 4.*up to 3/.test(error.message),
  );
});

test.run();
