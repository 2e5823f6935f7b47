// A cursor over bytes that a peer chose, and its counterpart for bytes under construction. Both know the path of the
// field at hand, so that whatever is wrong can be named. All integers are big-endian [TPM2 Part 1, 4.2].
import { FormatError } from '../format-error.ts';

/** One undivided field met while decoding: what `explain` is made of. */
export interface Leaf {
  path: string;
  offset: number;
  length: number;
  text: string;
}

/** Where in a structure we are, as the specification would write it. */
class Path {
  readonly #parts: string[];
  constructor(root: string) {
    this.#parts = [root];
  }
  enter(part: string | number): void {
    this.#parts.push(typeof part === 'number' ? `[${part}]` : `.${part}`);
  }
  leave(): void {
    this.#parts.pop();
  }
  toString(): string {
    return this.#parts.join('');
  }
}

/** A position in bytes that a peer chose. Every read is checked against the innermost size that encloses it. */
export class Reader {
  readonly path: Path;
  offset = 0;
  end: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #onLeaf: ((leaf: Leaf) => void) | undefined;

  constructor(bytes: Uint8Array, root: string, onLeaf?: (leaf: Leaf) => void) {
    this.path = new Path(root);
    this.end = bytes.length;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#onLeaf = onLeaf;
  }

  fail(reason: string, offset = this.offset): never {
    throw new FormatError(this.path.toString(), offset, reason);
  }

  #advance(length: number): number {
    const at = this.offset;
    if (length > this.end - at) this.fail(`need ${length} bytes, have ${this.end - at}`);
    this.offset = at + length;
    return at;
  }

  integer(length: 1 | 2 | 4): number {
    const at = this.#advance(length);
    if (length === 1) return this.#view.getUint8(at);
    return length === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  bigint(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  /** A copy, so that a decoded value neither changes nor keeps alive the message it came from. */
  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    return this.#bytes.slice(at, at + length);
  }

  finish(): void {
    if (this.offset !== this.end) this.fail(`${this.end - this.offset} bytes left over`);
  }

  /** Reports a leaf to whoever explains these bytes; decoding alone pays one comparison. */
  leaf(start: number, text: () => string): void {
    if (this.#onLeaf)
      this.#onLeaf({
        path: this.path.toString(),
        offset: start,
        length: this.offset - start,
        text: text(),
      });
  }
}

/** Bytes under construction. A value that does not fit its structure is the caller's mistake: TypeError. */
export class Writer {
  readonly path: Path;
  offset = 0;
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);

  constructor(root: string) {
    this.path = new Path(root);
  }

  fail(reason: string): never {
    throw new TypeError(`${this.path}: ${reason}`);
  }

  #advance(length: number): number {
    const at = this.offset;
    this.offset = at + length;
    if (this.offset > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.offset, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      // The old copy may hold a secret parameter.
      this.#bytes.fill(0);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  integer(length: 1 | 2 | 4, value: number): void {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * length))
      this.fail(`needs an unsigned integer of ${8 * length} bits`);
    const at = this.#advance(length);
    if (length === 1) this.#view.setUint8(at, value);
    else if (length === 2) this.#view.setUint16(at, value);
    else this.#view.setUint32(at, value);
  }

  bigint(value: bigint): void {
    if (typeof value !== 'bigint' || value < 0n || value >= 1n << 64n)
      this.fail('needs an unsigned bigint of 64 bits');
    this.#view.setBigUint64(this.#advance(8), value);
  }

  bytes(value: Uint8Array): void {
    if (!(value instanceof Uint8Array)) this.fail('needs a Uint8Array');
    const at = this.#advance(value.length);
    this.#bytes.set(value, at);
  }

  /** Writes what `body` writes, preceded by its length in 16 bits. */
  sized(body: () => void): void {
    const at = this.#advance(2);
    body();
    const size = this.offset - at - 2;
    if (size > 0xffff) this.fail(`${size} bytes do not fit a TPM2B`);
    this.#view.setUint16(at, size);
  }

  /** The bytes written so far; the working copy is wiped. */
  finish(): Uint8Array {
    const result = this.#bytes.slice(0, this.offset);
    this.#bytes.fill(0);
    return result;
  }
}
