// A base OS image: a real directory with the files that a boot measures. Images of stories and tests are made here too.
import { createHash } from 'node:crypto';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** An image on disk, read and found complete. */
export interface Image {
  directory: string;
  version: string;
  firmwareVersion: string;
  /** Kernel command line, without the root partition: that is the slot's. */
  cmdline: string;
  files: Record<ImageFile, { path: string; size: number }>;
}

export type ImageFile = (typeof imageFiles)[number];

/** Every image has these, none empty. */
export const imageFiles = ['firmware.bin', 'grub.efi', 'grub.cfg', 'kernel', 'initrd', 'rootfs.img'] as const;

const manifestName = 'image.json';
const maxManifestSize = 64 * 1024;
const maxGrubCfgSize = 256 * 1024;

/** What is wrong with an image, and with which of its files. */
export class ImageError extends Error {
  readonly path: string;
  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
    this.name = 'ImageError';
    this.path = path;
  }
}

/** Reads `image.json` and checks that every file is there. Rejects with ImageError. */
export async function readImage(directory: string): Promise<Image> {
  const manifest = await readManifest(join(directory, manifestName));
  const entries = await Promise.all(
    imageFiles.map(async (name) => [name, await checkFile(join(directory, name))] as const),
  );
  const files = Object.fromEntries(entries) as Image['files'];
  if (files['grub.cfg'].size > maxGrubCfgSize)
    throw new ImageError(
      files['grub.cfg'].path,
      `${files['grub.cfg'].size} bytes, at most ${maxGrubCfgSize}`,
    );
  return { directory, ...manifest, files };
}

async function checkFile(path: string): Promise<{ path: string; size: number }> {
  const found = await stat(path).catch((cause) => {
    throw new ImageError(path, 'is missing', { cause });
  });
  if (!found.isFile()) throw new ImageError(path, 'is no file');
  if (found.size === 0) throw new ImageError(path, 'is empty');
  return { path, size: found.size };
}

async function readManifest(path: string): Promise<Pick<Image, 'version' | 'firmwareVersion' | 'cmdline'>> {
  const { size } = await checkFile(path);
  if (size > maxManifestSize) throw new ImageError(path, `${size} bytes, at most ${maxManifestSize}`);
  let manifest: unknown;
  try {
    manifest = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new ImageError(path, 'is no JSON', { cause });
  }
  if (typeof manifest !== 'object' || manifest === null) throw new ImageError(path, 'is no JSON object');
  const text = (name: string, pattern: RegExp) => {
    const value = (manifest as Record<string, unknown>)[name];
    if (typeof value !== 'string' || !pattern.test(value))
      throw new ImageError(path, `needs ${name}, a text like ${pattern.source}`);
    return value;
  };
  return {
    version: text('version', namePattern),
    firmwareVersion: text('firmwareVersion', namePattern),
    cmdline: text('cmdline', /^[\x20-\x7e]{0,4096}$/),
  };
}

/** Versions become names of directories and words of a command line. */
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;

export interface ImageOptions {
  version: string;
  /** Firmware changes seldom, so two versions share it unless told otherwise. */
  firmwareVersion?: string;
  /** So does GRUB. */
  bootLoaderVersion?: string;
  cmdline?: string;
}

/**
 * Makes a small image: real files, the same bytes for the same options, other bytes for another version. Overwrites
 * what `directory` holds under these names.
 */
export async function createImage(directory: string, options: ImageOptions): Promise<Image> {
  const { version, firmwareVersion = '1.0.0', bootLoaderVersion = '2.06' } = options;
  const cmdline = options.cmdline ?? 'console=tty0 console=ttyS0 rootdelay=3 panic=120';
  const contents: Record<ImageFile, string | Buffer> = {
    'firmware.bin': bytesFor(`firmware ${firmwareVersion}`, 16 * 1024),
    'grub.efi': program(bytesFor(`grub ${bootLoaderVersion}`, 12 * 1024)),
    'grub.cfg': grubCfg,
    kernel: bytesFor(`kernel ${version}`, 24 * 1024),
    initrd: bytesFor(`initrd ${version}`, 8 * 1024),
    'rootfs.img': rootfs(bytesFor(`rootfs ${version}`, 64 * 1024)),
  };
  await mkdir(directory, { recursive: true });
  for (const name of imageFiles) await writeFile(join(directory, name), contents[name]);
  // Last, so that an image cut short by a crash does not read as one.
  await writeFile(
    join(directory, manifestName),
    `${JSON.stringify({ version, firmwareVersion, cmdline }, null, 2)}\n`,
  );
  return readImage(directory);
}

function bytesFor(seed: string, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(`eve-attest image\0${seed}`).digest();
}

/** The headers of a PE32+ program with one section [PE/COFF 8.3], so that it is hashed as firmware hashes programs. */
function program(code: Buffer): Buffer {
  const [pe, sections, headers] = [0x40, 0x40 + 24 + 240, 0x200];
  const file = Buffer.alloc(headers + code.length);
  file.write('MZ');
  file.writeUInt32LE(pe, 0x3c);
  file.write('PE\0\0', pe);
  file.writeUInt16LE(0x8664, pe + 4); // x86-64
  file.writeUInt16LE(1, pe + 6); // NumberOfSections
  file.writeUInt16LE(240, pe + 20); // SizeOfOptionalHeader
  const optional = pe + 24;
  file.writeUInt16LE(0x20b, optional);
  file.writeUInt32LE(headers, optional + 60);
  file.writeUInt16LE(10, optional + 68); // Subsystem: EFI application
  file.writeUInt32LE(16, optional + 108); // NumberOfRvaAndSizes
  file.write('.text', sections);
  file.writeUInt32LE(code.length, sections + 16);
  file.writeUInt32LE(headers, sections + 20);
  code.copy(file, headers);
  return file;
}

/** The super block of a SquashFS 4 and something behind it, with the padding that image builders leave. */
function rootfs(content: Buffer): Buffer {
  const file = Buffer.concat([content, Buffer.alloc(4096)]);
  file.write('hsqs');
  file.writeUInt16LE(4, 28);
  file.writeBigUInt64LE(BigInt(content.length), 40);
  return file;
}

const grubCfg = `# What GRUB runs before it loads the kernel; each line is measured into PCR 8.
set timeout=5
set default=0
set pager=1
set rootfs_title=EVE
set arch=x86_64
set_global dom0 /boot/kernel
set_global load_dom0_cmd linux
set_global load_initrd_cmd initrd
`;
