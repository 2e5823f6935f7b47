// Two recordings side by side: their steps aligned, so that the first that differs can be seen at once.
import type { Line } from '../formats/recording/format.ts';
import { stateText } from './text.ts';
import type { Track } from './track.ts';

export interface Pair {
  /** Indices of lines; -1 where the other one has something that this one does not. */
  left: number;
  right: number;
  same: boolean;
}

/** Steps of each that are aligned; the rest is shown as it comes. */
const mostSteps = 4000;

/** The steps of two recordings, in order. */
export function comparePairs(left: Track, right: Track): Pair[] {
  const a = left.steps.slice(0, mostSteps).map((index) => ({ index, key: keyOf(left, index) }));
  const b = right.steps.slice(0, mostSteps).map((index) => ({ index, key: keyOf(right, index) }));
  let start = 0;
  while (start < a.length && start < b.length && a[start]?.key === b[start]?.key) start++;
  let ends = 0;
  while (ends < Math.min(a.length, b.length) - start && a.at(-1 - ends)?.key === b.at(-1 - ends)?.key) ends++;
  const rows = a.length - start - ends;
  const columns = b.length - start - ends;
  const width = columns + 1;
  // lengths[i][j]: the longest common subsequence of what is left of both.
  const lengths = new Uint16Array((rows + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      lengths[i * width + j] =
        a[start + i]?.key === b[start + j]?.key ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const pairs: Pair[] = [];
  const both = (i: number, j: number) =>
    pairs.push({ left: a[i]?.index ?? -1, right: b[j]?.index ?? -1, same: true });
  for (let i = 0; i < start; i++) both(i, i);
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && a[start + i]?.key === b[start + j]?.key) both(start + i++, start + j++);
    else if (j === columns || (i < rows && at(i + 1, j) >= at(i, j + 1)))
      pairs.push({ left: a[start + i++]?.index ?? -1, right: -1, same: false });
    else pairs.push({ left: -1, right: b[start + j++]?.index ?? -1, same: false });
  }
  for (let k = 0; k < ends; k++) both(a.length - ends + k, b.length - ends + k);
  return pairs;
}

/** What a step is, without its times and ids. */
function keyOf(track: Track, index: number): string {
  const line = track.lines[index] as Extract<Line, { kind: 'snapshot' | 'actor' }>;
  const cause = track.lines[track.cause(index)];
  const event = cause?.kind === 'event' ? cause.event.type : line.kind;
  const refusal = cause ? (track.refusal(track.cause(index))?.code ?? '') : '';
  return `${line.component}\n${event}\n${stateText(line.value)}\n${refusal}`;
}
