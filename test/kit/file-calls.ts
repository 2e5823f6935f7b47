// Every call of node:fs goes through somebody who may refuse it, hold it up, or look at what it did.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { relative } from 'node:path';

type Functions = Record<string, (...args: unknown[]) => unknown>;

export interface FileCall {
  /** Of the function, as `writeSync`. */
  name: string;
  /** What it is about, also where it is given a number for it. */
  path: string;
  args: readonly unknown[];
  /** Makes the call. */
  run(): unknown;
}

/** @returns gives the file system back */
export function interposeFiles(around: (call: FileCall) => unknown): () => void {
  const paths = new Map<number, string>();
  const restore: (() => void)[] = [];
  const through = (name: string, original: Functions[string], args: unknown[]): unknown => {
    const path = typeof args[0] === 'number' ? paths.get(args[0]) : args[0];
    // The number is somebody else's after this.
    if (name.startsWith('close') && typeof args[0] === 'number') paths.delete(args[0]);
    if (typeof path !== 'string') return original(...args);
    const run = () => {
      const result = original(...args);
      if (typeof result === 'number') paths.set(result, path);
      return result;
    };
    return around({ name, path, args, run });
  };
  for (const functions of [fs, fs.promises] as unknown as Functions[]) {
    const promised = functions === (fs.promises as unknown);
    for (const [name, original] of Object.entries(functions)) {
      if (typeof original !== 'function' || /^[A-Z_]/.test(name)) continue;
      functions[name] = promised
        ? async (...args) => through(name, original, args)
        : (...args) => through(name, original, args);
      restore.push(() => {
        functions[name] = original;
      });
    }
  }
  syncBuiltinESMExports();
  return () => {
    for (const undo of restore) undo();
    syncBuiltinESMExports();
  };
}

export function isBelow(root: string | null, path: string): boolean {
  return root !== null && !relative(root, path).startsWith('..');
}

/** Fails a call as its kind does: thrown, or told to the function that waits for it. */
export function failed(args: readonly unknown[], error: Error): undefined {
  const last = args.at(-1);
  if (typeof last !== 'function') throw error;
  process.nextTick(() => last(error));
}
