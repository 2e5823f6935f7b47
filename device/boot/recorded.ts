// Boots as a real machine did: extends exactly the digests of its recorded logs, and presents those logs.
import { readFile } from 'node:fs/promises';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { startupLocalityOf as localityOfLogs } from '../../formats/eventlog/replay.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import { BootError, type BootLogs, type Extend } from './extend.ts';

/** Logs of EVE nodes, Apache-2.0, lf-edge/eve; what each pair differs in stands in README.md. */
export const recordedBoots = [
  'bios-setup.before',
  'bios-setup.after',
  'update.before',
  'update.after',
  'four-banks',
] as const;

export type RecordedBoot = (typeof recordedBoots)[number];

/** The bytes of one of them. */
export function readRecordedBoot(name: RecordedBoot): Promise<Uint8Array> {
  return readFile(new URL(`./recorded/${name}.bin`, import.meta.url));
}

/**
 * The locality that TPM2_Startup has to come from for PCR 0 to start as it did on the machine: 0, 3 or 4. After a
 * start from another one the recorded boot leads to another PCR 0.
 */
export function startupLocalityOf(logs: readonly Uint8Array[]): number {
  return localityOfLogs(logs.map((log) => parseLog(log)));
}

export interface RecordedBootOptions {
  /** In the order in which they extended: the firmware's log, then EVE's log of PCR 14 where it is one of its own. */
  logs: readonly [biosLog: Uint8Array, configLog?: Uint8Array];
  /** Banks of the TPM; those that the machine did not have stay at their start. */
  banks: readonly HashName[];
  extend: Extend;
}

/**
 * Boots from recorded logs. Throws FormatError for a log that cannot be read or was cut short, TypeError where the
 * TPM has no SHA-256 bank; rejects with BootError if the TPM fails, the logs cut to what it confirmed.
 */
export async function bootRecorded({ logs, banks, extend }: RecordedBootOptions): Promise<BootLogs> {
  if (!banks.includes('sha256')) throw new TypeError('a recorded boot needs the SHA-256 bank');
  const parsed = logs.filter((log) => log !== undefined).map((bytes) => ({ bytes, log: parseLog(bytes) }));
  const cut = parsed.find(({ log }) => log.truncated);
  if (cut?.log.truncated) throw cut.log.truncated;

  const ends = parsed.map(() => 0);
  for (const [i, { log }] of parsed.entries())
    for (const event of log.events) {
      const digests: Partial<Record<HashName, Uint8Array>> = {};
      for (const bank of banks) {
        const digest = event.extends ? event.digest(bank) : undefined;
        if (digest) digests[bank] = digest;
      }
      try {
        if (Object.keys(digests).length > 0) await extend(event.pcr, digests);
      } catch (cause) {
        const sofar = parsed.map(({ bytes }, at) => bytes.subarray(0, ends[at]));
        throw new BootError('the TPM did not confirm a measurement', bootLogs(sofar), { cause });
      }
      ends[i] = event.offset + event.size;
    }
  return bootLogs(parsed.map(({ bytes }) => bytes));
}

function bootLogs([biosLog, configLog]: Uint8Array[]): BootLogs {
  return { biosLog: biosLog ?? new Uint8Array(), configLog: configLog ?? null };
}
