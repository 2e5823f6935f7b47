// A file system of its own for a test: ext4 in a file, mounted from a loop device. Takes root, and a kernel with loop devices.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needDebian } from './debian.ts';

const size = 48 * 1024 * 1024;

export interface FileSystem {
  /** Where it is mounted. */
  folder: string;
  /** The file that holds it: what somebody finds who takes the disk out. */
  image: string;
}

/**
 * Whether such file systems can be mounted here; prints `NOT RUN: ` with the reason when not. Without root, CI fails: it has
 * root. A kernel that cannot is none of its faults.
 */
export async function needLoop(): Promise<boolean> {
  if (!(await needDebian(['e2fsprogs', 'mount'], ['mkfs.ext4', 'mount', 'umount']))) return false;
  if (process.getuid?.() !== 0) {
    if (process.env.CI) throw new Error('in CI this is root');
    console.log('NOT RUN: needs root to mount a file system');
    return false;
  }
  try {
    withFileSystem([], () => undefined);
    return true;
  } catch (error) {
    console.log(`NOT RUN: ${(error as Error).message}`);
    return false;
  }
}

/** `features` as mkfs.ext4 has them after -O. */
export function withFileSystem<T>(features: string[], work: (fileSystem: FileSystem) => T): T {
  const place = mkdtempSync(join(tmpdir(), 'eve-loop-'));
  const [image, folder] = [join(place, 'image'), join(place, 'mounted')];
  writeFileSync(image, '');
  truncateSync(image, size);
  mkdirSync(folder);
  const unmount = () => {
    spawnSync('umount', ['-l', folder]);
    rmSync(place, { recursive: true, force: true });
  };
  let result: T;
  try {
    run('mkfs.ext4', ...['-q', '-m', '0'], ...features.flatMap((feature) => ['-O', feature]), image);
    run('mount', '-o', 'loop', image, folder);
    result = work({ folder, image });
  } catch (error) {
    unmount();
    throw error;
  }
  if (!(result instanceof Promise)) {
    unmount();
    return result;
  }
  return result.finally(unmount) as T;
}

function run(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
}
