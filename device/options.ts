// What a person may set for a device, checked before anything is opened.
import { join, resolve } from 'node:path';
import { exitCodes, Failure } from './cli/failure.ts';
import { type Locator, LocatorError, locatorOf } from './location/locator.ts';
import type { Folders } from './state.ts';
import type { SocketAddress } from './tpm/transports/socket.ts';
import { type VaultChoice, vaultChoices } from './vault/backend.ts';

export interface FolderOptions {
  config?: string;
  persist?: string;
  run?: string;
  /** One folder for all three. */
  state?: string;
}

/** EVE's three places, or all of them below one folder. */
export function foldersOf({ config, persist, run, state }: FolderOptions): Folders {
  const place = (given: string | undefined, name: string, fallback: string) =>
    resolve(given ?? (state === undefined ? fallback : join(state, name)));
  return {
    config: place(config, 'config', '/config'),
    persist: place(persist, 'persist', '/persist'),
    run: place(run, 'run', '/run/eve'),
  };
}

/** A Unix socket's path fits into 108 bytes, its end included [unix(7)]. */
const longestSocketPath = 107;

/** Sockets of a device; throws Failure when the path is longer than the kernel takes. */
export function socketsOf(folders: Folders): { bus: string; tpm: string; turns: string } {
  const sockets = {
    bus: join(folders.run, 'bus.sock'),
    tpm: join(folders.run, 'tpm.sock'),
    turns: join(folders.run, 'tpm-turns.sock'),
  };
  for (const path of [`${sockets.tpm}.ctrl`, sockets.turns]) {
    if (Buffer.byteLength(path) > longestSocketPath) {
      throw new Failure(
        `${path} is too long for a Unix socket (${longestSocketPath} bytes)`,
        'choose a shorter folder with --run DIR',
        exitCodes.usage,
      );
    }
  }
  return sockets;
}

export type TpmSpec =
  | { kind: 'wasm'; file: string }
  | { kind: 'swtpm'; address: SocketAddress }
  | { kind: 'mssim'; address: SocketAddress }
  /** The TPM of the machine: with time-outs through the addon, or as a plain file. */
  | { kind: 'device' | 'file'; path: string }
  /** A resource manager on D-Bus; `conf` is empty or as its TCTI has it. */
  | { kind: 'tabrmd'; conf: string };

export const tpmForms =
  'device:/dev/tpmrm0, file:/dev/tpmrm0 (no addon, no time-outs), tabrmd:, swtpm:host=HOST,port=PORT, swtpm:path=SOCKET, mssim:host=HOST,port=PORT, wasm:FILE';

/** Reads `--tpm`: a kind, and where it is, as tpm2-tools write it. Throws Failure. */
export function tpmSpecOf(text: string, folders: Folders): TpmSpec {
  const [kind = '', rest = ''] = split(text, ':');
  switch (kind) {
    case 'wasm':
      return { kind, file: rest === '' ? tpmStateFile(folders) : resolve(rest) };
    case 'device':
    case 'file':
      return { kind, path: rest === '' ? tpmDevice : resolve(rest) };
    case 'tabrmd':
      return { kind, conf: rest };
    case 'swtpm':
    case 'mssim':
      return { kind, address: addressOf(text, kind, rest) };
    default:
      throw new Failure(`--tpm ${text}: there is no such kind of TPM`, `known: ${tpmForms}`, exitCodes.usage);
  }
}

/** The kernel's own resource manager in front of the first TPM. */
export const tpmDevice = '/dev/tpmrm0';

/** Where the emulated TPM of a device is kept. */
export function tpmStateFile({ persist }: Folders): string {
  return join(persist, 'tpm.nv');
}

/** `host=HOST,port=PORT`, both with defaults, or `path=SOCKET`. A control channel is at the port above. */
function addressOf(text: string, kind: 'swtpm' | 'mssim', rest: string): SocketAddress {
  const fields = new Map(rest === '' ? [] : rest.split(',').map((part) => split(part, '=')));
  const { path, host = '127.0.0.1', port = '2321', ...more } = Object.fromEntries(fields);
  const wrong = (what: string) =>
    new Failure(`--tpm ${text}: ${what}`, `write it as ${kind}:host=127.0.0.1,port=2321`, exitCodes.usage);
  const [unknown] = Object.keys(more);
  if (unknown !== undefined) throw wrong(`what is ${unknown}?`);
  if (path !== undefined && path !== '') return { path: resolve(path) };
  const number = Number(port);
  if (Number.isInteger(number) && number > 0 && number < 65535) return { host, port: number };
  throw wrong('no port');
}

/** Reads `--vault`. Throws Failure. */
export function vaultChoiceOf(text = 'auto'): VaultChoice {
  const choice = vaultChoices.find((known) => known === text);
  if (choice) return choice;
  throw new Failure(`--vault ${text}`, `known: ${vaultChoices.join(', ')}`, exitCodes.usage);
}

export const locationForms =
  'gpsd[:HOST[:PORT]], LATITUDE,LONGITUDE[,ACCURACY IN METRES], @FILE with such a line, or none';

/** Reads `--location`. Throws Failure. */
export function locationOf(text: string | undefined): Locator | undefined {
  try {
    return locatorOf(text);
  } catch (error) {
    if (!(error instanceof LocatorError)) throw error;
    throw new Failure(`--location ${error.message}`, `write it as ${locationForms}`, exitCodes.usage);
  }
}

function split(text: string, at: string): [string, string] {
  const cut = text.indexOf(at);
  return cut < 0 ? [text, ''] : [text.slice(0, cut), text.slice(cut + 1)];
}
