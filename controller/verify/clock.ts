// Clock: a TPM counts its resets and restarts, and the time that it was powered. They never run back: where they do, it is
// another TPM, or an earlier state of this one [TPM2 Part 1, 36].
import type { Finding } from '../../machines/flow.ts';
import type { QuoteFacts } from './quote.ts';

/** Of the last genuine quote of a device. */
export interface LastClock {
  resetCount: number;
  restartCount: number;
  /** Milliseconds. */
  clock: bigint;
  firmware: bigint;
}

/** Reasons to refuse. */
export function clockRefusals(quote: QuoteFacts, last: LastClock | null): Finding[] {
  if (!last) return [];
  const { resetCount, restartCount, clock } = quote;
  const seen = `${resetCount}/${restartCount}, clock ${clock} ms`;
  const allowed = `at least ${last.resetCount}/${last.restartCount}, clock ${last.clock} ms`;
  const refuse = (code: string, text: string): Finding[] => [{ code, text, seen, allowed }];
  if (resetCount < last.resetCount)
    return refuse('evidence.clock.reset-count', 'The reset count of the TPM fell');
  if (resetCount > last.resetCount) return [];
  if (restartCount < last.restartCount)
    return refuse('evidence.clock.restart-count', 'The restart count of the TPM fell');
  // After a power cut Clock may lag by what was not saved [TPM2 Part 1, 36.3]; within one boot it never runs back.
  if (clock < last.clock && quote.safe)
    return refuse('evidence.clock.backwards', 'The clock of the TPM ran back within one boot');
  return [];
}

/** Worth knowing, and no reason to refuse. */
export function clockNotes(quote: QuoteFacts, last: LastClock | null): Finding[] {
  const notes: Finding[] = [];
  if (!quote.safe)
    notes.push({
      code: 'evidence.clock.unsafe',
      text: 'The TPM lost power without warning; its clock is not sure yet',
    });
  if (!last) return notes;
  const resets = quote.resetCount - last.resetCount;
  if (resets > 1)
    notes.push({
      code: 'evidence.clock.unseen-resets',
      text: `The TPM was reset ${resets} times since its last quote, and only the last boot is in evidence`,
      seen: String(quote.resetCount),
      allowed: String(last.resetCount + 1),
    });
  if (resets === 0 && quote.restartCount > last.restartCount)
    notes.push({
      code: 'evidence.clock.resumed',
      text: 'The TPM was suspended and resumed since its last quote; its PCRs are of the boot before that',
      seen: String(quote.restartCount),
      allowed: String(last.restartCount),
    });
  if (last.firmware !== quote.firmwareVersion)
    notes.push({
      code: 'evidence.tpm.firmware-changed',
      text: 'The firmware of the TPM is another one than before',
      seen: String(quote.firmwareVersion),
      allowed: String(last.firmware),
    });
  return notes;
}
