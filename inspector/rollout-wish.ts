// A roll-out as somebody wishes it, before it begins: what is wrong in the wish, whom it means, and how it would go. Pure.
import type { DeviceRow } from './answers.ts';

/** As it is typed, and stands in the address. */
export const wishFields = {
  shares: '1, 10, 100',
  halt: '10',
  once: '100',
  window: '1h',
  test: '10m',
} as const;
export type WishText = { version: string } & Record<keyof typeof wishFields, string>;

export interface RolloutPlan {
  version: string;
  /** Percent of the devices, ascending to 100. */
  stages: number[];
  haltAt: number;
  atOnce: number;
  /** ms. */
  window: number;
  testWindow: number;
}

/** Devices that one roll-out has at the most. */
export const mostDevices = 20_000;
const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** ms, as EVC takes them. */
const [shortest, longest] = [1000, 30 * 86_400_000];

/** A plan, or what is wrong in it: the field, and what would be right. */
export function readPlan(
  text: WishText,
): { plan: RolloutPlan; problem: null } | { plan: null; problem: { field: keyof WishText; why: string } } {
  const wrong = (field: keyof WishText, why: string) => ({ plan: null, problem: { field, why } });
  if (text.version === '') return wrong('version', 'choose an image');
  const stages = text.shares
    .split(',')
    .map((one) => (one.trim().toLowerCase() === 'all' ? 100 : percentOf(one)));
  if (stages.at(-1) !== 100 || stages.some((one, i) => !(one > (stages[i - 1] ?? 0))) || stages.length > 20)
    return wrong('shares', 'shares are percentages that ascend to all, as 1, 10, all');
  const haltAt = percentOf(text.halt);
  if (Number.isNaN(haltAt)) return wrong('halt', 'a percentage from 0 to 100');
  const atOnce = /^\d{1,5}$/.test(text.once.trim()) ? Number(text.once) : 0;
  if (atOnce < 1 || atOnce > 10_000) return wrong('once', 'a number from 1 to 10000');
  const [window, testWindow] = [lengthOf(text.window), lengthOf(text.test)];
  if (window === null) return wrong('window', 'a time as 30m, 1h or 2d');
  if (testWindow === null) return wrong('test', 'a time as 30s, 10m or 1h');
  return { plan: { version: text.version, stages, haltAt, atOnce, window, testWindow }, problem: null };
}

function percentOf(text: string): number {
  const percent = /^\d{1,3}(\.\d{1,3})? ?%?$/.test(text.trim()) ? Number.parseFloat(text) : Number.NaN;
  return percent <= 100 ? percent : Number.NaN;
}

/** ms; null for what is no time. */
function lengthOf(text: string): number | null {
  const [, count, unit] = /^(\d{1,6}) ?([smhd])$/.exec(text.trim()) ?? [];
  const ms = Number(count) * (units[unit ?? ''] ?? Number.NaN);
  return ms >= shortest && ms <= longest ? ms : null;
}

const names = new Intl.Collator('en', { numeric: true });

export interface Meant {
  /** Those that it would begin with, by name. */
  devices: DeviceRow[];
  /** Those that run the image already, and those that were taken out of service. */
  there: number;
  retired: number;
}

export function meantBy(rows: readonly DeviceRow[], version: string): Meant {
  const alive = rows.filter(({ trust }) => trust !== 'retired');
  const devices = alive
    .filter(({ facts }) => facts.image !== version)
    .sort((one, other) => names.compare(one.serial, other.serial) || (one.device < other.device ? -1 : 1));
  return { devices, there: alive.length - devices.length, retired: rows.length - alive.length };
}

/** `1 device first, then 5, then all 50; it halts when more than 10 % of those that were begun with fail`. */
export function planText({ stages, haltAt }: Pick<RolloutPlan, 'stages' | 'haltAt'>, count: number): string {
  const ends = stages.map((percent, i) =>
    Math.min(count, Math.max(i + 1, Math.ceil((count * percent) / 100))),
  );
  const shares = [...new Set(ends)];
  const devices = (one: number) => (one === 1 ? '1 device' : `${one} devices`);
  const all = count === 1 ? 'the device' : `all ${count}`;
  const words = shares.map((end, i) => (end === count ? all : i === 0 ? devices(end) : String(end)));
  const way =
    words.length === 1 ? `${all} at once` : `${words[0]} first, then ${words.slice(1).join(', then ')}`;
  return `${way}; it halts when more than ${haltAt} % of those that were begun with fail`;
}
