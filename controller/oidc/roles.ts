// What a person may do here, by what their provider says of them.
import type { Role } from '../tokens.ts';

export interface RoleRule {
  /** A value of the claim, as the provider writes it. */
  value: string;
  role: Role;
  /** For these accounts alone; null: for all. */
  accounts: readonly string[] | null;
}

/** Values of one claim that are looked at; a person of more groups is none of a fleet. */
const mostValues = 2000;

/**
 * The first rule whose value the claim has; null where there is none.
 *
 * @param claim its name, or a path with dots to where it stands, as `realm_access.roles`; a name with dots in it comes first
 */
export function roleOf(
  claims: Readonly<Record<string, unknown>>,
  claim: string,
  rules: readonly RoleRule[],
): RoleRule | null {
  const values = new Set(valuesOf(claimOf(claims, claim)));
  return rules.find(({ value }) => values.has(value)) ?? null;
}

/** Undefined where the claim is not there. */
export function claimOf(claims: Readonly<Record<string, unknown>>, claim: string): unknown {
  if (Object.hasOwn(claims, claim)) return claims[claim];
  let found: unknown = claims;
  for (const name of claim.split('.')) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, name)) return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

function valuesOf(found: unknown): string[] {
  if (typeof found === 'string') return [found];
  if (!Array.isArray(found)) return [];
  return found.slice(0, mostValues).filter((value): value is string => typeof value === 'string');
}
