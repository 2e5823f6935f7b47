// A change of settings, of a device's Location-Lock or of an account, as it is typed: what is wrong in it, and what would be otherwise.
// Pure.
import type { AccountDetails, Lock } from './answers.ts';

/** One thing that would be otherwise; null: it is not there. */
export interface Difference {
  name: string;
  from: string | null;
  to: string | null;
}

export interface SettingText {
  name: string;
  value: string;
}

/** As EVC takes them. */
const most = { settings: 200, value: 4096 } as const;
const radii = { least: 1, most: 1_000_000 } as const;

type Read<Value> = { value: Value; problem: null } | { value: null; problem: string };

/** Settings by name, or what is wrong in them. Lines without a word are none. */
export function readSettings(lines: readonly SettingText[]): Read<Record<string, string>> {
  const wrong = (problem: string) => ({ value: null, problem });
  const found = new Map<string, string>();
  for (const { name: typed, value } of lines) {
    const name = typed.trim();
    if (name === '' && value === '') continue;
    if (name === '') return wrong(`which setting is ${value.slice(0, 40)}? It has no name.`);
    if (found.has(name)) return wrong(`${name} stands there twice`);
    if (value.length > most.value)
      return wrong(`${name} has ${value.length} characters, and may have ${most.value}`);
    found.set(name, value);
  }
  if (found.size > most.settings)
    return wrong(`these are ${found.size} settings, and a device has ${most.settings} at most`);
  return { value: Object.fromEntries(found), problem: null };
}

export function settingDifferences(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): Difference[] {
  const of = (settings: Readonly<Record<string, string>>, name: string) =>
    Object.hasOwn(settings, name) ? (settings[name] ?? '') : null;
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .sort()
    .map((name) => ({ name, from: of(before, name), to: of(after, name) }))
    .filter(({ from, to }) => from !== to);
}

/** A field as people choose it: its values as text, each with what it means; without values it is a number. */
export interface Field {
  label: string;
  more?: string;
  values?: Readonly<Record<string, string>>;
}

const place = {
  locationLock: {
    label: 'Location-Lock',
    values: { off: 'off', on: 'on: locked to its place' },
  },
  radius: { label: 'Radius', more: 'metres that are still the same place' },
  moved: {
    label: 'A moved device',
    more: 'blocked: refused until its place is accepted',
    values: { report: 'is reported', block: 'is blocked' },
  },
} as const satisfies Record<keyof Lock, Field>;

export const lockFields = {
  own: {
    label: 'Location-Lock',
    values: { no: 'as its account says', yes: 'for this device by itself' },
  },
  ...place,
  locationLock: { ...place.locationLock, label: 'Its own is' },
} as const satisfies Record<string, Field>;

export const accountFields = {
  kind: {
    label: 'Kind',
    values: { production: 'production', manufacturing: 'manufacturing' },
  },
  ...place,
  requireEkCertificate: {
    label: 'EK certificate',
    values: { off: 'optional', on: 'wanted: TPMs of vendors that are known' },
  },
  approval: {
    label: 'New devices',
    values: { off: 'come in with a key', on: 'wait until a person approves' },
  },
} as const satisfies Record<string, Field>;

export type LockText = Record<keyof typeof lockFields, string>;
export type AccountText = Record<keyof typeof accountFields, string>;

const text = (on: boolean | undefined) => (on ? 'on' : 'off');

/** As the form begins. @param account what a device does that has nothing for itself */
export function lockText(lock: Lock, account: Lock): LockText {
  return { ...placeText(lock), own: sameLock(lock, account) ? 'no' : 'yes' };
}

export function accountText(account: AccountDetails): AccountText {
  const { kind, requireEkCertificate, approval } = account;
  return {
    kind,
    ...placeText(account),
    requireEkCertificate: text(requireEkCertificate),
    approval: text(approval),
  };
}

function placeText({ locationLock, radius, moved }: Lock) {
  return { locationLock: text(locationLock), radius: String(radius), moved };
}

/** What a device has for itself, empty where it is as its account; or what is wrong. */
export function readLock(typed: LockText): Read<Lock | Record<string, never>> {
  return typed.own === 'yes' ? readPlace(typed) : { value: {}, problem: null };
}

export function readAccount(typed: AccountText): Read<Omit<AccountDetails, 'id'>> {
  const { value: lock, problem } = readPlace(typed);
  if (!lock) return { value: null, problem };
  const { kind, requireEkCertificate, approval } = typed;
  const more = { requireEkCertificate: requireEkCertificate === 'on', approval: approval === 'on' };
  return { value: { kind, ...lock, ...more }, problem: null };
}

function readPlace({ locationLock, radius, moved }: Record<keyof Lock, string>): Read<Lock> {
  const metres = /^\d{1,7}(\.\d{1,3})?$/.test(radius.trim()) ? Number(radius) : 0;
  if (metres < radii.least || metres > radii.most)
    return { value: null, problem: `${place.radius.label}: metres, from ${radii.least} to ${radii.most}` };
  return { value: { locationLock: locationLock === 'on', radius: metres, moved }, problem: null };
}

export function sameLock(one: Lock, other: Lock): boolean {
  return one.locationLock === other.locationLock && one.radius === other.radius && one.moved === other.moved;
}

/** In the words of the form, field by field. */
export function fieldDifferences(
  fields: Readonly<Record<string, Field>>,
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): Difference[] {
  return Object.entries(fields).flatMap(([key, { label, values }]) => {
    const [from, to] = [before[key] ?? '', (after[key] ?? '').trim()];
    if (from === to) return [];
    const words = (value: string) => values?.[value] ?? `${value} m`;
    return [{ name: label, from: words(from), to: words(to) }];
  });
}

/** The fields of an account that would be otherwise. */
export function accountChange(
  before: AccountDetails,
  after: Omit<AccountDetails, 'id'>,
): Partial<AccountDetails> {
  // An account from before these were there has none.
  const now: AccountDetails = { requireEkCertificate: false, approval: false, ...before };
  return Object.fromEntries(
    Object.entries(after).filter(([key, value]) => now[key as keyof AccountDetails] !== value),
  );
}
