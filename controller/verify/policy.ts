// Policy: genuine evidence shows what runs; this decides whether we want it. Known software is the baseline, what a person
// accepted, or the image that EVC itself pushed while its window is open; allow rules cover what varies without meaning.
import { diffLogs } from '../../formats/eventlog/diff.ts';
import type { CheckedLog } from '../../formats/eventlog/replay.ts';
import { distance } from '../../machines/distance.ts';
import type { Finding, Grounds, Location, Versions } from '../../machines/flow.ts';
import { evePolicyPcrs } from '../../machines/pcrs.ts';
import { type AllowRule, type Comparison, compareBoots, isCovered } from './allow.ts';
import type { KnownEntry } from './entries.ts';
import type { LogBytes } from './known-boots.ts';
import { verifyLog } from './log.ts';
import { foreignTo, type KnownFirmware, knownMeasurements } from './upgrade.ts';

/** PCR values, hex by index. */
export type PcrTable = Record<string, string>;

export interface SoftwareBasis {
  baseline: { pcrs: PcrTable; log: CheckedLog; versions: Versions } | null;
  /** What a person accepted and the device has not shown yet, and the logs that explained it. */
  acceptance: { pcrs: PcrTable; logs: readonly LogBytes[] } | null;
  /** The upgrade that EVC drives. */
  upgrade: { to: string; until: number; entries: readonly KnownEntry[] } | null;
  /** The firmware that the device reports, if the catalogue knows it. */
  firmware: KnownFirmware | null;
  /** Versions that were baselines of this device before. */
  former: readonly string[];
  /** Versions that the catalogue of images knows. */
  catalogue: readonly string[];
  /** Those of the device's account, and of all. */
  rules: readonly AllowRule[];
}

export type SoftwareVerdict =
  | { accepted: true; grounds: Grounds; notes: readonly Finding[] }
  | { accepted: false; refusals: Finding[] };

interface Shown {
  pcrs: PcrTable;
  log: CheckedLog;
  versions: Versions;
}

export function judgeSoftware(now: number, shown: Shown, basis: SoftwareBasis): SoftwareVerdict {
  const { baseline, acceptance, rules } = basis;
  const accepted = (grounds: Grounds, notes: readonly Finding[] = []): SoftwareVerdict => ({
    accepted: true,
    grounds,
    notes,
  });
  if (!baseline) return accepted('first-boot');
  if (samePcrs(baseline.pcrs, shown.pcrs)) return accepted('baseline');
  if (acceptance && samePcrs(acceptance.pcrs, shown.pcrs)) return accepted('acceptance');

  // The log of a baseline is replayed when it is asked for.
  const known = { ...baseline, log: baseline.log };
  const change = compareBoots(known.log, shown.log, rules);
  if (isCovered(change)) return accepted('allowed', change.notes);
  const fromAccepted = acceptance && sinceAccepted(acceptance, shown.log, rules);
  if (fromAccepted && isCovered(fromAccepted)) return accepted('acceptance', fromAccepted.notes);

  const refusals = refuseUpgrade(now, shown, basis, known, change);
  return refusals.length === 0 ? accepted('upgrade', change.notes) : { accepted: false, refusals };
}

/** The difference from what a person accepted, null where its logs do not lead to it. */
function sinceAccepted(
  { pcrs, logs }: NonNullable<SoftwareBasis['acceptance']>,
  shown: CheckedLog,
  rules: readonly AllowRule[],
): Comparison | null {
  const values = new Map(evePolicyPcrs.map((pcr) => [pcr, Buffer.from(pcrs[pcr] ?? '', 'hex')]));
  if ([...values.values()].some(({ length }) => length !== 32)) return null;
  const explained = verifyLog(logs, { bank: 'sha256', pcrs: values });
  return explained.ok ? compareBoots(explained.log, shown, rules) : null;
}

