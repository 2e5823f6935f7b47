// What EVC keeps, and the one transaction that everything hangs on: the new snapshot of a record, its journal, its effects
// and its timers are stored together or not at all.
import type { FleetFacts, FleetRow } from '../../formats/filter/row.ts';

export interface RecordRow {
  device: string;
  /** Raised with each step; a step counts only on the version that it was made from. */
  version: number;
  /** Persisted snapshot of the record's chart. */
  snapshot: object;
}

export interface JournalEntry {
  at: number;
  event: string;
  /** JSON; never a secret. */
  body: object;
}

/** Something that the record asked for, kept until it is done. */
export interface Effect {
  id: string;
  device: string;
  type: string;
  params: object;
}

export interface TimerRow {
  device: string;
  timer: string;
  /** ms since the epoch. */
  at: number;
}

/** A key in escrow: encrypted for the device's TPM, so EVC cannot read it. */
export interface EscrowRow {
  device: string;
  version: number;
  keyId: string;
  box: Uint8Array;
  at: number;
}

export interface Step {
  device: string;
  /** Version that the step was made from, 0 for a new record. */
  from: number;
  snapshot: object;
  journal: JournalEntry;
  effects: readonly Effect[];
  setTimers: readonly { timer: string; at: number }[];
  clearTimers: readonly string[];
  /** Shown in lists without reading snapshots. */
  summary: RecordSummary;
  escrow?: EscrowRow;
  evidence?: { id: string; bytes: Uint8Array; at: number };
  /** The due timer that this step answers; taken with it, or the step is none. */
  timer?: TimerRow;
  /** Its lines in the recording of the attempt that it belongs to. */
  attempt?: AttemptLines;
  /** Somebody decided it. */
  audit?: AuditEntry;
}

export interface StoreHealth {
  /** Effects that are not done. */
  effects: number;
  /** Devices with a key in escrow. */
  escrowed: number;
  /** Of the device whose newest key is the oldest, ms since the epoch; null where there is none. */
  oldestEscrow: number | null;
}

/** As any engine gives it, of `healthQuery`. */
export function healthRow(row: Record<string, unknown> | undefined): StoreHealth {
  const { effects = 0, escrowed = 0, oldest = null } = row ?? {};
  return {
    effects: Number(effects),
    escrowed: Number(escrowed),
    oldestEscrow: oldest === null ? null : Number(oldest),
  };
}

/** One that is there is written over only where it is the one that is named; null names none. */
export const restoredEscrow = (broken: string) =>
  `on conflict (device, version) do update set key_id = excluded.key_id, box = excluded.box, at = excluded.at where escrow.box = ${broken}`;

export const healthQuery = `select (select count(*) from effects) as effects, count(*) as escrowed, min(at) as oldest
  from (select max(at) as at from escrow group by device) as newest`;

/** What a person did: who, when, what, why, and what was changed. */
export interface AuditEntry {
  at: number;
  /** Name of the token. */
  by: string;
  what: string;
  /** Device, account, or whatever else it was done to, by id. */
  subject: string;
  /** Account that it concerns; empty for what concerns all. */
  account: string;
  /** Empty where none was asked for. */
  reason: string;
  before: object | null;
  after: object | null;
}

/** Which entries, newest first. */
export interface AuditQuery {
  /** Older than the one with this number. */
  before?: number;
  limit: number;
  subject?: string;
  /** Of these accounts alone. */
  accounts?: readonly string[] | null;
}

/** What a step adds to the recording of an attempt. */
export interface AttemptLines {
  /** A new attempt begins with it. */
  begins: boolean;
  lines: readonly string[];
  /** How the record stood before it, as a line: for the beginning of a recording. */
  standing(): string;
  /** Id of the evidence that was judged, and in a word what came of it. */
  evidence?: string;
  outcome?: string;
}

/** The recording of an attempt, in a list. A device keeps the last `attemptsKept`. */
export interface AttemptRow {
  /** Counted from 1, for each device. */
  attempt: number;
  /** First and last step, ms since the epoch. */
  begun: number;
  ended: number;
  steps: number;
  /** Lines that are left out, since an attempt has `attemptBytes` at the most. */
  dropped: number;
  evidence: string;
  /** Empty before the verdict. */
  outcome: string;
}

