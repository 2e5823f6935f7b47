// Coverage-guided: an input that reaches what none before it did joins those that the next are made of.
import { Coverage } from './coverage.ts';
import { Dice, mutate } from './mutate.ts';
import { type Fault, faultOf, runOnce, type Target } from './target.ts';

export interface FuzzResult {
  target: string;
  inputs: number;
  seconds: number;
  /** Inputs that reached something new, seeds among them. */
  corpus: number;
  /** Blocks of the program, each with the power of two of its count. */
  reached: number;
  slowestMs: number;
  found: { bytes: Uint8Array; fault: Fault }[];
}

const batchSize = 200;
const longest = 1024 * 1024;
const mostFound = 20;

/** Fuzzes one target for some time. Repeatable by seed as far as time allows. */
export async function fuzz(
  target: Target,
  options: {
    seconds: number;
    seed: number;
    wanted(url: string): boolean;
    onProgress?(result: FuzzResult): void;
  },
): Promise<FuzzResult> {
  const dice = new Dice(options.seed);
  const corpus: Uint8Array[] = [];
  const reached = new Set<string>();
  const result: FuzzResult = {
    target: target.name,
    inputs: 0,
    seconds: 0,
    corpus: 0,
    reached: 0,
    slowestMs: 0,
    found: [],
  };
  const coverage = await Coverage.start(options.wanted);

  const run = async (bytes: Uint8Array): Promise<void> => {
    const start = performance.now();
    const fault = (await runOnce(target, bytes)) && (await faultOf(target, bytes));
    const ms = performance.now() - start;
    result.inputs++;
    if (fault && result.found.length < mostFound) result.found.push({ bytes, fault });
    else if (ms > result.slowestMs) result.slowestMs = ms;
  };
  /** Runs the inputs and keeps those that reached something new, found by halves. */
  const learn = async (inputs: readonly Uint8Array[]): Promise<void> => {
    for (const bytes of inputs) await run(bytes);
    const news = [...(await coverage.take())].filter((block) => !reached.has(block));
    const [only] = inputs;
    if (news.length === 0 || !only) return;
    if (inputs.length === 1) {
      for (const block of news) reached.add(block);
      corpus.push(only);
      return;
    }
    const half = inputs.length >> 1;
    await learn(inputs.slice(0, half));
    await learn(inputs.slice(half));
  };

  try {
    const begin = performance.now();
    const seeds = target.seeds();
    for (const seed of seeds) await learn([seed]);
    // A seed that reaches nothing new is still worth changing.
    const sources = () => (corpus.length > 0 ? corpus : seeds);
    let told = begin;
    for (;;) {
      const now = performance.now();
      Object.assign(result, { seconds: (now - begin) / 1000, corpus: corpus.length, reached: reached.size });
      if (result.seconds >= options.seconds || result.found.length >= mostFound) return result;
      if (now - told > 10_000) {
        told = now;
        options.onProgress?.(result);
      }
      // The newest are changed more often: what they reached is known least.
      const parents = sources();
      const from = dice.below(2) === 0 ? dice.pick(parents) : dice.pick(parents.slice(-32));
      await learn(Array.from({ length: batchSize }, () => mutate(dice, from, parents, longest)));
    }
  } finally {
    coverage.stop();
  }
}
