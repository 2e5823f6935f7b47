// What an image will measure, from its files alone: no device, no reference boot, nothing but the bytes. Of firmware and the
// board (PCRs 0 to 3 and 5 to 7) the files of an image say nothing.
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { imageLoadData } from '../../formats/eventlog/build.ts';
import { grubPrefixes } from '../../formats/eventlog/covers.ts';
import {
  type BankDigests,
  defaultSettings,
  digestsOf,
  type EveBoot,
  eveBootMeasurements,
  type Measurement,
} from '../../formats/eventlog/eve-boot.ts';
import { EventType } from '../../formats/eventlog/types.ts';
import { configMeasurements, measuredByExistence } from '../../formats/image/config.ts';
import { entryOf, type KnownEntry } from '../verify/entries.ts';
import { hash } from '../verify/hash.ts';
import { CatalogueError } from './error.ts';
import { fileSize, hashFile, measuredBanks } from './file.ts';
import { type GrubMachine, grubEvents, noMachine } from './grub.ts';
import { authenticode, isProgram } from './pe.ts';
import { type Boot, entriesOfBoots } from './reference.ts';
import { isRootfs, rootfsHash } from './squashfs.ts';

/** Whose GRUB starts the kernel: they label and hash what they measure differently. */
export type GrubFlavour = 'eve' | 'upstream';

export interface MeasureOptions {
  grub: GrubFlavour;
  /** Command lines of the kernel. */
  cmdlines?: readonly string[];
  /** /config of the devices that the image is for. */
  config?: string;
  /** File that says what GRUB scripts will find on the machine. */
  machine?: string;
  /** Tells what is being read, since large files take a while. */
  progress?(path: string, bytes: number): void;
}

/**
 * The measurements of an image: a folder with `image.json`, as `eve image create` makes it, or single files, each by what
 * it is: programs, root file systems, GRUB scripts, anything else as a file that GRUB reads.
 *
 * Throws CatalogueError image.file with the file, the field and the offset.
 */
export async function measureImage(
  paths: readonly string[],
  options: MeasureOptions,
): Promise<{ version: string | null; entries: KnownEntry[] }> {
  const [folder] = paths;
  if (paths.length === 1 && folder !== undefined && existsSync(join(folder, 'image.json')))
    return measureFolder(folder, options);
  const machine = options.machine === undefined ? noMachine : await readMachine(options.machine);
  const measurements: Named[] = [];
  for (const path of paths) measurements.push(...(await measureFile(path, options, machine)));
  for (const cmdline of options.cmdlines ?? [])
    measurements.push(grubEvent(options.grub, 'kernel-command-line', cmdline));
  if (options.config !== undefined) measurements.push(...(await measureConfig(options.config)));
  if (measurements.length === 0)
    throw new CatalogueError(
      'image.file',
      'there is nothing to measure: give a folder of an image, or files',
    );
  const entries = entriesOfMeasurements(measurements);
  // Of several kernels, or file systems, a boot has one.
  const only = (pcr: number) => entries.filter((entry) => entry.pcr === pcr && entry.required).length === 1;
  const known = entries.map(({ required, ...entry }) =>
    required && only(entry.pcr) ? { ...entry, required } : entry,
  );
  return { version: null, entries: entriesOfBoots([{ slot: '', entries: known }]) };
}

/** A measurement, and what to call it where its data does not say. */
type Named = Measurement & { readonly text?: string };

/** PCRs whose events follow from the files of an image; 4 by its program alone. */
const imagePcrs: ReadonlySet<number> = new Set([4, 8, 9, 13]);
const slots = ['IMGA', 'IMGB'] as const;

async function measureFolder(
  folder: string,
  options: MeasureOptions,
): Promise<{ version: string; entries: KnownEntry[] }> {
  const { version, firmwareVersion, cmdline } = await readManifest(join(folder, 'image.json'));
  const read = async <Value>(name: string, work: (path: string) => Promise<Value>): Promise<Value> => {
    const path = join(folder, name);
    const size = await fileSize(path);
    options.progress?.(path, size);
    return work(path);
  };
  const files = (path: string) => hashFile(path);
  const [config, configGrubCfg] =
    options.config === undefined
      ? [[], undefined]
      : [await measureConfig(options.config), await readText(join(options.config, 'grub.cfg'))];
  const common: Omit<EveBoot, 'slot'> = {
    version,
    firmwareVersion,
    cmdline,
    trying: false,
    firmware: { digests: hashes(new Uint8Array()), size: 0 },
    bootLoader: {
      digests: await read('grub.efi', authenticode),
      size: await fileSize(join(folder, 'grub.efi')),
    },
    grubCfg: {
      digests: await read('grub.cfg', files),
      text: (await readText(join(folder, 'grub.cfg'))) ?? '',
    },
    kernel: await read('kernel', files),
    initrd: await read('initrd', files),
    rootfsHash: await read('rootfs.img', rootfsHash),
    ...(configGrubCfg === undefined ? {} : { configGrubCfg }),
    settings: defaultSettings,
  };
  const boots = slots.map((slot): Boot => {
    const measured = eveBootMeasurements({ ...common, slot }).filter(
      ({ pcr, type }) =>
        imagePcrs.has(pcr) && (pcr !== 4 || type === EventType.EV_EFI_BOOT_SERVICES_APPLICATION),
    );
    return { slot, entries: entriesOfMeasurements([...measured, ...config]) };
  });
  return { version, entries: entriesOfBoots(boots) };
}

