// Modules as tests of mutants get them: files with all their mutants in them, test suites that wait to be run, caches that can be
// emptied.
import type { LoadHook, ResolveHook } from 'node:module';

export interface Replacements {
  /** Text by URL. */
  sources: Record<string, string>;
  /** URLs by what is imported. */
  modules: Record<string, string>;
}

let replaced: Replacements = { sources: {}, modules: {} };

export function initialize(given: Replacements): void {
  replaced = given;
}

export const resolve: ResolveHook = (specifier, context, next) => {
  const url = replaced.modules[specifier];
  // What stands in its place may have the real one.
  if (url === undefined || context.parentURL?.startsWith(url)) return next(specifier, context);
  return { url, shortCircuit: true };
};

export const load: LoadHook = (url, context, next) => {
  const source = replaced.sources[url.replace(/\?.*$/, '')];
  return source === undefined ? next(url, context) : { format: 'module', source, shortCircuit: true };
};
