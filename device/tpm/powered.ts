// A TPM whose platform is ours as well: what a mainboard does to its TPM, beside sending commands.
import type { Transport } from './transport.ts';

export interface PoweredTpm extends Transport {
  readonly powered: boolean;
  /** _TPM_Init, then the TPM waits for TPM2_Startup. Does nothing when the power is on. */
  powerOn(): Promise<void>;
  /** Power loss; only TPM2_Shutdown before it makes it orderly. */
  powerOff(): Promise<void>;
  /** The locality (0 to 4) of the commands sent from now on. */
  setLocality(locality: number): void;
  /** Physical presence of the commands sent from now on. */
  setPhysicalPresence(asserted: boolean): void;
  /** The D-RTM event sequence (TPM 2.0 Part 1, Dynamic Root of Trust Measurement). */
  hashStart(): Promise<void>;
  hashData(data: Uint8Array): Promise<void>;
  hashEnd(): Promise<void>;
}
