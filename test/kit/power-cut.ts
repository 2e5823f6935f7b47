// Power that is cut at any call that changes a disk. Every function of node:fs is wrapped, and a first run finds which calls
// change something: nobody keeps a list of the writes of the code under test.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join, relative } from 'node:path';

/**
 * - `killed`: the process is gone, and the kernel writes what it was told.
 * - `torn`: the same, and a write was half done.
 * - `dark`: the power is gone; what was not synchronised never reached the disk, neither content nor name.
 */
export const cutKinds = ['killed', 'torn', 'dark'] as const;
export type CutKind = (typeof cutKinds)[number];

export class PowerCut extends Error {
  constructor() {
    super('the power is cut');
    this.name = 'PowerCut';
  }
}

/** One call that changes the disk, or what of it is certain to last. */
export interface CutPoint {
  /** Counted from 1, calls that change nothing included. */
  call: number;
  name: string;
}

export interface PowerOptions {
  /** Calls with a path below this folder count, and no others. */
  root: string;
  /** Without it the power stays. */
  cut?: { kind: CutKind; call: number };
  /** Other objects whose functions change the disk; their first argument is a path. */
  more?: readonly object[];
}

type Functions = Record<string, (...args: unknown[]) => unknown>;

export class Power {
  readonly #options: PowerOptions;
  readonly #disk: Disk;
  readonly points: CutPoint[] = [];
  #calls = 0;
  #before: string;
  #looking = false;
  cut = false;

  constructor(options: PowerOptions) {
    this.#options = options;
    this.#disk = new Disk(options.root);
    this.#before = options.cut ? '' : this.#disk.fingerprint();
  }

  /** Resolves when the work is done or the power is cut; whatever else it throws passes through. */
  async during(work: () => Promise<void>): Promise<void> {
    const wrapped = [fs as unknown as Functions, ...((this.#options.more ?? []) as Functions[])];
    const restore: (() => void)[] = [];
    for (const functions of wrapped) {
      for (const [name, original] of Object.entries(functions)) {
        // Classes and streams work through the functions.
        if (typeof original !== 'function' || /^[A-Z_]/.test(name)) continue;
        functions[name] = (...args) => this.#call(name, original, args);
        restore.push(() => {
          functions[name] = original;
        });
      }
    }
    syncBuiltinESMExports();
    try {
      await work();
    } catch (error) {
      if (!(this.cut && error instanceof PowerCut)) throw error;
    } finally {
      for (const undo of restore) undo();
      syncBuiltinESMExports();
    }
    if (this.cut && this.#options.cut?.kind === 'dark') this.#disk.rewind();
  }

  #call(name: string, original: Functions[string], args: unknown[]): unknown {
    const path = typeof args[0] === 'number' ? this.#disk.pathOf(args[0]) : args[0];
    // What is not of this device, such as a module that is loaded, goes on.
    const elsewhere = typeof path !== 'string' || relative(this.#options.root, path).startsWith('..');
    if (elsewhere || this.#looking) return original(...args);
    if (this.cut) throw new PowerCut();
    this.#calls++;
    const { cut } = this.#options;
    if (this.#calls === cut?.call) {
      this.cut = true;
      const [file, bytes] = args;
      if (cut.kind === 'torn' && bytes instanceof Uint8Array)
        original(file, bytes, 0, Math.floor(bytes.length / 2));
      throw new PowerCut();
    }
    const call = this.#calls;
    const result = original(...args);
    // Functions of node:fs call each other.
    this.#looking = true;
    this.#disk.saw(name, args, result);
    if (!cut) this.#compare(call, name);
    this.#looking = false;
    return result;
  }

  #compare(call: number, name: string): void {
    const after = this.#disk.fingerprint();
    if (after !== this.#before || !(name in fs)) this.points.push({ call, name });
    this.#before = after;
  }
}

/** What is there, and what of it is certain to last: contents as of the last fsync of a file, names as of that of a folder. */
class Disk {
  readonly #root: string;
  readonly #open = new Map<number, string>();
  /** By inode. */
  readonly #contents = new Map<number, Buffer>();
  /** Path to inode; null for a folder. */
  readonly #names = new Map<string, number | null>();

  constructor(root: string) {
    this.#root = root;
    for (const { path, inode, content } of this.#tree()) {
      this.#names.set(path, content ? inode : null);
      if (content) this.#contents.set(inode, content);
    }
  }

  pathOf(fd: number): string | undefined {
    return this.#open.get(fd);
  }

  saw(name: string, args: unknown[], result: unknown): void {
    if (name === 'openSync') this.#open.set(result as number, args[0] as string);
    if (name === 'closeSync') this.#open.delete(args[0] as number);
    if (name === 'fsyncSync' || name === 'fdatasyncSync')
      this.#synced(this.#open.get(args[0] as number) ?? this.#root);
  }

  #synced(path: string): void {
    const { ino } = original.statSync(path);
    if (original.statSync(path).isFile()) {
      this.#contents.set(ino, original.readFileSync(path));
      return;
    }
    for (const known of [...this.#names.keys()]) if (dirname(known) === path) this.#names.delete(known);
    for (const entry of original.readdirSync(path, { withFileTypes: true })) {
      const file = join(path, entry.name);
      this.#names.set(file, entry.isDirectory() ? null : original.statSync(file).ino);
    }
  }

  fingerprint(): string {
    const hash = createHash('sha256');
    for (const { path, inode, content } of this.#tree())
      hash.update(`${path} ${inode} `).update(content ?? '/');
    for (const [path, inode] of [...this.#names].sort()) hash.update(`${path} ${inode} `);
    for (const [inode, content] of this.#contents) hash.update(`${inode} `).update(content);
    return hash.digest('hex');
  }

  /** Makes the folder what a disk would hold. */
  rewind(): void {
    for (const name of fs.readdirSync(this.#root)) fs.rmSync(join(this.#root, name), { recursive: true });
    for (const [path, inode] of [...this.#names].sort()) {
      // In a folder whose own name never got there, nothing is.
      if (!fs.existsSync(dirname(path))) continue;
      if (inode === null) fs.mkdirSync(path);
      else fs.writeFileSync(path, this.#contents.get(inode) ?? Buffer.alloc(0));
    }
  }

  #tree(): { path: string; inode: number; content: Buffer | null }[] {
    return original
      .readdirSync(this.#root, { recursive: true, withFileTypes: true })
      .map((entry) => {
        const path = join(entry.parentPath, entry.name);
        const inode = original.statSync(path).ino;
        return { path, inode, content: entry.isFile() ? readable(path) : null };
      })
      .sort((a, b) => (a.path < b.path ? -1 : 1));
  }
}

/** What the kernel has locked is there, and not to be read. */
function readable(path: string): Buffer {
  try {
    return original.readFileSync(path);
  } catch {
    return Buffer.from('locked');
  }
}

const original = { ...fs };
