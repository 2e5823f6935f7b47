// The base OS of the guest: all of it is in the initramfs, so that GRUB measures all of it. Busybox, Node, the agent with its
// addon, and the programs of the GRUB platform.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { create as createTar } from 'tar';
import { projectRoot } from '../kit/root.ts';
import { type ArchiveFile, initramfs } from './archive.ts';
import { modulesWithNeeds, type Parts } from './parts.ts';

const root = fileURLToPath(projectRoot);
/** Of the guest's kernel: its disk, its network, its file systems, and the ciphers of fscrypt. */
const modules = [
  ...['virtio_pci', 'virtio_blk', 'virtio_net', 'crc32c_generic', 'ext4', 'vfat', 'nls_cp437', 'nls_ascii'],
  ...['xts', 'cts', 'ecb', 'sha512_generic'],
];
/** What is EVC's alone; all else that is compiled, and that it needs, goes with the agent. */
const foldersOfEvc = ['controller', 'test'];
/** What a device that tells no traces loads nothing of is left out, too. */
const notLoaded = /^(fastify|libsql|lru-cache|openid-client|pg|@opentelemetry\/.*)$/;
/** The suite of transports, for the TPM of the guest, and what it imports. */
const suite = '.eve-attest/vm/tests';
export const suiteFile = 'tests/test/device/tpm/transports/every.test.js';
const suitePackages = ['uvu'];
/** Opened by name when it is needed. */
const stack = ['libtss2-tctildr.so.0', 'libtss2-tcti-device.so.0'];
const platform = 'device/platform/grub';

export interface System {
  version: string;
  kernel: string;
  /** Both parts of the initramfs, as one file. */
  initrd: string;
  /** Text of its grub.cfg. */
  grubCfg: string;
}

/** What every version has; takes a few seconds to pack. */
export function baseArchive(parts: Parts): Buffer {
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const tsc = spawnSync(process.execPath, [compiler, '-p', join(root, 'test/vm')], { encoding: 'utf8' });
  if (tsc.status !== 0) throw new Error(`tsc -p test/vm: ${tsc.stdout}${tsc.stderr}`);
  const files: ArchiveFile[] = [
    { path: 'bin/busybox', content: { file: '/bin/busybox' }, executable: true },
    { path: 'init', content: { file: join(root, 'test/vm/guest-init.sh') }, executable: true },
    ...moduleFiles(parts),
    ...programFiles('bin/node', process.execPath),
    ...stack.flatMap((name) => programFiles(undefined, libraryPath(name))),
    ...agentFiles(),
    ...readdirSync(join(root, platform)).map((name) => ({
      path: `etc/eve/platform/${name}`,
      content: { file: join(root, platform, name) },
      executable: true,
    })),
  ];
  const unique = new Map(files.map((file) => [file.path, file]));
  return initramfs([...unique.values()]);
}

/** One version of it: what differs is its name, and the command line of its kernel. */
export function makeSystem(
  parts: Parts,
  base: Buffer,
  folder: string,
  { version, cmdline = '' }: { version: string; cmdline?: string },
): System {
  const release = `ID=eve-attest-guest\nIMAGE_VERSION=${version}\nVERSION_ID=12\n`;
  const initrd = join(folder, `initrd-${version}.img`);
  writeFileSync(initrd, Buffer.concat([base, initramfs([{ path: 'etc/os-release', content: release }])]));
  const words = `console=ttyS0 quiet loglevel=3 panic=10${cmdline === '' ? '' : ` ${cmdline}`}`;
  const grubCfg = `linux /slots/$boot/vmlinuz ${words} eve.slot=$boot\ninitrd /slots/$boot/initrd.img\nboot\n`;
  return { version, kernel: parts.kernel, initrd, grubCfg };
}

/** A system as EVC pushes it, and the platform writes it. */
export async function packSystem(system: System, folder: string): Promise<string> {
  const inner = join(folder, `image-${system.version}`);
  spawnSync('mkdir', ['-p', inner]);
  writeFileSync(join(inner, 'grub.cfg'), system.grubCfg);
  spawnSync('cp', [system.kernel, join(inner, 'vmlinuz')]);
  spawnSync('cp', [system.initrd, join(inner, 'initrd.img')]);
  const file = join(folder, `${system.version}.tar`);
  await createTar({ file, cwd: inner, portable: true }, ['vmlinuz', 'initrd.img', 'grub.cfg']);
  return file;
}

function moduleFiles(parts: Parts): ArchiveFile[] {
  const paths = modulesWithNeeds(parts, modules);
  return [
    ...paths.map((file) => ({ path: `lib/modules/${basename(file)}`, content: { file } })),
    { path: 'lib/modules/order', content: `${paths.map((file) => basename(file)).join('\n')}\n` },
  ];
}

/** A program, or a library where `path` is undefined, with the libraries that it needs, where the loader looks for them. */
function programFiles(path: string | undefined, file: string): ArchiveFile[] {
  const { stdout } = spawnSync('ldd', [file], { encoding: 'utf8' });
  const needs = [...stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)].map(([, need = '']) => need);
  return [
    { path: path ?? `lib/x86_64-linux-gnu/${basename(file)}`, content: { file }, executable: true },
    ...needs.map((need) => ({
      path: need.startsWith('/lib64/') ? need.slice(1) : `lib/x86_64-linux-gnu/${basename(need)}`,
      content: { file: realpathSync(need) },
      executable: true,
    })),
  ];
}

function libraryPath(name: string): string {
  const path = ['/usr/lib/x86_64-linux-gnu', '/lib/x86_64-linux-gnu']
    .map((folder) => join(folder, name))
    .find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`there is no ${name}`);
  return path;
}

function agentFiles(): ArchiveFile[] {
  const files: ArchiveFile[] = [
    ...['package.json', 'bin/eve.js', 'device/native/build/addon.node'],
    // By which the suite finds the addon.
    'device/native/build.js',
  ].map((path) => ({
    path: `opt/eve/${path}`,
    content: { file: join(root, path) },
  }));
  const below = (folder: string, place: string) => {
    for (const path of filesBelow(join(root, folder)))
      files.push({ path: `opt/eve/${place}/${path}`, content: { file: join(root, folder, path) } });
  };
  const compiled = readdirSync(join(root, 'dist'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !foldersOfEvc.includes(entry.name))
    .map(({ name }) => name);
  for (const name of compiled) below(`dist/${name}`, `dist/${name}`);
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const packages = Object.keys(dependencies).filter((name) => !notLoaded.test(name));
  for (const name of closureOf([...packages, ...suitePackages]))
    below(`node_modules/${name}`, `node_modules/${name}`);
  below(suite, 'tests');
  return files;
}

/** Packages with those that they depend on, as npm laid them out at the top. */
function closureOf(names: readonly string[]): string[] {
  const found = new Set<string>();
  const add = (name: string): void => {
    const manifest = join(root, 'node_modules', name, 'package.json');
    if (found.has(name) || !existsSync(manifest)) return;
    found.add(name);
    const { dependencies = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as {
      dependencies?: Record<string, string>;
    };
    for (const dependency of Object.keys(dependencies)) add(dependency);
  };
  for (const name of names) add(name);
  return [...found];
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.(map|md|[cm]?ts)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
