// What a vault does for the vault manager, whatever keeps its data: fscrypt in the kernel, or files of our own.

export interface VaultBackend {
  /** Named in status and evidence. */
  readonly name: string;
  /** `incomplete`: begun and never opened for use, so nothing is lost by starting over. */
  probe(): 'absent' | 'incomplete' | 'present';
  /** Makes an empty vault that the key opens, and opens it. Complete only after `finish`. */
  create(key: MasterKey): void;
  finish(): void;
  /** Throws Refusal vault.wrong-key, vault.broken. */
  unlock(key: MasterKey): void;
  lock(): void;
  /** Lets a second key open the vault, without touching its data. The vault has to be open. */
  admit(key: MasterKey): void;
  /** Ids of the keys that open it. */
  keys(): string[];
  /** Shuts every other key out. */
  keepOnly(keyId: string): void;
  put(name: string, bytes: Uint8Array): void;
  /** null when there is nothing under this name. Throws Refusal vault.locked, vault.broken. */
  get(name: string): Uint8Array | null;
}

/** The master key: 32 bytes from the TPM, and the name by which others may know it. */
export interface MasterKey {
  id: string;
  bytes: Uint8Array;
}
