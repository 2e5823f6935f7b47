// Builds dist/: TypeScript to JavaScript, and the files that are not code beside it.
// Runs from `npm ci` (prepare), `npm start` and `npm test`; without the compiler (an install of the
// package alone) there is nothing to do, because the package ships dist/.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const root = dirname(fileURLToPath(import.meta.url));
const out = join(root, 'dist');
const folders = ['machines', 'formats', 'telemetry', 'wasm', 'broker', 'inspector', 'device', 'controller'];
const assets = /\.(wasm|bin|proto|html|svg)$|^(LICENSE|NOTICE\.md|sources\.lock)/;
const compiler = join(root, 'node_modules/typescript/bin/tsc');

/** Time of the newest file below a folder, in ms since the epoch. */
function newest(folder) {
  let time = 0;
  for (const entry of readdirSync(folder, { recursive: true })) {
    const { mtimeMs } = statSync(join(folder, entry));
    if (mtimeMs > time) time = mtimeMs;
  }
  return time;
}

if (existsSync(compiler)) {
  const stamp = join(out, 'controller');
  const changed = Math.max(
    statSync(join(root, 'tsconfig.build.json')).mtimeMs,
    ...folders.map((f) => newest(join(root, f))),
  );
  if (!existsSync(stamp) || statSync(out).mtimeMs < changed) {
    rmSync(out, { recursive: true, force: true });
    const tsc = spawnSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.build.json')], {
      stdio: 'inherit',
    });
    if (tsc.status !== 0) {
      // Half a build would count as one the next time.
      rmSync(out, { recursive: true, force: true });
      process.exit(tsc.status ?? 1);
    }
    for (const folder of folders) {
      for (const entry of readdirSync(join(root, folder), { recursive: true })) {
        if (!assets.test(entry.split('/').pop()) || entry.startsWith('build/')) continue;
        mkdirSync(dirname(join(out, folder, entry)), { recursive: true });
        cpSync(join(root, folder, entry), join(out, folder, entry));
      }
    }
    await bundlePage();
  }
  await writeSbom();
}

/** What this build is made of, beside it. */
async function writeSbom() {
  if (!existsSync(join(root, 'package-lock.json'))) return;
  const { sbom } = await import('./sbom.js');
  writeFileSync(join(out, 'sbom.json'), `${JSON.stringify(sbom(), null, 1)}\n`);
}

/**
 * The page: one script of everything that it imports, a small one in front of it, the layout of charts as another, since that is
 * large, and one style sheet. Each file is a request, and the first of them a handshake.
 */
async function bundlePage() {
  const { build } = await import('esbuild');
  try {
    await build({
      entryPoints: {
        first: join(root, 'inspector/first.ts'),
        app: join(root, 'inspector/app.ts'),
        style: join(root, 'inspector/style.css'),
        'layout-worker': join(root, 'inspector/layout-worker.ts'),
      },
      outdir: join(out, 'inspector'),
      bundle: true,
      minify: true,
      format: 'iife',
      target: ['chrome110', 'firefox115', 'safari16.4'],
      legalComments: 'linked',
      logLevel: 'warning',
    });
    // Packed once, and not for each who asks.
    for (const file of readdirSync(join(out, 'inspector')).filter((name) => /\.(js|css)$/.test(name)))
      writeFileSync(
        join(out, 'inspector', `${file}.gz`),
        gzipSync(readFileSync(join(out, 'inspector', file)), { level: 9 }),
      );
  } catch {
    rmSync(out, { recursive: true, force: true });
    process.exit(1);
  }
}
