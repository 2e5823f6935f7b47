// What runs on a machine, by the words of its operating system and its firmware.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Versions } from '../../machines/flow.ts';

/** Folders and files of a machine; for tests below another root. */
export interface MachinePaths {
  /** Default: `/`. */
  root?: string;
}

/** EVE's own, in the order in which it is believed. */
const eveReleases = ['run/eve-release', 'etc/eve-release'];
const osReleases = ['etc/os-release', 'usr/lib/os-release'];
const dmi = 'sys/class/dmi/id';
const bootIdFile = 'proc/sys/kernel/random/boot_id';

/** Longest name of a version, characters; EVC's catalogue has as many. */
const longest = 128;
/** Bytes that are read of such a file. */
const most = 64 * 1024;

/**
 * The version of the base OS: EVE's release file, or of os-release(5) its IMAGE_VERSION, else ID and VERSION_ID; empty where
 * nothing says. The firmware: vendor-version-date, as EVE puts it together; empty where the board has none.
 */
export async function machineVersions({ root = '/' }: MachinePaths = {}): Promise<Versions> {
  return { image: await osVersion(root), firmware: await firmwareVersion(root) };
}

/** Another one each boot; null where the kernel shows none. */
export async function machineBootId({ root = '/' }: MachinePaths = {}): Promise<string | null> {
  const id = (await readText(join(root, bootIdFile))).trim();
  return /^[0-9a-f-]{36}$/.test(id) ? id : null;
}

async function osVersion(root: string): Promise<string> {
  for (const name of eveReleases) {
    const version = plain(await readText(join(root, name)));
    if (version !== '') return version;
  }
  for (const name of osReleases) {
    const fields = releaseFields(await readText(join(root, name)));
    const { IMAGE_VERSION: image, ID: id, VERSION_ID: version, BUILD_ID: build } = fields;
    if (image !== undefined) return image;
    const rest = [id, version ?? build].filter((part) => part !== undefined);
    if (rest.length > 0) return plain(rest.join('-'));
  }
  return '';
}

/** `NAME=value` lines, values quoted as a shell has them [os-release(5)]; what is empty is left out. */
function releaseFields(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const [, name = '', quoted = ''] = /^\s*([A-Z][A-Z0-9_]*)=(.*?)\s*$/.exec(line) ?? [];
    const value = plain(quoted.replace(/^(["'])(.*)\1$/, '$2').replace(/\\(["'$`\\])/g, '$1'));
    if (name !== '' && value !== '') fields[name] = value;
  }
  return fields;
}

async function firmwareVersion(root: string): Promise<string> {
  const parts = ['bios_vendor', 'bios_version', 'bios_date'].map((name) => readText(join(root, dmi, name)));
  return plain(
    (await Promise.all(parts))
      .map(plain)
      .filter((part) => part !== '')
      .join('-'),
  );
}

/** One line of printable text: whoever made a board may have written anything. */
function plain(text: string): string {
  return text
    .replace(/[\p{C}\p{Z}\s]+/gu, ' ')
    .trim()
    .slice(0, longest);
}

/** Empty where there is none: a version that nobody can read is one that nobody said. */
async function readText(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(most), 0, most, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch {
    return '';
  }
}
