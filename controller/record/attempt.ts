// The recording of an attempt, put together for whoever wants it: what the store keeps of the record, the evidence as it was
// sent, and the logs that it was compared with.
import { type Line, limits } from '../../formats/recording/format.ts';
import { renumbered } from '../../formats/recording/line.ts';
import type { AttemptRow, Store } from '../store/store.ts';
import { logNames } from './basis.ts';
import type { RecordRecorder } from './recorder.ts';

type Evidence = Extract<Line, { kind: 'evidence' }> & { verdict: { logs?: string[] } };

/** Line by line, without their ends; null when there is no such attempt any more. */
export async function attemptRecording(
  store: Store,
  recorder: RecordRecorder,
  device: string,
  attempt: AttemptRow,
): Promise<string[] | null> {
  const kept = await store.attemptLines(device, attempt.attempt);
  if (!kept) return null;
  const lines = recorder.opening(device, `attempt ${attempt.attempt}`);
  const blobs = new Set<string>();
  let n = 1;
  const add = (line: string) => lines.push(renumbered(line, n++));
  for (const line of kept) {
    if (!line.includes('"kind":"evidence"')) {
      add(line);
      continue;
    }
    const evidence = JSON.parse(line) as Evidence;
    const { at, mono, component } = evidence;
    const place = { n: 0, at, mono, component };
    for (const sha256 of [...logNames(evidence.basis), ...(evidence.verdict.logs ?? [])]) {
      const bytes = blobs.has(sha256) ? null : await store.blob(sha256);
      if (bytes) add(JSON.stringify({ ...place, kind: 'blob', sha256, bytes: base64(bytes) }));
      blobs.add(sha256);
    }
    const sent = await store.evidence(evidence.attempt);
    const whole = JSON.stringify({ ...evidence, ...(sent ? { bytes: base64(sent) } : {}) });
    add(whole.length > limits.line ? line : whole);
  }
  if (attempt.dropped > 0) {
    const last = JSON.parse(lines.at(-1) ?? '{}') as Line;
    const { at, mono, component } = last;
    const why = 'an attempt keeps no more than its share';
    add(JSON.stringify({ n: 0, at, mono, component, kind: 'dropped', lines: attempt.dropped, why }));
  }
  return lines;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
