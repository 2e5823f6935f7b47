// The master key at rest: sealed in the TPM under the PCR values of the boot, in two slots. `current` is for the software
// that runs; `previous` keeps opening the vault after a fall-back, until an upgrade or a rotation is committed.
import { createHash } from 'node:crypto';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import type { MasterKey } from './vault.ts';

/** What the TPM does for us; a sealed blob is opaque here. */
export interface Sealer {
  random(size: number): Promise<Uint8Array>;
  /** Under the PCR values of now. */
  seal(secret: Uint8Array): Promise<Uint8Array>;
  /** Throws Refusal vault.pcr-mismatch with the PCRs that differ, or an error of the TPM. */
  unseal(blob: Uint8Array): Promise<Uint8Array>;
}

const slots = ['current', 'previous'] as const;
type Slot = (typeof slots)[number];

const file = (slot: Slot) => `sealed/${slot}`;
const keySize = 32;

export class MasterKeyStore {
  readonly #state: StateFolder;
  readonly #tpm: Sealer;

  constructor(state: StateFolder, tpm: Sealer) {
    this.#state = state;
    this.#tpm = tpm;
  }

  async make(): Promise<MasterKey> {
    return masterKey(await this.#tpm.random(keySize));
  }

  /**
   * Seals for the boot of now. The seal that was there becomes the previous one, so that whatever happens from here on,
   * one of the two opens the vault for the software it was made for. A previous one that is there stays: sealed twice in
   * one boot, that of the software to fall back to would be lost.
   */
  async seal(key: MasterKey): Promise<void> {
    const blob = await this.#tpm.seal(key.bytes);
    const before = this.#state.read(file('current'));
    if (before && !this.hasPrevious) this.#state.write(file('previous'), before);
    this.#state.write(file('current'), blob);
  }

  /**
   * Takes the key out of the first seal that opens. Throws Refusal vault.pcr-mismatch with the PCRs of the current seal
   * that differ, vault.seal-unusable when there is no seal or none is whole; errors of the TPM pass through.
   */
  async unseal(): Promise<MasterKey> {
    let refusal: unknown = new Refusal('vault.seal-unusable', 'there is no sealed master key on this device');
    for (const slot of slots) {
      const blob = this.#state.read(file(slot));
      if (!blob) continue;
      try {
        const key = masterKey(await this.#tpm.unseal(blob));
        // The software that the current seal was for is not what runs: the seal that works is the current one.
        if (slot === 'previous') {
          this.#state.write(file('current'), blob);
          this.#state.remove(file('previous'));
        }
        return key;
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        if (slot === 'current' || !this.#state.has(file('current'))) refusal = error;
      }
    }
    throw refusal;
  }

  /** Whether software other than the running one can still open the vault. */
  get hasPrevious(): boolean {
    return this.#state.has(file('previous'));
  }

  dropPrevious(): void {
    this.#state.remove(file('previous'));
  }
}

/** The id is a hash, so that it can be checked and says nothing about the key. */
export function masterKey(bytes: Uint8Array): MasterKey {
  if (bytes.length !== keySize) {
    throw new Refusal('vault.wrong-key', `a master key of ${bytes.length} bytes, where ${keySize} belong`);
  }
  const id = createHash('sha256').update('eve-attest master key\0').update(bytes).digest('hex').slice(0, 16);
  return { id, bytes };
}
