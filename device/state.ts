// Files of the device. Every write goes beside the old file and is renamed over it, so that a cut of power leaves the
// old or the new one and never half of either. Calls are synchronous: the files are small, and the order matters.
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { Refusal } from './refusal.ts';

/** EVE's three places; each can be put anywhere. */
export interface Folders {
  /** What the device was installed with: certificates, server, onboarding key. */
  config: string;
  /** What outlives a reboot. */
  persist: string;
  /** What does not. */
  run: string;
}

const largest = 16 * 1024 * 1024;

export class StateFolder {
  readonly path: string;
  readonly #durable: boolean;

  /** `durable: false` for what need not outlive a cut of power: nothing waits for the disk then. */
  constructor(path: string, { durable = true } = {}) {
    this.path = path;
    this.#durable = durable;
    this.#makeFolder(path);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  has(name: string): boolean {
    return existsSync(this.file(name));
  }

  /** The whole file, null when there is none. Throws Refusal state.oversize. */
  read(name: string): Uint8Array | null {
    const path = this.file(name);
    if (!existsSync(path)) return null;
    const { size } = statSync(path);
    if (size > largest) {
      throw new Refusal('state.oversize', `${path} has ${size} bytes, and should never have over ${largest}`);
    }
    return readFileSync(path);
  }

  /** Atomic and durable; `mode` 0o600 for everything, since most of it is nobody else's business. */
  write(name: string, bytes: Uint8Array): void {
    this.#put(name, bytes, `${this.file(name)}.new`, renameSync);
  }

  /** The same for what is made once, by whichever process comes first. Returns what stands there. */
  make(name: string, bytes: Uint8Array): Uint8Array {
    try {
      this.#put(name, bytes, `${this.file(name)}.${process.pid}.new`, (fresh, path) => {
        linkSync(fresh, path);
        rmSync(fresh);
      });
      return bytes;
    } catch (error) {
      const made = (error as NodeJS.ErrnoException).code === 'EEXIST' ? this.read(name) : null;
      if (!made) throw error;
      return made;
    }
  }

  #put(name: string, bytes: Uint8Array, fresh: string, place: (fresh: string, path: string) => void): void {
    const path = this.file(name);
    this.#makeFolder(dirname(path));
    try {
      const fd = openSync(fresh, 'w', 0o600);
      try {
        writeAll(fd, bytes);
        if (this.#durable) fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      place(fresh, path);
    } catch (error) {
      rmSync(fresh, { force: true });
      throw error;
    }
    this.#syncFolder(dirname(path));
  }

  remove(name: string): void {
    const path = this.file(name);
    if (!existsSync(path)) return;
    rmSync(path);
    this.#syncFolder(dirname(path));
  }

  /** Makes what was made or removed in a folder durable. */
  sync(name: string): void {
    this.#syncFolder(this.file(name));
  }

  /**
   * Reads what `checkpoint` wrote: the newest copy that is whole.
   * Throws Refusal state.broken when there are copies and none of them is.
   */
  restore<Value>(name: string): Value | null {
    let broken = false;
    for (const copy of [name, `${name}.bak`]) {
      const bytes = this.read(copy);
      if (!bytes) continue;
      const value = openCheckpoint(bytes);
      if (value !== undefined) return value as Value;
      broken = true;
    }
    if (!broken) return null;
    throw new Refusal(
      'state.broken',
      `${this.file(name)} and its backup are both damaged; restore them from a backup of the device, or remove both to start this part over`,
    );
  }

  /** Writes a value with its hash, and keeps the copy before it as a backup. */
  checkpoint(name: string, value: unknown): void {
    const before = this.read(name);
    if (before && openCheckpoint(before) !== undefined) this.write(`${name}.bak`, before);
    const body = JSON.stringify(value);
    this.write(name, Buffer.from(`${hashOf(body)}\n${body}\n`));
  }

  forget(name: string): void {
    // In this order: the backup alone would be taken for the value.
    this.remove(`${name}.bak`);
    this.remove(name);
  }

  /** Makes a folder and those above it. Each is durable once the one above it is. */
  #makeFolder(path: string): void {
    const first = mkdirSync(path, { recursive: true, mode: 0o700 });
    if (first === undefined) return;
    for (let made = path; ; made = dirname(made)) {
      this.#syncFolder(dirname(made));
      if (made === first) return;
    }
  }

  /** A rename is durable once its folder is. */
  #syncFolder(path: string): void {
    if (!this.#durable) return;
    const fd = openSync(path, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

function openCheckpoint(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString('utf8');
  const cut = text.indexOf('\n');
  const body = text.slice(cut + 1, -1);
  if (cut < 0 || !text.endsWith('\n') || text.slice(0, cut) !== hashOf(body)) return undefined;
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
}