/** A row of the table, as any engine gives it. */
export function attemptRow(row: Record<string, unknown>): AttemptRow {
  return {
    attempt: Number(row.attempt),
    begun: Number(row.begun),
    ended: Number(row.ended),
    steps: Number(row.steps),
    dropped: Number(row.dropped),
    evidence: String(row.evidence),
    outcome: String(row.outcome),
  };
}

export const attemptsKept = 8;
/** UTF-16 units, which is bytes for what is mostly ASCII. */
export const attemptBytes = 256 * 1024;

export interface RecordSummary {
  serial: string;
  uuid: string;
  account: string;
  trust: string;
  seen: number;
  facts: FleetFacts;
}

/** A device in a list; `revision` is the version of its record. */
export interface DeviceRow extends FleetRow {
  revision: number;
}

/** As any engine gives it. */
export function deviceRow(row: Record<string, unknown>): DeviceRow {
  return {
    device: String(row.device),
    revision: Number(row.version),
    serial: String(row.serial),
    uuid: String(row.uuid),
    account: String(row.account),
    trust: String(row.trust),
    seen: Number(row.seen),
    labels: JSON.parse(String(row.labels)) as string[],
    facts: JSON.parse(String(row.facts)) as FleetFacts,
  };
}

export const deviceColumns = 'device, version, serial, uuid, account, trust, seen, labels, facts';

/** As any engine gives it. */
export function auditRow(row: Record<string, unknown>): AuditEntry & { seq: number } {
  const json = (value: unknown) => (value === null ? null : (JSON.parse(String(value)) as object));
  return {
    seq: Number(row.seq),
    at: Number(row.at),
    by: String(row.who),
    what: String(row.what),
    subject: String(row.subject),
    account: String(row.account),
    reason: String(row.reason),
    before: json(row.was),
    after: json(row.became),
  };
}

/** In the order of the columns `at, who, what, subject, account, reason, was, became`. */
export function auditValues({ at, by, what, subject, account, reason, before, after }: AuditEntry) {
  const json = (value: object | null) => (value === null ? null : JSON.stringify(value));
  return [at, by, what, subject, account, reason, json(before), json(after)] as const;
}

/** Rows as any engine gives them. */
export function countRow(row: Record<string, unknown>): { account: string; trust: string; devices: number } {
  return { account: String(row.account), trust: String(row.trust), devices: Number(row.devices) };
}

export function effectRow(row: Record<string, unknown>): Effect {
  const params = JSON.parse(String(row.params)) as object;
  return { id: String(row.id), device: String(row.device), type: String(row.type), params };
}

export function journalRow(row: Record<string, unknown>): JournalEntry & { seq: number } {
  const body = JSON.parse(String(row.body)) as object;
  return { seq: Number(row.seq), at: Number(row.at), event: String(row.event), body };
}

export function timerRow(row: Record<string, unknown>): TimerRow {
  return { device: String(row.device), timer: String(row.timer), at: Number(row.at) };
}

/** Accounts, keys, images: things that people make, by kind and id. */
export interface Document<Body> {
  id: string;
  body: Body;
}

export type DocumentKind =
  | 'account'
  | 'onboarding-key'
  | 'onboarding-use'
  | 'device'
  | 'log-upload'
  | 'serial'
  | 'tpm'
  | 'image'
  | 'firmware'
  | 'signer'
  | 'allow-rule'
  | 'setting'
  | 'token'
  | 'session'
  | 'idempotency'
  | 'device-lock'
  | 'rollout'
  | 'webhook'
  | 'enrolment';

/** Somebody else stepped this record meanwhile: load it again. */
export class StepConflict extends Error {
  constructor(device: string) {
    super(`the record of ${device} changed meanwhile`);
    this.name = 'StepConflict';
  }
}

