// Test files as one script each, with all mutants in them: a process that tries one starts in no time. What a file reads beside itself
// it still finds, since it is told where it was.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { projectRoot } from '../kit/root.ts';

const root = fileURLToPath(projectRoot);
const here = (name: string) => join(import.meta.dirname, name);
const stand = { uvu: here('suites.ts'), 'lru-cache': here('caches.ts') } as Record<string, string>;

export interface Bundles {
  /** Of the process that runs tests. */
  runner: string;
  /** URLs, by the path of the test file from the project's folder on. */
  tests: Map<string, string>;
  remove(): void;
}

/** @param sources text in place of files, by their paths */
export async function bundle(
  tests: readonly string[],
  sources: ReadonlyMap<string, string>,
): Promise<Bundles> {
  // Where packages are found from.
  const cache = join(root, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'mutants-'));
  const runner = here('runner.ts');
  await build({
    entryPoints: Object.fromEntries([
      ['runner', runner],
      ...tests.map((test, i) => [`${i}`, join(root, test)]),
    ]),
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'error',
    plugins: [replaced(sources)],
  });
  return {
    runner: join(folder, 'runner.mjs'),
    tests: new Map(tests.map((test, i) => [test, pathToFileURL(join(folder, `${i}.mjs`)).href])),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function replaced(sources: ReadonlyMap<string, string>): Plugin {
  return {
    name: 'replaced',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^(uvu|lru-cache)$/ }, ({ path, importer }) =>
        // What stands in its place may have the real one.
        importer === stand[path] ? { path, external: true } : { path: stand[path] as string },
      );
      onLoad({ filter: /\.ts$/, namespace: 'file' }, ({ path }) => {
        const text = sources.get(path) ?? readFileSync(path, 'utf8');
        const url = JSON.stringify(pathToFileURL(path).href);
        const contents = text
          .replaceAll('import.meta.url', url)
          .replaceAll('import.meta.dirname', JSON.stringify(join(path, '..')));
        return { contents, loader: 'ts' };
      });
    },
  };
}
