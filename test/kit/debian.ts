// Programs of Debian that tests run against. Missing ones are installed when this is root on Debian.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const lockFolder = join(tmpdir(), 'eve-attest-test-apt.lock');
const patience = 170_000;

function onPath(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function installed(name: string): boolean {
  const query = spawnSync('dpkg-query', ['-s', name], { encoding: 'utf8' });
  return query.status === 0 && query.stdout.includes('Status: install ok installed');
}

function aptGet(...parts: string[]): { ok: boolean; said: string } {
  const run = spawnSync('apt-get', ['-qq', ...parts], {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  return { ok: run.status === 0, said: `${run.stdout ?? ''}${run.stderr ?? ''}`.trim().slice(-600) };
}

/** One apt at a time: test files run side by side. The lock of a process that is gone is taken over. */
async function locked<T>(work: () => T): Promise<T> {
  const deadline = Date.now() + patience;
  for (;;) {
    try {
      mkdirSync(lockFolder);
      writeFileSync(join(lockFolder, 'pid'), String(process.pid));
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (holderIsGone()) rmSync(lockFolder, { recursive: true, force: true });
    else if (Date.now() > deadline)
      throw new Error(`${lockFolder} is held for too long; remove it if nothing installs packages`);
    else await delay(200);
  }
  try {
    return work();
  } finally {
    rmSync(lockFolder, { recursive: true, force: true });
  }
}

function holderIsGone(): boolean {
  try {
    process.kill(Number(readFileSync(join(lockFolder, 'pid'), 'utf8')), 0);
    return false;
  } catch (error) {
    // The file comes a moment after the folder, so a folder without it is no proof.
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

function install(packages: string[]): string | undefined {
  const missing = packages.filter((name) => !installed(name));
  if (missing.length === 0) return undefined;
  const parts = ['install', '-y', '--no-install-recommends', ...missing];
  // The package lists of an image are often gone or old.
  if (aptGet(...parts).ok) return undefined;
  const update = aptGet('update');
  if (!update.ok) return `apt-get update failed: ${update.said}`;
  const again = aptGet(...parts);
  return again.ok ? undefined : `apt-get install ${missing.join(' ')} failed: ${again.said}`;
}

/**
 * Makes sure that these Debian packages, or at least these commands of theirs, are here. Returns whether they are; when
 * not, it prints `NOT RUN: ` with the reason, and throws in CI (where CI is set), because there nothing may be skipped.
 * Libraries without a command are checked by package only.
 */
export async function needDebian(packages: string[], commands: string[]): Promise<boolean> {
  const reason = await whyNot(packages, commands);
  if (reason === undefined) return true;
  if (process.env.CI) throw new Error(`in CI ${packages.join(', ')} must be there: ${reason}`);
  console.log(`NOT RUN: needs ${packages.join(', ')}: ${reason}`);
  return false;
}

async function whyNot(packages: string[], commands: string[]): Promise<string | undefined> {
  const complete = () => packages.every(installed) && commands.every(onPath);
  if (complete()) return undefined;
  if (!onPath('apt-get')) {
    const absent = commands.filter((command) => !onPath(command));
    return absent.length === 0 ? undefined : `no ${absent.join(', ')}, and no apt-get to install it`;
  }
  if (process.getuid?.() !== 0)
    return `not installed, and this is not root; as root: apt-get install --no-install-recommends ${packages.join(' ')}`;
  const problem = await locked(() => install(packages));
  if (problem !== undefined) return problem;
  const absent = commands.filter((command) => !onPath(command));
  return absent.length === 0 ? undefined : `installed, but there is no ${absent.join(', ')}`;
}
