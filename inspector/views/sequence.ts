// The message chart: who told whom what, line by line. Only what can be seen is drawn, so its length does not matter.
import type { Line } from '../../formats/recording/format.ts';
import { type Arrow, type ArrowKind, Arrows, arrowKinds, arrowOf, lifelineOf, lifelines } from '../arrows.ts';
import { lineDetails } from '../details.ts';
import { el, put, svg } from '../element.ts';
import { lineMoves } from '../rows.ts';
import { duration, shorten } from '../text.ts';
import { type Lane, lastBefore, type Span, type Track } from '../track.ts';
import type { Page, View } from '../view.ts';

const rowHeight = 30;
const timeWidth = 84;
const narrowest = 96;
/** For the name of the state beside the last lifeline. */
const margin = 44;
/** Browsers draw nothing below some ten million pixels. */
const tallest = 8_000_000;

export function sequenceView(page: Page): View {
  const { model } = page;
  const wanted = new Set<ArrowKind>(arrowKinds.filter(({ usual }) => usual).map(({ kind }) => kind));
  const hidden = new Set<string>();
  let arrows: Arrows | null = null;
  let names: string[] = [];
  let chosen = -1;
  let lastAt = -2;
  /** What was last brought into sight, and how wide that was. */
  let reached = { line: -1, width: 0 };
  let grownTo = 0;
  const kinds = el('div.chips', { role: 'group', 'aria-label': 'kinds' });
  const canvas = svg('svg.msc', { role: 'img', 'aria-label': 'message chart' });
  const heads = el('div.lifelines');
  const note = el('p.quiet.pad', { role: 'status' });
  const space = el('div.msc-space', {}, canvas as unknown as HTMLElement);
  const scroller = el(
    'div.msc-scroll',
    { tabindex: 0, onscroll: draw, onclick: click, 'aria-label': 'messages, in order' },
    heads,
    note,
    space,
  );
  const detail = el('aside.detail', { 'aria-label': 'message' });
  new ResizeObserver(draw).observe(scroller);

  function click(event: MouseEvent): void {
    const row = (event.target as Element).closest<SVGElement>('[data-line]');
    if (row) choose(Number(row.dataset.line));
  }

  function choose(line: number): void {
    chosen = line;
    page.go({ line: String(model.track?.lines[line]?.n ?? '') });
    model.seek(line);
    model.changed();
  }

  function laneWidth(): number {
    const room = scroller.clientWidth - timeWidth - margin;
    return Math.max(narrowest, Math.min(240, room / Math.max(1, names.length)));
  }

  function draw(): void {
    const { track } = model;
    if (!track || arrows?.track !== track) return;
    const { rows } = arrows;
    const width = Math.max(scroller.clientWidth - 12, timeWidth + laneWidth() * names.length + margin - 12);
    note.hidden = rows.length > 0;
    note.textContent = nothingOf(track);
    const full = rows.length * rowHeight + rowHeight;
    const scale = full > tallest ? tallest / full : 1;
    space.style.height = `${full * scale}px`;
    space.style.width = `${width}px`;
    const top = scroller.scrollTop / scale;
    const first = Math.max(0, Math.floor(top / rowHeight) - 6);
    const last = Math.min(rows.length - 1, first + Math.ceil(scroller.clientHeight / rowHeight) + 12);
    const height = (last - first + 2) * rowHeight;
    canvas.setAttribute('width', String(width));
    canvas.setAttribute('height', String(Math.max(height, 0)));
    canvas.style.transform = `translateY(${first * rowHeight + scroller.scrollTop - top}px)`;
    const x = (name: string) => timeWidth + laneWidth() * (names.indexOf(name) + 0.5);
    const parts: SVGElement[] = names.map((name) => svg('path.life', { d: `M${x(name)},0V${height}` }));
    const seen = top - first * rowHeight;
    for (const lane of track.lanes) parts.push(...bars(track, lane, rows, first, last, x, seen));
    const begin = track.lines[0]?.at ?? 0;
    let before = first > 0 ? (track.lines[rows[first - 1] as number]?.at ?? 0) : Number.NaN;
    for (let i = first; i <= last; i++) {
      const index = rows[i] as number;
      const line = track.lines[index] as Line;
      const arrow = arrowOf(line, track);
      if (!arrow) continue;
      const y = (i - first) * rowHeight;
      const time = line.at === before ? '' : `+${duration(line.at - begin)}`;
      before = line.at;
      parts.push(rowOf(arrow, index, y, time, x, width, laneWidth(), stateOf(index)));
    }
    put(canvas, svg('defs', {}, marker('to', 'M0,0L10,5L0,10z')), parts);
    heads.style.width = `${width}px`;
    put(
      heads,
      names.map((name) => {
        const head = el('span.lifeline', { title: name }, shorten(name, 20));
        head.style.left = `${x(name) - laneWidth() / 2 + 3}px`;
        head.style.width = `${laneWidth() - 6}px`;
        return head;
      }),
    );
  }

  /** Scrolls aside to the lifeline that an arrow begins at. */
  function reach(track: Track, index: number): void {
    const line = track.lines[lastRowOf(index)];
    const arrow = line && arrowOf(line, track);
    if (!arrow) return;
    const place = timeWidth + laneWidth() * (names.indexOf(arrow.from) + 0.5);
    const { scrollLeft, clientWidth } = scroller;
    if (place >= scrollLeft + timeWidth && place <= scrollLeft + clientWidth - margin) return;
    draw();
    scroller.scrollLeft = place - clientWidth * 0.7;
  }

  /** The line of the last row that is not after this line. */
  function lastRowOf(index: number): number {
    const rows = arrows?.rows ?? [];
    return rows[lastBefore(rows.length, (i) => (rows[i] as number) <= index)] ?? -1;
  }

  function stateOf(index: number): string {
    if (index === chosen) return 'chosen';
    return index > model.at ? 'later' : '';
  }

  function controls(): void {
    put(
      kinds,
      arrowKinds.map(({ kind, label }) =>
        el(
          'button.chip',
          { 'aria-pressed': String(wanted.has(kind)), onclick: () => toggle(wanted, kind) },
          label,
        ),
      ),
      el('span.gap'),
      (model.track ? lifelines(model.track, wanted) : []).map((name) =>
        el(
          'button.chip.quiet',
          {
            'aria-pressed': String(!hidden.has(name)),
            onclick: () => toggle(hidden, name),
            title: `lifeline ${name}`,
          },
          shorten(name, 24),
        ),
      ),
    );
  }

  function toggle<Value>(set: Set<Value>, value: Value): void {
    if (!set.delete(value)) set.add(value);
    arrows = null;
    controls();
    model.changed();
  }

  let searched = '';
  controls();
  return {
    element: el('section.view.sequence', {}, kinds, el('div.split', {}, scroller, detail)),
    update() {
      const { track } = model;
      if (!track) return;
      if (arrows?.track !== track || searched !== page.search()) {
        if (arrows?.track !== track) controls();
        searched = page.search();
        arrows = new Arrows(track, wanted, hidden, searched);
        grownTo = 0;
        const n = Number(page.address.get('line') ?? Number.NaN);
        if (chosen < 0 && page.address.has('line')) chosen = track.lines.findIndex((line) => line.n === n);
      }
      if (track.lines.length !== grownTo) {
        const known = names.length;
        if (grownTo < 20_000) names = lifelines(track, wanted).filter((name) => !hidden.has(name));
        if (names.length !== known) controls();
        grownTo = track.lines.length;
        arrows.update();
      }
      draw();
      if (model.at !== lastAt) {
        lastAt = model.at;
        const { rows } = arrows;
        const row = Math.max(
          0,
          lastBefore(rows.length, (i) => (rows[i] as number) <= model.at),
        );
        const scale = Math.min(1, tallest / ((rows.length + 1) * rowHeight));
        const y = row * rowHeight * scale;
        if (y < scroller.scrollTop || y > scroller.scrollTop + scroller.clientHeight - 4 * rowHeight)
          scroller.scrollTop = y - scroller.clientHeight * 0.6;
      }
      const line = track.lines[chosen];
      detail.classList.toggle('open', line !== undefined);
      if (line && detail.dataset.line !== `${line.n}`) {
        detail.dataset.line = `${line.n}`;
        const arrow = arrowOf(line, track);
        const title = arrow
          ? `${arrow.from}${arrow.to === arrow.from ? '' : ` → ${arrow.to}`}`
          : lifelineOf(line);
        put(
          detail,
          el(
            'h2',
            {},
            el('button.close', { onclick: close, title: 'close (Esc)' }, '×'),
            arrow?.text ?? line.kind,
          ),
          el('p.quiet', {}, title),
          lineDetails(line),
        );
      }
      // After the details, which take room.
      const shown = chosen >= 0 ? chosen : model.at;
      const width = scroller.clientWidth;
      if (shown !== reached.line || width !== reached.width) reach(track, shown);
      reached = { line: shown, width };
    },
    key(event) {
      if (event.key === 'Escape' && chosen >= 0) {
        close();
        return true;
      }
      const move = lineMoves[event.key] ?? 0;
      const rows = arrows?.rows ?? [];
      if (move === 0 || rows.length === 0) return false;
      const at = lastBefore(rows.length, (i) => (rows[i] as number) <= (chosen < 0 ? model.at : chosen));
      choose(rows[Math.max(0, Math.min(rows.length - 1, at + move))] as number);
      return true;
    },
  };

  function close(): void {
    chosen = -1;
    delete detail.dataset.line;
    page.go({ line: null });
    model.changed();
  }
}

