// `eve install` and `eve image …`: images as folders, as files for EVC, and the logs of their reference boots.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { create } from 'tar';
import { SlotStore } from '../baseos/slots.ts';
import { recordedLogFile } from '../board-emulated.ts';
import { createImage, type Image, imageFiles, readImage } from '../boot/image.ts';
import { type RecordedBoot, readRecordedBoot, recordedBoots } from '../boot/recorded.ts';
import { referenceBoot } from '../boot/reference.ts';
import { type FolderOptions, foldersOf } from '../options.ts';
import { openPersist } from '../persist.ts';
import { exitCodes, Failure } from './failure.ts';

const selfTestFile = 'selftest.json';
/** Files of an image beyond those that every one has. */
const extraFiles = [selfTestFile, recordedLogFile];
const manifestFile = 'image.json';

/** Puts an image into the first slot, which boots next: what a factory does, or anybody with hands on the disk. */
export async function installImage(from: string, options: FolderOptions): Promise<Image> {
  const folders = foldersOf(options);
  const image = await readImage(resolve(from));
  const slots = new SlotStore(openPersist(folders.persist));
  const target = slots.directory('IMGA');
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const name of filesOf(image.directory)) cpSync(join(image.directory, name), join(target, name));
  slots.install(image.version);
  return image;
}

export interface CreateOptions {
  version: string;
  firmware?: string;
  cmdline?: string;
  selftest?: string;
  recorded?: string;
  pack?: string;
  measure?: string;
}

export async function createImageFolder(directory: string, options: CreateOptions): Promise<Image> {
  const { version, firmware, cmdline, selftest, recorded } = options;
  const image = await createImage(resolve(directory), {
    version,
    ...(firmware === undefined ? {} : { firmwareVersion: firmware }),
    ...(cmdline === undefined ? {} : { cmdline }),
  });
  if (selftest !== undefined) {
    if (!['passes', 'fails', 'hangs'].includes(selftest))
      throw new Failure(`--selftest ${selftest}`, 'known: passes, fails, hangs', exitCodes.usage);
    writeFileSync(join(image.directory, selfTestFile), `${JSON.stringify({ result: selftest })}\n`);
  }
  if (recorded !== undefined) {
    if (!recordedBoots.includes(recorded as RecordedBoot))
      throw new Failure(`--recorded ${recorded}`, `known: ${recordedBoots.join(', ')}`, exitCodes.usage);
    writeFileSync(join(image.directory, recordedLogFile), await readRecordedBoot(recorded as RecordedBoot));
  }
  return image;
}

/** The image as one file; the same bytes for the same image, whoever packs it and when. */
export async function packImage(directory: string, file: string): Promise<Image> {
  const image = await readImage(resolve(directory));
  await create(
    { file: resolve(file), cwd: image.directory, portable: true, noMtime: true, strict: true },
    filesOf(image.directory),
  );
  return image;
}

/**
 * Logs of reference boots, one per slot; an image that boots as a recorded machine did has that machine's log alone.
 * Returns the files.
 */
export async function measureImage(directory: string, out: string): Promise<string[]> {
  const image = await readImage(resolve(directory));
  const recorded = join(image.directory, recordedLogFile);
  const empty = resolve(out, '.config');
  mkdirSync(empty, { recursive: true });
  try {
    const logs = existsSync(recorded)
      ? [readFileSync(recorded)]
      : (await referenceBoot({ image: image.directory, slots: ['IMGA', 'IMGB'], config: empty })).logs;
    return logs.map((log, index) => {
      const path = join(resolve(out), `${image.version}.${index + 1}.log`);
      writeFileSync(path, log);
      return path;
    });
  } finally {
    rmSync(empty, { recursive: true });
  }
}

/** Files of an image in a fixed order; what else lies in the folder is none of it. */
function filesOf(directory: string): string[] {
  const present = new Set(readdirSync(directory).map((name) => basename(name)));
  return [...imageFiles, manifestFile, ...extraFiles].filter((name) => present.has(name)).sort();
}
