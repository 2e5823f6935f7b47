// Changes bytes as formats break: bits, lengths, counts, pieces cut, repeated and taken from elsewhere. Repeatable by seed.

/** xorshift128+ in 32-bit words: fast, and the same everywhere. */
export class Dice {
  #a: number;
  #b: number;

  constructor(seed: number) {
    this.#a = (seed ^ 0x9e3779b9) >>> 0 || 1;
    this.#b = (seed * 0x85ebca6b + 0xc2b2ae35) >>> 0 || 2;
  }

  /** 0 to below `limit`. */
  below(limit: number): number {
    let x = this.#a;
    const y = this.#b;
    this.#a = y;
    x ^= x << 23;
    this.#b = (x ^ y ^ (x >>> 17) ^ (y >>> 26)) >>> 0;
    return ((this.#b + y) >>> 0) % limit;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }
}

const numbers = [0, 1, 2, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32, 127, 128, 255, 256, 0x7fff, 0x8000, 0xffff];
const large = [...numbers, 0x10000, 0x100000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** One input made of another and of those that are known. */
export function mutate(
  dice: Dice,
  from: Uint8Array,
  others: readonly Uint8Array[],
  longest: number,
): Uint8Array {
  let bytes: Buffer = Buffer.from(from);
  for (let changes = 1 + dice.below(4); changes > 0; changes--) bytes = change(dice, bytes, others);
  return new Uint8Array(bytes.subarray(0, longest));
}

function change(dice: Dice, bytes: Buffer, others: readonly Uint8Array[]): Buffer {
  if (bytes.length === 0) return Buffer.from(dice.pick(others));
  const at = dice.below(bytes.length);
  switch (dice.below(10)) {
    case 0:
      bytes[at] = (bytes[at] as number) ^ (1 << dice.below(8));
      return bytes;
    case 1:
      bytes[at] = dice.below(256);
      return bytes;
    case 2: {
      // A length or a count, in either order of bytes.
      if (at + 4 > bytes.length) return bytes;
      const value = dice.pick(large);
      if (dice.below(2) === 0) bytes.writeUInt32LE(value, at);
      else bytes.writeUInt32BE(value, at);
      return bytes;
    }
    case 3: {
      if (at + 2 > bytes.length) return bytes;
      const value = dice.pick(numbers);
      if (dice.below(2) === 0) bytes.writeUInt16LE(value, at);
      else bytes.writeUInt16BE(value, at);
      return bytes;
    }
    case 4:
      bytes[at] = (bytes[at] as number) + dice.pick([1, -1, 4, -4, 16, -16]);
      return bytes;
    case 5:
      return bytes.subarray(0, at);
    case 6: {
      const end = at + 1 + dice.below(Math.min(64, bytes.length - at));
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    }
    case 7: {
      const piece = bytes.subarray(at, at + 1 + dice.below(Math.min(256, bytes.length - at)));
      return Buffer.concat([bytes.subarray(0, at), piece, piece, bytes.subarray(at)]);
    }
    case 8: {
      const other = dice.pick(others);
      const start = dice.below(other.length || 1);
      const piece = other.subarray(start, start + 1 + dice.below(512));
      return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + dice.below(piece.length + 1))]);
    }
    default: {
      const piece = Buffer.alloc(1 + dice.below(64), dice.pick([0, 0xff, 0x20, 0x80]));
      return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
    }
  }
}