/** Why there is no arrow. */
function nothingOf(track: Track): string {
  if (track.lines.some((line) => 'component' in line && line.kind === 'message'))
    return 'Nothing here is of these kinds, or has the words of the search.';
  return track.live
    ? 'Nothing has been said since this page looks. What was before is kept: see recordings.'
    : 'Nothing is said in this recording.';
}

function marker(id: string, d: string): SVGElement {
  return svg(
    'marker',
    { id, viewBox: '0 0 10 10', refX: 9, refY: 5, markerWidth: 7, markerHeight: 7, orient: 'auto' },
    svg('path', { d, fill: 'context-stroke' }),
  );
}

/** How a chart stood beside the rows that are seen. */
function bars(
  track: Track,
  lane: Lane,
  rows: readonly number[],
  first: number,
  last: number,
  x: (name: string) => number,
  seen: number,
): SVGElement[] {
  // A record has its regions in the chart; here the one that decides trust stands for it.
  if (lane.region !== '' && lane.region !== 'integrity') return [];
  const name = lifelineOf({ kind: 'stop', component: lane.key } as Line);
  const at = x(name);
  if (!(at > timeWidth)) return [];
  const found: SVGElement[] = [];
  const from = Math.max(0, track.spanAt(lane, rows[first] ?? 0));
  for (let i = from; i < lane.spans.length; i++) {
    const span = lane.spans[i] as Span;
    if (span.from > (rows[last] ?? 0)) break;
    if (span.state === '') continue;
    const until = lane.spans[i + 1]?.from ?? Number.POSITIVE_INFINITY;
    const top = Math.max(
      0,
      (lastBefore(rows.length, (k) => (rows[k] as number) < span.from) + 1 - first) * rowHeight,
    );
    const bottom =
      (Math.min(last + 1, lastBefore(rows.length, (k) => (rows[k] as number) < until) + 1) - first) *
      rowHeight;
    if (bottom <= top) continue;
    found.push(
      svg(
        `g.bar${span.refused ? '.refused' : ''}`,
        {},
        svg('rect', { x: at - 5, y: top + 2, width: 10, height: bottom - top - 3, rx: 3 }),
        svg('title', {}, span.state),
      ),
    );
    // The name stands where the state begins, or at the upper edge where it began before.
    const y = Math.max(top, Math.min(seen, bottom - rowHeight)) + 11;
    found.push(
      svg(
        `text.state${span.refused ? '.refused' : ''}`,
        { x: at + 9, y },
        shorten(span.state.split('.').at(-1) ?? '', 16),
      ),
    );
  }
  return found;
}

