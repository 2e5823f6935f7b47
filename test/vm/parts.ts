// What a guest is made of, all of Debian: firmware, boot loaders and kernel as they are signed, and the tools for the disk.
// Installed are the tools alone; what the guest boots is fetched and unpacked into a folder of ours.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { needDebian } from '../kit/debian.ts';

const tools: [packages: string[], commands: string[]] = [
  [
    ...['qemu-system-x86', 'ovmf', 'swtpm', 'swtpm-tools', 'mtools', 'dosfstools', 'gdisk', 'e2fsprogs'],
    ...['busybox-static', 'libtss2-tctildr0', 'libtss2-tcti-device0'],
  ],
  ['qemu-system-x86_64', 'swtpm', 'swtpm_setup', 'mcopy', 'mkfs.vfat', 'sgdisk', 'mke2fs', 'busybox'],
];

export interface Parts {
  shim: string;
  grub: string;
  kernel: string;
  /** Folder of its modules. */
  modules: string;
  /** Name of its version. */
  release: string;
  firmware: { code: string; variables: string };
}

/** Everything, fetched where it is not here yet; null where it cannot be had, which was said then. */
export async function debianParts(cache: string): Promise<Parts | null> {
  if (process.arch !== 'x64') return notRun(`this is ${process.arch}, and the guest is x86-64`);
  if (!(await needDebian(...tools))) return null;
  const root = join(cache, 'debian');
  if (!existsSync(root)) {
    const problem = fetchParts(root);
    if (problem !== null) return notRun(problem);
  }
  const boot = readdirSync(join(root, 'boot'));
  const kernel = boot.find((name) => name.startsWith('vmlinuz-')) ?? '';
  const release = kernel.slice('vmlinuz-'.length);
  return {
    shim: join(root, 'usr/lib/shim/shimx64.efi.signed'),
    grub: join(root, 'usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed'),
    kernel: join(root, 'boot', kernel),
    modules: join(root, 'lib/modules', release),
    release,
    firmware: {
      code: '/usr/share/OVMF/OVMF_CODE_4M.ms.fd',
      variables: '/usr/share/OVMF/OVMF_VARS_4M.ms.fd',
    },
  };
}

/** Why it did not work; null when it did. */
function fetchParts(root: string): string | null {
  const fresh = `${root}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const depends = run('apt-cache', ['depends', '--important', 'linux-image-amd64']);
  const [, kernel] = /Depends: (linux-image-[\w.+-]+)/.exec(depends.said) ?? [];
  if (kernel === undefined) return `apt-cache knows no linux-image-amd64: ${depends.said.trim()}`;
  const names = ['shim-signed', 'grub-efi-amd64-signed', kernel];
  const fetched = run('apt-get', ['download', ...names], fresh);
  if (!fetched.ok) return `apt-get download ${names.join(' ')} failed: ${fetched.said.trim()}`;
  for (const name of readdirSync(fresh)) {
    if (!name.endsWith('.deb')) continue;
    const unpacked = run('dpkg-deb', ['-x', name, '.'], fresh);
    if (!unpacked.ok) return `dpkg-deb -x ${name} failed: ${unpacked.said}`;
    rmSync(join(fresh, name));
  }
  // Last: what was cut short does not pass for all of it.
  renameSync(fresh, root);
  return null;
}

function run(command: string, args: string[], cwd = '/'): { ok: boolean; said: string } {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { ok: status === 0, said: error ? error.message : `${stdout}${stderr}` };
}

function notRun(reason: string): null {
  if (process.env.CI) throw new Error(`in CI the VM must run: ${reason}`);
  console.log(`NOT RUN: ${reason}`);
  return null;
}

/** The modules, and those that they need, in an order in which they load; those that the kernel has built in are left out. */
export function modulesWithNeeds({ modules }: Parts, wanted: readonly string[]): string[] {
  const files = new Map<string, string>();
  for (const path of readdirSync(modules, { recursive: true }) as string[]) {
    const [, name] = /([^/]+)\.ko$/.exec(path) ?? [];
    if (name !== undefined) files.set(name.replaceAll('-', '_'), join(modules, path));
  }
  const ordered: string[] = [];
  const add = (name: string): void => {
    const path = files.get(name.replaceAll('-', '_'));
    if (path === undefined || ordered.includes(path)) return;
    // modinfo(8) reads the same words.
    const [, needs = ''] = /\0depends=([^\0]*)\0/.exec(readFileSync(path, 'latin1')) ?? [];
    for (const need of needs.split(',')) if (need !== '') add(need);
    ordered.push(path);
  };
  for (const name of wanted) add(name);
  return ordered;
}
