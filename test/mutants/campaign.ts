// Every mutant is given to the tests that reach it, the quickest first, until one fails. What is read while a file is loaded is tried
// in a process of its own, from the start.
import { type Bundles, bundle } from './bundle.ts';
import { type Mutant, mutate } from './mutant.ts';
import type { MeasuredTest } from './runner.ts';
import { type Outcome, Slot } from './slot.ts';

export interface Wish {
  /** Source files whose mutants are made, and the test files that are to notice them, from the project's folder on. */
  files: readonly string[];
  tests: readonly string[];
  /** Processes at a time. */
  processes: number;
  onProgress?(done: number, of: number, survivors: number): void;
  /** As soon as it is known. */
  onSurvivor?(mutant: Mutant): void;
}

export interface Result {
  mutants: Mutant[];
  /** That no test noticed. */
  survivors: Mutant[];
  /** Noticed because the tests never ended. */
  endless: number;
  /** Of the survivors, those that no test even reaches. */
  unreached: number;
}

interface Numbered extends MeasuredTest {
  number: number;
}

/** ms of work that loading all files takes at the most. */
const loading = 30_000;

class Campaign {
  readonly #wish: Wish;
  readonly #mutants: Mutant[];
  readonly #bundles: Bundles;
  #tests: Numbered[] = [];
  readonly #reachedBy = new Map<number, Numbered[]>();
  #atLoad = new Set<number>();
  #endless = 0;
  #done = 0;
  readonly #survivors: Mutant[] = [];

  constructor(wish: Wish, mutants: Mutant[], bundles: Bundles) {
    this.#wish = wish;
    this.#mutants = mutants;
    this.#bundles = bundles;
  }

  async run(): Promise<Result> {
    const first = await this.#open();
    await this.#measure(first).catch((error: unknown) => {
      first.end();
      throw error;
    });
    const queue = [...this.#mutants];
    let ready: Slot | null = first;
    const work = async () => {
      let slot = ready ?? (await this.#open());
      ready = null;
      for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
        const { noticed, spent } = await this.#try(slot, mutant);
        if (spent) {
          slot.end();
          slot = await this.#open();
        }
        this.#done++;
        if (!noticed) {
          this.#survivors.push(mutant);
          this.#wish.onSurvivor?.(mutant);
        }
        this.#wish.onProgress?.(this.#done, this.#mutants.length, this.#survivors.length);
      }
      slot.end();
    };
    await Promise.all(Array.from({ length: this.#wish.processes }, work));
    const survivors = this.#survivors.sort((a, b) => a.id - b.id);
    const unreached = survivors.filter(({ id }) => !this.#reachedBy.has(id) && !this.#atLoad.has(id)).length;
    return { mutants: this.#mutants, survivors, endless: this.#endless, unreached };
  }

  async #open(): Promise<Slot> {
    const slot = new Slot(this.#bundles.runner);
    const files = [...this.#bundles.tests.values()];
    const loaded = await slot.order({ kind: 'load', files, alive: -1 }, loading);
    if (loaded.kind === 'loaded') return slot;
    slot.end();
    throw new Error(`the tests cannot be loaded: ${'why' in loaded ? loaded.why : loaded.kind}`);
  }

  async #measure(slot: Slot): Promise<void> {
    const measured = await slot.order({ kind: 'measure' }, loading * 4);
    if (measured.kind !== 'measured')
      throw new Error(`without a mutant: ${'why' in measured ? measured.why : measured.kind}`);
    this.#atLoad = new Set(measured.atLoad);
    this.#tests = measured.tests.map((test, number) => ({ ...test, number }));
    for (const test of [...this.#tests].sort((a, b) => a.ms - b.ms))
      for (const id of test.reaches) {
        const before = this.#reachedBy.get(id);
        if (before) before.push(test);
        else this.#reachedBy.set(id, [test]);
      }
  }

  /** `spent`: nothing more is to be believed of this process. */
  async #try(slot: Slot, mutant: Mutant): Promise<{ noticed: boolean; spent: boolean }> {
    let spent = false;
    const tests = this.#reachedBy.get(mutant.id) ?? [];
    if (!this.#atLoad.has(mutant.id)) {
      if (tests.length === 0) return { noticed: false, spent };
      const outcome = await slot.order(
        { kind: 'try', mutant: mutant.id, tests: tests.map(({ number }) => number) },
        tests.reduce((sum, { ms }) => sum + ms, 0),
      );
      spent = outcome.kind !== 'tried' || outcome.spoiled;
      if (outcome.kind !== 'tried') return { noticed: this.#noticed(outcome), spent };
      // What fails without it as well says nothing of it.
      if (!spent) return { noticed: outcome.by !== null, spent };
    }
    return { noticed: await this.#tryAlone(mutant), spent };
  }

  /** From the start, file by file, that of the same name first. */
  async #tryAlone({ id, file }: Mutant): Promise<boolean> {
    const own = `/${file.split('/').at(-1)?.replace('.ts', '.test.ts')}`;
    const work = new Map<string, number>();
    for (const { file: at, ms } of this.#tests) work.set(at, (work.get(at) ?? 0) + ms);
    const rank = ([name, url]: [string, string]) => (name.endsWith(own) ? -1 : (work.get(url) ?? 0));
    const slot = new Slot(this.#bundles.runner);
    let known = 0;
    try {
      for (const [, url] of [...this.#bundles.tests].sort((a, b) => rank(a) - rank(b))) {
        const loaded = await slot.order({ kind: 'load', files: [url], alive: id }, loading);
        if (loaded.kind !== 'loaded') return this.#noticed(loaded);
        const tests = Array.from({ length: loaded.tests - known }, (_, i) => known + i);
        known = loaded.tests;
        const outcome = await slot.order({ kind: 'try', mutant: id, tests }, work.get(url) ?? 0);
        if (outcome.kind !== 'tried' || outcome.by !== null) return this.#noticed(outcome);
      }
      return false;
    } finally {
      slot.end();
    }
  }

  #noticed({ kind }: Outcome): true {
    if (kind === 'endless') this.#endless++;
    return true;
  }
}

/** Rejects where the tests fail without any mutant. */
export async function runCampaign(wish: Wish): Promise<Result> {
  const { mutants, sources } = mutate(wish.files);
  const bundles = await bundle(wish.tests, sources);
  try {
    return await new Campaign(wish, mutants, bundles).run();
  } finally {
    bundles.remove();
  }
}
