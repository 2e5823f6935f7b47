// Allow rules at rest: who declared which difference harmless, when, and why. What they match stands in verify/allow.ts.
import type { Store } from '../store/store.ts';
import { type AllowRule, builtInRules } from '../verify/allow.ts';

export type StoredRule = AllowRule & {
  /** Kept for the record, and allows nothing any more. */
  removed: { by: string; at: number; reason: string } | null;
};

/** Every rule that ever was, those that EVC brings along first. */
export async function allRules(store: Store): Promise<StoredRule[]> {
  const stored = (await store.all<StoredRule>('allow-rule')).map(({ body }) => body);
  const untouched = builtInRules.filter(({ id }) => !stored.some((rule) => rule.id === id));
  return [...untouched.map((rule) => ({ ...rule, removed: null })), ...stored];
}

/** Those that hold for a device of this account; null for one without. */
export async function activeRules(store: Store, account: string | null): Promise<AllowRule[]> {
  return (await allRules(store))
    .filter((rule) => rule.removed === null && (rule.account === null || rule.account === account))
    .map(({ removed: _, ...rule }) => rule);
}
