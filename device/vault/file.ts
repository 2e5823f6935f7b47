// The portable backend: an AES-256-GCM store of files. It protects through this agent alone: it mounts nowhere, and plain
// data pass through the process. On Linux with ext4, fscrypt protects whatever is written.
import { createHmac, randomBytes } from 'node:crypto';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import { joined, open, parted, seal } from './aead.ts';
import { DataKeyStore, fileBackend } from './data-key.ts';
import { checkName, type MasterKey, type VaultBackend } from './vault.ts';

const keySize = 32;

export class FileVault implements VaultBackend {
  readonly name = fileBackend;
  readonly #state: StateFolder;
  readonly #stored: DataKeyStore;
  #dataKey: Buffer | null = null;

  constructor(state: StateFolder) {
    this.#state = state;
    this.#stored = new DataKeyStore(state, fileBackend);
  }

  probe(): ReturnType<VaultBackend['probe']> {
    return this.#stored.probe();
  }

  status(): 'locked' | 'unlocked' {
    return this.#dataKey ? 'unlocked' : 'locked';
  }

  create(key: MasterKey): void {
    const dataKey = randomBytes(keySize);
    this.#stored.create(key, dataKey);
    this.#dataKey = dataKey;
  }

  finish(): void {
    this.#stored.finish();
  }

  unlock(key: MasterKey): void {
    this.#dataKey = this.#stored.unwrap(key);
  }

  lock(): void {
    this.#dataKey?.fill(0);
    this.#dataKey = null;
  }

  admit(key: MasterKey): void {
    this.#stored.admit(key, this.#key());
  }

  keys(): string[] {
    return this.#stored.keys();
  }

  keepOnly(keyId: string): void {
    this.#stored.keepOnly(keyId);
  }

  put(name: string, bytes: Uint8Array): void {
    const key = this.#key();
    this.#state.write(objectFile(key, name), joined(seal(subkey(key, 'data'), bytes, objectAad(name))));
  }

  get(name: string): Uint8Array | null {
    const key = this.#key();
    const stored = this.#state.read(objectFile(key, name));
    return stored && open(subkey(key, 'data'), parted(stored), objectAad(name));
  }

  #key(): Buffer {
    if (!this.#dataKey) throw new Refusal('vault.locked', 'the vault is locked');
    return this.#dataKey;
  }
}

/** One key for names and another for data, so that neither use weakens the other. */
function subkey(key: Uint8Array, use: 'names' | 'data'): Buffer {
  return createHmac('sha256', key).update(`eve-attest vault 1 ${use}`).digest();
}

function objectFile(key: Uint8Array, name: string): string {
  checkName(name);
  return `vault/objects/${createHmac('sha256', subkey(key, 'names')).update(name).digest('hex')}`;
}

function objectAad(name: string): Buffer {
  return Buffer.from(`eve-attest vault 1\0object\0${name}`);
}
