// A log is believed only where replaying it leads to PCR values that a TPM signed. Checked and unchecked are different
// types: nobody but checkLog makes a CheckedLog.
import { concat, digestSize, type Hash, type HashName } from '../tpm2/hash.ts';
import { type PcrValues, pcrCount } from '../tpm2/pcrs.ts';
import { type Cover, coverOf } from './covers.ts';
import type { EventLog, LogEvent } from './parse.ts';
import { quirks } from './quirks.ts';
import { equal } from './reader.ts';
import { EventType } from './types.ts';

/** What the events of one boot lead to, in one bank: small, and good for any number of quotes. */
export interface Replay {
  readonly bank: HashName;
  /** The value that the events lead to, for every PCR that has events. */
  readonly pcrs: PcrValues;
  /** PCRs with an event that has no digest in this bank, by its position in its log: firmware did not measure it there. */
  readonly unmeasured: ReadonlyMap<number, number>;
  readonly startupLocality: number;
}

/**
 * Extends the events of one boot, log after log, as the TPM did: PCR := H(PCR ‖ digest) [TPM2 Part 1, 17].
 *
 * @param logs one boot in order: the firmware's log, then what the operating system logged (EVE: PCR 14)
 */
export function replay(logs: readonly EventLog[], bank: HashName, hash: Hash): Replay {
  const size = digestSize(bank);
  const startupLocality = startupLocalityOf(logs);
  const unmeasured = new Map<number, number>();
  // What is hashed next, by PCR: its value, and room for the digest that comes.
  const joined: (Uint8Array | undefined)[] = new Array(pcrCount).fill(undefined);
  for (const log of logs)
    for (const event of log.events) {
      if (!event.extends) continue;
      const { pcr } = event;
      const next = joined[pcr] ?? new Uint8Array(2 * size);
      if (!event.copyDigest(bank, next, size)) {
        if (!unmeasured.has(pcr)) unmeasured.set(pcr, event.index);
        continue;
      }
      if (joined[pcr] === undefined) next.set(initialPcr(pcr, bank, startupLocality));
      joined[pcr] = next;
      const value = hash(bank, next, next);
      if (value !== next) next.set(value);
    }
  const pcrs = new Map<number, Uint8Array>();
  for (const [pcr, value] of joined.entries()) if (value) pcrs.set(pcr, value.subarray(0, size));
  return { bank, pcrs, unmeasured, startupLocality };
}

const localitySignature = new TextEncoder().encode('StartupLocality\0');

/**
 * The locality that PCR 0 starts from: stated by an EV_NO_ACTION before PCR 0 is first extended, or 4 where an H-CRTM
 * measured first, else 0 [PFP 10.4.5.3, TPM2 Part 1, 34.3]. A lie about it leads to another PCR 0.
 */
export function startupLocalityOf(logs: readonly EventLog[]): number {
  for (const log of logs)
    for (const { pcr, type, data } of log.events) {
      if (pcr !== 0) continue;
      if (type === EventType.EV_EFI_HCRTM_EVENT) return 4;
      if (type !== EventType.EV_NO_ACTION) return 0;
      const stated = data.length === 17 && equal(data.subarray(0, 16), localitySignature);
      if (stated) return data[16] as number;
    }
  return 0;
}

/** The value of a PCR that nothing was extended into: zeros, ones for 17 to 22, PCR 0 ends with the startup locality. */
export function initialPcr(pcr: number, bank: HashName, startupLocality = 0): Uint8Array {
  const value = new Uint8Array(digestSize(bank)).fill(pcr >= 17 && pcr <= 22 ? 0xff : 0);
  if (pcr === 0) value[value.length - 1] = startupLocality;
  return value;
}

/** An event that leads to a signed PCR value: its digest is true. */
class CheckedEvent {
  /** Position in the logs of the boot, counted through all of them as they were sent; -1 if a quirk supplied it. */
  readonly index: number;
  readonly pcr: number;
  /** A hint: no digest covers it. */
  readonly type: number;
  readonly digest: Uint8Array;
  readonly data: Uint8Array;
  readonly #bank: HashName;
  readonly #hash: Hash;
  #cover: Cover | undefined | null = null;

  constructor(
    index: number,
    event: Pick<LogEvent, 'pcr' | 'type' | 'data'>,
    digest: Uint8Array,
    bank: HashName,
    hash: Hash,
  ) {
    this.index = index;
    this.pcr = event.pcr;
    this.type = event.type;
    this.digest = digest;
    this.data = event.data;
    this.#bank = bank;
    this.#hash = hash;
  }

