// The baselines of a device and what people decided about it, out of its journal. Pure.
import type { JournalEntry } from './answers.ts';

export interface BaselineStep {
  at: number;
  image: string;
  firmware: string;
  /** Why it became the baseline. */
  grounds: string;
  /** Who accepted it, and why; empty where nobody had to. */
  by: string;
  reason: string;
}

/** Verdicts that make what they judged the baseline. With `upgrade` it does once the new image has held. */
const making = new Set(['first-boot', 'acceptance', 'upgrade']);

/** The newest first, as the journal is. */
export function baselinesOf(journal: readonly JournalEntry[]): BaselineStep[] {
  const steps: BaselineStep[] = [];
  let accepted: { by: string; reason: string } | null = null;
  for (const { at, event, body } of [...journal].sort((one, other) => one.seq - other.seq)) {
    if (event === 'state.accepted') accepted = { by: words(body.by), reason: words(body.reason) };
    if (event !== 'verdict.given' || body.accepted !== true || !making.has(words(body.grounds))) continue;
    const { image, firmware } = (body.versions ?? {}) as Record<string, unknown>;
    const grounds = words(body.grounds);
    const { by, reason } = (grounds === 'acceptance' && accepted) || { by: '', reason: '' };
    steps.push({ at, image: words(image), firmware: words(firmware), grounds, by, reason });
    accepted = null;
  }
  return steps.reverse();
}

function words(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
