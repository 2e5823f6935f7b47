// Two lists of events of one PCR side by side: what stayed, and between that what came and went.
import { alignLists } from '../align.ts';
import { hex } from './reader.ts';
import type { CheckedEvent } from './replay.ts';

/** A place where the lists differ: events of the old list, and the events of the new one that stand there instead. */
export interface Hunk {
  readonly removed: readonly CheckedEvent[];
  readonly added: readonly CheckedEvent[];
}

/** By digest: data that differs under an equal digest is no difference. */
export function align(before: readonly CheckedEvent[], after: readonly CheckedEvent[]): Hunk[] {
  return alignLists(before, after, ({ digest }) => hex(digest))
    .filter(({ same }) => !same)
    .map((differs) => ({
      removed: before.slice(differs.before.from, differs.before.to),
      added: after.slice(differs.after.from, differs.after.to),
    }));
}
