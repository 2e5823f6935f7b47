// The machine itself as a board: it has booted when this process starts, its kernel has the firmware's log and the TPM, and
// its power is nobody's here. It never turns a TPM off; the kernel tells the TPM when the machine goes down.
import { dirname } from 'node:path';
import type { Clock } from '../machines/clock.ts';
import type { Why } from '../machines/waiting.ts';
import type { PlatformSlots } from './baseos/platform-slots.ts';
import type { Board, MissingLog } from './board.ts';
import { logPart } from './board-emulated.ts';
import { biosLogPath, configLogPath, type LogFile, readLogFile } from './boot/log.ts';
import { measureConfig } from './boot/measure-config.ts';
import { type MachinePaths, machineBootId, machineVersions } from './boot/versions.ts';
import type { Boot } from './node.ts';
import { Refusal, reasonOf } from './refusal.ts';
import { StateFolder } from './state.ts';
import { Tpm } from './tpm/tpm.ts';
import type { Transport } from './tpm/transport.ts';

export interface RealBoardOptions {
  /** A connection to the TPM of the machine. */
  open(): Promise<Transport>;
  slots: PlatformSlots;
  /** /config. */
  config: string;
  clock: Clock;
  /** Measures /config into PCR 14, where the operating system does not. */
  measureConfig: boolean;
  paths?: MachinePaths & { biosLog?: string; configLog?: string };
}

/** The machine has this time to go down once it was told to, ms. */
const goingDown = 5 * 60_000;

export class RealBoard implements Board {
  readonly kind = 'real';
  readonly chip = null;
  readonly slots: PlatformSlots;
  readonly #options: RealBoardOptions;
  #tpm: Tpm | null = null;

  constructor(options: RealBoardOptions) {
    this.#options = options;
    this.slots = options.slots;
  }

  /** Throws Refusal board.no-boot-id. What else is missing is part of the answer. */
  async boot(): Promise<Boot> {
    const { paths = {}, clock, slots } = this.#options;
    const id = await machineBootId(paths);
    if (id === null)
      throw new Refusal('board.no-boot-id', 'the kernel does not say which boot this is: is /proc mounted?');
    const versions = await machineVersions(paths);
    const slot = await slots.begin(versions.image, id, clock.now());
    const bios = await readLogFile(paths.biosLog ?? biosLogPath());
    const config = await this.#configLog(bios);
    const logs = [...logPart('bios', bytesOf(bios)), ...logPart('config', bytesOf(config.log))];
    const missing: MissingLog[] = [
      ...missingLog('bios', paths.biosLog ?? biosLogPath(), bios),
      ...(config.why ? [{ kind: 'config' as const, why: config.why }] : []),
    ];
    return { id, board: this.kind, slot, versions, logs, missing, image: null };
  }

  async openTpm(): Promise<Tpm> {
    const { open } = this.#options;
    this.#tpm ??= new Tpm(await open(), { reopen: open });
    return this.#tpm;
  }

  async powerOff(): Promise<void> {
    const tpm = this.#tpm;
    this.#tpm = null;
    await tpm?.close();
  }

  async reboot(reason: string, signal?: AbortSignal): Promise<boolean> {
    const { slots, clock } = this.#options;
    await slots.reboot(reason);
    await clock.sleepUntil(clock.now() + goingDown, signal);
    const text = `the machine is still up ${goingDown / 60_000} minutes after its reboot began`;
    throw new Refusal('board.reboot', text);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #configLog(bios: LogFile): Promise<{ log: LogFile; why: Why | null }> {
    const { config, paths = {}, measureConfig: measures } = this.#options;
    const path = paths.configLog ?? configLogPath;
    const log = await readLogFile(path);
    if (!measures) {
      // EVE alone has one; elsewhere nobody misses it.
      const [missing] = log.kind === 'absent' ? [] : missingLog('config', path, log);
      return { log, why: missing?.why ?? null };
    }
    try {
      const bytes = await measureConfig({
        directory: config,
        biosLog: bytesOf(bios) ?? new Uint8Array(),
        stored: bytesOf(log) ?? new Uint8Array(),
        tpm: await this.openTpm(),
      });
      new StateFolder(dirname(path)).write(path.slice(dirname(path).length + 1), bytes);
      return { log: { kind: 'present', bytes }, why: null };
    } catch (error) {
      const { code, text } = reasonOf(error);
      return { log: { kind: 'absent' }, why: { code, text } };
    }
  }
}

function bytesOf(log: LogFile): Uint8Array | null {
  return log.kind === 'present' ? log.bytes : null;
}

const names = { bios: 'the boot log of the firmware', config: 'the log of /config' } as const;

/** What to say of a log that EVC will not get; nothing of one that it will. */
export function missingLog(kind: MissingLog['kind'], path: string, log: LogFile): MissingLog[] {
  const text = `${names[kind]}, ${path}`;
  switch (log.kind) {
    case 'present':
      return [];
    case 'absent':
      return [{ kind, why: { code: 'board.log-absent', text: `${text}, is not there or empty` } }];
    case 'unreadable':
      return [
        { kind, why: { code: 'board.log-unreadable', text: `${text}, cannot be read: ${log.reason}` } },
      ];
    case 'oversized':
      return [{ kind, why: { code: 'board.log-oversized', text: `${text}, has over ${log.limit} bytes` } }];
  }
}
