// The device's spans of an attempt: the attest task from the nonce to its end, and below it the ports that did the work.
import { createHash } from 'node:crypto';
import { preciseNow, type Spans, spanId, type TraceIds, traceOf } from '../telemetry/spans.ts';
import type { NodeEvent } from './edge-node.ts';
import { bodyOf } from './wiring.ts';

type PortEvent = Extract<NodeEvent, { kind: 'port' }>;
type StateEvent = Extract<NodeEvent, { kind: 'state' }>;

/** Ports of an attempt, by component; those that ask EVC. */
const asking = new Set(['attest-task requestNonce', 'attest-task sendQuote', 'info-task storeKey']);
const working = new Set(['attest-task makeClaims', 'tpm-manager makeQuote']);
/** States in which an attempt is over. */
const over = new Set(['complete', 'restartWait']);
/** Ports of one attempt that are told: one that is tried without end fills nothing. */
const mostSpans = 200;

interface Done {
  name: string;
  kind: 'client' | 'internal';
  start: number;
  end: number;
  failed: string | null;
}

/** Whether a component, where it is a process of its own, has spans to tell. */
export function hasSpans(component: string): boolean {
  return [...asking, ...working].some((name) => name.startsWith(`${component} `));
}

/**
 * Of a whole device, or of one component that is a process of its own. The attest task knows its nonce, and tells the attempt; the
 * others hear on the bus which attempt it is (`heard`), and tell what they did of it.
 */
export class DeviceSpans {
  readonly #spans: Spans;
  readonly #now: () => number;
  readonly #begun = new Map<string, number>();
  /** What was done of this attempt, until its nonce says which trace that is. */
  #done: Done[] = [];
  #start: number | null = null;
  #ids: TraceIds | null = null;

  constructor(spans: Spans, now = preciseNow) {
    this.#spans = spans;
    this.#now = now;
  }

  event(event: NodeEvent): void {
    if (event.kind === 'port') this.#port(event);
    else if (event.kind === 'state' && event.component === 'attest-task') this.#state(event);
    // What was under way went with the machine.
    else if (event.kind === 'power') this.#forget();
  }

  /** What was published on the bus, to a component other than the attest task. */
  heard(topic: string, body: unknown): void {
    if (topic === 'attest-task/AttestNonce') {
      const nonce = bodyOf(topic, body)?.nonce;
      if (nonce !== undefined) this.#ids = idsOf(nonce);
    } else if (topic === 'attest-task/AttestStatus' && over.has(bodyOf(topic, body)?.state ?? '')) {
      const [ids, done] = [this.#ids, this.#done];
      this.#forget();
      if (ids) this.#tell(ids, done);
    }
  }

  #port({ component, port, phase, code }: PortEvent): void {
    const name = `${component} ${port}`;
    const kind = asking.has(name) ? 'client' : 'internal';
    if (kind === 'internal' && !working.has(name)) return;
    const now = this.#now();
    if (phase === 'begins') {
      this.#begun.set(name, now);
      if (name === 'attest-task requestNonce') this.#start ??= now;
      return;
    }
    const start = this.#begun.get(name);
    this.#begun.delete(name);
    if (start === undefined || this.#done.length >= mostSpans) return;
    const failed = phase === 'fails' ? (code ?? 'internal.error') : null;
    this.#done.push({ name: `eve ${name}`, kind, start, end: now, failed });
  }

  #state({ state, context }: StateEvent): void {
    const { nonce = null, error = null } = context as {
      nonce?: string | null;
      error?: { code: string } | null;
    };
    if (this.#start !== null && nonce !== null) this.#ids = idsOf(nonce);
    const stands = typeof state === 'string' ? state : (Object.keys(state as object)[0] ?? '');
    if (over.has(stands)) this.#end(stands === 'complete' ? null : (error?.code ?? 'internal.error'));
  }

  #end(failed: string | null): void {
    const [ids, start, done] = [this.#ids, this.#start, this.#done];
    this.#forget();
    if (!ids || start === null) return;
    this.#tell(ids, done);
    this.#spans.tell({
      ...{ ids, id: ids.root, parent: null, name: 'eve attempt', kind: 'internal', start, end: this.#now() },
      attributes: { 'eve_attest.spans': done.length },
      failed,
    });
  }

  #tell(ids: TraceIds, done: readonly Done[]): void {
    for (const one of done) this.#spans.tell({ ...one, ids, id: spanId(), parent: ids.root, attributes: {} });
  }

  #forget(): void {
    this.#begun.clear();
    this.#done = [];
    this.#start = null;
    this.#ids = null;
  }
}

/** @param nonce hex */
function idsOf(nonce: string): TraceIds {
  return traceOf(createHash('sha256').update(Buffer.from(nonce, 'hex')).digest('hex'));
}