  /** Which part of the data is true as well; hashed when it is first asked for. */
  get cover(): Cover | undefined {
    if (this.#cover === null) this.#cover = coverOf(this, this.digest, this.#bank, this.#hash);
    return this.#cover;
  }

  /** `data`: the digest vouches for the data (for the part that `cover` names); `digest`: the data is a hint. */
  get vouched(): 'data' | 'digest' {
    return this.cover ? 'data' : 'digest';
  }
}

/** The log of one boot whose replay leads to signed PCR values. */
class CheckedLog {
  readonly bank: HashName;
  /** The signed values. */
  readonly pcrs: PcrValues;
  readonly #make: () => readonly CheckedEvent[];
  #events: readonly CheckedEvent[] | null = null;

  constructor(bank: HashName, pcrs: PcrValues, make: () => readonly CheckedEvent[]) {
    this.bank = bank;
    this.pcrs = pcrs;
    this.#make = make;
  }

  /**
   * Events of the PCRs that were checked, in order; events of other PCRs and EV_NO_ACTION are not among them. Made when
   * they are first asked for: a boot that is like its baseline needs none.
   */
  get events(): readonly CheckedEvent[] {
    this.#events ??= this.#make();
    return this.#events;
  }
}

/** Why a quoted PCR does not follow from the log. */
export interface PcrDifference {
  readonly pcr: number;
  /** - `mismatch`: the events lead to another value;
   *  - `no-events`: the PCR was extended and the log has no event for it;
   *  - `bank`: an event has no digest in this bank. */
  readonly reason: 'mismatch' | 'no-events' | 'bank';
  readonly quoted: Uint8Array;
  readonly replayed: Uint8Array;
  /** For `bank`: the event, by its position in its log. */
  readonly event?: number;
}

export type LogCheck =
  | { readonly ok: true; readonly log: CheckedLog }
  | { readonly ok: false; readonly differing: readonly PcrDifference[] };

/**
 * Believes the logs of one boot as far as they lead to every quoted value.
 *
 * @param quoted values that a verified quote covers, of the replayed bank; nothing else may be passed in here
 * @param logs those that were replayed, for when their events are asked for
 * @throws TypeError for a PCR that does not exist or a value that is not of the bank's size
 */
export function checkReplay(
  { bank, pcrs, unmeasured, startupLocality }: Replay,
  quoted: PcrValues,
  hash: Hash,
  logs: () => readonly EventLog[],
): LogCheck {
  const differing: PcrDifference[] = [];
  const supplied: CheckedEvent[] = [];
  for (const [pcr, value] of quoted) {
    if (pcr < 0 || pcr >= pcrCount || value.length !== digestSize(bank))
      throw new TypeError(`PCR ${pcr} with ${value.length} bytes is no value of bank ${bank}`);
    const led = pcrs.get(pcr) ?? initialPcr(pcr, bank, startupLocality);
    const missing = unmeasured.get(pcr);
    if (missing !== undefined)
      differing.push({ pcr, reason: 'bank', quoted: value, replayed: led, event: missing });
    else if (!equal(value, led)) {
      const tail = missingTail(pcr, led, value, bank, hash);
      if (tail) supplied.push(...tail);
      else
        differing.push({
          pcr,
          reason: pcrs.has(pcr) ? 'mismatch' : 'no-events',
          quoted: value,
          replayed: led,
        });
    }
  }
  if (differing.length > 0) return { ok: false, differing };
  return {
    ok: true,
    log: new CheckedLog(bank, quoted, () => [...checkedEvents(logs(), quoted, bank, hash), ...supplied]),
  };
}

/** `checkReplay` of logs that are checked once. */
export function checkLog(logs: readonly EventLog[], quoted: PcrValues, bank: HashName, hash: Hash): LogCheck {
  return checkReplay(replay(logs, bank, hash), quoted, hash, () => logs);
}

function checkedEvents(
  logs: readonly EventLog[],
  quoted: PcrValues,
  bank: HashName,
  hash: Hash,
): CheckedEvent[] {
  const events: CheckedEvent[] = [];
  let base = 0;
  for (const log of logs) {
    for (const event of log.events) {
      const digest = event.extends && quoted.has(event.pcr) ? event.digest(bank) : undefined;
      if (digest) events.push(new CheckedEvent(base + event.index, event, digest, bank, hash));
    }
    base += log.events.length;
  }
  return events;
}

/** The events of a quirk, if exactly these lead from the end of the log to the quoted value. */
function missingTail(
  pcr: number,
  replayed: Uint8Array,
  quoted: Uint8Array,
  bank: HashName,
  hash: Hash,
): CheckedEvent[] | undefined {
  for (const { missing } of quirks.filter((quirk) => quirk.pcr === pcr)) {
    const digests = missing.map(({ data }) => hash(bank, data));
    const end = digests.reduce((value, digest) => hash(bank, concat(value, digest)), replayed);
    if (equal(end, quoted))
      return missing.map(
        (event, i) => new CheckedEvent(-1, { pcr, ...event }, digests[i] as Uint8Array, bank, hash),
      );
  }
  return undefined;
}

// Types alone: only checkLog makes them.
export type { CheckedEvent, CheckedLog };
