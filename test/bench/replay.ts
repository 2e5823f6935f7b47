// How fast recordings are replayed on the charts of today: those of test/recordings, again and again, on one thread. CPU time
// counts, so that others on the machine do not.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { RecordingReader, readRecording } from '../../formats/recording/read.ts';
import { besideCharts, replay } from '../../formats/recording/replay.ts';
import { charts } from '../../machines/charts.ts';
import type { BenchTable } from './main.ts';

const folder = join(process.cwd(), 'test/recordings');
const runtime = 4_000;

function cpu(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

export async function bench(): Promise<BenchTable> {
  const texts = readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl.gz'))
    .map((name) => gunzipSync(readFileSync(join(folder, name))).toString('utf8'));
  const recordings = texts.map((text) => readRecording(text).lines);
  const once = () => recordings.reduce((sum, lines) => sum + replay(lines, { charts }).steps, 0);
  const perRound = once();
  let rounds = 0;
  const replaying = cpu(() => {
    for (const end = Date.now() + runtime; Date.now() < end; rounds++) once();
  });
  let reads = 0;
  const reading = cpu(() => {
    for (const end = Date.now() + runtime; Date.now() < end; reads++)
      for (const text of texts) new RecordingReader(undefined, besideCharts).push(text);
  });
  const lines = recordings.reduce((sum, { length }) => sum + length, 0);
  const msRead = reading / reads;
  const msReplay = replaying / rounds;
  return {
    title: 'Replaying recordings, one thread',
    rows: [
      { what: 'replay alone', 'steps/s': (perRound / msReplay) * 1000, 'lines/s': (lines / msReplay) * 1000 },
      { what: 'read alone', 'steps/s': (perRound / msRead) * 1000, 'lines/s': (lines / msRead) * 1000 },
      {
        what: 'read and replay',
        'steps/s': (perRound / (msRead + msReplay)) * 1000,
        'lines/s': (lines / (msRead + msReplay)) * 1000,
      },
    ],
    notes: [
      `${texts.length} recordings, ${perRound} steps, ${lines} lines; CPU time of this process`,
      'read: as evc replay does, which passes messages and TPM commands over',
    ],
  };
}
