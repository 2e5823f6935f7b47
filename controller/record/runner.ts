// The record runner: load the snapshot, make the pure transition, commit {snapshot, journal, effects, timers} in one
// transaction, then carry the effects out. Nothing lives in memory that a `kill -9` may not take: what was committed and
// not done is done at the next start.
import { randomUUID } from 'node:crypto';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { initialTransition } from 'xstate';
import { takeStep } from '../../formats/recording/step.ts';
import type { Clock } from '../../machines/clock.ts';
import type { DeviceRecordEvent, DeviceRecordSnapshot } from '../../machines/device-record.ts';
import {
  type AuditEntry,
  type Effect,
  type EscrowRow,
  type RecordSummary,
  type Step,
  StepConflict,
  type Store,
  type TimerRow,
} from '../store/store.ts';
import type { AttemptSpans } from '../tracing.ts';
import { factsOf, trustOf } from './facts.ts';
import type { Judged, RecordRecorder } from './recorder.ts';
import { type RecordChart, recordChart, restoreRecord, storedRecord } from './snapshot.ts';

/** An event as its sender knows it; the runner stamps it. */
type Unstamped<Event> = Event extends unknown ? Omit<Event, 'at' | 'dice'> : never;
export type RecordEvent = Unstamped<DeviceRecordEvent>;

/** What is stored together with a step, when the record took it. */
export interface StepExtras {
  /** Stored if the record lists this version after the step. */
  escrow?: EscrowRow;
  evidence?: { id: string; bytes: Uint8Array };
  /** What the verdict rests on, for the recording of the attempt. */
  judged?: Judged;
  /** The due timer that the event is made of: the step is made by whoever takes it, and by nobody else. */
  timer?: TimerRow;
  /** A person made it: kept with the step, and with how the record stood before and after. */
  decided?: Decided;
}

export interface Decided extends Pick<AuditEntry, 'by' | 'what' | 'reason'> {
  /** The step is made from this version of the record, or not at all. */
  ifRevision?: number;
}

/** The record is not what somebody looked at when they decided. */
export class RevisionChanged extends Error {
  readonly revision: number;
  constructor(revision: number) {
    super('the record of the device has moved on since you looked; look again, and decide again');
    this.name = 'RevisionChanged';
    this.revision = revision;
  }
}

export interface RunnerOptions {
  store: Store;
  clock: Clock;
  /**
   * Carries out one effect. May be called again for the same one.
   *
   * @param evidence that was stored together with it, at the first time
   */
  perform(effect: Effect, runner: RecordRunner, evidence?: Step['evidence']): Promise<void>;
  watch?(event: RunnerEvent): void;
  /** Keeps each attempt, and tells it to those who read along. */
  recorder?: RecordRecorder;
  /** Told what was done, and how long it took. */
  spans?: Pick<AttemptSpans, 'now' | 'work'>;
  /** Default: today's. */
  chart?: RecordChart;
}

/** One step of a record, for the story, the inspector and recordings. */
export interface RunnerEvent {
  device: string;
  at: number;
  event: RecordEvent;
  before: unknown;
  after: unknown;
  ignored: boolean;
  effects: readonly Effect[];
  snapshot: DeviceRecordSnapshot;
}

/** Carried out by the runner itself, in the same transaction. */
const timerEffects = new Set(['setTimer', 'clearTimer']);
const outboxEffects = new Set(['reply', 'verify', 'push']);
const conflictTries = 10;
const latestKept = 512;
/** Effects that are taken over at once. */
const mostRecovered = 1000;

