// The disk of the guest: an EFI system partition with shim, GRUB and two slots; /config; and /persist, which the kernel can
// encrypt. Files of the first are changed from outside, as somebody with hands on the disk does.
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectRoot } from '../kit/root.ts';
import type { Parts } from './parts.ts';
import type { System } from './system.ts';

const mib = 1024 * 1024;
/** MiB: where each partition begins, and how long it is. */
const partitions = {
  esp: { start: 1, size: 260, type: 'ef00' },
  config: { start: 261, size: 16, type: '8300' },
  persist: { start: 277, size: 512, type: '8300' },
} as const;
const size = 800;
const grubFolder = join(fileURLToPath(projectRoot), 'device/platform/grub');

export class Disk {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** The factory's: `system` in the first slot. @param config folder that becomes /config */
  static make(path: string, parts: Parts, system: System, config: string): Disk {
    const disk = new Disk(path);
    rmSync(path, { force: true });
    run('truncate', '-s', `${size}M`, path);
    // Its identifiers are measured into PCR 5.
    const ids = ['-U', '6f1d63e0-54f7-4d6b-9d0c-0b1a5e6d0001'];
    for (const [index, [name, { start, size, type }]] of Object.entries(partitions).entries()) {
      const number = index + 1;
      const sectors = `${number}:${start * 2048}:${(start + size) * 2048 - 1}`;
      ids.push('-n', sectors, '-t', `${number}:${type}`, '-c', `${number}:${name}`);
      ids.push('-u', `${number}:6f1d63e0-54f7-4d6b-9d0c-0b1a5e6d010${number}`);
    }
    run('sgdisk', '-o', ...ids, path);
    disk.#fill('esp', (file) => run('mkfs.vfat', '-F', '32', '-n', 'ESP', '-i', '0e5a7e57', file));
    for (const folder of ['EFI', 'EFI/BOOT', 'EFI/debian', 'eve', 'slots'])
      disk.#mtools('mmd', `::/${folder}`);
    disk.copy(parts.shim, 'EFI/BOOT/BOOTX64.EFI');
    disk.copy(parts.grub, 'EFI/BOOT/grubx64.efi');
    disk.copy(join(grubFolder, 'grub.cfg'), 'EFI/debian/grub.cfg');
    for (const name of ['next.env', 'fallback.env'])
      disk.write(`eve/${name}`, '# GRUB Environment Block\nslot=IMGA\n'.padEnd(1024, '#'));
    disk.install(system, 'IMGA');
    disk.#fill('config', (file) => run('mke2fs', '-q', '-t', 'ext4', '-d', config, '-L', 'CONFIG', file));
    disk.#fill('persist', (file) =>
      run('mke2fs', '-q', '-t', 'ext4', '-O', 'encrypt', '-L', 'PERSIST', file),
    );
    return disk;
  }

  install({ kernel, initrd, grubCfg }: System, slot: 'IMGA' | 'IMGB'): void {
    this.#mtools('mmd', '-D', 's', `::/slots/${slot}`);
    this.copy(kernel, `slots/${slot}/vmlinuz`);
    this.copy(initrd, `slots/${slot}/initrd.img`);
    this.write(`slots/${slot}/grub.cfg`, grubCfg);
  }

  /** From outside, while nothing runs. */
  copy(file: string, path: string): void {
    this.#mtools('mcopy', '-o', file, `::/${path}`);
  }

  write(path: string, content: string): void {
    const file = `${this.path}.file`;
    writeFileSync(file, content);
    this.copy(file, path);
    rmSync(file);
  }

  #mtools(command: string, ...args: string[]): void {
    run(command, '-i', `${this.path}@@${partitions.esp.start}M`, ...args);
  }

  #fill(name: keyof typeof partitions, make: (file: string) => void): void {
    const { start, size } = partitions[name];
    const file = `${this.path}.${name}`;
    run('truncate', '-s', `${size}M`, file);
    make(file);
    // Holes stay holes.
    const from = readFileSync(file);
    const to = openSync(this.path, 'r+');
    for (let at = 0; at < from.length; at += mib) {
      const block = from.subarray(at, at + mib);
      if (block.some((byte) => byte !== 0)) writeSync(to, block, 0, block.length, start * mib + at);
    }
    closeSync(to);
    rmSync(file);
  }
}

function run(command: string, ...args: string[]): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, MTOOLS_SKIP_CHECK: '1', PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  if (status !== 0)
    throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? `${stdout}${stderr}`.trim()}`);
}
