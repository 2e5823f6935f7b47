// An emulated board: power, a boot loader with two slots, and a TPM that measures what boots. To EVC it is a board.
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LogPart } from '../machines/flow.ts';
import { ImageFolders } from './baseos/image-folders.ts';
import type { SlotStore } from './baseos/slots.ts';
import type { Board } from './board.ts';
import type { BootLogs, Extend } from './boot/extend.ts';
import { readImage } from './boot/image.ts';
import { measureBoot } from './boot/measure.ts';
import { bootRecorded, startupLocalityOf } from './boot/recorded.ts';
import type { Boot } from './node.ts';
import type { PoweredTpm } from './tpm/powered.ts';
import { Tpm } from './tpm/tpm.ts';

export interface EmulatedBoardOptions {
  tpm: PoweredTpm;
  slots: SlotStore;
  /** /config, which is measured into PCR 14. */
  config: string;
  now(): number;
}

/** Beside an image's files: it boots as the real machine did that left this log. */
export const recordedLogFile = 'recorded.bin';

export class EmulatedBoard implements Board {
  readonly kind = 'emulated';
  readonly slots: ImageFolders;
  readonly chip: PoweredTpm;
  readonly #options: EmulatedBoardOptions;

  constructor(options: EmulatedBoardOptions) {
    this.#options = options;
    this.chip = options.tpm;
    this.slots = new ImageFolders(options.slots);
  }

  /** Takes the power away and boots: the boot loader's choice of slot, the measurements, the logs. */
  async boot(): Promise<Boot> {
    const { slots, config, now } = this.#options;
    const { chip } = this;
    const { label, trying } = slots.chooseForBoot(now());
    const directory = slots.directory(label);
    const image = await readImage(directory);
    const recordedPath = join(directory, recordedLogFile);
    const recorded = existsSync(recordedPath) ? readFileSync(recordedPath) : null;
    const locality = recorded ? startupLocalityOf([recorded]) : 0;

    await chip.powerOff();
    chip.setLocality(locality);
    await chip.powerOn();
    const tpm = new Tpm(chip, { sole: true });
    await tpm.startup();
    chip.setLocality(0);

    const { banks: available } = await tpm.capabilities();
    const banks = [...available.keys()];
    const extend: Extend = (pcr, digests) => tpm.pcrExtend(pcr, digests);
    const logs = recorded
      ? await bootRecorded({ logs: [recorded], banks, extend })
      : await measureBoot({ image, configDirectory: config, slot: label, trying, banks, extend });
    return {
      id: randomUUID(),
      board: 'emulated',
      slot: label,
      versions: { image: image.version, firmware: image.firmwareVersion },
      logs: parts(logs),
      missing: [],
      image: directory,
    };
  }

  openTpm(): Promise<Tpm> {
    return Promise.resolve(new Tpm(this.chip, { sole: true }));
  }

  async powerOff(orderly: boolean): Promise<void> {
    // What the TPM does not hear in time costs it its certainty about the clock, and nothing else.
    if (orderly) await new Tpm(this.chip, { sole: true }).shutdown().catch(() => undefined);
    await this.chip.powerOff();
  }

  reboot(): Promise<boolean> {
    return Promise.resolve(true);
  }

  close(): Promise<void> {
    return this.chip.close();
  }
}

export function parts({ biosLog, configLog }: BootLogs): LogPart[] {
  return [...logPart('bios', biosLog), ...logPart('config', configLog)];
}

/** None, where there are no bytes. */
export function logPart(kind: LogPart['kind'], bytes: Uint8Array | null): LogPart[] {
  if (!bytes || bytes.length === 0) return [];
  return [{ kind, bytes, sha256: createHash('sha256').update(bytes).digest('hex') }];
}
