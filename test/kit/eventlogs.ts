// The event logs of test/fixtures and device/boot/recorded, and small logs made to order.
import { hash as nodeHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { LogBytes } from '../../controller/verify/known-boots.ts';
import type { LogFormat } from '../../formats/eventlog/parse.ts';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { type CheckedLog, checkLog, replay } from '../../formats/eventlog/replay.ts';
import type { EventFields } from '../../formats/eventlog/types.ts';
import { headerEvent, writeLog } from '../../formats/eventlog/write.ts';
import { digestSize, type Hash, type HashName, hashId } from '../../formats/tpm2/hash.ts';

export const hash: Hash = (algorithm, data) => nodeHash(algorithm, data, 'buffer');

const root = new URL('../../', import.meta.url);

/** The EVE logs that a device can boot from are kept once, where it finds them. */
const recorded: Record<string, string> = {
  'eve/TpmLogs.last_good_log.bin': 'device/boot/recorded/bios-setup.before.bin',
  'eve/TpmLogs.last_failed_log.bin': 'device/boot/recorded/bios-setup.after.bin',
  'eve/empty_uri.last_good_log.bin': 'device/boot/recorded/update.before.bin',
  'eve/empty_uri.last_failed_log.bin': 'device/boot/recorded/update.after.bin',
  'eve/binary_bios_measurement': 'device/boot/recorded/four-banks.bin',
};

/** What `expected.json` says about one log; null where it does not know the format. */
export interface Expected {
  size: number;
  format: 'crypto-agile' | 'sha1-legacy' | null;
  banks: HashName[] | null;
  events: number | null;
  startupLocality: number | null;
  eventTypes: Record<string, number> | null;
  digestEqualsHashOfData: Record<string, [count: number, equal: number]> | null;
  pcrs: Record<HashName, Record<string, string>> | null;
}

export const expectedLogs = JSON.parse(
  readFileSync(new URL('test/fixtures/eventlog/expected.json', root), 'utf8'),
) as Record<string, Expected>;

export function eventLogPath(name: string): string {
  return fileURLToPath(new URL(recorded[name] ?? `test/fixtures/eventlog/${name}`, root));
}

/** Logs as `verifyLog` takes them. */
export function sent(...logs: Uint8Array[]): LogBytes[] {
  return logs.map((bytes) => ({ bytes, sha256: nodeHash('sha256', bytes) }));
}

export function readEventLog(name: string): Uint8Array {
  return readFileSync(new URL(recorded[name] ?? `test/fixtures/eventlog/${name}`, root));
}

/** The PCR values that a log is known to lead to. */
export function expectedPcrs(name: string, bank: HashName): Map<number, Uint8Array> {
  const values = expectedLogs[name]?.pcrs?.[bank];
  if (!values) throw new TypeError(`no ${bank} values are known for ${name}`);
  return new Map(Object.entries(values).map(([pcr, value]) => [Number(pcr), Buffer.from(value, 'hex')]));
}

/** A log of the fixtures, checked against the values it is known to lead to. */
export function checkedFixture(name: string, bank: HashName = 'sha256'): CheckedLog {
  const check = checkLog([parseLog(readEventLog(name))], expectedPcrs(name, bank), bank, hash);
  if (!check.ok) throw new Error(`${name} does not replay`);
  return check.log;
}

/** An event whose digests are of `measured`, or of the data. */
export interface MadeEvent {
  pcr: number;
  type: number;
  data: Uint8Array | string;
  measured?: Uint8Array | string;
}

const bytesOf = (text: Uint8Array | string) => (typeof text === 'string' ? Buffer.from(text) : text);

export function madeEvent(event: MadeEvent, banks: readonly HashName[] = ['sha256']): EventFields {
  const measured = bytesOf(event.measured ?? event.data);
  return {
    pcr: event.pcr,
    type: event.type,
    data: bytesOf(event.data),
    digests: banks.map((bank) => ({
      hashAlg: hashId(bank),
      digest: event.type === 3 ? new Uint8Array(digestSize(bank)) : hash(bank, measured),
    })),
  };
}

/** The bytes of a log with these events; a crypto-agile one gets its header. */
export function madeLog(
  events: readonly MadeEvent[],
  banks: readonly HashName[] = ['sha256'],
  format: LogFormat = 'crypto-agile',
): Uint8Array {
  const made = events.map((event) => madeEvent(event, banks));
  return writeLog({ format, events: format === 'crypto-agile' ? [headerEvent(banks), ...made] : made });
}

/** A log of the fixtures, checked against what it leads to itself. */
export function checkedReplay(name: string): CheckedLog {
  return checkedAgainstItself(readEventLog(name));
}

/** A made log, checked against what it leads to itself. */
export function checkedLog(events: readonly MadeEvent[]): CheckedLog {
  return checkedAgainstItself(madeLog(events));
}

function checkedAgainstItself(bytes: Uint8Array): CheckedLog {
  const log = parseLog(bytes);
  const check = checkLog([log], replay([log], 'sha256', hash).pcrs, 'sha256', hash);
  if (!check.ok) throw new Error('the log does not replay');
  return check.log;
}
