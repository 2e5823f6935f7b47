// What a vault does for the vault manager, whatever keeps its data: fscrypt in the kernel, or files of our own.

/** `incomplete`: begun and never opened for use, so nothing is lost by starting over. */
export type VaultPresence = 'absent' | 'incomplete' | 'present';

export interface VaultBackend {
  /** Named in status and evidence. */
  readonly name: string;
  probe(): VaultPresence;
  /** Whether its data can be read; `busy`: no more, but for files that were open when it was locked. */
  status(): 'locked' | 'unlocked' | 'busy';
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

const nameLimit = 200;

/** Throws TypeError for a name that nothing can be kept under. */
export function checkName(name: string): void {
  if (name.length === 0 || name.length > nameLimit)
    throw new TypeError(`a name of 1 to ${nameLimit} characters`);
}
