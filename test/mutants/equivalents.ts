// Mutants that do the same as what they change: listed one by one, with the reason.
import type { Result } from './campaign.ts';
import type { Mutant } from './mutant.ts';

export interface Equivalent extends Pick<Mutant, 'file' | 'context' | 'original' | 'mutated'> {
  /** Why nobody could notice it. */
  why: string;
}

export interface Judged {
  /** That are not listed. */
  survivors: Mutant[];
  equivalent: number;
  /** Listed, and noticed by a test or gone with their line. */
  outdated: Equivalent[];
}

/** Of files that were not tried, nothing is outdated. */
export function judge(
  { mutants, survivors }: Pick<Result, 'mutants' | 'survivors'>,
  listed: readonly Equivalent[],
): Judged {
  const key = ({ file, context, original, mutated }: Omit<Equivalent, 'why'>) =>
    JSON.stringify([file, context, original, mutated]);
  const known = new Set(listed.map(key));
  const found = new Set(survivors.map(key));
  const tried = new Set(mutants.map(({ file }) => file));
  const left = survivors.filter((mutant) => !known.has(key(mutant)));
  return {
    survivors: left,
    equivalent: survivors.length - left.length,
    outdated: listed.filter((one) => tried.has(one.file) && !found.has(key(one))),
  };
}
