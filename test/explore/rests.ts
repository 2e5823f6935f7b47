// All of a situation but its charts, as numbers: one for each part, since a move changes few of them. What is on its way has no
// order, and names have that in which they are met.
import { namesIn, type Renaming, renamed, renamingOf } from './names.ts';
import type { Message, Rest, Situation } from './situation.ts';

const texts = new WeakMap<object, string>();

/** Messages and parts are not changed once they are here. */
function textOf(part: object): string {
  let text = texts.get(part);
  if (text === undefined) {
    text = JSON.stringify(part);
    texts.set(part, text);
  }
  return text;
}

const names = new WeakMap<object, readonly string[]>();

function namesOf(part: object): readonly string[] {
  let found = names.get(part);
  if (!found) {
    found = namesIn(textOf(part));
    names.set(part, found);
  }
  return found;
}

class Numbers<Part> {
  readonly #numbers = new Map<string, number>();
  readonly #parts: Part[] = [];

  number(text: string, part: () => Part): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.#parts.length);
    return this.#parts.push(part()) - 1;
  }

  part(number: number | undefined): Part {
    return this.#parts[number as number] as Part;
  }
}

export class Rests {
  static readonly width = 5;
  readonly #devices = new Numbers<Rest['device']>();
  readonly #evcs = new Numbers<Rest['evc']>();
  readonly #nets = new Numbers<readonly Message[]>();
  readonly #lefts = new Numbers<Rest['left']>();
  readonly #broken = new Numbers<string | null>();

  row({ device, evc, net, left, broken }: Rest): number[] {
    const timers = Object.keys(evc.timers).sort().join();
    const sorted = net.length < 2 ? net : [...net].sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
    return [
      this.#devices.number(textOf(device), () => device),
      this.#evcs.number(`${timers} ${textOf(evc.judging)}`, () => evc),
      this.#nets.number(sorted.map(textOf).join(), () => sorted),
      this.#lefts.number(textOf(left), () => left),
      this.#broken.number(broken ?? '', () => broken),
    ];
  }

  rest(row: ArrayLike<number>): Rest {
    return {
      device: this.#devices.part(row[0]),
      evc: this.#evcs.part(row[1]),
      net: this.#nets.part(row[2]),
      left: this.#lefts.part(row[3]),
      broken: this.#broken.part(row[4]),
    };
  }
}

/** Gives names in the order in which they are met: by the charts, on the device, at EVC, on the way. Null where they have them. */
export function normalise(situation: Situation): Renaming | null {
  situation.share();
  const { cast, standings, record, rest } = situation;
  const parts = [rest.device, rest.evc.judging, ...rest.net];
  const deciding = [...[...standings, record].flatMap(({ names }) => names), ...parts.flatMap(namesOf)];
  // Looked for only where something is renamed: in most steps nothing is.
  const others = {
    [Symbol.iterator]: () => [...standings, record].flatMap(({ text }) => namesIn(text)).values(),
  };
  const renaming = renamingOf(deciding, others);
  if (!renaming) return null;
  situation.standings = standings.map(
    (standing, index) => cast.charts[index]?.renamed(standing, renaming) ?? standing,
  );
  situation.record = cast.record.renamed(record, renaming);
  situation.rest = {
    ...rest,
    device: renamed(rest.device, renaming),
    evc: { ...rest.evc, judging: renamed(rest.evc.judging, renaming) },
    net: rest.net.map((message) => renamed(message, renaming)),
  };
  return renaming;
}
