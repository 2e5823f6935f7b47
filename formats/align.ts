// Two lists side by side: stretches that are the same in both, and stretches where they differ.

/** Places in the lists, from the first to the one after the last. */
export interface Stretch {
  readonly same: boolean;
  readonly before: { readonly from: number; readonly to: number };
  readonly after: { readonly from: number; readonly to: number };
}

/** Cells of the table below; beyond it the lists are so long and so different that one stretch says as much. */
const maxCells = 2_000_000;

/**
 * By their longest common subsequence, in order and without gaps: every place of both lists is in one stretch.
 * @param keyOf the same for what counts as the same
 */
export function alignLists<Item>(
  before: readonly Item[],
  after: readonly Item[],
  keyOf: (item: Item) => string,
): Stretch[] {
  const ids = new Map<string, number>();
  const idOf = (item: Item) => {
    const key = keyOf(item);
    const id = ids.get(key) ?? ids.size;
    ids.set(key, id);
    return id;
  };
  const old = before.map(idOf);
  const now = after.map(idOf);
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let ends = 0;
  while (ends < Math.min(old.length, now.length) - start && old.at(-1 - ends) === now.at(-1 - ends)) ends++;

  const stretches = new Stretches();
  stretches.take(true, start, start);
  middle(old.slice(start, old.length - ends), now.slice(start, now.length - ends), stretches);
  stretches.take(true, ends, ends);
  return stretches.all;
}

function middle(old: readonly number[], now: readonly number[], stretches: Stretches): void {
  const rows = old.length;
  const columns = now.length;
  if (rows === 0 || columns === 0 || rows * columns > maxCells) {
    stretches.take(false, rows, columns);
    return;
  }
  // lengths[i][j]: longest common subsequence of old[i…] and now[j…].
  const width = columns + 1;
  const lengths = new Uint32Array((rows + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      lengths[i * width + j] =
        old[i] === now[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && old[i] === now[j]) {
      stretches.take(true, 1, 1);
      i++;
      j++;
    } else if (j === columns || (i < rows && at(i + 1, j) >= at(i, j + 1))) {
      stretches.take(false, 1, 0);
      i++;
    } else {
      stretches.take(false, 0, 1);
      j++;
    }
  }
}

/** Puts what follows each other and is of one kind into one stretch. */
class Stretches {
  readonly all: Stretch[] = [];

  take(same: boolean, before: number, after: number): void {
    if (before === 0 && after === 0) return;
    const last = this.all.at(-1);
    const joined = last?.same === same ? last : undefined;
    if (joined) this.all.pop();
    const from = { before: last?.before.to ?? 0, after: last?.after.to ?? 0 };
    this.all.push({
      same,
      before: { from: joined?.before.from ?? from.before, to: from.before + before },
      after: { from: joined?.after.from ?? from.after, to: from.after + after },
    });
  }
}
