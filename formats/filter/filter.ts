// The filter language of a fleet, one for the API, the command and the page: `trust:uud pcr:8 account:plant-7 -label:lab`.
// Terms are separated by spaces, and all of them must hold; commas separate alternatives, `-` denies, `*` at the end leaves the
// rest open, and quotes hold a value with spaces together. A word without a key is the beginning of a name of the device.
import type { FleetRow } from './row.ts';

/** Why a filter is none; `at` counts characters from 0. */
export class FilterError extends Error {
  readonly code = 'filter.invalid';
  readonly at: number;
  constructor(at: number, message: string) {
    super(`${message} (at character ${at + 1})`);
    this.name = 'FilterError';
    this.at = at;
  }
}

export interface Term {
  key: Key;
  denied: boolean;
  /** One of them must hold; none for `stale:`, which asks whether anything is. */
  values: readonly string[];
}

export type Filter = readonly Term[];

const limits = { text: 500, terms: 20, values: 50 } as const;
const units: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** What one value of a key asks. */
type Test = (row: FleetRow, value: string, now: number) => boolean;

const words = (value: string) => value.length > 0;
const oneOf = (known: readonly string[]) => (value: string) => known.includes(value);
const trusts = ['trusted', 'uud', 'umd', 'stale', 'unattested', 'challenged', 'verifying', 'retired'];

const keys = {
  trust: { says: trusts.join(', '), valid: oneOf(trusts), test: ({ trust }, value) => trust === value },
  pcr: {
    says: 'a number from 0 to 23',
    valid: (value) => /^\d{1,2}$/.test(value) && Number(value) < 24,
    test: ({ facts }, value) => facts.pcrs.includes(Number(value)),
  },
  reason: { says: 'a code', valid: words, test: ({ facts }, value) => like(facts.reason, value) },
  account: { says: 'a name', valid: words, test: ({ account }, value) => like(account, value) },
  label: {
    says: 'a label',
    valid: words,
    test: ({ labels }, value) => labels.some((one) => like(one, value)),
  },
  image: { says: 'a version', valid: words, test: ({ facts }, value) => like(facts.image, value) },
  firmware: { says: 'a name', valid: words, test: ({ facts }, value) => like(facts.firmware, value) },
  upgrade: { says: 'a version', valid: words, test: ({ facts }, value) => like(facts.upgrade, value) },
  link: {
    says: 'online, offline',
    valid: oneOf(['online', 'offline']),
    test: ({ facts }, value) => facts.online === (value === 'online'),
  },
  serial: { says: 'a serial number', valid: words, test: ({ serial }, value) => like(serial, value) },
  device: {
    says: 'the id of a device, or the start of it',
    valid: words,
    test: ({ device }, value) => device.startsWith(value.replace(/\*$/, '').toLowerCase()),
  },
  stale: {
    says: 'nothing, or how long it is silent: 30m, 2h, 7d',
    valid: (value) => msOf(value) !== null,
    test: ({ facts, seen }, value, now) => !facts.online && now - seen >= (msOf(value) ?? 0),
  },
  name: {
    says: 'the start of a serial number, an id or a UUID',
    valid: words,
    test: ({ serial, device, uuid }, value) =>
      [serial, device, uuid].some((one) =>
        one.toLowerCase().startsWith(value.replace(/\*$/, '').toLowerCase()),
      ),
  },
} satisfies Record<string, { says: string; valid(value: string): boolean; test: Test }>;

export type Key = keyof typeof keys;

/** Every key, and what its values are: for help, and for completion as somebody types. */
export const filterKeys: readonly { key: Key; says: string }[] = (Object.keys(keys) as Key[]).map((key) => ({
  key,
  says: keys[key].says,
}));

/** Trusts that a value of `trust:` may name. */
export const filterTrusts: readonly string[] = trusts;

