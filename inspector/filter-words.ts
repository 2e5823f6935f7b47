// The filter of the fleet as somebody types it: what is wrong in it, what could come next, and a trust put into it by a click.
import {
  type Filter,
  FilterError,
  filterKeys,
  filterText,
  filterTrusts,
  parseFilter,
} from '../formats/filter/filter.ts';

/** A filter, or why it is none. */
export function readFilter(
  text: string,
): { filter: Filter; problem: '' } | { filter: null; problem: string } {
  try {
    return { filter: parseFilter(text), problem: '' };
  } catch (error) {
    if (error instanceof FilterError) return { filter: null, problem: error.message };
    throw error;
  }
}

/** A filter that EVC can be asked with: none where it is wrong, or not written to its end. */
export const askedFilter = (text: string): string => (readFilter(text).filter ? text : '');

/** Trusts that a filter asks for; empty: it asks for none. */
export function trustsOf(filter: Filter): ReadonlySet<string> {
  return new Set(filter.flatMap(({ key, denied, values }) => (key === 'trust' && !denied ? values : [])));
}

/** The same filter, asking for this trust alone; where it does so already, or with an empty one, for any. */
export function withTrust(text: string, trust: string): string {
  const { filter } = readFilter(text);
  const others = (filter ?? []).filter(({ key, denied }) => key !== 'trust' || denied);
  const asked = trustsOf(filter ?? []);
  const already = asked.size === 1 && asked.has(trust);
  return filterText(
    trust === '' || already ? others : [{ key: 'trust', denied: false, values: [trust] }, ...others],
  );
}

const known: Readonly<Record<string, readonly string[]>> = {
  trust: filterTrusts,
  link: ['online', 'offline'],
  pcr: Array.from({ length: 24 }, (_, i) => String(i)),
};

/** Whole filters that begin like this one and go on with what is known. */
export function completions(text: string): string[] {
  const [, before = '', word = ''] = /^((?:.*\s)?-?)(\S*)$/s.exec(text) ?? [];
  const [, head = '', key = '', value = ''] = /^(([a-z]+):(?:[^,]*,)*)([^,]*)$/i.exec(word) ?? [];
  if (key !== '')
    return (known[key.toLowerCase()] ?? [])
      .filter((one) => one.startsWith(value) && one !== value)
      .map((one) => `${before}${head}${one}`);
  return filterKeys
    .filter((one) => one.key !== 'name' && one.key.startsWith(word.toLowerCase()))
    .map((one) => `${before}${one.key}:`);
}
