// The kernel's backend: a folder that ext4 or f2fs encrypts under a key which the kernel holds while the vault is open
// [Documentation/filesystems/fscrypt.rst]. Whatever anybody writes into it is protected, and nothing of it passes through
// keys of ours. The key cannot be changed without writing all data anew, so master keys wrap it.
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AddonMissing, nativeAddon } from '../native/addon.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import { DataKeyStore } from './data-key.ts';
import { checkName, type MasterKey, type VaultBackend } from './vault.ts';

export const fscryptBackend = 'fscrypt';

/** What the kernel encrypts; the header is beside it. */
const dataFolder = 'vault/data';
const keySize = 64;

// FSCRYPT_KEY_STATUS_*
const keyStatus = { absent: 1, present: 2 };

export class FscryptVault implements VaultBackend {
  readonly name = fscryptBackend;
  readonly #state: StateFolder;
  readonly #stored: DataKeyStore;
  #dataKey: Buffer | null = null;

  constructor(state: StateFolder) {
    this.#state = state;
    this.#stored = new DataKeyStore(state, fscryptBackend);
  }

  probe(): ReturnType<VaultBackend['probe']> {
    return this.#stored.probe();
  }

  /** As the kernel sees it, whoever gave it the key. */
  status(): 'locked' | 'unlocked' | 'busy' {
    const identifier = this.#identifier();
    if (!identifier) return 'locked';
    const status = asked(() => nativeAddon().keyStatus(this.#state.path, identifier));
    if (status === keyStatus.absent) return 'locked';
    return status === keyStatus.present ? 'unlocked' : 'busy';
  }

  create(key: MasterKey): void {
    this.#stored.refuseSecond();
    // One that was begun before: its key is of no use to anybody.
    this.lock();
    const dataKey = randomBytes(keySize);
    const identifier = asked(() => nativeAddon().addKey(this.#state.path, dataKey));
    this.#stored.create(key, dataKey, { identifier: hex(identifier) });
    const folder = this.#state.file(dataFolder);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { mode: 0o700 });
    asked(() => nativeAddon().setPolicy(folder, identifier));
    this.#state.sync(dataFolder);
    this.#state.sync('vault');
    this.#dataKey = dataKey;
  }

  finish(): void {
    this.#stored.finish();
  }

  /** Throws Refusal vault.wrong-key, vault.broken, vault.no-fscrypt. */
  unlock(key: MasterKey): void {
    const dataKey = this.#stored.unwrap(key);
    const added = asked(() => nativeAddon().addKey(this.#state.path, dataKey));
    const expected = this.#identifier();
    if (!expected || Buffer.compare(added, expected) !== 0) {
      forget(this.#state.path, added);
      throw new Refusal('vault.broken', 'the header of the vault names another key than it holds');
    }
    this.#dataKey = dataKey;
    try {
      this.#protectedFolder();
    } catch (error) {
      this.lock();
      throw error;
    }
  }

  lock(): void {
    this.#dataKey?.fill(0);
    this.#dataKey = null;
    const identifier = this.#identifier();
    if (!identifier) return;
    try {
      nativeAddon().removeKey(this.#state.path, identifier);
    } catch (error) {
      // It is not there, or no addon has ever given it.
      if (codeOf(error) !== 'ENOKEY' && !(error instanceof AddonMissing)) throw refusalOf(error);
    }
  }

  admit(key: MasterKey): void {
    if (!this.#dataKey) throw locked();
    this.#stored.admit(key, this.#dataKey);
  }

  keys(): string[] {
    return this.#stored.keys();
  }

  keepOnly(keyId: string): void {
    this.#stored.keepOnly(keyId);
  }

  put(name: string, bytes: Uint8Array): void {
    const file = fileOf(name);
    this.#protectedFolder();
    asked(() => this.#state.write(file, bytes));
  }

  get(name: string): Uint8Array | null {
    const file = fileOf(name);
    this.#protectedFolder();
    return asked(() => this.#state.read(file));
  }

  /** Before anything is written: a folder that is not encrypted under this key would keep it in the clear. */
  #protectedFolder(): void {
    if (!this.#dataKey || this.status() !== 'unlocked') throw locked();
    const folder = this.#state.file(dataFolder);
    const policy = existsSync(folder) ? asked(() => nativeAddon().getPolicy(folder)) : null;
    if (!policy || Buffer.compare(policy, this.#identifier() ?? policy.subarray(1)) !== 0)
      throw new Refusal(
        'vault.broken',
        `${folder} is not encrypted with the key of this vault; nothing is written there`,
      );
  }

  #identifier(): Uint8Array | null {
    const text = this.#stored.public?.identifier;
    return text === undefined ? null : Buffer.from(text, 'hex');
  }
}

export type FscryptVerdict = { possible: true } | { possible: false; why: string; next: string };

/**
 * Whether a vault could be made in this folder: a trial folder is encrypted, written to, locked and removed. The folder has
 * to exist.
 */
export function probeFscrypt(folder: string): FscryptVerdict {
  let trial: string | undefined;
  let identifier: Uint8Array | undefined;
  try {
    const addon = nativeAddon();
    if (addon.getPolicy(folder))
      return { possible: false, why: `${folder} is encrypted already, with another key`, next: '' };
    trial = mkdtempSync(join(folder, '.fscrypt-'));
    identifier = addon.addKey(folder, randomBytes(keySize));
    addon.setPolicy(trial, identifier);
    writeFileSync(join(trial, 'trial'), 'trial');
    addon.removeKey(folder, identifier);
    if (readdirSync(trial).includes('trial'))
      return { possible: false, why: `${folder} shows what it should encrypt`, next: 'use another kernel' };
    return { possible: true };
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof AddonMissing) return { possible: false, why: message, next: error.hint };
    return { possible: false, why: message, next: remedies[codeOf(error) ?? ''] ?? '' };
  } finally {
    if (trial !== undefined) rmSync(trial, { recursive: true, force: true });
    if (identifier) forget(folder, identifier);
  }
}

const remedies: Record<string, string> = {
  EOPNOTSUPP:
    'give the file system the feature, unmounted: tune2fs -O encrypt DEVICE; the kernel needs CONFIG_FS_ENCRYPTION',
  ENOTTY: 'use ext4 or f2fs with the feature encrypt; this file system has none',
  ENOPKG: 'use a kernel with AES-XTS and AES-CTS',
  EACCES: 'run as a user who may write there',
  EROFS: 'mount it writable',
  ENOENT: 'make the folder first',
};

function forget(folder: string, identifier: Uint8Array): void {
  try {
    nativeAddon().removeKey(folder, identifier);
  } catch {
    // It was removed before, or never there.
  }
}

/** What an operator finds in the folder is what it is called; what cannot be a name of a file is hashed. */
function fileOf(name: string): string {
  checkName(name);
  const plain = /^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(name);
  return `${dataFolder}/${plain ? name : `.${createHash('sha256').update(name).digest('hex')}`}`;
}

function locked(): Refusal {
  return new Refusal('vault.locked', 'the vault is locked');
}

/** Runs it, with what the kernel refuses as a reason. */
function asked<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw refusalOf(error);
  }
}

const unable = new Set(['EOPNOTSUPP', 'ENOTTY', 'ENOPKG', 'ENOSYS']);

function refusalOf(error: unknown): unknown {
  const code = codeOf(error) ?? '';
  if (code === 'ENOKEY') return locked();
  if (unable.has(code) || error instanceof AddonMissing)
    return new Refusal(
      'vault.no-fscrypt',
      `the vault cannot be encrypted by the kernel: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  return error;
}

/** Node has no name for this one. */
const noKey = -126;

function codeOf(error: unknown): string | undefined {
  const { code, errno } = error as NodeJS.ErrnoException;
  return errno === noKey ? 'ENOKEY' : code;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