/** Somebody else answered this timer, or it was set anew. */
export class TimerTaken extends Error {
  constructor({ device, timer }: TimerRow) {
    super(`the timer ${timer} of ${device} is not due any more`);
    this.name = 'TimerTaken';
  }
}

/** What the store is not: this version's, or in order. The message says what to do. */
export class StoreError extends Error {
  readonly code: 'version' | 'broken' | 'full' | 'taken' | 'closed' | 'unreachable' | 'newer' | 'ahead';
  constructor(code: StoreError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StoreError';
    this.code = code;
  }
}

export interface Store {
  /** What a store does for itself, at the start and once a day. */
  maintain(now: number): Promise<void>;
  load(device: string): Promise<RecordRow | null>;
  /** Of its record, without reading it; 0 where there is none. */
  version(device: string): Promise<number>;
  /** Throws StepConflict, TimerTaken. */
  commit(step: Step): Promise<void>;
  /** An effect that was carried out. */
  done(effects: readonly string[]): Promise<void>;
  /**
   * Effects that were stored and not reported done, oldest first. Where controllers share the store: those that nobody has
   * worked at for a while, and from now on the caller does.
   */
  pending(limit: number): Promise<Effect[]>;
  due(now: number, limit: number): Promise<TimerRow[]>;
  /** The next timer, null when there is none. */
  nextTimer(): Promise<number | null>;
  /** In the order of ids. @param accounts of these alone; null: of all */
  list(after: string, limit: number, accounts?: readonly string[] | null): Promise<DeviceRow[]>;
  /** Devices by id, the start of it, UUID or serial number, in the order of ids. */
  find(words: string, limit: number, accounts?: readonly string[] | null): Promise<DeviceRow[]>;
  /** Devices by account and trust. */
  counts(): Promise<{ account: string; trust: string; devices: number }[]>;
  /** How much waits, and how old what must not be lost is. */
  health(): Promise<StoreHealth>;
  /** What people call a device; false where there is none. Decides nothing, so it is no step of the record. */
  label(device: string, labels: readonly string[]): Promise<boolean>;
  bySerial(serial: string): Promise<string | null>;
  journal(device: string, limit: number): Promise<(JournalEntry & { seq: number })[]>;
  /**
   * Lines of all devices behind this number, in its order. Where controllers share the store, a line may come into sight after one
   * with a higher number; until then a number is missing between them.
   */
  journalAfter(seq: number, limit: number): Promise<(JournalEntry & { seq: number; device: string })[]>;
  /** Number of the last line; 0 where there is none. */
  journalEnd(): Promise<number>;
  escrowed(device: string, version: number): Promise<EscrowRow | null>;
  lastEscrow(device: string): Promise<number>;
  /** Puts a key back where none is, or `broken` is; false where another one is there, which stays. */
  restoreEscrow(row: EscrowRow, broken: Uint8Array | null): Promise<boolean>;
  evidence(id: string): Promise<Uint8Array | null>;
  /** Newest first. */
  attempts(device: string): Promise<AttemptRow[]>;
  /** Lines without numbers, in order; null when there is no such attempt any more. */
  attemptLines(device: string, attempt: number): Promise<string[] | null>;
  putBlob(sha256: string, bytes: Uint8Array): Promise<void>;
  blob(sha256: string): Promise<Uint8Array | null>;
  audit(entry: AuditEntry): Promise<void>;
  audits(query: AuditQuery): Promise<(AuditEntry & { seq: number })[]>;
  put(kind: DocumentKind, id: string, body: object): Promise<void>;
  /** False where there is none. */
  remove(kind: DocumentKind, id: string): Promise<boolean>;
  /** Changes a document, or makes it, in one transaction; `change` gets null where there is none. */
  update<Body extends object>(
    kind: DocumentKind,
    id: string,
    change: (body: Body | null) => Body,
  ): Promise<Body>;
  get<Body>(kind: DocumentKind, id: string): Promise<Body | null>;
  all<Body>(kind: DocumentKind): Promise<Document<Body>[]>;
  /** Of all documents of a kind, without reading them. */
  ids(kind: DocumentKind): Promise<string[]>;
  close(): Promise<void>;
}