/** Throws FilterError, which says where and what is known instead. */
export function parseFilter(text: string): Filter {
  if (text.length > limits.text)
    throw new FilterError(limits.text, `a filter has ${limits.text} characters at most`);
  const terms: Term[] = [];
  for (const { at, raw } of wordsOf(text)) {
    if (terms.length === limits.terms)
      throw new FilterError(at, `a filter has ${limits.terms} terms at most`);
    terms.push(termOf(at, raw));
  }
  return terms;
}

/** Whether a device is meant. @param now ms since the epoch */
export function matches(filter: Filter, row: FleetRow, now: number): boolean {
  return filter.every(({ key, denied, values }) => {
    const test: Test = keys[key].test;
    const holds =
      key === 'stale' && values.length === 0
        ? row.trust === 'stale'
        : values.some((value) => test(row, value, now));
    return holds !== denied;
  });
}

/** As it would be typed. */
export function filterText(filter: Filter): string {
  return filter
    .map(({ key, denied, values }) => {
      const list = values.map((value) =>
        /^-|[\s,":\\]/.test(value) ? `"${value.replace(/["\\]/g, '\\$&')}"` : value,
      );
      return `${denied ? '-' : ''}${key === 'name' ? '' : `${key}:`}${list.join(',')}`;
    })
    .join(' ');
}

/** `30m`, `2h`, `7d` in ms; null for anything else. */
function msOf(value: string): number | null {
  const [, count = '', unit = ''] = /^(\d{1,5})([mhd])$/.exec(value) ?? [];
  return count === '' ? null : Number(count) * (units[unit] as number);
}

function like(text: string, value: string): boolean {
  return value.endsWith('*') ? text.startsWith(value.slice(0, -1)) : text === value;
}

/** Words with their places; a space in quotes parts nothing. */
function* wordsOf(text: string): Generator<{ at: number; raw: string }> {
  let start = -1;
  let quoted = -1;
  for (let i = 0; i <= text.length; i++) {
    const char = text[i];
    if (char === '\\' && quoted >= 0) i++;
    else if (char === '"') {
      quoted = quoted >= 0 ? -1 : i;
      if (start < 0) start = i;
    } else if (char === undefined && quoted >= 0) throw new FilterError(quoted, 'this quote has no end');
    else if (char === undefined || (/\s/.test(char) && quoted < 0)) {
      if (start >= 0) yield { at: start, raw: text.slice(start, i) };
      start = -1;
    } else if (start < 0) start = i;
  }
}

function termOf(at: number, raw: string): Term {
  const denied = raw.startsWith('-');
  const body = denied ? raw.slice(1) : raw;
  const [, named] = /^([a-z]+):/i.exec(body) ?? [];
  const key = (named?.toLowerCase() ?? 'name') as Key;
  if (!Object.hasOwn(keys, key)) {
    const known = filterKeys.map((one) => one.key).filter((one) => one !== 'name');
    throw new FilterError(at, `there is no key ${key}:; known: ${known.join(', ')}`);
  }
  const values = valuesOf(body.slice(named === undefined ? 0 : named.length + 1));
  const { says, valid } = keys[key] as { says: string; valid(value: string): boolean };
  if (key === 'stale' && values.length === 1 && values[0] === '') return { key, denied, values: [] };
  if (values.length > limits.values)
    throw new FilterError(at, `a key has ${limits.values} alternatives at most`);
  const wrong = values.find((value) => !valid(value));
  if (wrong !== undefined)
    throw new FilterError(
      at,
      `${key}: ${wrong === '' ? 'wants a value' : `${wrong} is none`}; it is ${says}`,
    );
  return { key, denied, values };
}

/** Alternatives, parted by commas outside of quotes. */
function valuesOf(text: string): string[] {
  const values = [''];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    if (char === '\\' && quoted) values[values.length - 1] += text[++i] ?? '';
    else if (char === '"') quoted = !quoted;
    else if (char === ',' && !quoted) values.push('');
    else values[values.length - 1] += char;
  }
  return values;
}
