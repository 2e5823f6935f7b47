// EVC's store that is full, slow or gone, and EVC that is killed.
import { type Store, StoreError } from '../../controller/store/store.ts';
import type { SimulatedClock } from '../kit/clock.ts';
import { Killed } from '../kit/crash.ts';
import { throughCalls } from '../kit/store-calls.ts';
import type { StoreKeeper } from '../kit/world.ts';

/** Methods that need room. */
const writing = /^(commit|done|put|update|remove|audit|label|restoreEscrow|maintain)/;

export class FaultyStore implements StoreKeeper {
  full = false;
  away = false;
  dead = false;
  /** Of each call, ms. */
  slow = 0;
  readonly #clock: SimulatedClock;

  constructor(clock: SimulatedClock) {
    this.#clock = clock;
  }

  wrap(store: Store): Store {
    return throughCalls(store, (name, call) => this.#call(name, call));
  }

  async #call(name: string, call: () => Promise<unknown>): Promise<unknown> {
    this.#check(name);
    if (this.slow > 0) {
      await this.#clock.sleepUntil(this.#clock.now() + this.slow);
      this.#check(name);
    }
    return call();
  }

  #check(name: string): void {
    if (this.dead) throw new Killed();
    if (this.away) throw new StoreError('unreachable', 'the store does not answer');
    if (this.full && writing.test(name)) throw new StoreError('full', 'the disk of the store is full');
  }
}
