// The process that runs tests with one mutant alive, or with none to see which test reaches which. Told what to do by messages.
import { shared } from './suites.ts';

export type Order =
  /** Imports test files by their URLs; `alive` while that is done and after it, where it is no -1. */
  | { kind: 'load'; files: readonly string[]; alive: number }
  /** Runs each test with no mutant alive. */
  | { kind: 'measure' }
  /** Runs tests by their numbers, with a mutant alive, until one fails. */
  | { kind: 'try'; mutant: number; tests: readonly number[] };

export interface MeasuredTest {
  file: string;
  name: string;
  ms: number;
  reaches: number[];
}

export type Answer =
  /** `tests`: so many are there now. */
  | { kind: 'loaded'; tests: number }
  | { kind: 'measured'; tests: MeasuredTest[]; atLoad: number[] }
  /** `by` null: nobody noticed. `spoiled`: a test fails without the mutant now, so nothing that comes after can be believed. */
  | { kind: 'tried'; by: string | null; spoiled: boolean }
  | { kind: 'failed'; why: string };

let alive = -1;
let reached = new Set<number>();
shared.mutantLives = (id) => {
  reached.add(id);
  return id === alive;
};
shared.keptCaches = new Set();

interface Numbered {
  file: string;
  name: string;
  run(): Promise<void>;
}

const tests: Numbered[] = [];
let atLoad: number[] = [];

const say = (answer: Answer) => process.send?.(answer);

async function load(files: readonly string[], one: number): Promise<void> {
  alive = one;
  for (const file of files) {
    shared.keptSuites = [];
    await import(file);
    for (const suite of shared.keptSuites) {
      for (const work of suite.before) await work({});
      tests.push(...suite.tests.map((test) => ({ ...test, file })));
    }
  }
  atLoad = [...reached];
  say({ kind: 'loaded', tests: tests.length });
}

/** Why it fails; null when it does not. */
async function outcome(test: Numbered | undefined): Promise<string | null> {
  for (const cache of shared.keptCaches) cache.clear();
  try {
    await test?.run();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message || error.name : String(error);
  }
}

async function measure(): Promise<void> {
  const measured: MeasuredTest[] = [];
  for (const test of tests) {
    reached = new Set();
    const began = performance.now();
    const why = await outcome(test);
    if (why !== null) return void say({ kind: 'failed', why: `"${test.name}" fails: ${why}` });
    const { file, name } = test;
    measured.push({ file, name, ms: performance.now() - began, reaches: [...reached] });
  }
  say({ kind: 'measured', tests: measured, atLoad });
}

async function tryOut(mutant: number, numbers: readonly number[]): Promise<void> {
  for (const number of numbers) {
    const test = tests[number];
    alive = mutant;
    const why = await outcome(test);
    alive = -1;
    if (why === null) continue;
    return void say({ kind: 'tried', by: test?.name ?? '', spoiled: (await outcome(test)) !== null });
  }
  say({ kind: 'tried', by: null, spoiled: false });
}

process.on('message', (order: Order) => {
  const work =
    order.kind === 'load'
      ? load(order.files, order.alive)
      : order.kind === 'measure'
        ? measure()
        : tryOut(order.mutant, order.tests);
  work.catch((error: unknown) => say({ kind: 'failed', why: String((error as Error)?.stack ?? error) }));
});
// A promise that nobody waits for fails as a test would: the one who asked hears of it by the end of this process.
process.on('unhandledRejection', () => process.exit(3));
