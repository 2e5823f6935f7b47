// `evc record`: the record of a device as it moves, until somebody ends it, a verdict came, or the time is over.

import type { Line } from '../../formats/recording/format.ts';
import { RecordingReader } from '../../formats/recording/read.ts';
import type { ApiClient } from './client.ts';
import { exitCodes, Failure } from './failure.ts';
import { openOutput } from './output-file.ts';

export interface RecordOptions {
  output?: string;
  /** `trusted`, `refused`, or seconds. */
  until?: string;
}

export interface Recorded {
  lines: number;
  steps: number;
  /** Lines that EVC left out, since this side was too slow. */
  dropped: number;
  ended: 'asked' | 'until' | 'evc';
}

type End = { verdict: 'trusted' | 'uud' } | { ms: number } | null;

/** Resolves when it ended. Rejects with Failure. */
export async function record(api: ApiClient, words: string, options: RecordOptions): Promise<Recorded> {
  const until = endOf(options.until);
  const stream = await api.stream(`/api/v1/devices/${encodeURIComponent(words)}/recording`);
  const output = await openOutput(options.output).catch((error) => {
    stream.destroy();
    throw error;
  });
  const recorded: Recorded = { lines: 0, steps: 0, dropped: 0, ended: 'evc' };
  const finish = (why: Recorded['ended']) => {
    recorded.ended = why;
    stream.destroy();
  };
  const asked = () => finish('asked');
  process.once('SIGINT', asked);
  process.once('SIGTERM', asked);
  const timer = until && 'ms' in until ? setTimeout(() => finish('until'), until.ms) : null;
  const reader = new RecordingReader();
  let judged = false;
  const look = (line: Line): boolean => {
    recorded.lines++;
    if (line.kind === 'dropped') recorded.dropped += line.lines;
    if (line.kind === 'event') judged = line.event.type === 'verdict.given';
    if (line.kind !== 'snapshot') return false;
    recorded.steps++;
    const integrity = typeof line.value === 'object' ? line.value.integrity : undefined;
    return judged && until !== null && 'verdict' in until && integrity === until.verdict;
  };
  try {
    for await (const piece of stream as AsyncIterable<string>) {
      const lines = reader.push(piece);
      // The pulse between lines is for the connection, and no part of the recording.
      await output.write(piece.replace(/\n{2,}/g, '\n').replace(/^\n/, ''));
      if (lines.filter(look).length > 0) finish('until');
    }
  } catch (error) {
    // Ended from this side: what is here is whole up to its last line.
    if (recorded.ended === 'evc' && (error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE')
      throw error;
  } finally {
    if (timer) clearTimeout(timer);
    process.removeListener('SIGINT', asked);
    process.removeListener('SIGTERM', asked);
    await output.close();
  }
  return recorded;
}

function endOf(words: string | undefined): End {
  if (words === undefined) return null;
  if (words === 'trusted') return { verdict: 'trusted' };
  if (words === 'refused') return { verdict: 'uud' };
  const seconds = /^\d{1,6}$/.test(words) ? Number(words) : 0;
  if (seconds > 0) return { ms: seconds * 1000 };
  throw new Failure(`--until ${words}`, {
    hint: 'known: trusted, refused, or a number of seconds',
    exitCode: exitCodes.usage,
  });
}

export function recordedText({ lines, steps, dropped, ended }: Recorded): string {
  const gap =
    dropped > 0 ? `; ${dropped} lines are missing, since they came faster than they were written` : '';
  const why = ended === 'evc' ? '; EVC ended it' : '';
  return `${steps} steps in ${lines} lines${gap}${why}`;
}
