// Policy: genuine evidence shows what runs; this decides whether we want it. Known software is the baseline, what a person
// accepted, or the image that EVC itself pushed while its window is open.
import { describeEvent } from '../../formats/eventlog/describe.ts';
import { differingEntries, diffLogs } from '../../formats/eventlog/diff.ts';
import type { CheckedLog } from '../../formats/eventlog/replay.ts';
import type { Finding, Grounds, Location, Versions } from '../../machines/flow.ts';
import { evePolicyPcrs } from '../../machines/pcrs.ts';

/** PCR values, hex by index. */
export type PcrTable = Record<string, string>;

/** Measurements that a version of an image, or of a firmware, is known to cause: `pcr:digest`, SHA-256 in hex. */
export type KnownEntries = ReadonlySet<string>;

export interface SoftwareBasis {
  baseline: { pcrs: PcrTable; log: CheckedLog; versions: Versions } | null;
  /** What a person accepted and the device has not shown yet. */
  acceptance: PcrTable | null;
  /** The upgrade that EVC drives. */
  upgrade: { to: string; until: number; entries: KnownEntries } | null;
  /** Of the firmware that the device reports. */
  firmware: KnownEntries;
  /** Versions that were baselines of this device before. */
  former: readonly string[];
  /** Versions that the catalogue of images knows. */
  catalogue: readonly string[];
}

export type SoftwareVerdict = { accepted: true; grounds: Grounds } | { accepted: false; refusals: Finding[] };

/** Measured by the firmware, so looked up by its version and not by that of the image. */
const firmwarePcrs: ReadonlySet<number> = new Set([0, 1, 2, 3, 6, 7]);

export function judgeSoftware(
  now: number,
  shown: { pcrs: PcrTable; log: CheckedLog; versions: Versions },
  basis: SoftwareBasis,
): SoftwareVerdict {
  const { baseline, acceptance } = basis;
  if (!baseline) return { accepted: true, grounds: 'first-boot' };
  if (samePcrs(baseline.pcrs, shown.pcrs)) return { accepted: true, grounds: 'baseline' };
  if (acceptance && samePcrs(acceptance, shown.pcrs)) return { accepted: true, grounds: 'acceptance' };
  const refusals = refuseUpgrade(now, shown, basis, baseline);
  return refusals.length === 0 ? { accepted: true, grounds: 'upgrade' } : { accepted: false, refusals };
}

/** Sequence S4.6 to S4.8: nothing, when every entry that differs is one of the image that EVC pushed. */
function refuseUpgrade(
  now: number,
  shown: { pcrs: PcrTable; log: CheckedLog; versions: Versions },
  { upgrade, firmware, former, catalogue }: SoftwareBasis,
  baseline: NonNullable<SoftwareBasis['baseline']>,
): Finding[] {
  const changes = changesSince(baseline, shown);
  const { image } = shown.versions;
  if (!upgrade) {
    if (former.includes(image) && image !== baseline.versions.image) {
      return [
        refusal(
          'policy.version.older',
          `It runs ${image}, an image older than the committed ${baseline.versions.image}`,
        ),
        ...changes,
      ];
    }
    if (catalogue.includes(image) && image !== baseline.versions.image) {
      return [
        refusal(
          'policy.upgrade.not-pushed',
          `It runs ${image}, and EVC did not push that image to this device`,
        ),
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
      refusal('policy.upgrade.other-version', `It reports ${image}, and EVC pushed ${upgrade.to}`),
      ...changes,
    ];
  }
  const known = (pcr: number, digest: string) => {
    const entry = `${pcr}:${digest}`;
    return upgrade.entries.has(entry) || (firmwarePcrs.has(pcr) && firmware.has(entry));
  };
  const { added, removed } = differingEntries(baseline.log, shown.log);
  const unknown = added.filter(({ pcr, digest }) => !known(pcr, digest));
  // A boot that measures less than before is known only where all that it does measure is the image's.
  const lessMeasured = [...new Set(removed.map(({ pcr }) => pcr))].filter(
    (pcr) =>
      removed.filter((entry) => entry.pcr === pcr).length >
        added.filter((entry) => entry.pcr === pcr).length &&
      !shown.log.events.every((event) => event.pcr !== pcr || known(pcr, hex(event.digest))),
  );
  if (unknown.length === 0 && lessMeasured.length === 0) return [];
  return [
    refusal(
      'policy.upgrade.unknown-entries',
      `It reports ${image}, and not all that it measured is of that image`,
    ),
    ...unknown.slice(0, mostFindings).map(({ pcr, event, digest, text }) => ({
      code: 'policy.entry.unknown',
      text: `PCR ${pcr}: ${text} is no measurement of ${image}`,
      pcr,
      event,
      seen: digest,
    })),
    ...lessMeasured.map((pcr) => ({
      code: 'policy.entry.missing',
      text: `PCR ${pcr}: the boot measured less than before, and ${image} does not`,
      pcr,
    })),
    ...changes,
  ];
}

const mostFindings = 50;

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
      // The same words for other bytes: only the digests tell them apart.
      const same = before !== undefined && before === after;
      const seen = same ? digestOf(shown.log, pcr, event) : after;
      const allowed = same ? digestOf(baseline.log, pcr, baselineEvent) : before;
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

/** On a sphere, metres. */
export function distance(one: Location, other: Location): number {
  const earth = 6_371_000;
  const rad = Math.PI / 180;
  const half = (a: number, b: number) => Math.sin(((a - b) * rad) / 2) ** 2;
  const h =
    half(one.latitude, other.latitude) +
    Math.cos(one.latitude * rad) * Math.cos(other.latitude * rad) * half(one.longitude, other.longitude);
  return 2 * earth * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** The measurements of a log as the catalogue keeps them. */
export function entriesOf(log: CheckedLog): { entry: string; text: string }[] {
  return log.events.map((event) => ({
    entry: `${event.pcr}:${hex(event.digest)}`,
    text: describeEvent(event),
  }));
}

function digestOf(log: CheckedLog, pcr: number, index: number | undefined): string | undefined {
  const event = log.events.find((candidate) => candidate.index === index && candidate.pcr === pcr);
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
