// The states that were seen, exactly and small: each is a row of numbers in one array, found through an open-addressed index.

export class Table {
  readonly width: number;
  #rows: Int32Array;
  #index: Int32Array;
  #size = 0;

  constructor(width: number) {
    this.width = width;
    this.#rows = new Int32Array(width * 1024);
    this.#index = new Int32Array(4096).fill(-1);
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes. */
  get memory(): number {
    return this.#rows.byteLength + this.#index.byteLength;
  }

  row(number: number): Int32Array {
    return this.#rows.subarray(number * this.width, (number + 1) * this.width);
  }

  /** The number of a row, negative (~number) where it is new. */
  add(row: readonly number[]): number {
    if (this.#size * 2 > this.#index.length) this.#grow();
    const mask = this.#index.length - 1;
    let place = hashOf(row) & mask;
    for (;;) {
      const known = this.#index[place] as number;
      if (known < 0) break;
      if (this.#same(known, row)) return known;
      place = (place + 1) & mask;
    }
    const number = this.#size++;
    if ((number + 1) * this.width > this.#rows.length) {
      const larger = new Int32Array(this.#rows.length * 2);
      larger.set(this.#rows);
      this.#rows = larger;
    }
    this.#rows.set(row, number * this.width);
    this.#index[place] = number;
    return ~number;
  }

  #same(number: number, row: readonly number[]): boolean {
    const begin = number * this.width;
    for (let i = 0; i < this.width; i++) if (this.#rows[begin + i] !== row[i]) return false;
    return true;
  }

  #grow(): void {
    const index = new Int32Array(this.#index.length * 2).fill(-1);
    const mask = index.length - 1;
    for (let number = 0; number < this.#size; number++) {
      let place = hashOf(this.row(number)) & mask;
      while ((index[place] as number) >= 0) place = (place + 1) & mask;
      index[place] = number;
    }
    this.#index = index;
  }
}

/** FNV-1a over the numbers, mixed at the end. */
function hashOf(row: ArrayLike<number>): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < row.length; i++)
    hash = Math.imul(hash ^ (row[i] as number), 0x01000193) ^ (hash >>> 15);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}
