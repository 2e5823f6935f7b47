// Log: does the boot log explain the quoted PCR values? Only what it explains is believed, and only as far as digests go.
import { describeEvent } from '../../formats/eventlog/describe.ts';
import {
  type CheckedLog,
  checkReplay,
  initialPcr,
  type PcrDifference,
  type Replay,
} from '../../formats/eventlog/replay.ts';
import { eventTypeName } from '../../formats/eventlog/types.ts';
import { FormatError } from '../../formats/format-error.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import type { PcrValues } from '../../formats/tpm2/pcrs.ts';
import type { Finding } from '../../machines/flow.ts';
import { hash } from './hash.ts';
import { type EditedEvent, type KnownBoot, type LogBytes, replayBoot } from './known-boots.ts';

export interface LogExpectation {
  bank: HashName;
  /** Values of a verified quote: those of the policy, no others. */
  pcrs: PcrValues;
  /** PCRs that firmware extends before anything else can. Left at their start, whoever comes first chooses them. */
  mustBeExtended?: readonly number[];
}

export type LogVerdict = { ok: true; log: CheckedLog } | { ok: false; refusals: Finding[] };

/** S-CRTM and boot manager: without them the rest of a boot is what its author wants it to be (CVE-2021-42299). */
const critical: readonly number[] = [0, 4];

/**
 * Checks the logs of one boot against quoted values.
 *
 * @param logs in the order in which they extended: the firmware's log, then EVE's of PCR 14
 */
export function verifyLog(logs: readonly LogBytes[], expected: LogExpectation): LogVerdict {
  const { bank, pcrs } = expected;
  const unextended = (expected.mustBeExtended ?? critical).filter((pcr) =>
    isInitial(pcr, pcrs.get(pcr), bank),
  );
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
  const cut = boot.truncated.map(truncatedLog);
  const check = checkReplay(boot.replay, pcrs, hash);
  if (!check.ok)
    return { ok: false, refusals: [...cut, ...check.differing.map((one) => difference(one, bank))] };
  const edited = boot.edited.filter(({ pcr }) => pcrs.has(pcr)).map(editedData);
  const refusals = [...cut, ...edited, ...hashOfNothing(boot.replay, pcrs)];
  return refusals.length > 0 ? { ok: false, refusals } : { ok: true, log: check.log };
}

/** The firmware's and the operating system's, and room for a boot loader's own. */
const maxLogs = 4;

function malformed(text: string): Finding {
  return { code: 'evidence.log.malformed', text };
}

function truncatedLog(error: FormatError): Finding {
  return { code: 'evidence.log.truncated', text: `The event log was cut short: ${error.message}` };
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

/** The log replays and its words were changed: nobody does that by accident. */
function editedData(event: EditedEvent): Finding {
  return {
    code: 'evidence.log.data-edited',
    text: `The data of an event was edited: every ${eventTypeName(event.type)} is measured, and the digest is of other data`,
    pcr: event.pcr,
    event: event.index,
    seen: describeEvent(event),
  };
}

/**
 * EVE's GRUB measures H(SHA-256 of the root file system). For an image of 2 GiB and more some versions hash no byte of
 * it, and then every such image looks alike.
 */
function hashOfNothing({ logs, bank }: Replay, pcrs: PcrValues): Finding[] {
  if (!pcrs.has(13)) return [];
  const nothing = hash(bank, hash('sha256', new Uint8Array()));
  let base = 0;
  return logs.flatMap(({ events }) => {
    const first = base;
    base += events.length;
    return events
      .filter((event) => event.pcr === 13 && event.extends && nothing.equals(event.digest(bank) ?? none))
      .map(({ pcr, index }) => ({
        code: 'evidence.log.rootfs-not-measured',
        text: 'The boot loader measured nothing of the root file system: its hash is that of no bytes',
        pcr,
        event: first + index,
      }));
  });
}

const none = new Uint8Array();

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
