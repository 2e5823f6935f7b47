// Two lists of events of one PCR side by side: what stayed, and between that what came and went.
import { equal, hex } from './reader.ts';
import type { CheckedEvent } from './replay.ts';

/** A place where the lists differ: events of the old list, and the events of the new one that stand there instead. */
export interface Hunk {
  readonly removed: readonly CheckedEvent[];
  readonly added: readonly CheckedEvent[];
}

/** Cells of the table below; beyond it the lists are so long and so different that one hunk says as much. */
const maxCells = 2_000_000;

/** Longest common subsequence over digests: data that differs under an equal digest is no difference. */
export function align(before: readonly CheckedEvent[], after: readonly CheckedEvent[]): Hunk[] {
  const same = (i: number, j: number) =>
    equal((before[i] as CheckedEvent).digest, (after[j] as CheckedEvent).digest);
  let start = 0;
  while (start < before.length && start < after.length && same(start, start)) start++;
  let ends = 0;
  while (
    ends < Math.min(before.length, after.length) - start &&
    same(before.length - 1 - ends, after.length - 1 - ends)
  )
    ends++;
  const rows = before.length - ends - start;
  const columns = after.length - ends - start;
  if (rows === 0 && columns === 0) return [];
  if (rows === 0 || columns === 0 || rows * columns > maxCells)
    return [{ removed: before.slice(start, start + rows), added: after.slice(start, start + columns) }];

  const ids = new Map<string, number>();
  const idOf = ({ digest }: CheckedEvent) => {
    const key = hex(digest);
    const id = ids.get(key) ?? ids.size;
    ids.set(key, id);
    return id;
  };
  const old = before.slice(start, start + rows).map(idOf);
  const now = after.slice(start, start + columns).map(idOf);

  // lengths[i][j]: longest common subsequence of before[i…] and after[j…].
  const width = columns + 1;
  const lengths = new Uint32Array((rows + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      lengths[i * width + j] =
        old[i] === now[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));

  const hunks: Hunk[] = [];
  let removed: CheckedEvent[] = [];
  let added: CheckedEvent[] = [];
  const close = () => {
    if (removed.length + added.length > 0) hunks.push({ removed, added });
    removed = [];
    added = [];
  };
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && old[i] === now[j]) {
      close();
      i++;
      j++;
    } else if (j === columns || (i < rows && at(i + 1, j) >= at(i, j + 1))) {
      removed.push(before[start + i++] as CheckedEvent);
    } else {
      added.push(after[start + j++] as CheckedEvent);
    }
  }
  close();
  return hunks;
}
