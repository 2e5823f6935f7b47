// What a person may set for a device, checked before anything is opened.
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Location } from '../machines/flow.ts';
import { exitCodes, Failure } from './cli/failure.ts';
import type { Folders } from './state.ts';

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

export type TpmSpec = { kind: 'wasm'; file: string } | { kind: 'swtpm'; host: string; port: number };

/** `wasm[:FILE]`, or `swtpm:host=HOST,port=PORT` for a swtpm whose control channel is at the port above. */
export function tpmSpecOf(text: string | undefined, folders: Folders): TpmSpec {
  const [kind = '', rest = ''] = split(text ?? 'wasm', ':');
  if (kind === 'wasm') return { kind, file: rest === '' ? join(folders.persist, 'tpm.nv') : resolve(rest) };
  if (kind === 'swtpm') {
    const fields = new Map(rest.split(',').map((part) => split(part, '=')));
    const host = fields.get('host') ?? '127.0.0.1';
    const port = Number(fields.get('port') ?? 2321);
    if (Number.isInteger(port) && port > 0 && port < 65535) return { kind, host, port };
    throw new Failure(
      `--tpm ${text}: no port`,
      'write it as swtpm:host=127.0.0.1,port=2321',
      exitCodes.usage,
    );
  }
  if (kind === 'device' || kind === 'tabrmd') {
    throw new Failure(
      `--tpm ${text}: this version does not reach a TPM of the machine yet`,
      'use --tpm wasm:FILE, or a swtpm with --tpm swtpm:host=127.0.0.1,port=2321',
      exitCodes.usage,
    );
  }
  throw new Failure(
    `--tpm ${text}: there is no such kind of TPM`,
    'known: wasm:FILE and swtpm:host=HOST,port=PORT',
    exitCodes.usage,
  );
}

/**
 * `LATITUDE,LONGITUDE[,ACCURACY]`, degrees and metres; or `@FILE` that holds such a line, written by whatever knows, and
 * read anew each time. The fix is as old as the moment somebody asks.
 */
export function locatorOf(text: string | undefined): (() => Promise<Location | null>) | undefined {
  if (text === undefined) return undefined;
  if (text.startsWith('@')) {
    const path = resolve(text.slice(1));
    return () => readFile(path, 'utf8').then(placeOf, () => null);
  }
  if (placeOf(text)) return () => Promise.resolve(placeOf(text));
  throw new Failure(
    `--location ${text}: no place`,
    'write it as LATITUDE,LONGITUDE[,ACCURACY IN METRES], such as 52.52,13.40,20, or as @FILE',
    exitCodes.usage,
  );
}

/** null when it is no place. */
function placeOf(text: string): Location | null {
  const [latitude = Number.NaN, longitude = Number.NaN, accuracy = 10, ...more] = text
    .split(',')
    .map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  const good = Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 && accuracy > 0 && accuracy < 1e7;
  return good && more.length === 0 ? { latitude, longitude, accuracy, at: Date.now() } : null;
}

function split(text: string, at: string): [string, string] {
  const cut = text.indexOf(at);
  return cut < 0 ? [text, ''] : [text.slice(0, cut), text.slice(cut + 1)];
}
