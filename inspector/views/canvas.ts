// A picture that can be moved and enlarged: by wheel, drag, two fingers, buttons and keys.
import { el } from '../element.ts';

const smallest = 0.08;
const greatest = 4;
/** A scale below which text cannot be read. */
const readable = 0.72;

export class Canvas {
  readonly element: HTMLElement;
  readonly #stage = el('div.stage', { tabindex: 0 });
  #picture: SVGSVGElement | null = null;
  #scale = 1;
  #x = 0;
  #y = 0;
  #dragged = 0;
  readonly #fingers = new Map<number, PointerEvent>();

  constructor(choose: (target: Element) => void) {
    const button = (text: string, title: string, onclick: () => void) =>
      el('button.tool', { title, 'aria-label': title, onclick }, text);
    this.element = el(
      'div.canvas',
      {},
      this.#stage,
      el(
        'div.zoom',
        {},
        button('+', 'larger (+)', () => this.zoom(1.25)),
        button('−', 'smaller (−)', () => this.zoom(0.8)),
        button('⤢', 'whole (0)', () => this.fit()),
      ),
    );
    const stage = this.#stage;
    stage.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey || !event.shiftKey)
          this.#zoomAt(Math.exp(-event.deltaY / 500), event.clientX, event.clientY);
        else this.#move(-event.deltaY, 0);
      },
      { passive: false },
    );
    stage.addEventListener('pointerdown', (event) => {
      this.#fingers.set(event.pointerId, event);
      this.#dragged = 0;
    });
    stage.addEventListener('pointermove', (event) => this.#drag(event));
    for (const end of ['pointerup', 'pointercancel', 'pointerleave'] as const)
      stage.addEventListener(end, (event) => this.#fingers.delete(event.pointerId));
    stage.addEventListener('click', (event) => {
      if (this.#dragged < 5) choose(event.target as Element);
    });
  }

  get picture(): SVGSVGElement | null {
    return this.#picture;
  }

  /** @param middle what of it is to be seen, where the whole would be too small to read */
  show(picture: SVGSVGElement | null, middle = ''): void {
    this.#picture = picture;
    this.#stage.replaceChildren(...(picture ? [picture] : []));
    if (!picture) return;
    // After the next frame, in which the states are marked.
    const begin = () => {
      this.fit();
      if (this.#scale >= readable) return;
      this.zoom(readable / this.#scale);
      const found = middle === '' ? null : picture.querySelector(middle);
      if (found) this.centre(found);
    };
    requestAnimationFrame(() => requestAnimationFrame(begin));
  }

  fit(): void {
    const size = this.#size();
    const { clientWidth, clientHeight } = this.#stage;
    if (!size || clientWidth === 0) return;
    const whole = Math.min(clientWidth / size.width, clientHeight / size.height);
    this.#scale = Math.max(smallest, Math.min(1.15, whole));
    this.#x = Math.max(0, (clientWidth - size.width * this.#scale) / 2);
    this.#y = Math.max(0, (clientHeight - size.height * this.#scale) / 2);
    this.#place();
  }

  zoom(by: number): void {
    const box = this.#stage.getBoundingClientRect();
    this.#zoomAt(by, box.left + box.width / 2, box.top + box.height / 2);
  }

  /** Moves so that an element of the picture is in the middle. */
  centre(element: Element): void {
    const box = element.getBoundingClientRect();
    const stage = this.#stage.getBoundingClientRect();
    this.#move(
      stage.left + stage.width / 2 - box.left - box.width / 2,
      stage.top + stage.height / 2 - box.top - box.height / 2,
    );
  }

  /** Whether an element of the picture can be seen. */
  sees(element: Element): boolean {
    const box = element.getBoundingClientRect();
    const stage = this.#stage.getBoundingClientRect();
    return (
      box.left < stage.right && box.right > stage.left && box.top < stage.bottom && box.bottom > stage.top
    );
  }

  #drag(event: PointerEvent): void {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const others = [...this.#fingers.values()].filter(({ pointerId }) => pointerId !== event.pointerId);
    const [other] = others;
    if (other) {
      const distance = (one: PointerEvent) =>
        Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      this.#zoomAt(distance(event) / distance(before), other.clientX, other.clientY);
    } else this.#move(event.clientX - before.clientX, event.clientY - before.clientY);
    this.#dragged += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
    if (this.#dragged > 5) this.#stage.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, event);
  }

  #zoomAt(by: number, clientX: number, clientY: number): void {
    const box = this.#stage.getBoundingClientRect();
    const next = Math.max(smallest, Math.min(greatest, this.#scale * by));
    const [x, y] = [clientX - box.left, clientY - box.top];
    this.#x = x - ((x - this.#x) * next) / this.#scale;
    this.#y = y - ((y - this.#y) * next) / this.#scale;
    this.#scale = next;
    this.#place();
  }

  #move(dx: number, dy: number): void {
    this.#x += dx;
    this.#y += dy;
    this.#place();
  }

  #place(): void {
    const size = this.#size();
    const picture = this.#picture;
    if (!size || !picture) return;
    // Sized, and not only scaled, so that text stays sharp.
    picture.style.width = `${size.width * this.#scale}px`;
    picture.style.height = `${size.height * this.#scale}px`;
    picture.style.transform = `translate(${this.#x}px, ${this.#y}px)`;
  }

  #size(): { width: number; height: number } | null {
    return this.#picture?.viewBox.baseVal ?? null;
  }
}
