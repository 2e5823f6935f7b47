// Which blocks of the program an input reached, as V8 counts them: nothing is instrumented, so speed is that of the program.
import { Session } from 'node:inspector/promises';

/** A block, and how often it ran, in powers of two: a loop that runs longer than before is news as well. */
export type Reached = ReadonlySet<string>;

export class Coverage {
  readonly #session = new Session();
  readonly #wanted: (url: string) => boolean;

  private constructor(wanted: (url: string) => boolean) {
    this.#wanted = wanted;
  }

  /** @param wanted by the address of a module: those whose blocks count */
  static async start(wanted: (url: string) => boolean): Promise<Coverage> {
    const coverage = new Coverage(wanted);
    coverage.#session.connect();
    await coverage.#session.post('Profiler.enable');
    await coverage.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    return coverage;
  }

  /** What ran since the last time. */
  async take(): Promise<Reached> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage');
    const reached = new Set<string>();
    for (const { url, scriptId, functions } of result) {
      if (!this.#wanted(url)) continue;
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges)
          if (count > 0)
            reached.add(`${scriptId}:${startOffset}-${endOffset}x${Math.floor(Math.log2(count))}`);
    }
    return reached;
  }

  stop(): void {
    this.#session.disconnect();
  }
}
