// The process is killed at a write: of a file of a device, or of EVC's store. Which calls write is found by looking at the disk
// before and after each of them in a first run: nobody keeps a list.
import fs, { type BigIntStats } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join, relative } from 'node:path';
import type { Store } from '../../controller/store/store.ts';

export class Killed extends Error {
  constructor() {
    super('the process was killed');
    this.name = 'Killed';
  }
}

type Functions = Record<string, (...args: unknown[]) => unknown>;

/** What is under way, and where it is to be killed. */
interface Plan {
  /** Calls that write are counted from 1; 0 where nothing is killed. */
  at: number;
  onKill(): void;
}

/** A process that is killed at one of its writes. */
abstract class Crashing<AtWrite extends Plan> {
  /** Names of the calls that were seen to write; those that open a file, with its mode. */
  readonly writers = new Set<string>();
  protected learning = true;
  protected plan: AtWrite | null = null;
  protected counted = 0;
  protected gone = false;

  /** From here on calls are known, and not looked at any more. */
  learned(): void {
    this.learning = false;
  }

  /** Counts from here on. */
  begin(plan: AtWrite): void {
    this.plan = plan;
    this.counted = 0;
    this.gone = false;
  }

  /** Writes since `begin`. */
  get count(): number {
    return this.counted;
  }

  /** Whether the process is gone: then it says nothing more either. */
  get dead(): boolean {
    return this.gone;
  }

  /** The process is gone, and another takes its place. */
  revive(): void {
    this.gone = false;
    this.plan = null;
  }
}

/** Calls that write below one folder. */
export class CrashingFiles extends Crashing<Plan> {
  /** Calls with a path below it count, and no others; none without it. */
  root: string | null = null;
  readonly #paths = new Map<number, string>();
  readonly #restore: (() => void)[] = [];
  #looking = false;

  constructor() {
    super();
    for (const functions of [fs, fs.promises] as unknown as Functions[]) {
      for (const [name, original] of Object.entries(functions)) {
        if (typeof original !== 'function' || /^[A-Z_]/.test(name)) continue;
        functions[name] = (...args) => this.#call(name, original, args);
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
    // The number is somebody else's after this.
    if (name.startsWith('close') && typeof args[0] === 'number') this.#paths.delete(args[0]);
    const { root } = this;
    const elsewhere = root === null || typeof path !== 'string' || relative(root, path).startsWith('..');
    // Functions of node:fs call each other.
    if (elsewhere || this.#looking) return original(...args);
    if (this.gone) return gone(args);
    const key = typeof args[1] === 'string' && name.startsWith('open') ? `${name} ${args[1]}` : name;
    if (this.learning) return this.#learn(root, key, path, () => original(...args));
    if (this.writers.has(key)) {
      this.counted++;
      if (this.counted === this.plan?.at) {
        this.gone = true;
        this.plan.onKill();
        return gone(args);
      }
    }
    return this.#opened(path, original(...args));
  }

  #opened<Result>(path: string, result: Result): Result {
    if (typeof result === 'number') this.#paths.set(result, path);
    return result;
  }

  #learn(root: string, key: string, path: string, call: () => unknown): unknown {
    this.#looking = true;
    const before = fingerprint(root);
    this.#looking = false;
    const result = this.#opened(path, call());
    const compare = () => {
      this.#looking = true;
      if (fingerprint(root) !== before) this.writers.add(key);
      this.#looking = false;
    };
    if (result instanceof Promise) return result.finally(compare);
    compare();
    this.counted++;
    return result;
  }
}

/** No call of a process that is gone comes back; here it fails, so that whoever waits for it ends. */
function gone(args: unknown[]): undefined {
  const last = args.at(-1);
  if (typeof last !== 'function') throw new Killed();
  process.nextTick(() => last(new Killed()));
}

/** Names, places on the disk, sizes and times of change of all that is below a folder. */
function fingerprint(root: string): string {
  const parts: string[] = [];
  const look = (folder: string) => {
    for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      const stat = fs.statSync(path, { bigint: true, throwIfNoEntry: false }) as BigIntStats | undefined;
      if (!stat) continue;
      if (entry.isDirectory()) {
        parts.push(`${path} ${stat.ino}`);
        look(path);
      } else parts.push(`${path} ${stat.ino} ${stat.size} ${stat.mtimeNs}`);
    }
  };
  look(root);
  return parts.join('\n');
}

/** When EVC dies at a write of its store: it was not made, or it was made and EVC never learned of it. */
export const storeKills = ['before', 'after'] as const;
export type StoreKill = (typeof storeKills)[number];

/** A store whose writes are counted, and that EVC dies at. */
export class CrashingStore extends Crashing<Plan & { when: StoreKill }> {
  readonly #folder: string;
  #calls = 0;

  /** @param folder holds the database, and nothing else that is written meanwhile */
  constructor(folder: string) {
    super();
    this.#folder = folder;
  }

  wrap(store: Store): Store {
    return new Proxy(store, {
      get: (target, name: keyof Store & string) => {
        const method = target[name] as unknown;
        if (typeof method !== 'function') return method;
        if (name === 'close') return method.bind(target);
        return (...values: unknown[]) => this.#call(name, () => method.apply(target, values));
      },
    });
  }

  async #call(name: string, call: () => Promise<unknown>): Promise<unknown> {
    if (this.gone) throw new Killed();
    if (this.learning) return this.#learn(name, call);
    if (!this.writers.has(name)) return call();
    this.counted++;
    const plan = this.plan;
    if (this.counted !== plan?.at) return call();
    this.gone = true;
    if (plan.when === 'after') await call().catch(() => undefined);
    plan.onKill();
    throw new Killed();
  }

  async #learn(name: string, call: () => Promise<unknown>): Promise<unknown> {
    const before = this.#calls++;
    const state = fingerprint(this.#folder);
    const result = await call();
    // Where another call ran meanwhile, nobody can say which of them it was.
    if (this.#calls === before + 1 && fingerprint(this.#folder) !== state) this.writers.add(name);
    return result;
  }
}
