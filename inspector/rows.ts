// A list of any length: only the rows that can be seen are there.
import { el } from './element.ts';

export interface RowsOptions {
  /** Height of each row, pixels. */
  height: number;
  row(index: number): HTMLElement;
  /** A row was chosen, by a click or the keyboard. */
  choose?(index: number): void;
  /** A row was opened, by a click or Enter; without it, that chooses it. */
  open?(index: number): void;
  label: string;
}

/** Browsers draw nothing below some ten million pixels. */
const tallest = 8_000_000;

/** Keys that go a line down or up. */
export const lineMoves: Readonly<Record<string, number>> = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

export class Rows {
  readonly element: HTMLElement;
  readonly #options: RowsOptions;
  readonly #space = el('div.rows-space');
  readonly #shown = new Map<number, HTMLElement>();
  #count = 0;
  #chosen = -1;
  #fresh = false;

  constructor(options: RowsOptions) {
    this.#options = options;
    this.element = el(
      'div.rows',
      {
        tabindex: 0,
        role: 'listbox',
        'aria-label': options.label,
        onscroll: () => this.#draw(),
        onkeydown: (event: KeyboardEvent) => this.#key(event),
        onclick: (event: MouseEvent) => {
          const row = (event.target as Element).closest<HTMLElement>('[data-row]');
          if (row) this.#open(Number(row.dataset.row));
        },
      },
      this.#space,
    );
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  get chosen(): number {
    return this.#chosen;
  }

  /** Shows this many rows, drawn anew. */
  show(count: number, chosen = this.#chosen, into = false): void {
    const toEnd = this.#count > 0 && this.#atEnd() && count > this.#count;
    this.#count = count;
    this.#fresh = true;
    this.#space.style.height = `${Math.min(tallest, count * this.#options.height)}px`;
    this.#chosen = chosen;
    if (into) this.intoView(chosen);
    else if (toEnd && chosen < 0 && this.element.scrollTop > 0)
      this.element.scrollTop = this.element.scrollHeight;
    this.#draw();
  }

  intoView(index: number): void {
    if (index < 0) return;
    const { element } = this;
    const { height } = this.#options;
    const top = index * height;
    const { clientHeight } = element;
    const from = this.#top();
    if (top < from || top + height > from + clientHeight) this.#scrollTo(top - clientHeight / 2);
  }

  /** Rows above the first that is seen, in pixels: scaled where the list is taller than what can be scrolled. */
  #top(): number {
    const full = this.#count * this.#options.height;
    const room = this.element.clientHeight;
    if (full <= tallest) return this.element.scrollTop;
    return (this.element.scrollTop / (tallest - room)) * (full - room);
  }

  #scrollTo(top: number): void {
    const full = this.#count * this.#options.height;
    const room = this.element.clientHeight;
    this.element.scrollTop = full <= tallest ? top : (top / (full - room)) * (tallest - room);
  }

  #atEnd(): boolean {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    return scrollHeight - clientHeight - scrollTop < 4;
  }

  #draw(): void {
    const { height, row } = this.#options;
    const room = this.element.clientHeight;
    const top = this.#top();
    const first = Math.max(0, Math.floor(top / height) - 4);
    const last = Math.min(this.#count - 1, Math.ceil((top + room) / height) + 4);
    const shift = this.element.scrollTop - top;
    for (const [index, element] of this.#shown) {
      if (!this.#fresh && index >= first && index <= last) continue;
      element.remove();
      this.#shown.delete(index);
    }
    this.#fresh = false;
    for (let index = first; index <= last; index++) {
      let element = this.#shown.get(index);
      if (!element) {
        element = row(index);
        element.dataset.row = String(index);
        element.setAttribute('role', 'option');
        element.classList.toggle('chosen', index === this.#chosen);
        element.setAttribute('aria-selected', String(index === this.#chosen));
        this.#shown.set(index, element);
        this.#space.append(element);
      }
      element.style.transform = `translateY(${index * height + shift}px)`;
    }
  }

  #open(index: number): void {
    const { open, choose } = this.#options;
    (open ?? choose)?.(index);
  }

  #key(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.#options.height) - 1);
    const moves: Record<string, number> = {
      ...lineMoves,
      PageDown: page,
      PageUp: -page,
      Home: -this.#count,
      End: this.#count,
    };
    const move = moves[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Enter' && this.#chosen >= 0) this.#open(this.#chosen);
    else if (move !== undefined && this.#count > 0) {
      const next = Math.max(0, Math.min(this.#count - 1, this.#chosen + move));
      this.#chosen = next;
      this.intoView(next);
      this.#options.choose?.(next);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
