// The emulated boot: measures an image and /config into a TPM as EVE's firmware, GRUB and measure-config do.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type BankDigests,
  defaultSettings,
  type EveBoot,
  eveBootMeasurements,
  type FirmwareSettings,
  type Measurement,
  type Slot,
} from '../../formats/eventlog/eve-boot.ts';
import { authenticodeRanges, isPe, peHeaderSpan, type Range } from '../../formats/image/authenticode.ts';
import {
  measuredByExistence,
  configMeasurements as measurementsOfConfig,
} from '../../formats/image/config.ts';
import { isSquashfs, squashfsSuperBlock, squashfsUsed } from '../../formats/image/squashfs.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import { BootError, type BootLogs, type Extend, MeasuredLog } from './extend.ts';
import type { Image } from './image.ts';

export interface BootOptions {
  image: Image;
  /** The partition /config as a directory. */
  configDirectory: string;
  slot: Slot;
  /** First boot of this slot after an update. Default: false. */
  trying?: boolean;
  settings?: FirmwareSettings;
  /** Every bank of the TPM: TPM2_PCR_Extend leaves a bank that it is given no digest for as it is. */
  banks: readonly HashName[];
  /** Locality that TPM2_Startup came from. Default: 0. */
  startupLocality?: 0 | 3;
  extend: Extend;
}

/**
 * Boots: extends each measurement, then logs it. Files are read before the first extend, so that a missing one costs
 * nothing. Rejects with BootError if the TPM fails, with the file system's error if a file cannot be read.
 */
export async function measureBoot(options: BootOptions): Promise<BootLogs> {
  if (options.banks.length === 0) throw new TypeError('a boot needs a bank');
  const measurements = eveBootMeasurements(await readBoot(options));
  const config = await configMeasurements(options.configDirectory);

  const biosLog = new MeasuredLog(options.banks, options.extend);
  const configLog = new MeasuredLog(options.banks, options.extend);
  const logs = () => ({ biosLog: biosLog.bytes(), configLog: configLog.bytes() });
  try {
    biosLog.begin(options.startupLocality ?? 0);
    for (const measurement of measurements) await biosLog.measure(measurement);
    for (const measurement of config) await configLog.measure(measurement);
  } catch (cause) {
    throw new BootError('the TPM did not confirm a measurement', logs(), { cause });
  }
  return logs();
}

async function readBoot(options: BootOptions): Promise<EveBoot> {
  const { image, banks, slot, configDirectory } = options;
  const { files, version, firmwareVersion, cmdline } = image;
  const digests = (name: keyof typeof files) => hashFile(files[name].path, banks);
  const configGrubCfg = await readOptional(join(configDirectory, 'grub.cfg'));
  return {
    version,
    firmwareVersion,
    cmdline,
    slot,
    trying: options.trying ?? false,
    firmware: { digests: await digests('firmware.bin'), size: files['firmware.bin'].size },
    bootLoader: { digests: await hashProgram(files['grub.efi'].path, banks), size: files['grub.efi'].size },
    grubCfg: { digests: await digests('grub.cfg'), text: await readFile(files['grub.cfg'].path, 'utf8') },
    kernel: await digests('kernel'),
    initrd: await digests('initrd'),
    rootfsHash: await hashRootfs(files['rootfs.img'].path),
    ...(configGrubCfg === undefined ? {} : { configGrubCfg }),
    settings: options.settings ?? defaultSettings,
  };
}

/** A program without its checksum and signatures, as firmware hashes it. */
async function hashProgram(path: string, banks: readonly HashName[]): Promise<BankDigests> {
  const { header, size } = await startOf(path, peHeaderSpan);
  return hashFile(path, banks, isPe(header) ? authenticodeRanges(header, size) : whole);
}

/** As far as the super block says, as EVE's GRUB hashes it. */
async function hashRootfs(path: string): Promise<Uint8Array> {
  const { header, size } = await startOf(path, squashfsSuperBlock);
  const used = isSquashfs(header) ? [{ start: 0, end: squashfsUsed(header, size) }] : whole;
  return (await hashFile(path, ['sha256'], used)).sha256 as Uint8Array;
}

const whole: readonly Range[] = [{ start: 0, end: Number.POSITIVE_INFINITY }];

async function hashFile(
  path: string,
  banks: readonly HashName[],
  ranges: readonly Range[] = whole,
): Promise<BankDigests> {
  const hashes = banks.map((bank) => [bank, createHash(bank)] as const);
  for (const { start, end } of ranges)
    for await (const chunk of createReadStream(path, { start, end: end - 1 }))
      for (const [, hash] of hashes) hash.update(chunk as Buffer);
  return Object.fromEntries(hashes.map(([bank, hash]) => [bank, hash.digest()]));
}

async function startOf(path: string, length: number): Promise<{ header: Uint8Array; size: number }> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0);
    return { header: buffer.subarray(0, bytesRead), size: (await file.stat()).size };
  } finally {
    await file.close();
  }
}

async function readOptional(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** What measure-config makes of /config: every file that is there and those that are looked for, sorted by path. */
export async function configMeasurements(directory: string): Promise<Measurement[]> {
  const files = new Map<string, Uint8Array | undefined>();
  for (const path of await walk(directory, '')) {
    const { sha256 } = measuredByExistence(path) ? {} : await hashFile(join(directory, path), ['sha256']);
    files.set(path, sha256);
  }
  return measurementsOfConfig(files);
}

async function walk(directory: string, below: string): Promise<string[]> {
  const entries = await readdir(join(directory, below), { withFileTypes: true });
  const nested = await Promise.all(
    entries.map((entry) => {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      return entry.isDirectory() ? walk(directory, path) : [path];
    }),
  );
  return nested.flat();
}
