// Bytes of an event log → what it claims. Nothing here is believed: see replay.ts.

import { FormatError } from '../format-error.ts';
import { digestSize, type HashName, hashId, hashName } from '../tpm2/hash.ts';
import { pcrCount } from '../tpm2/pcrs.ts';
import { Reader } from './reader.ts';
import { type EventFields, EventType, type TaggedDigest } from './types.ts';

/** What a log may cost. Whoever sends it chooses every length in it. */
export interface LogLimits {
  /** Bytes of the whole log. */
  size: number;
  events: number;
  /** Bytes of one event's data. */
  data: number;
  /** Digests of one event, and algorithms of the header. */
  algorithms: number;
}

export const logLimits: LogLimits = {
  size: 2 * 1024 * 1024,
  events: 20_000,
  data: 512 * 1024,
  algorithms: 16,
};

const known: readonly HashName[] = ['sha1', 'sha256', 'sha384', 'sha512'];

/**
 * - `crypto-agile`: a header event, then TCG_PCR_EVENT2 records [PFP 10.2];
 * - `sha1`: TCG_PCR_EVENT records, one SHA-1 digest each [PFP 10.2];
 * - `headerless`: TCG_PCR_EVENT2 records alone, as EVE's measure-config writes them for PCR 14.
 */
export type LogFormat = 'crypto-agile' | 'sha1' | 'headerless';

/** An event log as it was sent: unchecked, for replay.ts to check. */
export interface EventLog {
  readonly format: LogFormat;
  /** What the log says its firmware measures into, unknown algorithms left out. */
  readonly banks: readonly HashName[];
  readonly events: readonly LogEvent[];
  /** Bytes of 0x00 or 0xff after the last event: some kernels hand out the whole area that was reserved. */
  readonly padding: number;
  /** Set when the log ends inside an event: the events before it are here, and this is why there are no more. */
  readonly truncated?: FormatError;
}

/** One TCG_PCR_EVENT or TCG_PCR_EVENT2: views into the log, made when they are asked for. */
export class LogEvent implements EventFields {
  /** Position in the log; the header of a crypto-agile log is event 0. */
  readonly index: number;
  /** Byte offset of the event in the log. */
  readonly offset: number;
  readonly pcr: number;
  readonly type: number;
  readonly #log: Uint8Array;
  readonly #shape: Shape;
  readonly #data: number;
  readonly #end: number;

  constructor(index: number, log: Uint8Array, shape: Shape, bounds: Bounds) {
    this.index = index;
    this.offset = bounds.offset;
    this.pcr = bounds.pcr;
    this.type = bounds.type;
    this.#log = log;
    this.#shape = shape;
    this.#data = bounds.data;
    this.#end = bounds.end;
  }

  /** Bytes of the whole event in the log. */
  get size(): number {
    return this.#end - this.offset;
  }

  get data(): Uint8Array {
    return this.#log.subarray(this.#data, this.#end);
  }

  get digests(): readonly TaggedDigest[] {
    return this.#shape.parts.map(({ hashAlg, at, size }) => ({
      hashAlg,
      digest: this.#log.subarray(this.offset + at, this.offset + at + size),
    }));
  }

  /** The digest of one bank, undefined where the firmware did not measure into it. */
  digest(bank: HashName): Uint8Array | undefined {
    const at = this.#shape.at(bank);
    return at < 0 ? undefined : this.#log.subarray(this.offset + at, this.offset + at + digestSize(bank));
  }

  /** Copies the digest of a bank to `target[at]` on: no view is made, as there are hundreds. False where there is none. */
  copyDigest(bank: HashName, target: Uint8Array, at: number): boolean {
    const offset = this.#shape.at(bank);
    if (offset < 0) return false;
    const start = this.offset + offset;
    const size = digestSize(bank);
    for (let i = 0; i < size; i++) target[at + i] = this.#log[start + i] as number;
    return true;
  }

  /** Whether the event was extended into its PCR: EV_NO_ACTION informs and never extends [PFP 10.4.5]. */
  get extends(): boolean {
    return this.type !== EventType.EV_NO_ACTION;
  }
}

/** Where the digests of an event lie, as offsets from its start. Nearly all events of a log share one. */
class Shape {
  readonly parts: readonly { readonly hashAlg: number; readonly at: number; readonly size: number }[];
  /** Offset of what follows the digests. */
  readonly end: number;
  readonly #known: ReadonlyMap<HashName | undefined, number>;

  constructor(parts: Shape['parts'], end: number) {
    this.parts = parts;
    this.end = end;
    this.#known = new Map(parts.map(({ hashAlg, at }) => [hashName(hashAlg), at]));
  }

