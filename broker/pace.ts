// Work that may be begun so often a second, and waits for its turn otherwise, in the order in which it came.

/** ms between two looks: a timer of less would cost more than it spreads. */
const every = 20;

export class Pace {
  readonly #each: number;
  #waiting: (() => boolean)[] = [];
  #left: number;
  #looking = false;
  readonly #later: (work: () => void) => void;

  /** @param later calls back after `every` ms */
  constructor(perSecond: number, later = (work: () => void) => void setTimeout(work, every).unref()) {
    this.#later = later;
    this.#each = Math.max(1, Math.round((perSecond * every) / 1000));
    this.#left = this.#each;
  }

  /** Begins it now, or when it is its turn. @param work false where it was not wanted any more: the turn is that of the next */
  begin(work: () => boolean): void {
    this.#waiting.push(work);
    this.#run();
  }

  #run(): void {
    let n = 0;
    while (n < this.#waiting.length && this.#left > 0) if (this.#waiting[n++]?.()) this.#left--;
    this.#waiting.splice(0, n);
    if (!this.#looking) this.#later(() => this.#next());
    this.#looking = true;
  }

  #next(): void {
    this.#looking = false;
    this.#left = this.#each;
    if (this.#waiting.length > 0) this.#run();
  }

  /** What waits is not begun any more. */
  close(): void {
    this.#waiting = [];
  }
}
