// Log: does the boot log explain the quoted PCR values? Only what it explains is believed, and only as far as digests go.
import {
  type CheckedLog,
  checkReplay,
  initialPcr,
  type PcrDifference,
} from '../../formats/eventlog/replay.ts';
import { FormatError } from '../../formats/format-error.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import type { PcrValues } from '../../formats/tpm2/pcrs.ts';
import type { Finding } from '../../machines/flow.ts';
import { hash } from './hash.ts';
import { type KnownBoot, type LogBytes, parseLogs, replayBoot } from './known-boots.ts';

export interface LogExpectation {
  bank: HashName;
  /** Values of a verified quote: those of the policy, no others. */
  pcrs: PcrValues;
  /** More values of that quote: where the log has events of such a PCR, they have to lead to it. */
  beside?: PcrValues;
}

export type LogVerdict = { ok: true; log: CheckedLog } | { ok: false; refusals: Finding[] };

/**
 * S-CRTM and boot manager, which firmware extends before anything else can. Left at their start, whoever comes first chooses them, and
 * the rest of a boot is what its author wants it to be (CVE-2021-42299).
 */
const critical: readonly number[] = [0, 4];

/**
 * Checks the logs of one boot against quoted values.
 *
 * @param logs in the order in which they extended: the firmware's log, then EVE's of PCR 14
 */
export function verifyLog(logs: readonly LogBytes[], expected: LogExpectation): LogVerdict {
  const { bank, pcrs } = expected;
  const unextended = critical.filter((pcr) => isInitial(pcr, pcrs.get(pcr), bank));
  if (unextended.length > 0) return { ok: false, refusals: unextended.map((pcr) => notExtended(pcr, bank)) };

  const present = logs.filter(({ bytes }) => bytes.length > 0);
  if (present.length === 0)
    return { ok: false, refusals: [{ code: 'evidence.log.absent', text: 'The device sent no event log' }] };
  if (present.length > maxLogs)
    return { ok: false, refusals: [malformed(`${present.length} event logs, at most ${maxLogs}`)] };

  let boot: KnownBoot;
  try {
    boot = replayBoot(present, bank);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { ok: false, refusals: [malformed(`The event log cannot be read: ${error.message}`)] };
  }
  const told = [...(expected.beside ?? [])].filter(([pcr]) => boot.replay.pcrs.has(pcr));
  const values = told.length > 0 ? new Map([...pcrs, ...told]) : pcrs;
  const faults = boot.faults.filter(({ pcr }) => pcr === undefined || values.has(pcr));
  const check = checkReplay(boot.replay, values, hash, () => parseLogs(present));
  const refusals = check.ok
    ? faults
    : // Where the digests are not true, nothing is known about the data beside them.
      [
        ...faults.filter(({ pcr }) => pcr === undefined),
        ...check.differing.map((one) => difference(one, bank)),
      ];
  return check.ok && refusals.length === 0 ? { ok: true, log: check.log } : { ok: false, refusals };
}

/** The firmware's and the operating system's, and room for a boot loader's own. */
const maxLogs = 4;

function malformed(text: string): Finding {
  return { code: 'evidence.log.malformed', text };
}

/** Any startup locality counts as a start: a PCR 0 of zeros and a 3 was not extended either. */
function isInitial(pcr: number, value: Uint8Array | undefined, bank: HashName): boolean {
  if (!value) return false;
  const localities = pcr === 0 ? [0, 3, 4] : [0];
  return localities.some((locality) => Buffer.compare(value, initialPcr(pcr, bank, locality)) === 0);
}

function notExtended(pcr: number, bank: HashName): Finding {
  return {
    code: 'evidence.pcr.not-extended',
    text: `The firmware measured nothing into PCR ${pcr} of bank ${bank}: anything could be made of it later`,
    pcr,
  };
}

const differences = {
  mismatch: {
    code: 'evidence.log.mismatch',
    text: (pcr: number) => `The event log leads to another value of PCR ${pcr} than the TPM signed`,
  },
  'no-events': {
    code: 'evidence.log.pcr-without-events',
    text: (pcr: number) => `PCR ${pcr} was extended and the event log does not say with what`,
  },
  bank: {
    code: 'evidence.log.bank',
    text: (pcr: number, bank: HashName) => `The firmware did not measure PCR ${pcr} into bank ${bank}`,
  },
} as const;

/** `seen` is what the TPM signed, `allowed` what the log would have led to. */
function difference({ pcr, reason, quoted, replayed, event }: PcrDifference, bank: HashName): Finding {
  const { code, text } = differences[reason];
  const values = { seen: hex(quoted), allowed: hex(replayed) };
  return { code, text: text(pcr, bank), pcr, ...(event === undefined ? {} : { event }), ...values };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
