// Which board a device has, and what belongs to it.

import { ImageFolders } from '../baseos/image-folders.ts';
import type { OsSlots } from '../baseos/os-slots.ts';
import { PlatformSlots } from '../baseos/platform-slots.ts';
import { SlotStore } from '../baseos/slots.ts';
import { type Board, type BoardKind, boardKinds } from '../board.ts';
import { EmulatedBoard } from '../board-emulated.ts';
import { RealBoard } from '../board-real.ts';
import { systemClock } from '../clock.ts';
import { type TpmSpec, tpmDevice, tpmSpecOf } from '../options.ts';
import { openPersist } from '../persist.ts';
import { Platform, requiredPrograms } from '../platform.ts';
import type { DeviceRecorder } from '../recorder.ts';
import type { Folders } from '../state.ts';
import type { Transport } from '../tpm/transport.ts';
import { exitCodes, Failure } from './failure.ts';
import { openBoardTpm, openTransport } from './open-tpm.ts';

export interface BoardOptions {
  board?: string;
  tpm?: string;
  platform?: string;
  measureConfig?: boolean;
}

/** What an emulated board can be given: a TPM that it turns off and on. */
export type BoardTpmSpec = Extract<TpmSpec, { kind: 'wasm' | 'swtpm' }>;

export type BoardSpec =
  | { kind: 'emulated'; tpm: BoardTpmSpec }
  | {
      kind: 'real';
      tpm: Exclude<TpmSpec, { kind: 'wasm' }>;
      platform: string | null;
      measureConfig: boolean;
    };

/** Kinds of TPMs that are of the machine itself. */
export const machineTpms: readonly TpmSpec['kind'][] = ['device', 'file', 'tabrmd'];

/**
 * Reads `--board` and what goes with it; without it, a TPM of the machine makes a real board. Throws Failure for what does not
 * go together: an emulated board turns its TPM off and on, and a machine has one that is there without us.
 */
export function boardSpecOf(options: BoardOptions, folders: Folders): BoardSpec {
  const { tpm: text, platform, measureConfig = false } = options;
  const kind = boardKindOf(options.board);
  const tpm = tpmSpecOf(text ?? (kind === 'real' ? `device:${tpmDevice}` : 'wasm'), folders);
  const real = kind === 'real' || (kind === undefined && machineTpms.includes(tpm.kind));
  if (!real) {
    if (tpm.kind !== 'wasm' && tpm.kind !== 'swtpm')
      throw wrong(
        `--board emulated --tpm ${text}: an emulated board turns its TPM off and on`,
        'use --tpm wasm:FILE, or a swtpm with --tpm swtpm:host=127.0.0.1,port=2321; the TPM of the machine is for --board real',
      );
    const [option] = [
      ...(platform === undefined ? [] : ['--platform']),
      ...(measureConfig ? ['--measure-config'] : []),
    ];
    if (option !== undefined)
      throw wrong(`${option} is for a real board`, `use it with --board real, and leave it out here`);
    return { kind: 'emulated', tpm };
  }
  if (tpm.kind === 'wasm')
    throw wrong(
      `--board real --tpm ${text}: a TPM of ours has measured no boot of this machine`,
      'use --tpm device:/dev/tpmrm0, or --board emulated',
    );
  return { kind: 'real', tpm, platform: platform ?? null, measureConfig };
}

/** `recorder` sees every command of the TPM. */
export async function openBoard(
  spec: BoardSpec,
  folders: Folders,
  recorder?: DeviceRecorder,
): Promise<Board> {
  const watched = <T extends Transport>(tpm: T): T => recorder?.tpm(tpm) ?? tpm;
  if (spec.kind === 'emulated') {
    return new EmulatedBoard({
      tpm: watched(await openBoardTpm(spec.tpm)),
      slots: new SlotStore(openPersist(folders.persist)),
      config: folders.config,
      now: () => systemClock.now(),
    });
  }
  return new RealBoard({
    open: async () => watched(await openTransport(spec.tpm)),
    slots: platformSlots(spec.platform, folders),
    config: folders.config,
    clock: systemClock,
    measureConfig: spec.measureConfig,
  });
}

/** The slots of a device whose board runs in another process. */
export function slotsOf(spec: BoardSpec, folders: Folders): OsSlots {
  return spec.kind === 'real'
    ? platformSlots(spec.platform, folders)
    : new ImageFolders(new SlotStore(openPersist(folders.persist)));
}

/** Throws Failure for a folder of programs that lacks some. */
function platformSlots(directory: string | null, folders: Folders): PlatformSlots {
  const slots = new SlotStore(openPersist(folders.persist));
  if (directory === null) return new PlatformSlots(slots, null);
  const { config, persist, run } = folders;
  const platform = new Platform(directory, { EVE_CONFIG: config, EVE_PERSIST: persist, EVE_RUN: run });
  const missing = requiredPrograms.filter((program) => !platform.has(program));
  if (missing.length > 0)
    throw wrong(
      `--platform ${directory}: no ${missing.join(', ')} that can be run`,
      'device/platform/README.md says what each has to do; device/platform/grub is an example',
    );
  return new PlatformSlots(slots, platform);
}

/** Throws Failure. */
export function boardKindOf(text: string | undefined): BoardKind | undefined {
  const kind = boardKinds.find((known) => known === text);
  if (text === undefined || kind) return kind;
  throw wrong(`--board ${text}`, `known: ${boardKinds.join(', ')}`);
}

function wrong(what: string, hint: string): Failure {
  return new Failure(what, hint, exitCodes.usage);
}
