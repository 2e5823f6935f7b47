// The disk of a device that has no room, or that takes its time.
import { type FileCall, failed, interposeFiles, isBelow } from '../kit/file-calls.ts';

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
  /** Gives the file system back. */
  readonly end: () => void;

  constructor(pass: (ms: number) => void) {
    this.#pass = pass;
    this.end = interposeFiles((call) => this.#call(call));
  }

  #call({ name, path, args, run }: FileCall): unknown {
    if (!isBelow(this.root, path)) return run();
    if (this.full && needRoom.test(name)) return failed(args, noRoom(path));
    if (this.slow > 0 && synchronise.test(name)) this.#pass(this.slow);
    return run();
  }
}

/** As the kernel says it [errno(3)]. */
function noRoom(path: string): Error {
  return Object.assign(new Error(`ENOSPC: no space left on device, '${path}'`), {
    code: 'ENOSPC',
    errno: -28,
  });
}
