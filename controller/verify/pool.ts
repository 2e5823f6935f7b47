// Judging on other threads. A few attempts, and those with a log that was replayed here before, are judged here, at once;
// when more wait, they go to workers in batches, since handing one over costs a good part of what judging it does.
import type { Verdict } from '../../machines/flow.ts';
import { startThread } from '../thread.ts';
import { knowsBoot } from './known-boots.ts';
import { type Basis, type Presented, verify } from './verify.ts';

/** What `verify` takes. */
export interface Case {
  evidence: Presented;
  basis: Basis;
  /** ms since the epoch. */
  now: number;
}

interface Waiting extends Case {
  resolve(verdict: Verdict): void;
}

/** One thread, one batch at a time. */
export interface Judge {
  /** Rejects when the thread ended before it answered. */
  judge(cases: readonly Case[]): Promise<Verdict[]>;
  end(): Promise<void>;
}

/** Up to this many are judged here. */
const few = 3;
const largestBatch = 64;

export class VerifierPool {
  readonly #threads: number;
  readonly #start: () => Judge;
  readonly #idle: Judge[] = [];
  readonly #all = new Set<Judge>();
  #waiting: Waiting[] = [];
  #sharing: NodeJS.Immediate | null = null;
  #closed = false;

  /**
   * @param threads workers at the most, started when they are first needed; 0 judges everything on this thread
   * @param start starts one
   */
  constructor(threads: number, start: () => Judge = () => new Thread()) {
    this.#threads = threads;
    this.#start = start;
  }

  /** As `verify`, and like it never rejects. */
  verify(evidence: Presented, basis: Basis, now: number): Promise<Verdict> {
    const here = this.#threads === 0 || knowsBoot(evidence.boot.logs, 'sha256');
    if (here) return Promise.resolve(verify(evidence, basis, now));
    return new Promise((resolve) => {
      this.#waiting.push({ evidence, basis, now, resolve });
      // What comes in the same turn of the event loop makes one batch.
      this.#sharing ??= setImmediate(() => {
        this.#sharing = null;
        this.#share();
      });
    });
  }

  /** Whatever still waits is judged on this thread. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#share();
    await Promise.all([...this.#all].map((judge) => judge.end()));
  }

  #share(): void {
    while (this.#waiting.length > 0) {
      const here = this.#closed || this.#waiting.length <= few;
      const judge = here ? undefined : this.#free();
      if (judge) void this.#giveTo(judge);
      else if (here) for (const one of this.#waiting.splice(0)) judgeHere(one);
      // All are busy; the first that is done takes what waits then.
      else return;
    }
  }

  #free(): Judge | undefined {
    const judge = this.#idle.pop();
    if (judge || this.#all.size >= this.#threads) return judge;
    const made = this.#start();
    this.#all.add(made);
    return made;
  }

  async #giveTo(judge: Judge): Promise<void> {
    // A fair share, so that no thread stands idle while another has all the work.
    const share = Math.ceil(this.#waiting.length / this.#threads);
    const batch = this.#waiting.splice(0, Math.min(share, largestBatch));
    try {
      const verdicts = await judge.judge(batch.map(({ evidence, basis, now }) => ({ evidence, basis, now })));
      for (const [i, { resolve }] of batch.entries()) resolve(verdicts[i] as Verdict);
      this.#idle.push(judge);
    } catch {
      // A thread that died says nothing about the evidence.
      this.#all.delete(judge);
      for (const one of batch) judgeHere(one);
    }
    this.#share();
  }
}

function judgeHere({ evidence, basis, now, resolve }: Waiting): void {
  resolve(verify(evidence, basis, now));
}

class Thread implements Judge {
  readonly #worker = startThread(new URL('./worker', import.meta.url));

  judge(cases: readonly Case[]): Promise<Verdict[]> {
    return new Promise((resolve, reject) => {
      const settle = (done: () => void) => {
        this.#worker.off('message', onAnswer).off('error', onEnd).off('exit', onEnd);
        done();
      };
      const onAnswer = (verdicts: Verdict[]) => settle(() => resolve(verdicts));
      const onEnd = (why: unknown) => settle(() => reject(new Error('the thread ended', { cause: why })));
      this.#worker.on('message', onAnswer).once('error', onEnd).once('exit', onEnd);
      this.#worker.postMessage(cases);
    });
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}
