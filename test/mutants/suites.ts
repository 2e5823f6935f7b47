// In place of uvu: tests are kept, each by itself, to be run as often as it takes.
type Work = (context: Record<string, unknown>) => unknown;

export interface KeptTest {
  name: string;
  /** Rejects when it fails. */
  run(): Promise<void>;
}

export interface KeptSuite {
  tests: KeptTest[];
  /** Before the first of them. */
  before: Work[];
}

/** What the bundles of a process and its runner share: each bundle has its own copy of everything else. */
export const shared = globalThis as unknown as {
  mutantLives(id: number): boolean;
  /** Of the file that was imported last. */
  keptSuites: KeptSuite[];
  keptCaches: Set<{ clear(): void }>;
};

export function suite(_name = '') {
  let kept: KeptSuite = { tests: [], before: [] };
  let each = { before: [] as Work[], after: [] as Work[] };
  const test = (name: string, work: Work) => {
    const hooks = each;
    const run = async () => {
      const context = {};
      for (const hook of hooks.before) await hook(context);
      try {
        await work(context);
      } finally {
        for (const hook of hooks.after) await hook(context);
      }
    };
    kept.tests.push({ name, run });
  };
  const before = (work: Work) => void kept.before.push(work);
  before.each = (work: Work) => void each.before.push(work);
  // The process ends, and takes with it what is left.
  const after = (_: Work) => undefined;
  after.each = (work: Work) => void each.after.push(work);
  return Object.assign(test, {
    before,
    after,
    skip: () => undefined,
    only: test,
    run: () => {
      shared.keptSuites.push(kept);
      kept = { tests: [], before: [] };
      each = { before: [], after: [] };
    },
  });
}

export const test = suite();
