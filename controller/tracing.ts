// EVC's spans of an attempt: what a device asked, what was judged and stored, and the answer, below the span that the device tells.
import { LRUCache } from 'lru-cache';
import { readTopic } from '../formats/wire/topics.ts';
import type { Attempt, Reply } from '../machines/device-record.ts';
import { preciseNow, type Span, type Spans, spanId, type TraceIds, traceOf } from '../telemetry/spans.ts';
import type { RecordEvent } from './record/runner.ts';
import type { Effect } from './store/store.ts';

/** Work of the record runner, as it was done. */
export type Work = { device: string; start: number; end: number; failed: string | null } & (
  | { what: 'commit'; event: RecordEvent }
  | { what: 'effect'; effect: Effect }
);

/** A request that is not answered yet. */
interface Open {
  ids: TraceIds;
  id: string;
  name: string;
  start: number;
  attributes: Record<string, string>;
}

/** Requests and devices that are remembered; what nobody answers is forgotten. */
const most = 20_000;

const names = {
  'nonce.requested': 'evc nonce',
  'quote.received': 'evc quote',
  'key.received': 'evc escrow',
} as const;

export class AttemptSpans {
  readonly #spans: Spans;
  readonly #now: () => number;
  /** When a request came, by device and request. */
  readonly #came = new LRUCache<string, number>({ max: most });
  readonly #open = new LRUCache<string, Open>({ max: most });
  /** Requests that wait for a verdict, by attempt. */
  readonly #judged = new LRUCache<string, string>({ max: most });
  /** The last attempt of each device, which a key comes after. */
  readonly #last = new LRUCache<string, TraceIds>({ max: most });

  constructor(spans: Spans, now = preciseNow) {
    this.#spans = spans;
    this.#now = now;
  }

  now(): number {
    return this.#now();
  }

  /** A message came. */
  message(text: string): void {
    const topic = readTopic(text);
    if (topic?.direction === 'up' && topic.endpoint === 'attest')
      this.#came.set(`${topic.device} ${topic.request}`, this.#now());
  }

  work(work: Work): void {
    if (work.what === 'commit') this.#committed(work);
    else if (work.effect.type === 'verify') this.#verified(work, work.effect.params as { attempt: Attempt });
    else if (work.effect.type === 'reply') this.#replied(work, work.effect.params as Reply);
  }

  #committed(work: Extract<Work, { what: 'commit' }>): void {
    const { device, event, start } = work;
    const key = this.#requestOf(device, event, start);
    const open = key === null ? undefined : this.#open.get(key);
    if (open) this.#child(open, 'evc commit', work, { 'eve_attest.event': event.type });
    if (event.type !== 'verdict.given' || !open) return;
    const [finding] = event.verdict.findings;
    open.attributes['eve_attest.verdict'] = event.verdict.accepted ? 'accepted' : 'refused';
    if (finding && !event.verdict.accepted) open.attributes['eve_attest.reason'] = finding.code;
  }

  /** The open request that an event is made of, or concludes; null for what belongs to no attempt. */
  #requestOf(device: string, event: RecordEvent, start: number): string | null {
    switch (event.type) {
      case 'nonce.requested':
        return this.#begin(device, event.request.id, names[event.type], traceOf(event.nonceHash), start);
      case 'quote.received': {
        const { id, nonceHash, request } = event.attempt;
        const attempt = { 'eve_attest.attempt': id };
        const key = this.#begin(device, request.id, names[event.type], traceOf(nonceHash), start, attempt);
        this.#judged.set(id, key);
        return key;
      }
      case 'key.received': {
        const ids = this.#last.get(device);
        return ids ? this.#begin(device, event.request.id, names[event.type], ids, start) : null;
      }
      case 'verdict.given':
        return this.#judged.get(event.attempt) ?? null;
      default:
        return null;
    }
  }

  #begin(
    device: string,
    request: string,
    name: string,
    ids: TraceIds,
    start: number,
    more: Record<string, string> = {},
  ): string {
    const key = `${device} ${request}`;
    this.#last.set(device, ids);
    const attributes = { 'eve_attest.device': device, 'eve_attest.request': request, ...more };
    this.#open.set(key, { ids, id: spanId(), name, start: this.#came.get(key) ?? start, attributes });
    this.#came.delete(key);
    return key;
  }

  #verified(work: Work, { attempt }: { attempt: Attempt }): void {
    const open = this.#open.get(this.#judged.get(attempt.id) ?? '');
    if (open) this.#child(open, 'evc verify', work, { 'eve_attest.attempt': attempt.id });
  }

  #replied(work: Work, { request, status, body }: Reply): void {
    const key = `${work.device} ${request.id}`;
    const open = this.#open.get(key);
    if (!open) return;
    this.#child(open, 'evc reply', work, { 'eve_attest.status': status });
    this.#open.delete(key);
    const { ids, id, name, start, attributes } = open;
    const reason = attributes['eve_attest.reason'] ?? (body?.kind === 'refused' ? body.why.code : null);
    this.#spans.tell({
      ...{ ids, id, parent: ids.root, name, kind: 'server', start, end: work.end },
      attributes: { ...attributes, 'eve_attest.status': status },
      failed: reason,
    });
  }

  #child(open: Open, name: string, { start, end, failed }: Work, attributes: Span['attributes']): void {
    const { ids, id: parent } = open;
    this.#spans.tell({ ids, id: spanId(), parent, name, kind: 'internal', start, end, attributes, failed });
  }
}
