// Where somebody writes why: kept in the audit log with what they decide. Ctrl+Enter sends.
import { el } from './element.ts';

/** Characters, as the API takes them. */
const longest = 500;

export interface ReasonOptions {
  placeholder: string;
  typed(): void;
  send(): void;
  /** Escape; without it the box is left. */
  away?(): void;
}

export function reasonBox({ placeholder, typed, send, away }: ReasonOptions): HTMLTextAreaElement {
  const box = el('textarea.why-box', {
    rows: 2,
    maxlength: longest,
    'aria-label': 'reason',
    placeholder,
    oninput: typed,
    onkeydown: (event: KeyboardEvent) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
      else if (event.key === 'Escape') away ? away() : box.blur();
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  });
  return box;
}