/** Sequence S4.6 to S4.8: nothing, when every entry that differs is one of the image that EVC pushed. */
function refuseUpgrade(
  now: number,
  shown: Shown,
  basis: SoftwareBasis,
  baseline: NonNullable<SoftwareBasis['baseline']>,
  change: Comparison,
): Finding[] {
  const { upgrade, former, catalogue } = basis;
  const changes = [...unexplained(change), ...changesSince(baseline, shown)];
  const { image } = shown.versions;
  const running = baseline.versions.image;
  if (!upgrade) {
    const versions = { seen: image, allowed: running };
    if (former.includes(image) && image !== running) {
      return [
        {
          code: 'policy.version.older',
          text: `It runs ${image}, an image older than the committed ${running}`,
          ...versions,
          remedy: `push ${running}, or a newer image; accept the state if the step back is wanted`,
        },
        ...changes,
      ];
    }
    if (catalogue.includes(image) && image !== running) {
      return [
        {
          code: 'policy.upgrade.not-pushed',
          text: `It runs ${image}, and EVC did not push that image to this device`,
          ...versions,
          remedy: `find out who installed it; push ${running}, or accept the state if it is wanted`,
        },
        ...changes,
      ];
    }
    return [
      refusal('policy.software.unknown', 'It runs software that EVC neither pushed nor a person accepted'),
      ...changes,
    ];
  }
  if (now > upgrade.until) {
    return [
      refusal('policy.upgrade.window-closed', `The window for the upgrade to ${upgrade.to} is closed`),
      ...changes,
    ];
  }
  if (image !== upgrade.to) {
    return [
      {
        code: 'policy.upgrade.other-version',
        text: `It reports ${image}, and EVC pushed ${upgrade.to}`,
        seen: image,
        allowed: upgrade.to,
      },
      ...changes,
    ];
  }
  const known = knownMeasurements(upgrade.entries, basis.firmware, baseline.versions.firmware);
  const faults = foreignTo(image, known, shown.log, change);
  if (faults.length === 0 && change.unexplained.length === 0) return [];
  return [
    refusal(
      'policy.upgrade.unknown-entries',
      `It reports ${image}, and not all that it measured is of that image`,
    ),
    ...faults.slice(0, mostFindings),
    ...changes,
  ];
}

const mostFindings = 50;

function unexplained({ unexplained: pcrs }: Comparison): Finding[] {
  return pcrs.map((pcr) => ({
    code: 'policy.pcr.unexplained',
    text: `PCR ${pcr} differs, and its events do not say why: the TPM was started from another locality`,
    pcr,
  }));
}

/** What is different, PCR by PCR and event by event, for the person who has to decide. */
function changesSince(
  baseline: NonNullable<SoftwareBasis['baseline']>,
  shown: { pcrs: PcrTable; log: CheckedLog },
): Finding[] {
  const findings: Finding[] = evePolicyPcrs
    .filter((pcr) => baseline.pcrs[pcr] !== shown.pcrs[pcr])
    .map((pcr) => ({
      code: 'policy.pcr.unexpected',
      text: `PCR ${pcr} is not what the baseline allows`,
      pcr,
      seen: shown.pcrs[pcr] ?? '',
      allowed: baseline.pcrs[pcr] ?? '',
    }));
  const changes = diffLogs(baseline.log, shown.log)
    .filter(({ pcr }) => evePolicyPcrs.includes(pcr))
    .slice(0, mostFindings)
    .map(({ code, pcr, event, baselineEvent, text, before, after }) => {
      // The same words for other bytes, or none: only the digests tell them apart.
      const same = before === after;
      const seen = same ? digestOf(shown.log, event) : after;
      const allowed = same ? digestOf(baseline.log, baselineEvent) : before;
      return {
        code,
        text,
        pcr,
        ...(event === undefined ? {} : { event }),
        ...(seen === undefined ? {} : { seen }),
        ...(allowed === undefined ? {} : { allowed }),
      };
    });
  return [...findings, ...changes];
}

export interface PlaceBasis {
  /** null unless Location-Lock is on for this device, and a place is locked. */
  locked: Location | null;
  /** Metres. */
  radius: number;
}

/** Whether a vouched fix is outside the locked circle, whatever both fixes may be off. No fix is no movement. */
export function movedAway(fix: Location | null, { locked, radius }: PlaceBasis): boolean {
  if (!fix || !locked) return false;
  return distance(fix, locked) > radius + fix.accuracy + locked.accuracy;
}

function digestOf(log: CheckedLog, index: number | undefined): string | undefined {
  const event = log.events.find((candidate) => candidate.index === index);
  return event && `sha256 ${hex(event.digest)}`;
}

function samePcrs(one: PcrTable, other: PcrTable): boolean {
  return evePolicyPcrs.every((pcr) => one[pcr] !== undefined && one[pcr] === other[pcr]);
}

function refusal(code: string, text: string): Finding {
  return { code, text };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
