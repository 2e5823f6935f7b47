// The data key at rest: wrapped by each master key that opens the vault. So a new master key re-wraps one key and rewrites no
// data, whatever keeps them.
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import { open, seal } from './aead.ts';
import type { MasterKey, VaultPresence } from './vault.ts';

const version = 1;
const headerFile = 'vault/vault.json';

export interface VaultHeader {
  version: number;
  /** What keeps the data; absent for files of our own. */
  backend?: string;
  /** False until the master key is sealed: before that nobody was told that there is a vault. */
  complete: boolean;
  /** The data key, wrapped by each master key that opens this vault. */
  wraps: { keyId: string; iv: string; data: string }[];
  /** What else its backend has to know, and anybody may. */
  public?: Record<string, string>;
}

export const fileBackend = 'file';

/** What is there, whatever its backend; null when nothing is. Throws Refusal vault.version, state.broken. */
export function vaultHeader(state: StateFolder): VaultHeader | null {
  const header = state.restore<VaultHeader>(headerFile);
  if (header && header.version !== version) {
    throw new Refusal(
      'vault.version',
      `this vault has version ${header.version}, and this agent opens ${version}`,
    );
  }
  return header;
}

export class DataKeyStore {
  readonly #state: StateFolder;
  readonly #backend: string;

  constructor(state: StateFolder, backend: string) {
    this.#state = state;
    this.#backend = backend;
  }

  probe(): VaultPresence {
    const header = vaultHeader(this.#state);
    if (!header) return 'absent';
    return header.complete ? 'present' : 'incomplete';
  }

  /** What the backend wrote beside it, undefined when there is no vault. */
  get public(): Record<string, string> | undefined {
    return vaultHeader(this.#state)?.public;
  }

  /** Throws Refusal vault.exists. */
  refuseSecond(): void {
    if (this.probe() === 'present')
      throw new Refusal('vault.exists', 'there is a vault already; it is not overwritten');
  }

  /** Throws Refusal vault.exists. */
  create(key: MasterKey, dataKey: Uint8Array, more?: Record<string, string>): void {
    this.refuseSecond();
    this.#state.checkpoint(headerFile, {
      version,
      ...(this.#backend === fileBackend ? {} : { backend: this.#backend }),
      complete: false,
      wraps: [this.#wrap(key, dataKey)],
      ...(more ? { public: more } : {}),
    } satisfies VaultHeader);
  }

  finish(): void {
    this.#change((header) => ({ ...header, complete: true }));
  }

  /** The data key. Throws Refusal vault.absent, vault.wrong-key, vault.broken. */
  unwrap(key: MasterKey): Buffer {
    const wrapped = this.#header().wraps.find((candidate) => candidate.keyId === key.id);
    if (!wrapped)
      throw new Refusal('vault.wrong-key', `master key ${key.id} is none of those that open this vault`);
    const bytes = (text: string) => Buffer.from(text, 'base64');
    const sealed = { iv: bytes(wrapped.iv), data: bytes(wrapped.data) };
    return open(key.bytes, sealed, this.#aad(key.id));
  }

  admit(key: MasterKey, dataKey: Uint8Array): void {
    this.#change((header) => ({
      ...header,
      wraps: [...header.wraps.filter((other) => other.keyId !== key.id), this.#wrap(key, dataKey)],
    }));
  }

  keys(): string[] {
    return this.#header().wraps.map(({ keyId }) => keyId);
  }

  keepOnly(keyId: string): void {
    this.#change((header) => {
      const wraps = header.wraps.filter((candidate) => candidate.keyId === keyId);
      if (wraps.length === 0)
        throw new Refusal('vault.wrong-key', `master key ${keyId} does not open this vault`);
      return { ...header, wraps };
    });
    // The backup copy would still open with the key that was shut out.
    this.#state.remove(`${headerFile}.bak`);
  }

  #wrap(key: MasterKey, dataKey: Uint8Array): VaultHeader['wraps'][number] {
    const { iv, data } = seal(key.bytes, dataKey, this.#aad(key.id));
    const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
    return { keyId: key.id, iv: text(iv), data: text(data) };
  }

  #header(): VaultHeader {
    const header = vaultHeader(this.#state);
    if (!header) throw new Refusal('vault.absent', 'there is no vault');
    return header;
  }

  #change(edit: (header: VaultHeader) => VaultHeader): void {
    this.#state.checkpoint(headerFile, edit(this.#header()));
  }

  #aad(keyId: string): Buffer {
    const backend = this.#backend === fileBackend ? '' : ` ${this.#backend}`;
    return Buffer.from(`eve-attest vault ${version}${backend}\0wrap\0${keyId}`);
  }
}
