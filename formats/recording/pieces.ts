// Lines on their way out, a piece at a time: the text of many is made at once, straight into bytes that are used again. While
// a piece is on its way lines wait as they are, so that one who takes none costs next to nothing.
import type { LateLine } from './line.ts';

/** Characters of a piece, about. What makes lines runs best when it runs for long. */
const largest = 128 * 1024;
/** Bytes of a buffer that is used again. */
const usual = 256 * 1024;
const mostSpare = 4;

/** Takes a piece, lines in UTF-8 each with its end, and says when it needs the bytes no more. */
export type Outlet = (piece: Uint8Array, done: () => void) => void;

export class Pieces {
  readonly #outlet: Outlet;
  readonly #delay: number;
  #waiting: (string | LateLine)[] = [];
  #weight = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #busy = false;
  /** What is called when nothing waits any more. */
  #emptied: (() => void)[] = [];

  /** @param delay ms that a line waits at the most where the outlet is free; nothing is kept alive by it */
  constructor(outlet: Outlet, delay: number) {
    this.#outlet = outlet;
    this.#delay = delay;
  }

  /** Characters that wait here, about. */
  get weight(): number {
    return this.#weight;
  }

  /** One line, without its end. */
  line(text: string): void {
    this.#add(text);
  }

  late(line: LateLine): void {
    this.#add(line);
  }

  /** Hands on what waits, and resolves when the outlet has taken it. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#emptied.push(resolve);
      this.#soon();
    });
  }

  /** Forgets what waits. */
  drop(): void {
    this.#waiting = [];
    this.#weight = 0;
    this.#soon();
  }

  #add(line: string | LateLine): void {
    this.#waiting.push(line);
    this.#weight += weightOf(line);
    this.#soon();
  }

  #soon(): void {
    if (this.#busy) return;
    if (this.#weight >= largest || this.#emptied.length > 0) {
      this.#next();
      return;
    }
    if (this.#timer || this.#waiting.length === 0) return;
    const timer = setTimeout(() => this.#next(), this.#delay);
    // A number, in a browser.
    (timer as { unref?(): void }).unref?.();
    this.#timer = timer;
  }

  #next(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#busy) return;
    const lines = this.#taken();
    if (lines.length === 0) {
      for (const tell of this.#emptied.splice(0)) tell();
      return;
    }
    this.#busy = true;
    const { buffer, length } = encoded(lines);
    this.#outlet(buffer.subarray(0, length), () => {
      if (buffer.length === usual && spare.length < mostSpare) spare.push(buffer);
      this.#busy = false;
      this.#soon();
    });
  }

  #taken(): (string | LateLine)[] {
    let count = 0;
    let weight = 0;
    while (count < this.#waiting.length && weight < largest)
      weight += weightOf(this.#waiting[count++] as string | LateLine);
    const lines = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    this.#weight -= weight;
    return lines;
  }
}

function weightOf(line: string | LateLine): number {
  return typeof line === 'string' ? line.length + 1 : line.weight;
}

const spare: Uint8Array[] = [];
const encoder = new TextEncoder();
const newline = 10;

/** In a buffer that has room for more; whoever is done with it gives it back. */
function encoded(lines: readonly (string | LateLine)[]): { buffer: Uint8Array; length: number } {
  let buffer = spare.pop() ?? new Uint8Array(usual);
  let at = 0;
  const grow = (room: number) => {
    const larger = new Uint8Array(Math.max(buffer.length * 2, at + room));
    larger.set(buffer.subarray(0, at));
    buffer = larger;
  };
  for (const line of lines) {
    const halves = typeof line === 'string' ? null : line.halves;
    let rest = typeof line === 'string' ? line : (halves?.[0] ?? line.text);
    for (;;) {
      const { read, written } = encoder.encodeInto(rest, buffer.subarray(at));
      at += written;
      if (read === rest.length && at < buffer.length) break;
      rest = rest.slice(read);
      grow(0);
    }
    if (halves) {
      const [, bytes] = halves;
      if (at + bytes.length >= buffer.length) grow(bytes.length + 1);
      buffer.set(bytes, at);
      at += bytes.length;
    }
    buffer[at++] = newline;
  }
  return { buffer, length: at };
}
