// Which TPM, and the way to it.
import { existsSync } from 'node:fs';
import { nativeAddon } from '../native/addon.ts';
import { socketsOf, type TpmSpec, tpmDevice, tpmStateFile } from '../options.ts';
import type { Folders } from '../state.ts';
import type { PoweredTpm } from '../tpm/powered.ts';
import { Tpm } from '../tpm/tpm.ts';
import type { Transport } from '../tpm/transport.ts';
import { openFileTpm } from '../tpm/transports/file.ts';
import { openNativeTpm } from '../tpm/transports/native.ts';
import { openSocketTpm } from '../tpm/transports/socket.ts';
import { openSwtpm } from '../tpm/transports/swtpm.ts';
import { openWasmTpm } from '../tpm/transports/wasm.ts';
import { inTurnAt } from '../tpm/turns.ts';
import type { BoardTpmSpec } from './board.ts';

/** Opens the TPM of an emulated board; nothing has started it up yet. */
export function openBoardTpm(spec: BoardTpmSpec): Promise<PoweredTpm> {
  return spec.kind === 'wasm'
    ? openWasmTpm({ stateFile: spec.file, startup: false })
    : openSwtpm(spec.address);
}

/** Opens a TPM that is on, to speak with it. Rejects with TransportError. */
export function openTransport(spec: TpmSpec): Promise<Transport> {
  switch (spec.kind) {
    case 'wasm':
      return openWasmTpm({ stateFile: spec.file });
    case 'swtpm':
    case 'mssim':
      return openSocketTpm(spec.address, spec.kind);
    case 'file':
      return openFileTpm(spec.path);
    default:
      return openNativeTpm(tpmText(spec));
  }
}

/** As `--tpm` has it. */
export function tpmText(spec: TpmSpec): string {
  switch (spec.kind) {
    case 'wasm':
      return `wasm:${spec.file}`;
    case 'swtpm':
    case 'mssim':
      return `${spec.kind}:${'path' in spec.address ? `path=${spec.address.path}` : `host=${spec.address.host},port=${spec.address.port}`}`;
    case 'tabrmd':
      return `tabrmd:${spec.conf}`;
    default:
      return `${spec.kind}:${spec.path}`;
  }
}

export interface FoundTpm {
  spec: TpmSpec;
  /** Why this one, in a few words. */
  why: string;
}

/**
 * The TPM of a device that was not told which: the one of the device that runs in these folders, else the emulated one that
 * it has, else the one of the machine. Null when there is none; an emulated one is never made in its place.
 */
export function discoverTpm(folders: Folders): FoundTpm | null {
  const { tpm: socket } = socketsOf(folders);
  if (existsSync(socket))
    return { spec: { kind: 'swtpm', address: { path: socket } }, why: 'of the device that runs here' };
  const file = tpmStateFile(folders);
  if (existsSync(file)) return { spec: { kind: 'wasm', file }, why: 'the emulated TPM of this device' };
  if (!existsSync(tpmDevice)) return null;
  return hasAddon()
    ? { spec: { kind: 'device', path: tpmDevice }, why: 'the TPM of this machine' }
    : { spec: { kind: 'file', path: tpmDevice }, why: 'the TPM of this machine, without time-outs' };
}

function hasAddon(): boolean {
  try {
    return nativeAddon().tctiProblem() === null;
  } catch {
    return false;
  }
}

/** Opens a TPM beside whoever else uses it, and leaves alone what is not its own. */
export async function openSharedTpm(spec: TpmSpec, folders: Folders): Promise<Tpm> {
  const open = () => openTransport(spec);
  const { tpm, turns } = socketsOf(folders);
  const running = spec.kind === 'swtpm' && 'path' in spec.address && spec.address.path === tpm;
  return new Tpm(await open(), {
    reopen: open,
    ...(running ? { turn: (work) => inTurnAt(turns, work) } : {}),
  });
}
