// EVE's measure-config for machines whose operating system does not do it: /config into PCR 14, once a boot, before anything
// else of ours runs. PCR 14 itself says how far it got, so that it is neither left half done nor done twice.
import { parseLog } from '../../formats/eventlog/parse.ts';
import { replay } from '../../formats/eventlog/replay.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import { Refusal } from '../refusal.ts';
import { hash } from '../tpm/hash.ts';
import { MeasuredLog } from './extend.ts';
import { configMeasurements } from './measure.ts';

const configPcr = 14;
const bank: HashName = 'sha256';

export interface MeasureConfigOptions {
  /** /config. */
  directory: string;
  /** The firmware's log of this boot: shim measures into PCR 14, too. Empty where there is none. */
  biosLog: Uint8Array;
  /** What this did before, in this boot or another; empty where there is nothing. */
  stored: Uint8Array;
  tpm: {
    capabilities(): Promise<{ banks: ReadonlyMap<HashName, unknown> }>;
    pcrRead(bank: HashName, pcrs: Iterable<number>): Promise<Map<number, Uint8Array>>;
    pcrExtend(pcr: number, digests: Partial<Record<HashName, Uint8Array>>): Promise<void>;
  };
}

/**
 * The log of PCR 14 after this: what is not measured yet is measured. A configuration that changed since it was measured in this
 * boot keeps the log of what it was. Throws Refusal board.config-log where PCR 14 holds something else.
 */
export async function measureConfig({
  directory,
  biosLog,
  stored,
  tpm,
}: MeasureConfigOptions): Promise<Uint8Array> {
  const banks = [...(await tpm.capabilities()).banks.keys()];
  const now = (await tpm.pcrRead(bank, [configPcr])).get(configPcr) ?? new Uint8Array();
  const leadsHere = (...logs: Uint8Array[]) => Buffer.compare(configValue(biosLog, ...logs), now) === 0;
  if (stored.length > 0 && leadsHere(stored)) return stored;

  // Those that an earlier life of this process confirmed are logged again, and not extended.
  let pending = leadsHere();
  const log = new MeasuredLog(banks, (pcr, digests) =>
    pending ? tpm.pcrExtend(pcr, digests) : Promise.resolve(),
  );
  for (const measurement of await configMeasurements(directory)) {
    await log.measure(measurement);
    pending ||= leadsHere(log.bytes());
  }
  if (pending) return log.bytes();
  throw new Refusal(
    'board.config-log',
    'PCR 14 holds something else than /config: its files changed while they were measured, or another program measures into it',
  );
}

function configValue(...logs: Uint8Array[]): Uint8Array {
  const parsed = logs.filter(({ length }) => length > 0).map((bytes) => parseLog(bytes));
  return replay(parsed, bank, hash).pcrs.get(configPcr) ?? new Uint8Array(32);
}