  /** Offset of the digest of a bank, -1 if there is none. */
  at(bank: HashName): number {
    return this.#known.get(bank) ?? -1;
  }
}

interface Bounds {
  offset: number;
  pcr: number;
  type: number;
  data: number;
  end: number;
}

/** The log ends inside an event; turned into `EventLog.truncated`. */
class CutShort extends FormatError {}

const sha1Shape = new Shape(
  [{ hashAlg: hashId('sha1'), at: 8, size: digestSize('sha1') }],
  8 + digestSize('sha1'),
);
const noShape = new Shape([], 12);
const headerSignature = 'Spec ID Event03\0';

/**
 * Parses a log in any of the three formats.
 *
 * A log that ends inside an event comes back with the events before it and `truncated` set. Throws FormatError with
 * event, field and byte offset where bytes cannot be what the format says: an unknown algorithm without a size, a PCR
 * that does not exist, a length beyond `limits`, an empty log.
 */
export function parseLog(bytes: Uint8Array, limits: LogLimits = logLimits): EventLog {
  if (bytes.length === 0) throw new FormatError('log', 0, 'is empty');
  if (bytes.length > limits.size)
    throw new FormatError('log', 0, `${bytes.length} bytes, at most ${limits.size}`);
  const log = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new LogParser(log, limits).parse();
}

class LogParser {
  readonly #log: Uint8Array;
  readonly #view: DataView;
  readonly #limits: LogLimits;
  /** Digest sizes by TPM_ALG_ID: those of the header and, where it says nothing, the ones every reader knows. */
  readonly #sizes = new Map<number, number>(known.map((bank) => [hashId(bank), digestSize(bank)]));
  #shape: Shape = noShape;
  /** Where the run of 0x00 or 0xff starts that ends the log: what follows an event from there on is padding. */
  readonly #padding: number;

  constructor(log: Uint8Array, limits: LogLimits) {
    this.#log = log;
    this.#view = new DataView(log.buffer, log.byteOffset, log.byteLength);
    this.#limits = limits;
    this.#padding = paddingOf(log);
  }