const manifestSchema = v.object({
  version: v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/)),
  firmwareVersion: v.pipe(v.string(), v.maxLength(128)),
  cmdline: v.pipe(v.string(), v.regex(/^[\x20-\x7e]{0,4096}$/)),
});
const largestText = 256 * 1024;

async function readManifest(path: string): Promise<v.InferOutput<typeof manifestSchema>> {
  try {
    return v.parse(manifestSchema, JSON.parse((await readText(path)) ?? ''));
  } catch (cause) {
    if (cause instanceof CatalogueError) throw cause;
    const where = cause instanceof v.ValiError ? `, see ${v.getDotPath(cause.issues[0])}` : '';
    throw new CatalogueError('image.file', `${path} does not describe an image${where}`, { cause });
  }
}

const machineSchema = v.strictObject({
  variables: v.optional(v.record(v.string(), v.pipe(v.string(), v.maxLength(4096))), {}),
  files: v.optional(v.record(v.string(), v.nullable(v.string())), {}),
});

/** Files are named beside it; null for one that the machine does not have. */
async function readMachine(path: string): Promise<GrubMachine> {
  await fileSize(path);
  let machine: v.InferOutput<typeof machineSchema>;
  try {
    machine = v.parse(machineSchema, JSON.parse((await readText(path)) ?? ''));
  } catch (cause) {
    throw new CatalogueError(
      'image.file',
      `${path} does not describe a machine: {"variables":{},"files":{}}`,
      { cause },
    );
  }
  const files = new Map<string, string | null>();
  for (const [name, local] of Object.entries(machine.files)) {
    const file = local === null ? null : resolve(dirname(path), local);
    if (file !== null) await fileSize(file);
    files.set(name, file === null ? null : ((await readText(file)) ?? ''));
  }
  return { variables: new Map(Object.entries(machine.variables)), files };
}

/** A text of bounded size, undefined where there is none. */
async function readText(path: string): Promise<string | undefined> {
  if (!existsSync(path)) return undefined;
  const size = await fileSize(path);
  if (size > largestText)
    throw new CatalogueError(
      'image.file',
      `${path} has ${size} bytes, and a text like it ${largestText} at most`,
    );
  return readFile(path, 'utf8');
}

async function measureFile(path: string, options: MeasureOptions, machine: GrubMachine): Promise<Named[]> {
  const size = await fileSize(path);
  options.progress?.(path, size);
  if (await isRootfs(path)) return [rootfs(await rootfsHash(path))];
  const file: Measurement = {
    pcr: 9,
    type: EventType.EV_IPL,
    data: encode(`/${basename(path)}\0`),
    measured: await hashFile(path),
  };
  // A kernel is both: GRUB reads it as a file, and firmware starts it as a program.
  if (await isProgram(path)) return [program(path, await authenticode(path)), file];
  if (!path.endsWith('.cfg')) return [file];
  const script = (await readText(path)) ?? '';
  return [
    file,
    ...grubEvents(script, path, machine).map(({ kind, text }) => grubEvent(options.grub, kind, text)),
  ];
}

/** Without a device path: where firmware will find the program, nobody knows yet. */
function program(path: string, measured: BankDigests): Named {
  const data = imageLoadData(0n, 0n, new Uint8Array());
  const text = `program ${basename(path)}`;
  return { pcr: 4, type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION, data, measured, text };
}

function rootfs(measured: Uint8Array): Measurement {
  const data = encode(`squash4 ${Buffer.from(measured).toString('hex')}\0`);
  return { pcr: 13, type: EventType.EV_IPL, data, measured };
}

/** What GRUB measures of a text: see covers.ts. */
function grubEvent(grub: GrubFlavour, kind: 'command' | 'kernel-command-line', text: string): Measurement {
  const form = grubPrefixes.find(
    ({ prefix, kind: of }) => of === kind && prefix.endsWith(': ') === (grub === 'upstream'),
  );
  if (!form) throw new TypeError(`no GRUB of ${grub} measures a ${kind}`);
  return {
    pcr: 8,
    type: EventType.EV_IPL,
    data: encode(`${form.prefix}${text}\0`),
    measured: encode(form.nul ? `${text}\0` : text),
  };
}

async function measureConfig(folder: string): Promise<Measurement[]> {
  const files = new Map<string, Uint8Array | undefined>();
  for (const path of await walk(folder, '')) {
    const content = measuredByExistence(path)
      ? undefined
      : (await hashFile(join(folder, path), undefined, ['sha256'])).sha256;
    files.set(path, content);
  }
  return configMeasurements(files);
}

const mostConfigFiles = 1000;

async function walk(folder: string, below: string): Promise<string[]> {
  const entries = await readdir(join(folder, below), { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    found.push(...(entry.isDirectory() ? await walk(folder, path) : [path]));
    if (found.length > mostConfigFiles)
      throw new CatalogueError(
        'image.file',
        `${folder} has more than ${mostConfigFiles} files: is it a /config?`,
      );
  }
  return found;
}

function entriesOfMeasurements(measurements: readonly Named[]): KnownEntry[] {
  return measurements.map((measurement) => {
    const digests = digestsOf(measurement, measuredBanks, hash);
    const texts = Object.entries(digests).map(([bank, digest]) => [
      bank,
      Buffer.from(digest as Uint8Array).toString('hex'),
    ]);
    const entry = entryOf(measurement, { sha256: '', ...Object.fromEntries(texts) });
    return { ...entry, text: measurement.text ?? entry.text };
  });
}

function hashes(data: Uint8Array): BankDigests {
  return Object.fromEntries(measuredBanks.map((bank) => [bank, hash(bank, data)]));
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