function rowOf(
  arrow: Arrow,
  index: number,
  y: number,
  time: string,
  x: (name: string) => number,
  width: number,
  lane: number,
  state: string,
): SVGElement {
  const { from, to, via, text, more, weight, kind } = arrow;
  const a = x(from);
  const b = x(to);
  const middle = y + 19;
  const base = svg(`g.arrow.${kind}${weight ? `.${weight}` : ''}${state === '' ? '' : `.${state}`}`, {
    'data-line': index,
  });
  base.append(
    svg('rect.hit', { x: 0, y, width, height: rowHeight }),
    svg('text.time', { x: 8, y: middle + 2 }, time),
  );
  const said = (at: number, anchor: string, room: number) =>
    svg(
      'text.said',
      { x: at, y: middle - 4, 'text-anchor': anchor },
      svg('tspan.what', {}, shorten(text, Math.max(8, Math.floor(room / 6.2)))),
      more !== '' &&
        room > text.length * 6.2 + 40 &&
        svg(
          'tspan.more',
          { dx: 6 },
          shorten(more, Math.max(4, Math.floor((room - text.length * 6.2) / 5.6))),
        ),
    );
  if (a < timeWidth && b < timeWidth) return base;
  if (from === to || a < timeWidth || b < timeWidth) {
    const at = a < timeWidth ? b : a;
    const right = at + lane * 1.6 < width;
    const d = right ? `M${at + 5},${middle - 5}h16v9h-14` : `M${at - 5},${middle - 5}h-16v9h14`;
    const label = said(
      right ? at + 27 : at - 27,
      right ? 'start' : 'end',
      right ? width - at - 30 : at - timeWidth - 30,
    );
    label.setAttribute('y', String(middle + 4));
    base.append(svg('path.line', { d, 'marker-end': 'url(#to)' }), label);
    return base;
  }
  const side = b > a ? 1 : -1;
  base.append(
    svg('path.line', { d: `M${a + 6 * side},${middle + 2}H${b - 7 * side}`, 'marker-end': 'url(#to)' }),
  );
  const over = via === undefined ? Number.NaN : x(via);
  if ((over - a) * (b - over) > 0) base.append(svg('circle.via', { cx: over, cy: middle + 2, r: 3 }));
  base.append(said((a + b) / 2, 'middle', Math.abs(b - a) - 24));
  return base;
}
