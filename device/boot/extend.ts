// Extend and log, in this order and never one without the other.

import {
  type BankDigests,
  digestsOf,
  type Measurement,
  measuredEvent,
} from '../../formats/eventlog/eve-boot.ts';
import { headerEvent, startupLocalityEvent, writeEvent, writeEvent1 } from '../../formats/eventlog/write.ts';
import { concat, type HashName } from '../../formats/tpm2/hash.ts';
import { hash } from '../tpm/hash.ts';

/** TPM2_PCR_Extend: one digest for each bank of the TPM. Resolves when the TPM has done it. */
export type Extend = (pcr: number, digests: BankDigests) => Promise<void>;

/** What a boot left behind: the logs of its measurements. */
export interface BootLogs {
  /** Firmware and boot loader: what Linux shows as `binary_bios_measurements`. */
  biosLog: Uint8Array;
  /** EVE's measure-config: TCG_PCR_EVENT2 records without a header, PCR 14. Null where the machine has none. */
  configLog: Uint8Array | null;
}

/**
 * The boot stopped. The logs hold exactly the measurements that the TPM confirmed; of the one that failed nothing is
 * known, so only a reset of the TPM leads on.
 */
export class BootError extends Error {
  readonly logs: BootLogs;
  constructor(message: string, logs: BootLogs, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BootError';
    this.logs = logs;
  }
}

/** One log in the making. */
export class MeasuredLog {
  readonly #banks: readonly HashName[];
  readonly #extend: Extend;
  readonly #records: Uint8Array[] = [];

  constructor(banks: readonly HashName[], extend: Extend) {
    this.#banks = banks;
    this.#extend = extend;
  }

  /** The header, and the locality of TPM2_Startup where it was not 0. Nothing is extended for these. */
  begin(startupLocality: number): void {
    this.#records.push(writeEvent1(headerEvent(this.#banks)));
    if (startupLocality !== 0)
      this.#records.push(writeEvent(startupLocalityEvent(startupLocality, this.#banks)));
  }

  async measure(measurement: Measurement): Promise<void> {
    const digests = digestsOf(measurement, this.#banks, hash);
    await this.#extend(measurement.pcr, digests);
    this.#records.push(writeEvent(measuredEvent(measurement, digests)));
  }

  bytes(): Uint8Array {
    return concat(...this.#records);
  }
}
