// Two recordings side by side: their steps aligned, so that the first that differs can be seen at once.
import { alignLists } from '../formats/align.ts';
import type { Line } from '../formats/recording/format.ts';
import { stateText } from './text.ts';
import type { Track } from './track.ts';

export interface Pair {
  /** Indices of lines; -1 where the other one has something that this one does not. */
  left: number;
  right: number;
  same: boolean;
}

/** The steps of two recordings, in order. */
export function comparePairs(left: Track, right: Track): Pair[] {
  const a = left.steps.map((index) => ({ index, key: keyOf(left, index) }));
  const b = right.steps.map((index) => ({ index, key: keyOf(right, index) }));
  const pairs: Pair[] = [];
  for (const { same, before, after } of alignLists(a, b, ({ key }) => key)) {
    const [lefts, rights] = [a.slice(before.from, before.to), b.slice(after.from, after.to)];
    if (same)
      for (const [i, { index }] of lefts.entries())
        pairs.push({ left: index, right: rights[i]?.index ?? -1, same });
    else {
      for (const { index } of lefts) pairs.push({ left: index, right: -1, same });
      for (const { index } of rights) pairs.push({ left: -1, right: index, same });
    }
  }
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
