// States and reasons in words, as people say them and ask for them.
import { limits, type StateValue } from './format.ts';

/** `locked.waitingForKey`; the regions of a parallel state with commas between them. */
export function stateText(value: StateValue | undefined): string {
  if (value === undefined) return '';
  if (typeof value === 'string') return value;
  return Object.entries(value)
    .map(([name, inner]) =>
      inner === undefined || stateText(inner) === '' ? name : `${name}.${stateText(inner)}`,
    )
    .join(', ');
}

/** Every state that is active, by its path: `locked`, `locked.waitingForKey`. */
export function activePaths(value: StateValue, prefix = '', depth = 0): string[] {
  if (depth > limits.depth) return [];
  if (typeof value === 'string') return value === '' ? [] : [`${prefix}${value}`];
  return Object.entries(value).flatMap(([name, inner]) => [
    `${prefix}${name}`,
    ...(inner === undefined ? [] : activePaths(inner, `${prefix}${name}.`, depth + 1)),
  ]);
}

/** Every `code` in an event: of a failure, a refusal, a finding. */
export function codesIn(value: unknown, depth = 0): string[] {
  if (typeof value !== 'object' || value === null || depth > 8) return [];
  const own = (value as { code?: unknown }).code;
  return [
    ...(typeof own === 'string' ? [own] : []),
    ...Object.values(value).flatMap((inner) => codesIn(inner, depth + 1)),
  ];
}
