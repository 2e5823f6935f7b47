// What EVC's API answers, as the page reads it: docs/api says the same in full.
import type { FleetRow } from '../formats/filter/row.ts';
import type { Finding, Location } from '../machines/flow.ts';

export interface Versions {
  image: string;
  firmware: string;
}

export interface DeviceRow extends FleetRow {
  /** Version of the record. */
  revision: number;
}

export interface DeviceDetails extends DeviceRow {
  states: Record<string, string>;
  verdict: {
    attempt: string;
    /** ms since the epoch. */
    at: number;
    accepted: boolean;
    genuine: boolean;
    grounds: string | null;
    findings: Finding[];
    versions: Versions | null;
  } | null;
  baseline: { versions: Versions; at: number; grounds: string } | null;
  upgrade: { from: string; to: string; until: number } | null;
  upgraded: {
    from: string;
    to: string;
    at: number;
    how: string;
    why: { code: string; text: string } | null;
  } | null;
  lock: Lock;
  place: Place;
  escrow: { keyId: string; version: number; at: number }[];
  ekTrust: string;
  tpm: { ekName: string; akName: string } | null;
  refusedEnrolment: { code: string; text: string; at: number; count: number } | null;
  config: number;
  online: boolean;
}

/** How far a device may be from where it was locked to, in metres, and what it meets then: `report` or `block`. */
export interface Lock {
  locationLock: boolean;
  radius: number;
  moved: string;
}

export interface AccountDetails extends Lock {
  id: string;
  kind: string;
  requireEkCertificate?: boolean;
  approval?: boolean;
}

export interface DeviceSettings {
  device: string;
  /** Version of the record. */
  revision: number;
  settings: Record<string, string>;
}

export interface Place {
  locked: Location | null;
  seen: Location | null;
}

/** What an acceptance would change. */
export interface Changes {
  device: string;
  revision: number;
  serial: string;
  account: string;
  trust: string;
  software: {
    /** Of the evidence that shows it. */
    attempt: string;
    at: number;
    from: Versions | null;
    to: Versions | null;
    pcrs: { pcr: number; baseline: string | null; shown: string | null }[];
    findings: Finding[];
  } | null;
  place: Place | null;
}

export interface AttemptRow {
  attempt: number;
  begun: number;
  ended: number;
  steps: number;
  dropped: number;
  /** Id of the evidence that was judged; empty before. */
  evidence: string;
  outcome: string;
}

export interface JournalEntry {
  seq: number;
  at: number;
  event: string;
  body: Record<string, unknown>;
}

export interface AuditEntry {
  seq: number;
  at: number;
  by: string;
  what: string;
  subject: string;
  account: string;
  reason: string;
  before: Record<string, unknown> | null;
  after: Record<string, unknown> | null;
}

export const progresses = ['committed', 'assigned', 'failed', 'skipped', 'waiting'] as const;
export type Progress = (typeof progresses)[number];

export interface Rollout {
  id: string;
  version: string;
  by: string;
  reason: string;
  created: number;
  /** Percent of the devices, ascending. */
  stages: number[];
  stage: number;
  haltAt: number;
  atOnce: number;
  /** ms: how long a device may take, and how long the image has to hold. */
  window: number;
  testWindow: number;
  state: 'running' | 'halted' | 'stopped' | 'cancelled' | 'done';
  why: string;
  counts: Record<Progress | 'all', number>;
}

export interface RolloutDevices extends Rollout {
  devices: { device: string; serial: string; progress: Progress; why: string }[];
}

export interface Image {
  version: string;
  /** Of the file, hex; empty when only measurements are known. */
  sha256: string;
  size: number;
  added: number;
  source: { kind: string; signer?: string };
  measurements: number;
}

/** A verdict in short. */
export interface Said {
  accepted: boolean;
  genuine: boolean;
  grounds: string | null;
  finding: Finding | null;
}

export interface TrialVerdict {
  device: string;
  serial: string;
  account: string;
  /** Id of the evidence. */
  attempt: string;
  judged: number;
  changes: boolean;
  before: Said;
  after: Said;
}

/** What a change would say of the evidence of some devices; `next` is `after` of the page behind it. */
export interface TrialPage {
  devices: number;
  verdicts: TrialVerdict[];
  /** What cannot be judged again, and the code of why. */
  skipped: { device: string; serial: string; attempt: string; why: string }[];
  next: string | null;
}

export const roles = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof roles)[number];

/** Whose token this is. */
export interface Caller {
  name: string;
  role: Role;
}
