// Boots that were replayed before. Devices send the same log again and again, and many share one: a log that is known by
// its hash needs no second replay.
import { LRUCache } from 'lru-cache';
import { alwaysMeasured } from '../../formats/eventlog/covers.ts';
import { type EventLog, parseLog } from '../../formats/eventlog/parse.ts';
import { type Replay, replay } from '../../formats/eventlog/replay.ts';
import type { FormatError } from '../../formats/format-error.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import { hash } from './hash.ts';

/** A log as it was sent. */
export interface LogBytes {
  bytes: Uint8Array;
  /** SHA-256 of the bytes, hex: computed on this side. Who gets it wrong gets the verdict of another log. */
  sha256: string;
}

/** An event whose data were changed after they had been measured, by its position in the logs of the boot. */
export interface EditedEvent {
  index: number;
  pcr: number;
  type: number;
  data: Uint8Array;
}

export interface KnownBoot {
  replay: Replay;
  /** Why a log has no more events, where one was cut short. */
  truncated: readonly FormatError[];
  edited: readonly EditedEvent[];
}

/** Bytes of logs that stay in memory; what a log of EVE takes once parsed is about twice its size. */
const memory = 64 * 1024 * 1024;
const known = new LRUCache<string, KnownBoot>({ maxSize: memory });

/**
 * Replays the logs of one boot, in the order in which they extended. Throws FormatError for the first that cannot be read.
 */
export function replayBoot(logs: readonly LogBytes[], bank: HashName): KnownBoot {
  const key = [bank, ...logs.map(({ sha256 }) => sha256)].join(' ');
  const before = known.get(key);
  if (before) return before;
  const parsed = logs.map(({ bytes }) => parseLog(bytes));
  const boot = {
    replay: replay(parsed, bank, hash),
    truncated: parsed.flatMap(({ truncated }) => (truncated ? [truncated] : [])),
    edited: editedEvents(parsed, bank),
  };
  known.set(key, boot, { size: logs.reduce((sum, { bytes }) => sum + bytes.length, 1024) });
  return boot;
}

/** Replay proves digests. Where every known firmware measures the words beside them, other words were put there. */
function editedEvents(logs: readonly EventLog[], bank: HashName): EditedEvent[] {
  const edited: EditedEvent[] = [];
  let base = 0;
  for (const log of logs) {
    for (const event of log.events) {
      const digest = event.extends ? event.digest(bank) : undefined;
      const { index, pcr, type, data } = event;
      const measured = digest && alwaysMeasured({ type, data });
      if (measured && hash(bank, measured).compare(digest) !== 0)
        edited.push({ index: base + index, pcr, type, data });
    }
    base += log.events.length;
  }
  return edited;
}
