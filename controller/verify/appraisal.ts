// Appraisal of one quote against a policy of its own: for evidence that no device record stands behind. The checks are
// those of a device; what is wanted is written down instead of remembered.
import { bootFacts } from '../../formats/eventlog/facts.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import type { Finding } from '../../machines/flow.ts';
import { clockNotes, clockRefusals, type LastClock } from './clock.ts';
import type { LogBytes } from './known-boots.ts';
import { verifyLog } from './log.ts';
import { type AttestationKey, type QuoteEvidence, type QuoteFacts, verifyQuote } from './quote.ts';

export interface AppraisalPolicy {
  /** PCRs that the quote has to cover, by bank: SHA-256 or better. Not empty. */
  pcrs: ReadonlyMap<HashName, readonly number[]>;
  /** Hex values of which a PCR has to have one. */
  values: { bank: HashName; pcr: number; allowed: readonly string[] }[];
  /** Whether the event log of the boot is asked for. */
  log: boolean;
  /** Whether the log has to vouch for Secure Boot. */
  secureBoot: boolean;
}

export interface Submitted {
  evidence: QuoteEvidence;
  /** A finding where the key cannot vouch for anything. */
  key: AttestationKey | Finding;
  /** What was asked for; null where the sender cannot say. */
  qualifyingData: Uint8Array | null;
  /** In order; none where they were not sent. */
  logs: readonly LogBytes[];
  /** Of an earlier quote of the same TPM. */
  last: LastClock | null;
}

export interface Appraisal {
  /** Is it real: a quote of this key for this request, and a log that leads to it. */
  genuine: boolean;
  /** Does it show what the policy wants. Never without `genuine`. */
  accepted: boolean;
  /** Why not; and what is worth knowing, with `evidence.clock.*` and `evidence.tpm.*` codes that refuse nothing. */
  reasons: Finding[];
  /** Of a genuine quote that covers what it has to. */
  quote: QuoteFacts | null;
}

/** A real quote that speaks of less than the policy asks about. */
const tooLittle: ReadonlySet<string> = new Set([
  'evidence.quote.bank',
  'evidence.quote.selection',
  'evidence.log.absent',
]);

/** Firmware and boot loader log all that they extend into these; the operating system extends others on its own. */
const preOs: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

export function appraise(submitted: Submitted, policy: AppraisalPolicy): Appraisal {
  const { evidence, key, qualifyingData, logs, last } = submitted;
  if ('code' in key) return refused([key]);
  if (qualifyingData?.length === 0)
    return refused([{ code: 'evidence.quote.nonce', text: 'The nonce is empty: any quote would answer it' }]);

  const [[bank, pcrs] = never(), ...more] = [...policy.pcrs];
  const asked = { key, pcrs, banks: [bank], qualifyingData: qualifyingData ?? nothingAsked };
  const checked = verifyQuote(evidence, asked);
  if (qualifyingData === null) {
    const others = checked.ok ? [] : checked.refusals.filter(({ code }) => code !== 'evidence.quote.nonce');
    return refused([...others, noNonce]);
  }
  if (!checked.ok) return refused(checked.refusals);
  const { quote } = checked;
  const refusals = [
    ...clockRefusals(quote, last),
    ...more.flatMap(([other, wanted]) => uncovered(quote, other, wanted)),
    ...logRefusals(quote, logs, policy),
    ...valueRefusals(quote, policy),
  ];
  const notes = clockNotes(quote, last);
  const { genuine } = refused(refusals);
  return { genuine, accepted: refusals.length === 0, reasons: [...refusals, ...notes], quote };
}

const nothingAsked = Uint8Array.of(0);
const noNonce: Finding = {
  code: 'evidence.nonce.none',
  text: 'Nobody says which nonce was asked for, so the quote may be an old one',
};

function refused(reasons: Finding[]): Appraisal {
  const genuine = reasons.every(({ code }) => tooLittle.has(code) || code.startsWith('policy.'));
  return { genuine, accepted: false, reasons, quote: null };
}

function uncovered({ covered }: QuoteFacts, bank: HashName, wanted: readonly number[]): Finding[] {
  const values = covered[bank];
  if (!values)
    return [
      {
        code: 'evidence.quote.bank',
        text: `The quote does not cover the bank ${bank}, and the policy needs it`,
      },
    ];
  return wanted
    .filter((pcr) => !values.has(pcr))
    .map((pcr) => ({
      code: 'evidence.quote.selection',
      text: `The quote does not cover PCR ${pcr} of bank ${bank}, and the policy needs it`,
      pcr,
    }));
}

function logRefusals(quote: QuoteFacts, logs: readonly LogBytes[], policy: AppraisalPolicy): Finding[] {
  if (logs.length === 0 && !policy.log && !policy.secureBoot) return [];
  return [...policy.pcrs].flatMap(([bank, wanted]) => {
    const covered = [...(quote.covered[bank] ?? [])];
    const values = new Map(covered.filter(([pcr]) => wanted.includes(pcr)));
    const beside = new Map(covered.filter(([pcr]) => preOs.includes(pcr)));
    const explained = verifyLog(logs, { bank, pcrs: values, beside });
    if (!explained.ok) return explained.refusals;
    if (!policy.secureBoot) return [];
    const { secureBoot } = bootFacts(explained.log);
    if (secureBoot === 'on') return [];
    const text = 'The policy wants Secure Boot, and the log does not vouch for it';
    return [{ code: 'policy.secure-boot.off', text, pcr: 7, seen: secureBoot, allowed: 'on' }];
  });
}

function valueRefusals(quote: QuoteFacts, { values }: AppraisalPolicy): Finding[] {
  return values.flatMap(({ bank, pcr, allowed }) => {
    const value = quote.covered[bank]?.get(pcr);
    const seen = value && Buffer.from(value).toString('hex');
    if (seen !== undefined && allowed.includes(seen)) return [];
    return [
      {
        code: 'policy.pcr.unexpected',
        text: `PCR ${pcr} of bank ${bank} is not what the policy allows`,
        pcr,
        seen: seen ?? 'not covered by the quote',
        allowed: allowed.join(' or '),
      },
    ];
  });
}

function never(): never {
  throw new TypeError('a policy needs PCRs');
}
