// The disk of a device that has no room, or that takes its time.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { relative } from 'node:path';

type Functions = Record<string, (...args: unknown[]) => unknown>;

/** Calls that need room; one that renames or removes needs none. */
const needRoom = /^(write|append|copyFile|cp|mkdir|mkdtemp|symlink|link)/;
const synchronise = /^f(data)?sync/;

export class Disk {
  /** Calls with a path below it count, and no others. */
  root: string | null = null;
  full = false;
  /** Of each call that synchronises; `pass` is told, ms. */
  slow = 0;
  readonly #pass: (ms: number) => void;
  readonly #paths = new Map<number, string>();
  readonly #restore: (() => void)[] = [];

  constructor(pass: (ms: number) => void) {
    this.#pass = pass;
    for (const functions of [fs, fs.promises] as unknown as Functions[]) {
      for (const [name, original] of Object.entries(functions)) {
        if (typeof original !== 'function' || /^[A-Z_]/.test(name)) continue;
        functions[name] =
          functions === (fs.promises as unknown)
            ? async (...args) => this.#call(name, original, args)
            : (...args) => this.#call(name, original, args);
        this.#restore.push(() => {
          functions[name] = original;
        });
      }
    }
    syncBuiltinESMExports();
  }

  /** Gives the file system back. */
  end(): void {
    for (const undo of this.#restore) undo();
    syncBuiltinESMExports();
  }

  #call(name: string, original: Functions[string], args: unknown[]): unknown {
    const path = typeof args[0] === 'number' ? this.#paths.get(args[0]) : args[0];
    if (name.startsWith('close') && typeof args[0] === 'number') this.#paths.delete(args[0]);
    const { root } = this;
    if (root === null || typeof path !== 'string' || relative(root, path).startsWith('..'))
      return original(...args);
    if (this.full && needRoom.test(name)) return noRoom(path, args);
    if (this.slow > 0 && synchronise.test(name)) this.#pass(this.slow);
    const result = original(...args);
    if (typeof result === 'number') this.#paths.set(result, path);
    return result;
  }
}

/** As the kernel says it [errno(3)]. */
function noRoom(path: string, args: unknown[]): undefined {
  const error = Object.assign(new Error(`ENOSPC: no space left on device, '${path}'`), {
    code: 'ENOSPC',
    errno: -28,
  });
  const last = args.at(-1);
  if (typeof last !== 'function') throw error;
  process.nextTick(() => last(error));
}
