// The portable backend: an AES-256-GCM store of files. It protects through this agent alone: it mounts nowhere, and plain
// data pass through the process. On Linux with ext4, fscrypt protects whatever is written.
// The data key is wrapped by the master key, so a new master key re-wraps 32 bytes and rewrites no data.
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import type { MasterKey, VaultBackend } from './vault.ts';

const version = 1;
const headerFile = 'vault/vault.json';
const keySize = 32;
const ivSize = 12;
const tagSize = 16;
const nameLimit = 200;

interface Header {
  version: number;
  /** False until the master key is sealed: before that nobody was told that there is a vault. */
  complete: boolean;
  /** The data key, wrapped by each master key that opens this vault. */
  wraps: { keyId: string; iv: string; data: string }[];
}

export class FileVault implements VaultBackend {
  readonly name = 'file';
  readonly #state: StateFolder;
  #dataKey: Buffer | null = null;

  constructor(state: StateFolder) {
    this.#state = state;
  }

  probe(): 'absent' | 'incomplete' | 'present' {
    const header = this.#state.restore<Header>(headerFile);
    if (!header) return 'absent';
    if (header.version !== version) {
      throw new Refusal(
        'vault.version',
        `this vault has version ${header.version}, and this agent opens ${version}`,
      );
    }
    return header.complete ? 'present' : 'incomplete';
  }

  create(key: MasterKey): void {
    if (this.probe() === 'present')
      throw new Refusal('vault.exists', 'there is a vault already; it is not overwritten');
    this.#dataKey = randomBytes(keySize);
    this.#state.checkpoint(headerFile, { version, complete: false, wraps: [wrap(key, this.#dataKey)] });
  }

  finish(): void {
    this.#change((header) => ({ ...header, complete: true }));
  }

  unlock(key: MasterKey): void {
    const header = this.#header();
    const wrapped = header.wraps.find((candidate) => candidate.keyId === key.id);
    if (!wrapped) {
      throw new Refusal('vault.wrong-key', `master key ${key.id} is none of those that open this vault`);
    }
    this.#dataKey = open(key.bytes, wrapped.iv, wrapped.data, wrapAad(key.id));
  }

  lock(): void {
    this.#dataKey?.fill(0);
    this.#dataKey = null;
  }

  admit(key: MasterKey): void {
    const dataKey = this.#key();
    this.#change((header) => ({
      ...header,
      wraps: [...header.wraps.filter((other) => other.keyId !== key.id), wrap(key, dataKey)],
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

  put(name: string, bytes: Uint8Array): void {
    const key = this.#key();
    const sealed = seal(subkey(key, 'data'), bytes, objectAad(name));
    this.#state.write(objectFile(key, name), Buffer.concat([sealed.iv, sealed.data]));
  }

  get(name: string): Uint8Array | null {
    const key = this.#key();
    const stored = this.#state.read(objectFile(key, name));
    if (!stored) return null;
    const iv = Buffer.from(stored.subarray(0, ivSize)).toString('base64');
    const data = Buffer.from(stored.subarray(ivSize)).toString('base64');
    return open(subkey(key, 'data'), iv, data, objectAad(name));
  }

  #key(): Buffer {
    if (!this.#dataKey) throw new Refusal('vault.locked', 'the vault is locked');
    return this.#dataKey;
  }

  #header(): Header {
    const header = this.#state.restore<Header>(headerFile);
    if (!header) throw new Refusal('vault.absent', 'there is no vault');
    return header;
  }

  #change(edit: (header: Header) => Header): void {
    this.#state.checkpoint(headerFile, edit(this.#header()));
  }
}

function wrap(key: MasterKey, dataKey: Uint8Array): Header['wraps'][number] {
  const { iv, data } = seal(key.bytes, dataKey, wrapAad(key.id));
  return { keyId: key.id, iv: iv.toString('base64'), data: data.toString('base64') };
}

function seal(key: Uint8Array, plain: Uint8Array, aad: Buffer): { iv: Buffer; data: Buffer } {
  const iv = randomBytes(ivSize);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(aad);
  return { iv, data: Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]) };
}

function open(key: Uint8Array, iv: string, data: string, aad: Buffer): Buffer {
  const bytes = Buffer.from(data, 'base64');
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(iv, 'base64'), {
      authTagLength: tagSize,
    });
    decipher.setAAD(aad).setAuthTag(bytes.subarray(bytes.length - tagSize));
    return Buffer.concat([decipher.update(bytes.subarray(0, bytes.length - tagSize)), decipher.final()]);
  } catch (cause) {
    throw new Refusal(
      'vault.broken',
      'something in the vault was changed or damaged; restore it from a backup',
      {
        cause,
      },
    );
  }
}

/** One key for names and another for data, so that neither use weakens the other. */
function subkey(key: Uint8Array, use: 'names' | 'data'): Buffer {
  return createHmac('sha256', key).update(`eve-attest vault ${version} ${use}`).digest();
}

function objectFile(key: Uint8Array, name: string): string {
  if (name.length === 0 || name.length > nameLimit)
    throw new TypeError(`a name of 1 to ${nameLimit} characters`);
  return `vault/objects/${createHmac('sha256', subkey(key, 'names')).update(name).digest('hex')}`;
}

function wrapAad(keyId: string): Buffer {
  return Buffer.from(`eve-attest vault ${version}\0wrap\0${keyId}`);
}

function objectAad(name: string): Buffer {
  return Buffer.from(`eve-attest vault ${version}\0object\0${name}`);
}
