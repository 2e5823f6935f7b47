// Records as they stand in stores: one of each combination of states that the sequences and attacks lead to, as EVC of that
// version stored it. `npm run records` makes those of today's version; those of former versions stay as they are.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { initialTransition, transition } from 'xstate';
import { readRecordingFile } from '../../controller/cli/recording-file.ts';
import { recordChart, restoreRecord, storedRecord } from '../../controller/record/snapshot.ts';
import { Replay } from '../../formats/recording/replay.ts';
import { charts } from '../../machines/charts.ts';
import { deviceRecord } from '../../machines/device-record.ts';

const root = join(process.cwd(), 'test');
export const recordsFolder = join(root, 'fixtures/records');

export interface KeptRecord {
  chart: number;
  value: Record<string, string>;
  context: Record<string, unknown>;
}

/** Of one version, as `evc` of that version stored them. */
export function recordsOf(version: number): KeptRecord[] {
  const text = gunzipSync(readFileSync(join(recordsFolder, `version-${version}.jsonl.gz`))).toString();
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as KeptRecord);
}

/** Replays all recordings, and writes a record of each state that they lead to. */
export async function writeRecords(): Promise<number> {
  const template = JSON.parse(JSON.stringify(storedRecord(initialTransition(deviceRecord)[0]))) as KeptRecord;
  const found = new Map<string, KeptRecord>([[JSON.stringify(template.value), template]]);
  for (const name of readdirSync(join(root, 'recordings')).filter((file) => file.endsWith('.jsonl.gz'))) {
    const replay = new Replay({
      charts,
      onStep({ chart, after, context }) {
        if (chart !== deviceRecord.id) return undefined;
        const key = JSON.stringify(after);
        if (!found.has(key))
          found.set(key, JSON.parse(JSON.stringify({ ...template, value: after, context })) as KeptRecord);
        return undefined;
      },
    });
    await readRecordingFile(join(root, 'recordings', name), (lines) => {
      for (const line of lines) replay.push(line);
      return false;
    });
  }
  // Where the sequences do not lead: what ends by itself, and what people end.
  for (const record of [...found.values()]) {
    const before = restoreRecord(record);
    const at = Math.max(before.context.seen, before.context.token?.until ?? 0) + 1;
    const ends = [
      { type: 'timer.due', timer: 'trust' },
      { type: 'device.retired', by: 'somebody', reason: 'sold' },
    ] as const;
    for (const end of ends) {
      const [after] = transition(deviceRecord, before, { ...end, at, dice: 0 });
      const key = JSON.stringify(after.value);
      if (!found.has(key)) found.set(key, JSON.parse(JSON.stringify(storedRecord(after))) as KeptRecord);
    }
  }
  const lines = [...found].sort(([a], [b]) => a.localeCompare(b)).map(([, record]) => JSON.stringify(record));
  const packed = gzipSync(`${lines.join('\n')}\n`, { level: 9 });
  writeFileSync(join(recordsFolder, `version-${recordChart.version}.jsonl.gz`), packed);
  return found.size;
}
