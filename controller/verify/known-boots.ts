// Boots that were replayed before. A device sends the same log again and again: one that is known by its hash needs no
// second replay, only the values that it led to.
import { LRUCache } from 'lru-cache';
import { alwaysMeasured } from '../../formats/eventlog/covers.ts';
import { describeEvent } from '../../formats/eventlog/describe.ts';
import { type EventLog, type LogEvent, parseLog } from '../../formats/eventlog/parse.ts';
import { equal } from '../../formats/eventlog/reader.ts';
import { type Replay, replay } from '../../formats/eventlog/replay.ts';
import { EventType, eventTypeName, separatorData } from '../../formats/eventlog/types.ts';
import type { FormatError } from '../../formats/format-error.ts';
import { digestSize, type HashName } from '../../formats/tpm2/hash.ts';
import type { Finding } from '../../machines/flow.ts';
import { hash } from './hash.ts';

/** A log as it was sent. */
export interface LogBytes {
  bytes: Uint8Array;
  /** SHA-256 of the bytes, hex: computed on this side. Who gets it wrong gets the verdict of another log. */
  sha256: string;
}

export interface KnownBoot {
  replay: Replay;
  /** What is wrong with the logs although they may lead to the right values. */
  faults: readonly Finding[];
}

/** Bytes, about; a boot takes some six thousand. */
const memory = 64 * 1024 * 1024;
const known = new LRUCache<string, KnownBoot>({ maxSize: memory, sizeCalculation: sizeOf });
const mostFaults = 20;

/**
 * Replays the logs of one boot, in the order in which they extended. Throws FormatError for the first that cannot be read.
 */
export function replayBoot(logs: readonly LogBytes[], bank: HashName): KnownBoot {
  const key = keyOf(logs, bank);
  const before = known.get(key);
  if (before) return before;
  const parsed = parseLogs(logs);
  const boot = { replay: replay(parsed, bank, hash), faults: faultsOf(parsed, bank).slice(0, mostFaults) };
  known.set(key, boot);
  return boot;
}

/** Whether these logs were replayed on this thread before. */
export function knowsBoot(logs: readonly LogBytes[], bank: HashName): boolean {
  return known.has(keyOf(logs, bank));
}

function keyOf(logs: readonly LogBytes[], bank: HashName): string {
  return [bank, ...logs.map(({ sha256 }) => sha256)].join(' ');
}

export function parseLogs(logs: readonly LogBytes[]): EventLog[] {
  return logs.map(({ bytes }) => parseLog(bytes));
}

function faultsOf(logs: readonly EventLog[], bank: HashName): Finding[] {
  const faults = logs.flatMap(({ truncated }) => (truncated ? [cutShort(truncated)] : []));
  const nothing = hash(bank, hash('sha256', new Uint8Array()));
  const separators = separatorData.map((data) => hash(bank, data));
  const digest = new Uint8Array(digestSize(bank));
  let base = 0;
  for (const log of logs) {
    for (const event of log.events) {
      const { pcr, type } = event;
      const measured = alwaysMeasured(event);
      const mayBeSeparator = pcr <= 7 && type !== EventType.EV_SEPARATOR;
      if (!event.extends || !(measured || mayBeSeparator || pcr === 13)) continue;
      if (!event.copyDigest(bank, digest, 0)) continue;
      const at = { pcr, event: base + event.index };
      if (measured && !equal(hash(bank, measured), digest)) faults.push({ ...editedData(event), ...at });
      if (mayBeSeparator && separators.some((one) => equal(one, digest)))
        faults.push({ ...editedType(event), ...at });
      if (pcr === 13 && equal(digest, nothing)) faults.push({ ...rootfsNotMeasured, ...at });
    }
    base += log.events.length;
  }
  return faults;
}

function cutShort({ message }: FormatError): Finding {
  return { code: 'evidence.log.truncated', text: `The event log was cut short: ${message}` };
}

/** Replay proves digests. Where all firmware measures the words beside them, these were put there by somebody. */
function editedData(event: LogEvent): Finding {
  return {
    code: 'evidence.log.data-edited',
    text: `The data of an event was edited: every ${eventTypeName(event.type)} is measured, and the digest is of other data`,
    seen: describeEvent(event),
  };
}

/** Retyped, the end of the firmware moves: what somebody extended later would pass for the firmware's own words. */
function editedType(event: LogEvent): Finding {
  return {
    code: 'evidence.log.type-edited',
    text: `The type of an event was edited: a separator was measured, and the log calls it ${eventTypeName(event.type)}`,
    seen: describeEvent(event),
  };
}

/**
 * EVE's GRUB measures H(SHA-256 of the root file system). For an image of 2 GiB and more some versions hash no byte of
 * it, and then every such image looks alike.
 */
const rootfsNotMeasured: Finding = {
  code: 'evidence.log.rootfs-not-measured',
  text: 'The boot loader measured nothing of the root file system: its hash is that of no bytes',
};

function sizeOf({ replay: { pcrs }, faults }: KnownBoot): number {
  return (
    1024 +
    pcrs.size * 256 +
    faults.length * 512 +
    2 * faults.reduce((sum, { seen = '' }) => sum + seen.length, 0)
  );
}
