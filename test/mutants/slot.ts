// One process that runs tests for mutants, watched: a mutant that makes it run on and on, or wait for what never comes, is noticed by
// that. Time is counted in turns of this process, so that one in which all of it was paused is none.
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Answer, Order } from './runner.ts';

const turn = 100;
/** Turns: of work, beyond what the tests take; and of nothing at all. */
const patience = { work: 25, idle: 150 } as const;
/** Of a clock tick in /proc, ms. */
const tick = 10;

export type Outcome = Answer | { kind: 'ended' } | { kind: 'endless' };

export class Slot {
  readonly #process: ChildProcess;
  #hear: ((outcome: Outcome) => void) | null = null;

  /** @param runner its script */
  constructor(runner: string) {
    this.#process = fork(runner, {
      execArgv: [],
      env: { ...process.env, EVE_ATTEST_TEST: '1', NO_COLOR: '1' },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#process.on('message', (answer: Answer) => this.#heard(answer));
    this.#process.once('exit', () => this.#heard({ kind: 'ended' }));
  }

  /** @param expected ms of work that this takes without a mutant */
  order(order: Order, expected: number): Promise<Outcome> {
    return new Promise((resolve) => {
      const begun = this.#look().worked;
      let idle = 0;
      let before = begun;
      const limit = 10 * expected + patience.work * turn;
      const watch = setInterval(() => {
        const { worked, waits } = this.#look();
        // One that others leave no processor to does not wait.
        idle = waits && worked === before ? idle + 1 : 0;
        before = worked;
        if (worked - begun < limit && idle < patience.idle) return;
        this.#heard({ kind: 'endless' });
        this.end();
      }, turn);
      this.#hear = (outcome) => {
        clearInterval(watch);
        resolve(outcome);
      };
      this.#process.send(order, (error) => {
        if (error) this.#heard({ kind: 'ended' });
      });
    });
  }

  end(): void {
    this.#hear = null;
    this.#process.kill('SIGKILL');
  }

  #heard(outcome: Outcome): void {
    const hear = this.#hear;
    this.#hear = null;
    hear?.(outcome);
  }

  /** ms of a processor that it has had, and whether it waits for something [proc(5): state, utime, stime]. */
  #look(): { worked: number; waits: boolean } {
    try {
      const stat = readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8');
      const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return { worked: (Number(fields[10]) + Number(fields[11])) * tick, waits: state === 'S' };
    } catch {
      return { worked: 0, waits: false };
    }
  }
}
