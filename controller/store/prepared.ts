// A step as the texts, numbers and bytes that an engine keeps: it can go to another thread as it is, and what is costly to make
// of it is made before anything waits for the disk.
import { type AuditEntry, auditValues, type EscrowRow, type Step, type TimerRow } from './store.ts';

export interface PreparedStep {
  readonly device: string;
  readonly from: number;
  /** JSON, as the other texts below. */
  readonly snapshot: string;
  /** Serial number, UUID, account, trust, last seen, facts. */
  readonly summary: readonly [string, string, string, string, number, string];
  readonly journal: { readonly at: number; readonly event: string; readonly body: string };
  readonly effects: readonly { readonly id: string; readonly type: string; readonly params: string }[];
  readonly setTimers: readonly { readonly timer: string; readonly at: number }[];
  readonly clearTimers: readonly string[];
  readonly escrow: EscrowRow | null;
  readonly evidence: { readonly id: string; readonly bytes: Uint8Array; readonly at: number } | null;
  readonly timer: TimerRow | null;
  readonly attempt: PreparedLines | null;
  readonly audit: ReturnType<typeof auditValues> | null;
}

/** What a step adds to the recording of an attempt. */
export interface PreparedLines {
  readonly begins: boolean;
  /** Lines with `\n` between them; before those of a beginning, how the record stood. */
  readonly text: string;
  readonly count: number;
  readonly evidence: string | null;
  readonly outcome: string | null;
}

export function prepared(step: Step): PreparedStep {
  const { device, from, summary, journal, effects, setTimers, clearTimers, escrow, evidence } = step;
  const { serial, uuid, account, trust, seen, facts } = summary;
  return {
    device,
    from,
    snapshot: JSON.stringify(step.snapshot),
    summary: [serial, uuid, account, trust, seen, JSON.stringify(facts)],
    journal: { at: journal.at, event: journal.event, body: JSON.stringify(journal.body) },
    effects: effects.map(({ id, type, params }) => ({ id, type, params: JSON.stringify(params) })),
    setTimers,
    clearTimers,
    escrow: escrow ? { ...escrow, box: alone(escrow.box) } : null,
    evidence: evidence ? { ...evidence, bytes: alone(evidence.bytes) } : null,
    timer: step.timer ?? null,
    attempt: step.attempt ? preparedLines(step.attempt) : null,
    audit: step.audit ? auditValues(step.audit as AuditEntry) : null,
  };
}

function preparedLines({
  begins,
  lines,
  standing,
  evidence,
  outcome,
}: NonNullable<Step['attempt']>): PreparedLines {
  return {
    begins,
    text: (begins ? [standing(), ...lines] : lines).join('\n'),
    count: lines.length,
    evidence: evidence ?? null,
    outcome: outcome ?? null,
  };
}

/** Bytes that are no part of a larger buffer, which would go along to another thread. */
export function alone(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}
