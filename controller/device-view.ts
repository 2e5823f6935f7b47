// A device for people: what it is, whether it is trusted, why not, and what would change if somebody accepted what it shows.
import type { FleetFacts } from '../formats/filter/row.ts';
import type {
  DeviceRecordSnapshot,
  EkCertificate,
  Identity,
  RefusedEnrolment,
} from '../machines/device-record.ts';
import type { Finding, Location, Versions } from '../machines/flow.ts';
import { factsOf, trustOf } from './record/facts.ts';

type Context = DeviceRecordSnapshot['context'];

export interface DeviceView {
  device: string;
  /** Version of the record: what decisions rest on. */
  revision: number;
  serial: string;
  uuid: string;
  account: string;
  labels: readonly string[];
  trust: string;
  /** ms since the epoch; 0: never. */
  seen: number;
  facts: FleetFacts;
  states: unknown;
  verdict: Context['verdict'];
  baseline: {
    versions: { image: string; firmware: string };
    at: number;
    grounds: string;
    pcrs: Record<string, string>;
  } | null;
  upgrade: { from: string; to: string; until: number } | null;
  upgraded: Context['upgraded'];
  /** What its account, or the device for itself, says of its place. */
  lock: { locationLock: boolean; radius: number; moved: 'report' | 'block' };
  place: Context['place'];
  escrow: Context['escrow'];
  ekTrust: string;
  /** The TPM that is enrolled, and what its certificate says. */
  tpm: {
    ekName: string;
    akName: string;
    certificate: Omit<EkCertificate, 'sent'> | null;
  } | null;
  refusedEnrolment: RefusedEnrolment | null;
  /** How it booted and which logs it lacks, in its own words: unchecked. Null before it said so. */
  boot: Record<string, unknown> | null;
  config: number;
  online: boolean;
}

export function deviceView(
  device: string,
  { revision, labels }: { revision: number; labels: readonly string[] },
  snapshot: DeviceRecordSnapshot,
): DeviceView {
  const { context } = snapshot;
  const { baseline, upgrade, account } = context;
  return {
    device,
    revision,
    serial: context.serial,
    uuid: context.uuid,
    account: account?.id ?? '',
    labels,
    trust: trustOf(snapshot),
    seen: context.seen,
    facts: factsOf(snapshot),
    states: snapshot.value,
    verdict: context.verdict,
    baseline: baseline && {
      versions: baseline.versions,
      at: baseline.at,
      grounds: baseline.grounds,
      pcrs: baseline.pcrs,
    },
    upgrade: upgrade && { from: upgrade.from, to: upgrade.to, until: upgrade.until },
    upgraded: context.upgraded,
    lock: {
      locationLock: account?.locationLock ?? false,
      radius: account?.radius ?? 0,
      moved: account?.moved ?? 'report',
    },
    place: context.place,
    escrow: context.escrow,
    ekTrust: context.identity?.ekTrust ?? 'none',
    tpm: context.identity && tpmView(context.identity),
    refusedEnrolment: context.refusedEnrolment ?? null,
    boot: context.info.boot ?? null,
    config: context.config.version,
    online: (snapshot.value as Record<string, string>).link === 'online',
  };
}

function tpmView({ ekName, akName, ekCertificate }: Identity): DeviceView['tpm'] {
  if (!ekCertificate) return { ekName, akName, certificate: null };
  const { sent: _, ...certificate } = ekCertificate;
  return { ekName, akName, certificate };
}

/** What an acceptance would make the baseline: its software, its place, or both. */
export interface ChangesView {
  device: string;
  revision: number;
  serial: string;
  account: string;
  trust: string;
  software: {
    /** Of the evidence that shows it: an acceptance of it is of nothing else. */
    attempt: string;
    at: number;
    from: Versions | null;
    to: Versions | null;
    /** Those that differ, ascending; null: there was no value. */
    pcrs: { pcr: number; baseline: string | null; shown: string | null }[];
    findings: Finding[];
  } | null;
  place: { locked: Location | null; seen: Location | null } | null;
}

export function changesView(device: string, revision: number, snapshot: DeviceRecordSnapshot): ChangesView {
  const { context, value } = snapshot;
  const { verdict, baseline, place } = context;
  const open = verdict?.genuine && !verdict.accepted;
  const moved = (value as Record<string, string>).location === 'umd';
  return {
    device,
    revision,
    serial: context.serial,
    account: context.account?.id ?? '',
    trust: trustOf(snapshot),
    software: open
      ? {
          attempt: verdict.attempt,
          at: verdict.at,
          from: baseline?.versions ?? null,
          to: verdict.versions,
          pcrs: differing(baseline?.pcrs ?? {}, verdict.pcrs),
          findings: verdict.findings,
        }
      : null,
    place: moved ? { locked: place.locked, seen: place.seen } : null,
  };
}

function differing(baseline: Record<string, string>, shown: Record<string, string>) {
  return [...new Set([...Object.keys(baseline), ...Object.keys(shown)])]
    .filter((pcr) => baseline[pcr] !== shown[pcr])
    .map((pcr) => ({ pcr: Number(pcr), baseline: baseline[pcr] ?? null, shown: shown[pcr] ?? null }))
    .sort((one, other) => one.pcr - other.pcr);
}
