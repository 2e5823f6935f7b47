// Where a WebAssembly TPM keeps its NV memory: one encrypted file, its key, and a lock against a second process.
import { randomBytes, randomUUID } from 'node:crypto';
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { nvImageSize, openNvImage, sealNvImage } from './nv-image.ts';

/** The file that holds the key of a TPM's state, beside it, when nobody gives one. */
export const keyFileName = 'tpm.key';

/**
 * - `locked`: another process has this TPM.
 * - `key`: the key file is missing, unfit, or others can read it.
 * - `size`: the state is larger than any can be.
 * - `io`: the file system refused; `cause` has its error.
 */
export class TpmStateError extends Error {
  readonly code: 'locked' | 'key' | 'size' | 'io';
  constructor(code: TpmStateError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TpmStateError';
    this.code = code;
  }
}

function errno(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

export class TpmStateFile {
  readonly path: string;
  readonly #key: Uint8Array;
  readonly #lock: string;

  private constructor(path: string, key: Uint8Array, lock: string) {
    this.path = path;
    this.#key = key;
    this.#lock = lock;
  }

  /**
   * Locks the file and finds its key (32 bytes). Without `key` it is in `tpm.key` beside the file, made at the first
   * use with mode 0600: then the state is as safe as that file, no more. Throws TpmStateError.
   */
  static async open(path: string, key?: Uint8Array): Promise<TpmStateFile> {
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const lock = await takeLock(path);
      try {
        return new TpmStateFile(path, key ? Uint8Array.from(key) : await keyBeside(path), lock);
      } catch (error) {
        await unlink(lock);
        throw error;
      }
    } catch (error) {
      throw asStateError(path, error);
    }
  }

  /** The NV memory in the file, or undefined when there is no file yet. Throws NvImageError and TpmStateError. */
  async load(layout: Uint8Array): Promise<Uint8Array | undefined> {
    let image: Buffer;
    try {
      if ((await stat(this.path)).size > 2 * nvImageSize)
        throw new TpmStateError('size', `${this.path} is too large to be the state of a TPM`);
      image = await readFile(this.path);
    } catch (error) {
      if (errno(error) === 'ENOENT') return undefined;
      throw asStateError(this.path, error);
    }
    return openNvImage(image, layout, this.#key);
  }

  /** Replaces the file in one step: after a crash or a full disk it is the old one or the new one. */
  async save(nv: Uint8Array, layout: Uint8Array): Promise<void> {
    // One name is enough, because the lock keeps others away; a crash may have left it.
    const next = `${this.path}.next`;
    try {
      await rm(next, { force: true });
      await writeWhole(next, sealNvImage(nv, layout, this.#key));
      await rename(next, this.path);
      await syncFolder(this.path);
    } catch (error) {
      await unlink(next).catch(() => {});
      throw asStateError(this.path, error);
    }
  }

  /** Gives up the lock. */
  async close(): Promise<void> {
    this.#key.fill(0);
    await unlink(this.#lock).catch(() => {});
  }
}

function asStateError(path: string, error: unknown): unknown {
  if (error instanceof TpmStateError || errno(error) === undefined) return error;
  const hint = errno(error) === 'ENOSPC' ? 'the disk is full; the file holds the state before' : errno(error);
  return new TpmStateError('io', `the state of the TPM in ${path} cannot be read or written: ${hint}`, {
    cause: error,
  });
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const file: FileHandle = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function keyBeside(statePath: string): Promise<Uint8Array> {
  const path = join(dirname(statePath), keyFileName);
  const key = await readFile(path).catch((error: unknown) => {
    if (errno(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (key) {
    if (key.length !== 32)
      throw new TpmStateError(
        'key',
        `${path} has ${key.length} bytes instead of 32; put back a backup of it`,
      );
    const mode = (await stat(path)).mode & 0o777;
    if (mode & 0o077)
      throw new TpmStateError(
        'key',
        `others can read ${path} (mode ${mode.toString(8).padStart(4, '0')}), and with it the TPM's secrets; chmod 600 it`,
      );
    return key;
  }
  const stateExists = await stat(statePath).then(
    () => true,
    () => false,
  );
  if (stateExists)
    throw new TpmStateError(
      'key',
      `${path} is missing, and ${statePath} does not open without it; put back a backup of it, or move the state away and enrol a new TPM`,
    );
  const made = randomBytes(32);
  await writeWhole(path, made);
  await syncFolder(path);
  return made;
}

/** A process and its start, because process ids are used again: `PID START`. */
async function owner(pid: number): Promise<string | undefined> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errno(error) === 'ESRCH') return undefined;
  }
  // Field 22 of proc_pid_stat(5), counted after the name in parentheses. Elsewhere than on Linux the id has to do.
  const stats = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return `${pid} ${stats.slice(stats.lastIndexOf(')') + 2).split(' ')[19] ?? ''}`;
}

/** Makes the lock file appear with its content in one step, and takes over one whose process is gone. */
async function takeLock(statePath: string): Promise<string> {
  const lock = `${statePath}.lock`;
  const mine = `${lock}.${randomUUID()}`;
  await writeFile(mine, (await owner(process.pid)) ?? '', { flag: 'wx', mode: 0o600 });
  try {
    for (let attempt = 0; attempt < takeOverTries; attempt++) {
      if (await linked(mine, lock)) return lock;
      const holder = await holderOf(lock);
      if (typeof holder === 'number')
        throw new TpmStateError(
          'locked',
          `process ${holder} uses the TPM in ${statePath}; end it first, or give this one a state of its own`,
        );
      if (holder === 'stale') await removeStale(lock, mine);
    }
    throw new TpmStateError('locked', `other processes are starting the TPM in ${statePath}; try again`);
  } finally {
    await unlink(mine).catch(() => {});
  }
}

const takeOverTries = 50;

/**
 * Removes a lock whose process is gone. Only who holds the lock of the removal may look and remove, or two could: one
 * would remove what the other has just taken. A removal that was cut short is itself taken away when its process is gone.
 */
async function removeStale(lock: string, mine: string): Promise<void> {
  const removal = `${lock}.removal`;
  if (!(await linked(mine, removal))) {
    if ((await holderOf(removal)) === 'stale') await unlink(removal).catch(() => {});
    return;
  }
  try {
    // A stale lock stays until it is removed here; one that is absent may be taken at any moment.
    if ((await holderOf(lock)) === 'stale') await unlink(lock).catch(() => {});
  } finally {
    await unlink(removal).catch(() => {});
  }
}

/** False when there is such a file already. */
async function linked(mine: string, path: string): Promise<boolean> {
  try {
    await link(mine, path);
    return true;
  } catch (error) {
    if (errno(error) === 'EEXIST') return false;
    throw error;
  }
}

/** The process that holds a lock; `stale` when it is gone, `absent` when there is no lock. */
async function holderOf(lock: string): Promise<number | 'stale' | 'absent'> {
  const holder = await readFile(lock, 'latin1').catch(() => undefined);
  if (holder === undefined) return 'absent';
  const pid = Number(holder.split(' ')[0]);
  return Number.isSafeInteger(pid) && pid > 0 && (await owner(pid)) === holder ? pid : 'stale';
}