export class RecordRunner {
  readonly #options: RunnerOptions;
  readonly #chart: RecordChart;
  /** The last step of each device: one at a time in this process, the store's versions among processes. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /**
   * How records stood after their last step here: of those that are busy, the next step needs no reading. Another controller
   * may have stepped one meanwhile; then the commit conflicts, and the record is read.
   */
  readonly #latest = new LRUCache<string, { version: number; snapshot: DeviceRecordSnapshot }>({
    max: latestKept,
  });
  /** What is under way, by the id of its effect. */
  readonly #performing = new Map<string, Promise<void>>();
  /** Effects that the store is told next, all at once. */
  #done: string[] = [];
  #telling: Promise<void> | null = null;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#chart = options.chart ?? recordChart;
  }

  /** The record as it stands; null for a device that nobody has seen. */
  async read(device: string): Promise<DeviceRecordSnapshot | null> {
    const latest = this.#latest.get(device);
    if (latest && latest.version === (await this.#options.store.version(device))) return latest.snapshot;
    return (await this.#load(device))?.snapshot ?? null;
  }

  /** The record as this controller last saw it: another one may have stepped it since. */
  async latest(device: string): Promise<DeviceRecordSnapshot | null> {
    return this.#latest.get(device)?.snapshot ?? (await this.read(device));
  }

  /**
   * Steps a record, and sees its effects off. Resolves when the step is stored; effects go on.
   * Rejects with TimerTaken where somebody else took the timer, RevisionChanged, StoreError, and StepConflict after ten.
   */
  send(device: string, event: RecordEvent, extras: StepExtras = {}): Promise<DeviceRecordSnapshot> {
    const turn = (this.#turns.get(device) ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => this.#step(device, event, extras));
    this.#turns.set(device, turn);
    const forget = () => {
      if (this.#turns.get(device) === turn) this.#turns.delete(device);
    };
    turn.then(forget, forget);
    return turn;
  }

  /** Carries out what an earlier life, or another controller, left behind, and what failed. */
  async recover(): Promise<number> {
    const pending = await this.#options.store.pending(mostRecovered);
    const left = pending.filter(({ id }) => !this.#performing.has(id));
    for (const effect of left) this.#perform(effect);
    return left.length;
  }

  /** Resolves when no effect is under way. */
  async settled(): Promise<void> {
    while (this.#performing.size > 0 || this.#turns.size > 0) {
      await Promise.allSettled([...this.#performing.values(), ...this.#turns.values()]);
    }
  }

  async #step(device: string, event: RecordEvent, extras: StepExtras): Promise<DeviceRecordSnapshot> {
    const { store, clock, watch, recorder, spans } = this.#options;
    const chart = this.#chart;
    for (let tries = 1; ; tries++) {
      const wanted = extras.decided?.ifRevision;
      // Somebody may have looked through another controller, at what this one has not heard of.
      if (wanted !== undefined && wanted !== this.#latest.get(device)?.version) this.#latest.delete(device);
      const latest = this.#latest.get(device) ?? (await this.#load(device));
      const before = latest?.snapshot ?? initialTransition(chart.machine)[0];
      const from = latest?.version ?? 0;
      if (wanted !== undefined && wanted !== from) throw new RevisionChanged(from);
      const stamped = { ...event, at: clock.now(), dice: clock.random() } as DeviceRecordEvent;
      const taken = takeStep(chart.machine, before, stamped);
      const { after } = taken;
      const named = taken.actions as readonly { type: string; params?: object }[];
      const effects = named
        .filter(({ type }) => outboxEffects.has(type))
        .map(({ type, params }) => ({ id: randomUUID(), device, type, params: params ?? {} }));
      const attempt = recorder?.step(device, before, stamped, taken, extras.judged);
      const timers = named.filter(({ type }) => timerEffects.has(type));
      const step: Step = {
        device,
        from,
        snapshot: storedRecord(after, chart),
        journal: { at: stamped.at, event: event.type, body: journalBody(event) },
        effects,
        setTimers: timers
          .filter(({ type }) => type === 'setTimer')
          .map(({ params }) => params as { timer: string; at: number }),
        clearTimers: timers
          .filter(({ type }) => type === 'clearTimer')
          .map(({ params }) => (params as { timer: string }).timer),
        summary: summaryOf(after),
        ...extrasOf(extras, after, stamped.at),
        ...(extras.decided ? { audit: auditOf(device, extras.decided, before, after, stamped.at) } : {}),
        ...(attempt ? { attempt } : {}),
      };
      const start = spans?.now() ?? 0;
      try {
        await store.commit(step);
        spans?.work({ device, what: 'commit', event, start, end: spans.now(), failed: null });
        this.#latest.set(device, { version: from + 1, snapshot: after });
      } catch (error) {
        this.#latest.delete(device);
        if (!(error instanceof StepConflict) || tries >= conflictTries) throw error;
        // Another controller is at the same record: without chance in it one of the two could lose every time.
        await setTimeout(clock.random() * 2 ** tries);
        continue;
      }
      if (attempt) recorder?.stepped(device, attempt, extras.judged);
      const ignored = named.some(({ type }) => type === 'ignored');
      watch?.({
        device,
        at: stamped.at,
        event,
        before: before.value,
        after: after.value,
        ignored,
        effects,
        snapshot: after,
      });
      for (const effect of effects) this.#perform(effect, step.evidence);
      return after;
    }
  }

  async #load(device: string): Promise<{ version: number; snapshot: DeviceRecordSnapshot } | null> {
    const row = await this.#options.store.load(device);
    return row && { version: row.version, snapshot: restoreRecord(row.snapshot, this.#chart) };
  }

  #perform(effect: Effect, evidence?: Step['evidence']): void {
    const { perform, spans } = this.#options;
    const { device } = effect;
    const start = spans?.now() ?? 0;
    const told = (failed: string | null) =>
      spans?.work({ device, what: 'effect', effect, start, end: spans.now(), failed });
    const work = perform(effect, this, evidence)
      .then(
        () => told(null),
        (error: unknown) => {
          told('internal.error');
          throw error;
        },
      )
      .then(() => this.#tellDone(effect.id))
      // What failed stays in the store, and is tried again when somebody recovers.
      .catch(() => undefined)
      .finally(() => this.#performing.delete(effect.id));
    this.#performing.set(effect.id, work);
  }

  #tellDone(effect: string): Promise<void> {
    this.#done.push(effect);
    this.#telling ??= setImmediate().then(() => {
      this.#telling = null;
      return this.#options.store.done(this.#done.splice(0));
    });
    return this.#telling;
  }
}

function summaryOf(snapshot: DeviceRecordSnapshot): RecordSummary {
  const { serial, uuid, account, seen } = snapshot.context;
  const facts = factsOf(snapshot);
  return { serial, uuid, account: account?.id ?? '', trust: trustOf(snapshot), seen, facts };
}

function auditOf(
  device: string,
  { by, what, reason }: Decided,
  before: DeviceRecordSnapshot,
  after: DeviceRecordSnapshot,
  at: number,
): AuditEntry {
  const account = (after.context.account ?? before.context.account)?.id ?? '';
  const views = { before: decisionView(before), after: decisionView(after) };
  return { at, by, what, reason, subject: device, account, ...views };
}

/** What decisions change, without what only machines need. */
function decisionView(snapshot: DeviceRecordSnapshot): object {
  const { account, baseline, acceptance, verdict, upgrade, place, rotate, reenrol, config } =
    snapshot.context;
  return {
    trust: trustOf(snapshot),
    account: account?.id ?? null,
    baseline: baseline && { ...baseline.versions, attempt: baseline.attempt },
    accepted: acceptance?.attempt ?? null,
    shown: verdict && { ...verdict.versions, attempt: verdict.attempt },
    upgrade: upgrade && { from: upgrade.from, to: upgrade.to, until: upgrade.until },
    place: place.locked,
    rotate,
    reenrol,
    config: config.version,
  };
}

function extrasOf(extras: StepExtras, after: DeviceRecordSnapshot, at: number): Partial<Step> {
  const { escrow, evidence, timer } = extras;
  const taken = escrow && after.context.escrow.some(({ version }) => version === escrow.version);
  const judged = evidence && after.context.attempt?.id === evidence.id;
  return {
    ...(timer ? { timer } : {}),
    ...(taken ? { escrow } : {}),
    ...(judged ? { evidence: { ...evidence, at } } : {}),
  };
}

/** What people read later: the event without what only machines need. */
export function journalBody(event: RecordEvent): object {
  const { type: _, ...body } = event as { type: string } & Record<string, unknown>;
  if (event.type === 'certificate.received') {
    const { identity, request } = event;
    const { akName, ekName, ekTrust } = identity;
    return { request, akName, ekName, ekTrust };
  }
  if (event.type !== 'verdict.given') return withoutSettings(body);
  const { accepted, genuine, grounds, findings, versions } = event.verdict;
  return { attempt: event.attempt, accepted, genuine, grounds, findings, versions };
}

/** With the names of settings in the place of their values, which are not for everybody who may know what happened. */
export function withoutSettings<Body extends object>(body: Body): Body {
  const { settings } = body as { settings?: unknown };
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) return body;
  return { ...body, settings: Object.keys(settings) };
}
