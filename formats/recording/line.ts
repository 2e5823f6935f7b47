// A line of a recording before it is text, and as text, without what is secret. What it says is there already and does not
// change: charts replace their contexts, and messages are what came. So its text can wait until there are many to make, which
// costs a third of making each in the midst of other work.
import { type Body, limits, type Place } from './format.ts';

export type Label = (secret: string) => string;

/** What a line says, or its JSON; or a function that gives it, of what does not change any more. */
export type Said = Body | string | (() => Body | string);

/** Characters that a line has, where nobody knows better. */
const usualWeight = 300;

/** What many lines say, each at its own place: JSON as text and in UTF-8, made once. It has no secrets. */
export interface Same {
  readonly json: string;
  readonly bytes: Uint8Array;
}

/** A line whose text is made when somebody asks for it, and once. */
export class LateLine {
  /** About how many characters it will have. */
  readonly weight: number;
  readonly #make: () => string;
  #text: string | null = null;
  /** The line in two: text, and what is in bytes already. */
  readonly halves: readonly [string, Uint8Array] | null;

  private constructor(make: () => string, weight: number, halves: LateLine['halves'] = null) {
    this.#make = make;
    this.weight = weight;
    this.halves = halves;
  }

  static same(place: Place, { json, bytes }: Same): LateLine {
    const begin = beginOf(place);
    return new LateLine(() => begin + json.slice(1), begin.length + json.length, [begin, bytes.subarray(1)]);
  }

  /** `secrets` names the fields that are replaced by labels. */
  static of(
    place: Place,
    said: Said,
    { secrets, label, weight = usualWeight }: { secrets: ReadonlySet<string>; label: Label; weight?: number },
  ): LateLine {
    const json = () => {
      const body = typeof said === 'function' ? said() : said;
      return typeof body === 'string' ? body : JSON.stringify(body);
    };
    return new LateLine(() => lineText(place, json(), secrets, label), weight);
  }

  /** Without its end. */
  get text(): string {
    this.#text ??= this.#make();
    return this.#text;
  }

  /** The same line at another place of a recording. */
  numbered(n: number): LateLine {
    return new LateLine(() => renumbered(this.text, n), this.weight);
  }
}

/**
 * What stands for a secret: made of its MAC under a key that the recorder forgets, so that it is the same for the same secret
 * in one recording, and not even a guess can be checked. `mac` in hex.
 */
export function labelOf(mac: string): string {
  return `withheld:${mac.slice(0, 16)}`;
}

/** Joined as text: an object that has all of it costs more to make than to write. */
function beginOf({ n, at, mono, component }: Place): string {
  return `{"n":${n},"at":${at},"mono":${mono},"component":${JSON.stringify(component)},`;
}

/** A line as text; one that is too long becomes the note that it is not there. */
function lineText(place: Place, json: string, secrets: ReadonlySet<string>, label: Label): string {
  const begin = beginOf(place);
  let rest = json;
  // Looking at every field costs more than writing it, and few lines have one that matters. What is written counts, and not
  // what it was made of: an object may have a `toJSON` of its own.
  if (secrets.size > 0 && fieldOf(secrets).test(rest))
    rest = JSON.stringify(withheld(JSON.parse(rest), secrets, label));
  const text = begin + rest.slice(1);
  if (text.length <= limits.line) return text;
  const note = { kind: 'dropped', lines: 1, why: `a line of ${text.length} characters` };
  return begin + JSON.stringify(note).slice(1);
}

const fields = new WeakMap<ReadonlySet<string>, RegExp>();

/**
 * Finds the first field of these names in JSON that has something in it, and maybe more: in one pass, which is most of what
 * withholding costs.
 */
function fieldOf(names: ReadonlySet<string>): RegExp {
  const known = fields.get(names) ?? new RegExp(`"(?:${[...names].join('|')})":(?!\\{\\}|\\[\\]|null|"")`);
  fields.set(names, known);
  return known;
}

/** The same line at another place of a recording. */
export function renumbered(line: string, n: number): string {
  return line.replace(/^\{"n":\d+/, `{"n":${n}`);
}

/** A copy in which every text and number below a field of these names is a label. */
function withheld(value: unknown, secrets: ReadonlySet<string>, label: Label): unknown {
  const mask = (inner: unknown): unknown => {
    if (typeof inner === 'string') return inner === '' ? inner : label(inner);
    if (typeof inner === 'number') return label(String(inner));
    return copied(inner, (_, item) => mask(item));
  };
  const look = (key: string, inner: unknown): unknown =>
    secrets.has(key) ? mask(inner) : copied(inner, look);
  return look('', value);
}

/** An array or object with its items made anew; anything else as it is. */
function copied(value: unknown, make: (key: string, item: unknown) => unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => make('', item));
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) copy[key] = make(key, (value as Record<string, unknown>)[key]);
  return copy;
}
