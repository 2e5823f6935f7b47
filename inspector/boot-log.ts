// The event logs of an attempt beside those of its baseline, event by event. Nothing is verified here: EVC did that, and
// its verdict is in the recording. Digests are compared as the logs state them.
import { align } from '../formats/eventlog/align.ts';
import { describeEvent } from '../formats/eventlog/describe.ts';
import { type EventLog, parseLog } from '../formats/eventlog/parse.ts';
import { eventTypeName } from '../formats/eventlog/types.ts';
import type { Line } from '../formats/recording/format.ts';
import { decodeMessage } from '../formats/wire/envelope.ts';
import { ZAttestQuoteSchema } from '../formats/wire/eve_pb.ts';

type Evidence = Extract<Line, { kind: 'evidence' }>;

export interface LogEntry {
  /** Counts through all logs of the boot, as findings do. */
  index: number;
  pcr: number;
  type: string;
  /** SHA-256 bank, hex. */
  digest: string;
  text: string;
  /** Beside the baseline. `none` where there is no baseline. */
  change: 'same' | 'added' | 'removed' | 'none';
}

/** A log unpacks to no more than this, bytes. */
const largestLog = 4 * 1024 * 1024;

/** The events of the boot; those of the baseline that are gone stand where they were. Rejects with a reason for a person. */
export async function bootLog(
  evidence: Evidence,
  bytes: (base64: string) => Uint8Array<ArrayBuffer>,
  blob: (sha256: string) => string | undefined,
): Promise<LogEntry[]> {
  if (evidence.bytes === undefined) throw new Error('the evidence itself is not in this recording');
  const quote = decodeMessage(ZAttestQuoteSchema, bytes(evidence.bytes));
  const parts: [Uint8Array, Uint8Array][] = [
    [quote.tpmBinaryEventLog, quote.tpmBinaryEventLogHash],
    [quote.configEventLog, quote.configEventLogHash],
  ];
  const sent: Uint8Array[] = [];
  for (const [packed, hash] of parts) {
    if (packed.length > 0) sent.push(await unpacked(packed));
    else if (hash.length > 0) {
      const known = blob(Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join(''));
      if (known !== undefined) sent.push(bytes(known));
    }
  }
  const { software } = evidence.basis as { software?: { baseline?: { logs?: unknown } | null } };
  const named = software?.baseline?.logs;
  const former = (Array.isArray(named) ? named : []).flatMap((one: unknown) => {
    // Named by its hash, as a basis in a recording has it.
    const sha256 = typeof one === 'string' ? one : String((one as { log?: unknown } | null)?.log);
    const known = blob(sha256);
    return known === undefined ? [] : [bytes(known)];
  });
  return compared(former.length > 0 ? events(former) : null, events(sent));
}

interface Event {
  index: number;
  pcr: number;
  type: number;
  data: Uint8Array;
  digest: Uint8Array;
}

function events(logs: readonly Uint8Array[]): Event[] {
  const all: Event[] = [];
  let count = 0;
  for (const log of logs.map((one): EventLog => parseLog(one))) {
    for (const event of log.events) {
      const digest = event.extends ? event.digest('sha256') : undefined;
      if (digest) all.push({ index: count, pcr: event.pcr, type: event.type, data: event.data, digest });
      count++;
    }
  }
  return all;
}

function compared(before: readonly Event[] | null, after: readonly Event[]): LogEntry[] {
  if (!before) return after.map((event) => entry(event, 'none'));
  const added = new Set<Event>();
  const removed = new Map<number, Event[]>();
  for (const pcr of new Set([...before, ...after].map((event) => event.pcr))) {
    const of = (list: readonly Event[]) => list.filter((event) => event.pcr === pcr);
    for (const hunk of align(of(before) as never, of(after) as never)) {
      for (const event of hunk.added) added.add(event as unknown as Event);
      const place = (hunk.added[0] ?? of(after)[0])?.index ?? 0;
      removed.set(place, [...(removed.get(place) ?? []), ...(hunk.removed as unknown as Event[])]);
    }
  }
  return after.flatMap((event) => [
    ...(removed.get(event.index) ?? []).map((gone) => entry(gone, 'removed')),
    entry(event, added.has(event) ? 'added' : 'same'),
  ]);
}

function entry(event: Event, change: LogEntry['change']): LogEntry {
  const digest = Array.from(event.digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return {
    index: event.index,
    pcr: event.pcr,
    type: eventTypeName(event.type),
    digest,
    text: describeEvent(event),
    change,
  };
}

async function unpacked(packed: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([packed.slice()]).stream().pipeThrough(new DecompressionStream('gzip'));
  const reader = stream.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > largestLog) {
      await reader.cancel();
      throw new Error(`a log unpacks to over ${largestLog} bytes`);
    }
    parts.push(value as Uint8Array<ArrayBuffer>);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
