// The emulated boot: measures an image and /config into a TPM as EVE's firmware, GRUB and measure-config do.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type BankDigests,
  configFileMeasurement,
  defaultSettings,
  type EveBoot,
  eveBootMeasurements,
  type FirmwareSettings,
  type Measurement,
  type Slot,
} from '../../formats/eventlog/eve-boot.ts';
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
  const rootfs = await hashFile(files['rootfs.img'].path, ['sha256']);
  return {
    version,
    firmwareVersion,
    cmdline,
    slot,
    trying: options.trying ?? false,
    firmware: { digests: await digests('firmware.bin'), size: files['firmware.bin'].size },
    bootLoader: { digests: await digests('grub.efi'), size: files['grub.efi'].size },
    grubCfg: { digests: await digests('grub.cfg'), text: await readFile(files['grub.cfg'].path, 'utf8') },
    kernel: await digests('kernel'),
    initrd: await digests('initrd'),
    rootfsHash: rootfs.sha256 as Uint8Array,
    ...(configGrubCfg === undefined ? {} : { configGrubCfg }),
    settings: options.settings ?? defaultSettings,
  };
}

async function hashFile(path: string, banks: readonly HashName[]): Promise<BankDigests> {
  const hashes = banks.map((bank) => [bank, createHash(bank)] as const);
  for await (const chunk of createReadStream(path))
    for (const [, hash] of hashes) hash.update(chunk as Buffer);
  return Object.fromEntries(hashes.map(([bank, hash]) => [bank, hash.digest()]));
}

async function readOptional(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** Only whether they exist is measured: the content is a secret or unique to the device. */
const contentExcluded = [
  'tpm_credential',
  'device.cert.pem',
  'device.key.pem',
  'onboard.cert.pem',
  'onboard.key.pem',
  'soft_serial',
  'ftpm.tar.xz',
];
/** Files that change what EVE does: that they are absent is measured as well. */
const existenceWatched = [
  'bootstrap-config.pb',
  'DevicePortConfig/override.json',
  'GlobalConfig/global.json',
];

/** What measure-config makes of /config: every file that is there and those that are looked for, sorted by path. */
export async function configMeasurements(directory: string): Promise<Measurement[]> {
  const found = await walk(directory, '');
  const paths = [...new Set([...found, ...contentExcluded, ...existenceWatched])].sort((a, b) =>
    Buffer.compare(Buffer.from(a), Buffer.from(b)),
  );
  const measurements: Measurement[] = [];
  for (const path of paths) {
    const exists = found.includes(path);
    const content =
      exists && !contentExcluded.includes(path)
        ? (await hashFile(join(directory, path), ['sha256'])).sha256
        : undefined;
    measurements.push(configFileMeasurement(eventPath(path), exists, content));
  }
  return measurements;
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

/** TPM2_PCR_Event takes 1,024 bytes of data, so a long path is cut to its file name. */
function eventPath(path: string): string {
  const whole = `/config/${path}`;
  return Buffer.byteLength(whole) > 512 ? (path.split('/').at(-1) as string) : whole;
}
