// The addon, where it was built: TPMs through the TCG software stack, and encryption of file systems by the kernel. Nothing
// needs it to start; who needs it asks for it, and hears what is missing.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** One connection to a TPM. Rejections and exceptions have a code `TCTI_…`. */
export interface TctiConnection {
  /** Whether a wait for a response can end before the response comes. */
  readonly polls: boolean;
  /** One command at a time; `timeout` in ms, -1 for ever. */
  transmit(command: Uint8Array, timeout: number): Promise<Uint8Array>;
  cancel(): void;
  /** Not while a command runs. */
  close(): Promise<void>;
}

export interface NativeAddon {
  readonly revision: number;
  /** Why no TCTI can be opened on this machine; null when there is no reason. */
  tctiProblem(): string | null;
  /** `NAME:CONFIGURATION`, as tpm2-tools have it; NAME is one of device, swtpm, mssim, tabrmd. */
  openTcti(name: string): Promise<TctiConnection>;
  // The folders are on the file system meant, the codes are names of errno.
  /** Gives the kernel a key of 32 to 64 bytes; returns its identifier, 16 bytes. */
  addKey(folder: string, key: Uint8Array): Uint8Array;
  /** Flags: 1 files are still open, 2 other users have added the key, too. */
  removeKey(folder: string, identifier: Uint8Array): number;
  /** 1 absent, 2 present, 3 removed while files were open. */
  keyStatus(folder: string, identifier: Uint8Array): number;
  /** Encrypts what will be in an empty folder. */
  setPolicy(folder: string, identifier: Uint8Array): void;
  /** Identifier of the key of a folder; null where nothing encrypts it. */
  getPolicy(folder: string): Uint8Array | null;
}

/** There is no addon, or none that fits. */
export class AddonMissing extends Error {
  readonly code = 'native.missing';
  /** The next thing to do. */
  readonly hint = 'build it, which takes a second and a C compiler: npm run build:native';

  constructor(why: string, options?: ErrorOptions) {
    super(`the native addon ${why}`, options);
    this.name = 'AddonMissing';
  }
}

const revision = 1;
const file = 'build/addon.node';
/** Beside the sources; seen from them, and from dist/. */
const places = [join(import.meta.dirname, file), join(import.meta.dirname, '../../../device/native', file)];

/** Throws AddonMissing. */
export function nativeAddon(): NativeAddon {
  const path = places.find((place) => existsSync(place));
  if (path === undefined) throw new AddonMissing('is not built');
  let addon: NativeAddon;
  try {
    addon = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (cause) {
    throw new AddonMissing(`at ${path} does not load: ${(cause as Error).message}`, { cause });
  }
  if (addon.revision !== revision)
    throw new AddonMissing(`at ${path} is of another version (${addon.revision}, not ${revision})`);
  return addon;
}
