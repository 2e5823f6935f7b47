// The addon for tests: built when it is not, or older than its sources.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needDebian } from './debian.ts';

const up = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Where the sources are, seen from them and from dist/. */
const folder = [up, dirname(up)]
  .map((root) => join(root, 'device/native'))
  .find((path) => existsSync(join(path, 'build.js'))) as string;
export const addonFile = join(folder, 'build/addon.node');

/** Whether the addon is there; when not, it prints `NOT RUN: ` with the reason, and throws in CI. */
export async function needAddon(): Promise<boolean> {
  if (fresh()) return true;
  if (!(await needDebian(['gcc', 'libc6-dev'], ['cc']))) return false;
  const build = spawnSync(process.execPath, [join(folder, 'build.js')], { encoding: 'utf8' });
  if (build.status === 0) return true;
  const reason = `the addon is not built: ${build.stderr.trim()}`;
  if (process.env.CI) throw new Error(reason);
  console.log(`NOT RUN: ${reason}`);
  return false;
}

function fresh(): boolean {
  if (!existsSync(addonFile)) return false;
  const sources = readdirSync(folder).filter((name) => /\.(c|h|js)$/.test(name));
  return sources.every((name) => statSync(join(folder, name)).mtimeMs <= statSync(addonFile).mtimeMs);
}
