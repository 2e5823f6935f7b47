// The picture on top of the timeline: a lane for each chart or region, its states as spans, refusals in red. On a canvas,
// since a recording may have a hundred thousand of them: spans narrower than a pixel are drawn as one.
import { el } from '../element.ts';
import type { Model } from '../model.ts';
import { duration, shorten } from '../text.ts';
import type { Lane, Span, Track } from '../track.ts';

const laneHeight = 19;
const axis = 20;
const narrow = 560;

export class Lanes {
  readonly element: HTMLElement;
  readonly #canvas = el('canvas', { 'aria-label': 'states over time', role: 'img' });
  readonly #model: Model;
  readonly #tip = el('div.tip', { hidden: true });
  readonly #picture = document.createElement('canvas');
  #painted = '';
  #labels = 150;

  constructor(model: Model) {
    this.#model = model;
    this.element = el(
      'div.lanes',
      {
        onpointerdown: (event: PointerEvent) => {
          this.element.setPointerCapture(event.pointerId);
          this.#seek(event);
        },
        onpointermove: (event: PointerEvent) => {
          if (event.buttons & 1) this.#seek(event);
          this.#hover(event);
        },
        onpointerleave: () => {
          this.#tip.hidden = true;
        },
      },
      this.#canvas,
      this.#tip,
    );
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  draw(): void {
    const { track, at } = this.#model;
    const width = this.element.clientWidth;
    if (!track || width === 0) return;
    this.#labels = width < narrow ? 92 : 168;
    const height = axis + track.lanes.length * laneHeight + 6;
    const ratio = devicePixelRatio || 1;
    if (this.#canvas.width !== width * ratio || this.#canvas.height !== height * ratio) {
      this.#canvas.width = width * ratio;
      this.#canvas.height = height * ratio;
      this.#canvas.style.height = `${height}px`;
    }
    const pen = this.#canvas.getContext('2d');
    if (!pen) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
    this.#paint(track, width, height, ratio, color);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    pen.drawImage(this.#picture, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const x = this.#x(track, at, width);
    // What is not yet is pale.
    pen.globalAlpha = 0.6;
    pen.fillStyle = color('paper');
    pen.fillRect(x, axis, width - x, height - axis);
    pen.globalAlpha = 1;
    pen.fillStyle = color('accent');
    pen.fillRect(x - 0.5, 0, 1.5, height);
    pen.beginPath();
    pen.moveTo(x - 5, 0);
    pen.lineTo(x + 5.5, 0);
    pen.lineTo(x + 0.25, 7);
    pen.fill();
  }

  /** The lanes themselves: the same wherever one is in the recording, so they are painted when something was added. */
  #paint(track: Track, width: number, height: number, ratio: number, color: (name: string) => string): void {
    const key = [track.name, track.lines.length, width, height, ratio, color('paper')].join(' ');
    if (key === this.#painted) return;
    this.#painted = key;
    this.#picture.width = width * ratio;
    this.#picture.height = height * ratio;
    const pen = this.#picture.getContext('2d');
    if (!pen) return;
    pen.scale(ratio, ratio);
    pen.font = `11px ${color('font')}`;
    pen.textBaseline = 'middle';
    this.#ticks(pen, track, width, height, color);
    track.lanes.forEach((lane, i) => {
      this.#lane(pen, track, lane, axis + i * laneHeight, width, color);
    });
    for (const index of sparse(track.refusals, 4000)) {
      const refused = track.refusal(index)?.weight === 'refused';
      pen.fillStyle = color(refused ? 'bad' : 'warn');
      pen.globalAlpha = refused ? 1 : 0.6;
      pen.fillRect(
        this.#x(track, index, width) - 0.5,
        refused ? axis - 6 : axis - 4,
        refused ? 2.5 : 1,
        refused ? 6 : 4,
      );
    }
    pen.globalAlpha = 1;
  }

  #ticks(
    pen: CanvasRenderingContext2D,
    track: Track,
    width: number,
    height: number,
    color: (name: string) => string,
  ): void {
    const begin = track.lines[0]?.at ?? 0;
    pen.textAlign = 'center';
    for (let x = this.#labels + 70, text = ''; x < width - 30; x += 110) {
      const line = track.lines[track.indexAt(this.#place(track, x, width))];
      pen.fillStyle = color('line');
      pen.fillRect(x, axis - 3, 1, height);
      const label = `+${duration((line?.at ?? begin) - begin)}`;
      pen.fillStyle = color('quiet');
      if (label !== text) pen.fillText(label, x, 8);
      text = label;
    }
  }

  #lane(
    pen: CanvasRenderingContext2D,
    track: Track,
    lane: Lane,
    y: number,
    width: number,
    color: (name: string) => string,
  ): void {
    const name = lane.region === '' ? lane.key : lane.region;
    pen.textAlign = 'right';
    pen.fillStyle = color(lane.region === '' ? 'text' : 'soft');
    pen.fillText(fitted(pen, name, this.#labels - 14), this.#labels - 8, y + laneHeight / 2);
    pen.textAlign = 'left';
    const end = width - 8;
    let drawnTo = -1;
    for (let i = 0; i < lane.spans.length; i++) {
      const span = lane.spans[i] as Span;
      const left = this.#x(track, span.from, width);
      const next = lane.spans[i + 1];
      const right = next ? this.#x(track, next.from, width) : end;
      if (right - left < 1 && left < drawnTo && !span.refused) continue;
      if (span.state === '') continue;
      const tone = span.refused
        ? 'bad'
        : span.attempt > 1 || /wait|backing|pending/i.test(span.state)
          ? 'warn'
          : 'accent';
      pen.fillStyle = color(`${tone}-soft`);
      pen.fillRect(left, y + 2, Math.max(1, right - left - 1), laneHeight - 4);
      pen.fillStyle = color(tone);
      pen.fillRect(left, y + 2, Math.min(2, Math.max(1, right - left - 1)), laneHeight - 4);
      drawnTo = right;
      if (right - left < 34) continue;
      pen.fillStyle = color(`${tone}-text`);
      const text = span.attempt > 1 ? `#${span.attempt} ${span.state}` : span.state;
      pen.fillText(fitted(pen, text, right - left - 10), left + 6, y + laneHeight / 2 + 0.5);
    }
    pen.globalAlpha = 1;
  }

  #x(track: Track, index: number, width: number): number {
    const whole = Math.max(1, track.place(track.lines.length - 1));
    return this.#labels + (track.place(index) / whole) * (width - this.#labels - 10);
  }

  #place(track: Track, x: number, width: number): number {
    return ((x - this.#labels) / (width - this.#labels - 10)) * track.place(track.lines.length - 1);
  }

  #seek(event: PointerEvent): void {
    const { track } = this.#model;
    if (!track) return;
    this.#model.pause();
    this.#model.seek(track.indexAt(this.#place(track, this.#offset(event), this.element.clientWidth)));
  }

  #hover(event: PointerEvent): void {
    const { track } = this.#model;
    const x = this.#offset(event);
    const box = this.#canvas.getBoundingClientRect();
    const lane = track?.lanes[Math.floor((event.clientY - box.top - axis) / laneHeight)];
    const index = track?.indexAt(this.#place(track, x, this.element.clientWidth)) ?? 0;
    const span = track && lane?.spans[track.spanAt(lane, index)];
    this.#tip.hidden = !span || span.state === '' || x < this.#labels;
    if (!span || !lane || !track) return;
    const next = lane.spans[track.spanAt(lane, index) + 1];
    const until = track.lines[next?.from ?? track.lines.length - 1]?.at ?? 0;
    const took = duration(until - (track.lines[span.from]?.at ?? 0));
    this.#tip.textContent = `${shorten(lane.region || lane.key, 40)}: ${shorten(span.state, 80)}${span.attempt > 1 ? `, attempt ${span.attempt}` : ''}, ${took}`;
    this.#tip.style.left = `${Math.max(8, Math.min(x + 12, this.element.clientWidth - this.#tip.offsetWidth - 8))}px`;
    this.#tip.style.top = `${event.clientY - box.top + 16}px`;
  }

  #offset(event: PointerEvent): number {
    return event.clientX - this.element.getBoundingClientRect().left;
  }
}

function fitted(pen: CanvasRenderingContext2D, text: string, room: number): string {
  const most = Math.floor(room / 5.2);
  if (most < 2) return '';
  let cut = shorten(text, most);
  while (cut.length > 2 && pen.measureText(cut).width > room) cut = `${cut.slice(0, -2)}…`;
  return cut;
}

/** No more than so many of a long list, evenly. */
function sparse(list: readonly number[], most: number): readonly number[] {
  if (list.length <= most) return list;
  const every = list.length / most;
  return Array.from({ length: most }, (_, i) => list[Math.floor(i * every)] as number);
}
