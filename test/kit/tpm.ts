// A fresh TPM for a test, which must give it back as clean as it got it.
import { Tpm } from '../../device/tpm/tpm.ts';
import type { Transport } from '../../device/tpm/transport.ts';
import { openWasmTpm, type WasmTransport } from '../../device/tpm/transports/wasm.ts';
import { TPM_HT } from '../../formats/tpm2/constants.ts';

export interface TpmSetup {
  /** PCRs to extend once in the SHA-256 bank before the test, as a firmware would. */
  extended?: readonly number[];
  /** Puts something between the Tpm and its transport: faults, recordings. */
  wrap?: (transport: WasmTransport) => Transport;
  sleep?: (ms: number) => Promise<void>;
}

/** Transient objects and sessions in a TPM. */
export async function leftovers(tpm: Tpm): Promise<string[]> {
  const found: string[] = [];
  for (const type of [TPM_HT.TRANSIENT, TPM_HT.HMAC_SESSION, TPM_HT.POLICY_SESSION])
    for (const handle of await tpm.handles(type)) found.push(`0x${handle.toString(16)}`);
  return found;
}

/** SHA-256 digests to extend PCRs with: 32 times the number of the PCR plus one. */
export function someDigest(pcr: number, size = 32): Uint8Array {
  return new Uint8Array(size).fill(pcr + 1);
}

/**
 * Runs a test on a fresh TPM in this process, powered on and started. The test fails if it leaves transient objects or
 * sessions behind, or the TPM in failure mode.
 */
export async function withTpm<T>(
  test: (tpm: Tpm, transport: WasmTransport) => Promise<T>,
  { extended = [], wrap, sleep }: TpmSetup = {},
): Promise<T> {
  const transport = await openWasmTpm();
  try {
    const tpm = new Tpm(wrap ? wrap(transport) : transport, { sole: true, ...(sleep ? { sleep } : {}) });
    for (const pcr of extended) await tpm.pcrExtend(pcr, { sha256: someDigest(pcr) });
    const result = await test(tpm, transport);
    // Past the wrapper: what is checked is the TPM, not what a fault makes of it.
    const left = await leftovers(new Tpm(transport));
    if (left.length > 0) throw new Error(`left behind in the TPM: ${left.join(', ')}`);
    return result;
  } finally {
    await transport.close();
  }
}
