// A recording: lines of JSON. The first says what it is, and of which version; then the charts that made it, each once; then
// what happened, in order. The types below are those of the newest version: upgrade.ts brings older ones there.
import type { AnyStateMachine } from 'xstate';

export const recordingFormat = 'eve-attest recording';
/** 1: the first. Raise it with a step in upgrade.ts whenever a line changes its meaning. */
export const recordingVersion = 1;

/** Bounds of a reader, in characters and lines. What a recorder writes stays below them. */
export const limits = { line: 2 * 1024 * 1024, lines: 2_000_000, charts: 64, depth: 64 } as const;

/** The first line. */
export interface Header {
  recording: typeof recordingFormat;
  version: number;
  /** When it was begun, ms since the epoch. */
  made: number;
  /** Program and version that made it. */
  by: string;
  /** Id of the device that it is of, hex. A reader fills it in from a later line, where it was not known at first. */
  device: string;
  /** What it is of, for a person: `attempt 3`. */
  about?: string;
}

/** What every line after the first bears. */
export interface Place {
  /** Rises from line to line; numbers may be left out. */
  n: number;
  /** Wall clock of what ran the charts, ms since the epoch. */
  at: number;
  /** Monotonic clock of the recorder, ms. */
  mono: number;
  /** `attest-task`, `device-record`, `tpm`, `bus`, … */
  component: string;
}

/** A state of a chart as XState has it: a name, or an object of regions and inner states. */
export type StateValue = string | { [region: string]: StateValue | undefined };

export interface TakenTransition {
  /** Id of the state that it leaves. */
  from: string;
  /** Empty for one that is taken without an event. */
  event: string;
  /** Ids of the states that it enters; none for one that stays. */
  to: string[];
  actions: string[];
}

export type Body =
  /** A chart: its definition (`definitionOf`), and the SHA-256 of its JSON, hex. */
  | { kind: 'chart'; chart: string; hash: string; definition: object }
  /** The device that the header could not name yet. */
  | { kind: 'device'; device: string }
  /** A chart runs, from its beginning or (`restored`) from the state that is given. */
  | {
      kind: 'actor';
      /** Tells the lives of a chart apart. */
      actor: string;
      chart: string;
      hash: string;
      restored: boolean;
      /** What it was begun with. */
      input?: unknown;
      value: StateValue;
      context: Record<string, unknown>;
    }
  /** What reached it. The lines of the same actor up to its `snapshot` say what came of it. */
  | { kind: 'event'; actor: string; event: { type: string } & Record<string, unknown> }
  | { kind: 'microstep'; actor: string; transitions: TakenTransition[] }
  /** An action of its own kind; those that change the context alone are in `transitions`. */
  | { kind: 'action'; actor: string; action: string; params?: unknown }
  /** A port was asked. Its answer is an event: `xstate.done.actor.ID`, `xstate.error.actor.ID`. */
  | { kind: 'invoke'; actor: string; id: string; port: string; input?: unknown }
  /** Where it stands: `context` holds what changed, `removed` the names of what is gone. */
  | {
      kind: 'snapshot';
      actor: string;
      status: string;
      value: StateValue;
      context: Record<string, unknown>;
      removed?: string[];
    }
  | { kind: 'stop'; actor: string }
  /** A message as it was sent or seen; `up` is towards EVC. */
  | {
      kind: 'message';
      link: 'bus' | 'mqtt';
      direction: 'up' | 'down' | 'shown';
      topic: string;
      /** Bytes. */
      size: number;
      /** Decoded; without what is secret. */
      body?: unknown;
      frame?: { kind: string; status: number; retryAfter: number };
      /** As it went over the wire, base64; absent where it holds a secret, which `withheld` then names. */
      bytes?: string;
      withheld?: string[];
    }
  /** A command of the TPM: its handles in hex, the name of its response code, and how long it took. */
  | { kind: 'tpm'; command: string; handles: string[]; code: string; ms: number }
  | { kind: 'power'; on: boolean; reason: string }
  | { kind: 'boot'; id: string; image: string; slot: string }
  | { kind: 'link'; up: boolean; why: string | null }
  | { kind: 'fault'; code: string; text: string }
  /** What EVC judged: the evidence as it was sent (base64), and what it was judged by. */
  | {
      kind: 'evidence';
      attempt: string;
      /** When it was judged, ms since the epoch. */
      judged: number;
      /** Absent where it is not kept any more. */
      bytes?: string;
      basis: Record<string, unknown>;
      verdict: Record<string, unknown>;
    }
  /** Bytes (base64) that other lines name by their SHA-256, hex. */
  | { kind: 'blob'; sha256: string; bytes: string }
  /** Lines that are not here. The state of every chart is unknown until its next `actor`. */
  | { kind: 'dropped'; lines: number; why: string };

export type Kind = Body['kind'];
/** `device` is there where a recording is of several. */
export type LineOf<K extends Kind> = Place & { device?: string } & Extract<Body, { kind: K }>;
export type Line = { [K in Kind]: LineOf<K> }[Kind];

/** The fields of events, contexts and messages of a chart that never reach a recording, as its `meta` declares them. */
export function secretsOf(chart: AnyStateMachine): readonly string[] {
  const { secret } = (chart.config.meta ?? {}) as { secret?: readonly string[] };
  return secret ?? [];
}

/** A recording that cannot be used, and why, for a person. */
export class RecordingError extends Error {
  readonly code: 'none' | 'newer' | 'malformed' | 'oversize';
  /** Counted from 1; 0 where it is about the whole. */
  readonly line: number;
  constructor(code: RecordingError['code'], line: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'RecordingError';
    this.code = code;
    this.line = line;
  }
}
