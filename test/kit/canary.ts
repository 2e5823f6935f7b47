// Secrets that are looked for wherever something of a run can be read, in every way that bytes are written.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';

export interface Secret {
  what: string;
  bytes: Buffer;
}

/** Shorter ones would be met by chance. */
const shortest = 16;

/** How bytes stand in a text. */
export function wordsOf(bytes: Buffer): string[] {
  return [
    bytes.toString('latin1'),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('base64url'),
    JSON.stringify(bytes.toString('latin1')).slice(1, -1),
    [...bytes].join(','),
  ];
}

/** How they stand in base64 of something that they are a part of, at each of the three places where they can begin. */
export function packedWordsOf(bytes: Buffer): string[] {
  return [0, 1, 2].flatMap((before) => {
    const packed = Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    // A character that speaks of a neighbour's bits as well is not theirs.
    const from = Math.ceil((before * 8) / 6);
    const to = Math.floor(((before + bytes.length) * 8) / 6);
    const word = packed.slice(from, to);
    return [word, word.replaceAll('+', '-').replaceAll('/', '_')];
  });
}

/** PEM breaks its base64 into lines, and JSON writes the breaks out. */
function unfolded(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('latin1').replaceAll(/\r?\n|\\r|\\n/g, ''), 'latin1');
}

interface Kept extends Secret {
  needles: Buffer[];
}

export interface Place {
  name: string;
  /** Bytes that were looked through. */
  size: number;
}

export class Canary {
  readonly places: Place[] = [];
  /** `secret in place`. */
  readonly leaks: string[] = [];
  /** Found where they belong: `secret in place`. */
  readonly athome = new Set<string>();
  readonly #secrets = new Map<string, Kept>();

  know(what: string, secret: Uint8Array | string): void {
    const bytes = Buffer.from(secret);
    if (bytes.length < shortest) throw new RangeError(`${what} is too short to be looked for`);
    const id = bytes.toString('hex');
    if (this.#secrets.has(id)) return;
    const words = [...new Set([...wordsOf(bytes).slice(1), ...packedWordsOf(bytes)])];
    this.#secrets.set(id, { what, bytes, needles: [bytes, ...words.map((word) => Buffer.from(word))] });
  }

  get secrets(): number {
    return this.#secrets.size;
  }

  /** How many there are of each kind. */
  get kinds(): Map<string, number> {
    const kinds = new Map<string, number>();
    for (const { what } of this.#secrets.values()) kinds.set(what, (kinds.get(what) ?? 0) + 1);
    return kinds;
  }

  /** @param belong kinds that this place is there for */
  search(name: string, content: Uint8Array | string, belong: readonly string[] = []): void {
    const bytes = Buffer.from(content);
    this.places.push({ name, size: bytes.length });
    const texts = bytes.includes('-----BEGIN') ? [bytes, unfolded(bytes)] : [bytes];
    for (const { what, needles } of this.#secrets.values()) {
      if (!needles.some((needle) => texts.some((text) => text.includes(needle)))) continue;
      if (belong.includes(what)) this.athome.add(`${what} in ${name}`);
      else this.leaks.push(`${what} in ${name}`);
    }
  }

  /** Every file below a folder. @param belong kinds that belong into a file, by its path from the folder on */
  searchFolder(name: string, folder: string, belong: (path: string) => readonly string[] = () => []): void {
    for (const path of readdirSync(folder, { recursive: true }) as string[]) {
      const file = join(folder, path);
      if (!statSync(file, { throwIfNoEntry: false })?.isFile()) continue;
      const from = relative(folder, file);
      this.search(`${name}/${from}`, readFileSync(file), belong(from));
    }
  }

  /**
   * What leaked, and what makes the search worth nothing.
   * @param home beginnings of what has to be among `athome`: a search that misses those would miss others
   */
  faults(home: readonly string[]): string[] {
    const found = [...this.athome];
    return [
      ...this.leaks,
      ...home
        .filter((one) => !found.some((where) => where.startsWith(one)))
        .map((one) => `not found where it belongs: ${one}`),
      ...this.places.filter(({ size }) => size === 0).map(({ name }) => `nothing is in ${name}`),
      ...(this.secrets === 0 || this.places.length === 0 ? ['nothing was looked for'] : []),
    ];
  }

  figures(of: string): string {
    const bytes = this.places.reduce((sum, { size }) => sum + size, 0);
    const kinds = [...this.kinds].map(([what, count]) => `${count} × ${what}`).join(', ');
    return `FIGURES: ${of}: ${this.places.length} places searched, ${(bytes / 2 ** 20).toFixed(1)} MiB, for ${this.secrets} secrets (${kinds}); leaks: ${this.leaks.length === 0 ? 'none' : this.leaks.length}`;
  }
}
