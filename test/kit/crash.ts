// The process is killed at a write: of a file of a device, or of EVC's store. Which calls write is found by looking at the disk
// before and after each of them in a first run: nobody keeps a list.
import fs, { type BigIntStats } from 'node:fs';
import { join } from 'node:path';
import type { Store } from '../../controller/store/store.ts';
import { type FileCall, failed, interposeFiles, isBelow } from './file-calls.ts';
import { throughCalls } from './store-calls.ts';

export class Killed extends Error {
  constructor() {
    super('the process was killed');
    this.name = 'Killed';
  }
}

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
  /** Gives the file system back. */
  readonly end: () => void;
  #looking = false;

  constructor() {
    super();
    this.end = interposeFiles((call) => this.#call(call));
  }

  #call(call: FileCall): unknown {
    const { name, path, args, run } = call;
    // Functions of node:fs call each other.
    if (!isBelow(this.root, path) || this.#looking) return run();
    if (this.gone) return failed(args, new Killed());
    const key = typeof args[1] === 'string' && name.startsWith('open') ? `${name} ${args[1]}` : name;
    if (this.learning) return this.#learn(this.root as string, key, run);
    if (this.writers.has(key)) {
      this.counted++;
      if (this.counted === this.plan?.at) {
        this.gone = true;
        this.plan.onKill();
        // No call of a process that is gone comes back; here it fails, so that whoever waits for it ends.
        return failed(args, new Killed());
      }
    }
    return run();
  }

  #learn(root: string, key: string, run: () => unknown): unknown {
    this.#looking = true;
    const before = fingerprint(root);
    this.#looking = false;
    const result = run();
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
    return throughCalls(store, (name, call) => this.#call(name, call));
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
