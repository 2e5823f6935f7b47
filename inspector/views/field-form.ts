// Fields of which each is chosen or is a number, as a form.
import type { Field } from '../change-wish.ts';
import { el } from '../element.ts';

export interface FieldForm<Key extends string> {
  element: HTMLElement;
  values(): Record<Key, string>;
  fill(values: Readonly<Record<Key, string>>): void;
}

/** @param typed called whenever something was chosen or typed, with what stands there, and what of it counts */
export function fieldForm<Key extends string>(
  fields: Readonly<Record<Key, Field>>,
  typed: () => void,
): FieldForm<Key> & { enable(key: Key, on: boolean): void } {
  const inputs = new Map<Key, HTMLInputElement | HTMLSelectElement>();
  const rows = (Object.entries(fields) as [Key, Field][]).map(([key, { label, more = '', values }]) => {
    const input = values
      ? el(
          'select',
          { onchange: typed },
          Object.entries(values).map(([value, words]) => el('option', { value }, words)),
        )
      : el('input', {
          type: 'text',
          inputmode: 'decimal',
          maxlength: 20,
          autocomplete: 'off',
          oninput: typed,
        });
    inputs.set(key, input);
    return el(
      `label.wish-field.of-${key}`,
      {},
      el('span', {}, label),
      input,
      more !== '' && el('span.quiet', {}, more),
    );
  });
  return {
    element: el('div.wish', {}, rows),
    values: () =>
      Object.fromEntries([...inputs].map(([key, { value }]) => [key, value])) as Record<Key, string>,
    fill(values) {
      for (const [key, input] of inputs) input.value = values[key];
    },
    enable(key, on) {
      const input = inputs.get(key);
      if (input) input.disabled = !on;
    },
  };
}