  parse(): EventLog {
    const events: LogEvent[] = [];
    const format = this.#format();
    let stated: HashName[] | undefined = format === 'sha1' ? ['sha1'] : undefined;
    let at = 0;
    try {
      while (at < this.#log.length) {
        if (at >= this.#padding) {
          if (at === 0) throw new FormatError('log', 0, 'holds no event');
          break;
        }
        if (events.length === this.#limits.events)
          throw new FormatError('log', at, `more than ${this.#limits.events} events`);
        const legacy = format === 'sha1' || (format === 'crypto-agile' && at === 0);
        const bounds = legacy ? this.#event1(at, events.length) : this.#event2(at, events.length);
        if (format === 'crypto-agile' && at === 0) stated = this.#header(bounds);
        events.push(new LogEvent(events.length, this.#log, legacy ? sha1Shape : this.#shape, bounds));
        at = bounds.end;
      }
    } catch (error) {
      if (!(error instanceof CutShort)) throw error;
      return { format, banks: stated ?? banksOf(events), events, padding: 0, truncated: error };
    }
    return { format, banks: stated ?? banksOf(events), events, padding: this.#log.length - at };
  }

  /** The header event says which; EVE's log of PCR 14 has none and is told from SHA-1 by its first record. */
  #format(): LogFormat {
    const log = this.#log;
    const isHeader = [...headerSignature].every((char, i) => log[32 + i] === char.charCodeAt(0));
    if (isHeader && this.#view.getUint32(4, true) === EventType.EV_NO_ACTION) return 'crypto-agile';
    try {
      this.#event2(0, 0);
    } catch {
      // Whatever is wrong with it will be said when it is read as what it is.
    }
    return this.#shape.parts.length > 0 ? 'headerless' : 'sha1';
  }

  /** TCG_PCR_EVENT: pcrIndex, eventType, digest (SHA-1), eventDataSize, event. */
  #event1(offset: number, index: number): Bounds {
    this.#need(offset, 32, index, 'header');
    return this.#bounds(offset, offset + 28, index);
  }

  /** TCG_PCR_EVENT2: pcrIndex, eventType, TPML_DIGEST_VALUES, eventSize, event. */
  #event2(offset: number, index: number): Bounds {
    this.#need(offset, 12, index, 'header');
    const count = this.#view.getUint32(offset + 8, true);
    if (count > this.#limits.algorithms)
      throw this.#bad(index, 'digests.count', offset + 8, `${count}, at most ${this.#limits.algorithms}`);
    if (!this.#hasShape(offset, count)) this.#shape = this.#readShape(offset, count, index);
    const at = offset + this.#shape.end;
    this.#need(at, 4, index, 'eventSize');
    return this.#bounds(offset, at, index);
  }

  #hasShape(offset: number, count: number): boolean {
    const { parts, end } = this.#shape;
    if (parts.length !== count || offset + end > this.#log.length) return false;
    for (const part of parts)
      if (this.#view.getUint16(offset + part.at - 2, true) !== part.hashAlg) return false;
    return true;
  }

  #readShape(offset: number, count: number, index: number): Shape {
    const parts: { hashAlg: number; at: number; size: number }[] = [];
    let at = offset + 12;
    for (let i = 0; i < count; i++) {
      const field = `digests[${i}].hashAlg`;
      this.#need(at, 2, index, field);
      const hashAlg = this.#view.getUint16(at, true);
      const name = `0x${hashAlg.toString(16).padStart(4, '0')}`;
      const size = this.#sizes.get(hashAlg);
      if (size === undefined)
        throw this.#bad(index, field, at, `algorithm ${name} has no size in the header`);
      if (parts.some((part) => part.hashAlg === hashAlg))
        throw this.#bad(index, field, at, `algorithm ${name} appears twice`);
      this.#need(at, 2 + size, index, `digests[${i}].digest`);
      parts.push({ hashAlg, at: at + 2 - offset, size });
      at += 2 + size;
    }
    return new Shape(parts, at - offset);
  }

  #bounds(offset: number, sizeAt: number, index: number): Bounds {
    const pcr = this.#view.getUint32(offset, true);
    const type = this.#view.getUint32(offset + 4, true);
    const size = this.#view.getUint32(sizeAt, true);
    // Windows writes EV_NO_ACTION with PCR 0xffffffff.
    if (pcr >= pcrCount && type !== EventType.EV_NO_ACTION)
      throw this.#bad(index, 'pcrIndex', offset, `there is no PCR ${pcr}`);
    if (size > this.#limits.data)
      throw this.#bad(index, 'eventSize', sizeAt, `${size} bytes, at most ${this.#limits.data}`);
    this.#need(sizeAt + 4, size, index, 'event');
    return { offset, pcr, type, data: sizeAt + 4, end: sizeAt + 4 + size };
  }

  /**
   * TCG_EfiSpecIdEvent: what TCG_PCR_EVENT2 records need to be read, and the banks [PFP 10.4.5.1]. Where the size of
   * the event leaves the vendor data out, as tpm2-tools takes it, they end the header all the same.
   */
  #header(bounds: Bounds): HashName[] {
    const reader = new Reader(this.#log.subarray(bounds.data, bounds.end), 'events[0].event');
    reader.take(16 + 4 + 4, 'signature');
    const count = reader.u32('numberOfAlgorithms');
    if (count === 0 || count > this.#limits.algorithms)
      reader.fail(`${count}, from 1 to ${this.#limits.algorithms}`, 'numberOfAlgorithms', reader.at - 4);
    const stated: HashName[] = [];
    for (let i = 0; i < count; i++) {
      const algorithm = reader.u16(`digestSizes[${i}].algorithmId`);
      const size = reader.u16(`digestSizes[${i}].digestSize`);
      const bank = hashName(algorithm);
      if (bank ? size !== digestSize(bank) : size === 0 || size > 1024)
        reader.fail(
          `${size} is no digest size of algorithm 0x${algorithm.toString(16)}`,
          `digestSizes[${i}]`,
        );
      this.#sizes.set(algorithm, size);
      if (bank && !stated.includes(bank)) stated.push(bank);
    }
    const vendorInfo = reader.left > 0 ? reader.u8('vendorInfoSize') : 0;
    this.#need(bounds.data + reader.at, vendorInfo, 0, 'event.vendorInfo');
    bounds.end = Math.max(bounds.end, bounds.data + reader.at + vendorInfo);
    return stated;
  }

  #need(at: number, length: number, index: number, field: string): void {
    const have = this.#log.length - at;
    if (have < length)
      throw new CutShort(
        `events[${index}].${field}`,
        at,
        `the log ends here: need ${length} bytes, have ${have}`,
      );
  }

  #bad(index: number, field: string, at: number, problem: string): FormatError {
    return new FormatError(`events[${index}].${field}`, at, problem);
  }
}

function paddingOf(log: Uint8Array): number {
  const fill = log.at(-1);
  let start = log.length;
  if (fill === 0 || fill === 0xff) while (start > 0 && log[start - 1] === fill) start--;
  return start;
}

/** The banks that a log without header has a digest for in each event. */
function banksOf(events: readonly LogEvent[]): HashName[] {
  return known.filter((bank) => events.length > 0 && events.every((event) => event.digest(bank)));
}
