// Where the filter of the fleet is typed: what is wrong in it, and how it could go on.
import type { Filter } from '../../formats/filter/filter.ts';
import { el, put } from '../element.ts';
import { completions, readFilter } from '../filter-words.ts';

export interface FilterBoxOptions {
  text: string;
  /** Somebody types; empty where nothing but space is left. */
  typed(text: string): void;
  /** Somebody goes on to what is meant; or, with Escape, has emptied it. */
  left?(onward: boolean): void;
}

export interface FilterBox {
  element: HTMLElement;
  problem: HTMLElement;
  focus(): void;
  /** Shows the filter of the address, unless somebody types in it. The filter, or null where it is none. */
  show(text: string): Filter | null;
}

export function filterBox({ text, typed, left }: FilterBoxOptions): FilterBox {
  /** A click, or Tab for the first. */
  const words = el('div.filter-words', { 'aria-label': 'completions' });
  const problem = el('p.filter-problem.bad', { role: 'alert', hidden: true });
  const box = el('input.filter', {
    type: 'text',
    maxlength: 500,
    placeholder: 'trust:uud pcr:8 account:plant-7 -label:lab   /',
    'aria-label': 'filter',
    autocomplete: 'off',
    spellcheck: false,
    value: text,
    oninput: changed,
    onfocus: complete,
    onkeydown: (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey) return;
      const [next] = completions(box.value);
      if (event.key === 'Escape') {
        box.value = '';
        typed('');
        left?.(false);
      } else if (event.key === 'Enter' || event.key === 'ArrowDown') {
        left?.(true);
        event.preventDefault();
      } else if (event.key === 'Tab' && !event.shiftKey && /\S$/.test(box.value) && next !== undefined) {
        take(next);
        event.preventDefault();
      } else return;
      event.stopPropagation();
    },
  });

  function changed(): void {
    typed(box.value.trim() === '' ? '' : box.value);
    complete();
  }

  function take(value: string): void {
    box.value = value;
    box.focus();
    changed();
  }

  function complete(): void {
    put(
      words,
      completions(box.value).map((value) =>
        el(
          'button.chip',
          {
            tabindex: -1,
            type: 'button',
            // The focus stays in the filter.
            onmousedown: (event: MouseEvent) => event.preventDefault(),
            onclick: () => take(value),
          },
          value.slice(value.lastIndexOf(' ') + 1),
        ),
      ),
    );
  }

  return {
    element: el('div.filter-bar', {}, box, words),
    problem,
    focus() {
      box.focus();
      box.select();
    },
    show(wanted) {
      if (document.activeElement !== box) box.value = wanted;
      const { filter, problem: why } = readFilter(wanted);
      problem.hidden = why === '';
      problem.textContent = why;
      return filter;
    },
  };
}
