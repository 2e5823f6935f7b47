// Nonces, tokens and keys are names: all that a chart does with them is to compare and to pass them on. So the same situation
// with other names is the same state: names are given in the order in which they are met.

export type Kind = 'nonce' | 'token' | 'key' | 'attempt' | 'challenge';

/** Even numbers of hex digits, because that is what the bus takes. */
const prefixes: Record<Kind, string> = {
  nonce: 'ee',
  token: 'dd',
  key: 'cc',
  attempt: 'aa',
  challenge: 'bb',
};
export const namePattern = /(?<=")(?:ee|dd|cc|aa|bb)[0-9a-f]{2}(?=")/g;
const most = 64;

/** @param texts all that anybody remembers, as JSON */
export function freshName(kind: Kind, texts: readonly string[]): string {
  for (let n = 0; n < most; n++) {
    const name = nameOf(prefixes[kind], n);
    if (!texts.some((text) => text.includes(`"${name}"`))) return name;
  }
  throw new RangeError(`more than ${most} names of kind ${kind} are in use`);
}

/** Each once, in order. */
export function namesIn(text: string): string[] {
  const found = text.match(namePattern);
  return found ? [...new Set(found)] : [];
}

/** Every name that is in use, and the one that takes its place: never one for two. */
export interface Renaming {
  map: ReadonlyMap<string, string>;
  key: string;
}

/**
 * The names in the order in which they are met; null where they have it already.
 *
 * @param deciding names that tell states apart, in order
 * @param others names that are remembered as well, and must not be taken for one of them
 */
export function renamingOf(deciding: Iterable<string>, others: Iterable<string>): Renaming | null {
  const map = new Map<string, string>();
  const counts = new Map<string, number>();
  let same = true;
  const meet = (name: string) => {
    if (map.has(name)) return;
    const prefix = name.slice(0, 2);
    const count = counts.get(prefix) ?? 0;
    counts.set(prefix, count + 1);
    const other = nameOf(prefix, count);
    map.set(name, other);
    if (other !== name) same = false;
  };
  for (const name of deciding) meet(name);
  if (same) return null;
  for (const name of others) meet(name);
  return { map, key: [...map].map(([name, other]) => name + other).join() };
}

export function renamedText(text: string, { map }: Renaming): string {
  return text.replace(namePattern, (name) => map.get(name) ?? name);
}

export function renamed<Value>(value: Value, renaming: Renaming): Value {
  return JSON.parse(renamedText(JSON.stringify(value), renaming)) as Value;
}

function nameOf(prefix: string, n: number): string {
  return `${prefix}${n.toString(16).padStart(2, '0')}`;
}
