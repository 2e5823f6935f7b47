// What a record says of itself in a few words, for lists: its trust, and why.
import type { FleetFacts } from '../../formats/filter/row.ts';
import type { Baseline, DeviceRecordSnapshot } from '../../machines/device-record.ts';
import type { Finding } from '../../machines/flow.ts';
import { explain } from '../../machines/reasons.ts';

type Snapshot = Pick<DeviceRecordSnapshot, 'value' | 'context'>;

/** Characters of a reason in a list. */
const longestWhy = 200;

/** The trust of a device in one word, for lists. */
export function trustOf(snapshot: Snapshot): string {
  const { enrolment, integrity, location } = snapshot.value as Record<string, string>;
  if (enrolment === 'retired') return 'retired';
  const { verdict, token } = snapshot.context;
  // While a new attestation is under way, the verdict before it stands.
  const standing =
    integrity === 'challenged' || integrity === 'verifying'
      ? verdict?.accepted && token
        ? 'trusted'
        : verdict?.accepted === false
          ? 'uud'
          : 'unattested'
      : (integrity ?? 'unattested');
  if (location === 'umd' && (standing === 'trusted' || verdict?.genuine))
    return standing === 'trusted' ? 'umd' : standing;
  return standing;
}

export function factsOf(snapshot: Snapshot): FleetFacts {
  const { value, context } = snapshot;
  const { verdict, baseline, upgrade } = context;
  const findings = verdict && !verdict.accepted ? verdict.findings : [];
  return {
    online: (value as Record<string, string>).link === 'online',
    reason: findings[0]?.code ?? '',
    why: whyLine(trustOf(snapshot), context).slice(0, longestWhy),
    pcrs: pcrsOf(findings),
    image: baseline?.versions.image ?? '',
    firmware: baseline?.versions.firmware ?? '',
    upgrade: upgrade?.to ?? '',
  };
}

/** Why a device is trusted or not. */
export function whyLine(
  trust: string,
  {
    verdict,
    baseline,
    upgraded,
    refusedEnrolment: refused,
  }: Pick<DeviceRecordSnapshot['context'], 'verdict' | 'upgraded' | 'refusedEnrolment'> & {
    baseline: (Pick<Baseline, 'at'> & { grounds: string }) | null;
  },
): string {
  if (trust === 'uud' || (verdict && !verdict.accepted)) return uudLine(verdict?.findings ?? []);
  if (trust === 'umd') return 'moved: it is not where it was locked to';
  if (trust === 'stale') return 'silent: its trust ran out without a new attestation';
  // What was seen before the last verdict is in evc why; the TPM that is enrolled has spoken since.
  if (refused && refused.at > (verdict?.at ?? 0)) return `${explain(refused.code).title}: ${refused.code}`;
  // A person has decided since.
  if (upgraded && baseline?.grounds === 'acceptance' && baseline.at > upgraded.at)
    return 'as its baseline (acceptance)';
  if (upgraded?.how === 'committed') return `upgraded ${upgraded.from} → ${upgraded.to}`;
  if (upgraded?.how === 'rolledBack') return `fell back to ${upgraded.from}: ${upgraded.why?.code ?? ''}`;
  return verdict ? `as its baseline (${verdict.grounds ?? 'none'})` : '';
}

/** Which PCRs, and the first event that explains it. */
export function uudLine(findings: readonly Finding[]): string {
  const pcrs = pcrsOf(findings);
  const event = findings.find(({ code }) => code.startsWith('log.'));
  const first = event ?? findings[0];
  return `${pcrs.length > 0 ? `PCR ${pcrs.join(', ')}: ` : ''}${first?.text ?? 'refused'}`;
}

/** PCRs that are not what the baseline allows, ascending. */
export function pcrsOf(findings: readonly Finding[]): number[] {
  const pcrs = findings.flatMap(({ code, pcr }) =>
    code === 'policy.pcr.unexpected' && pcr !== undefined ? [pcr] : [],
  );
  return [...new Set(pcrs)].sort((a, b) => a - b);
}
