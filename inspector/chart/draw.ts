// A chart that was laid out, as SVG. What is active and what was just taken are classes, so that following a chart live draws
// nothing anew: `active` on states, `enabled` and `taken` on transitions. Every text comes from a definition: it is escaped.
import { type Arrow, type Box, type ChartLayout, linesOf, sizes } from './layout.ts';

export interface DrawOptions {
  /** With colours for light and dark of its own. False where the page has `chartStyle` already. */
  style?: boolean;
  /** Ids of the states that are active. */
  active?: ReadonlySet<string>;
  /** Ids of the transitions that were just taken. */
  taken?: ReadonlySet<string>;
}

/** The colours are variables; a page may set its own on `.chart`. */
export const chartStyle = `
.chart{--back:#fff;--box:#fff;--region:#f7f9fc;--line:#b6bfcc;--edge:#7c8798;--text:#1b2430;--faint:#5c6878;--label:#eef1f5;--accent:#1f6feb;--glow:#dbe9ff;--took:#c2410c;--tookGlow:#ffe8d9;font-family:Inter,"DejaVu Sans",system-ui,sans-serif}
@media (prefers-color-scheme:dark){.chart:not(.light){--back:#0f1419;--box:#182029;--region:#131a22;--line:#3c4856;--edge:#77859a;--text:#e4e9f0;--faint:#9aa7b8;--label:#232d39;--accent:#6aa8ff;--glow:#17304f;--took:#ff9d5c;--tookGlow:#41280f}}
.chart.dark{--back:#0f1419;--box:#182029;--region:#131a22;--line:#3c4856;--edge:#77859a;--text:#e4e9f0;--faint:#9aa7b8;--label:#232d39;--accent:#6aa8ff;--glow:#17304f;--took:#ff9d5c;--tookGlow:#41280f}
.chart .back{fill:var(--back)}
.chart .box{fill:var(--box);stroke:var(--line);stroke-width:1.2}
.chart .region>.box{fill:var(--region);stroke-dasharray:5 4}
.chart .final>.inner{fill:none;stroke:var(--line)}
.chart .any rect{fill:none;stroke:var(--line);stroke-dasharray:3 3}
.chart .rule{stroke:var(--line);stroke-width:.8;fill:none}
.chart text{fill:var(--text);font-size:${sizes.line}px;white-space:pre}
.chart .words text{paint-order:stroke;stroke:var(--box);stroke-width:3px;stroke-linejoin:round}
.chart .title{font-size:${sizes.title}px;font-weight:600}
.chart .word,.chart .plain{fill:var(--faint)}
.chart .bold{font-weight:600}
.chart .arrow{fill:none;stroke:var(--edge);stroke-width:1.3}
.chart .head,.chart .dot{fill:var(--edge);stroke:none}
.chart .label rect{fill:var(--label)}
.chart .state.active>.box{stroke:var(--accent);stroke-width:2}
.chart .state.active:not(.compound):not(.parallel)>.box{fill:var(--glow)}
.chart .state.active>.title{fill:var(--accent)}
.chart .transition.enabled .arrow{stroke:var(--accent)}
.chart .transition.enabled .head{fill:var(--accent)}
.chart .transition.enabled .label rect{fill:var(--glow)}
.chart .transition.taken .arrow{stroke:var(--took);stroke-width:2.4}
.chart .transition.taken .head{fill:var(--took)}
.chart .transition.taken .label rect{fill:var(--tookGlow);stroke:var(--took)}
`.trim();

const margin = 8;
const corner = 8;

/** The SVG as text. States have `data-id` (their boxes, and in groups of the class `words` what is written in them), transitions `data-id`, `data-from`, `data-to` and `data-events`. */
export function drawChart(layout: ChartLayout, options: DrawOptions = {}): string {
  const { style = true, active = new Set(), taken = new Set() } = options;
  const width = Math.ceil(layout.width + 2 * margin);
  const height = Math.ceil(layout.height + 2 * margin);
  const { root } = layout.chart;
  const arrows = layout.arrows.map((arrow) => arrowOf(arrow, active, taken));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" width="${width}" height="${height}" viewBox="${-margin} ${-margin} ${width} ${height}">`,
    `<title>${quoted(root.name)}: ${quoted(root.description)}</title>`,
    ...(style ? [`<style>${chartStyle}</style>`] : []),
    `<rect class="back" x="${-margin}" y="${-margin}" width="${width}" height="${height}"/>`,
    boxOf(layout.root, active),
    ...layout.anys.map((any) => anyOf(any, active)),
    ...layout.dots.map(({ x, y }) => `<circle class="dot" cx="${round(x)}" cy="${round(y)}" r="5"/>`),
    // Words above all lines, or one that leads elsewhere would run through them.
    ...arrows.map(({ line }) => line),
    ...wordsOf(layout, layout.root, active),
    ...arrows.map(({ label }) => label).filter((label) => label !== ''),
    '</svg>',
    '',
  ].join('\n');
}

function anyOf(
  { state, x, y, width, height }: ChartLayout['anys'][number],
  active: ReadonlySet<string>,
): string {
  const classes = active.has(state) ? 'any active' : 'any';
  const box = `<rect x="${round(x)}" y="${round(y)}" width="${width}" height="${height}" rx="${height / 2}"/>`;
  return `<g class="${classes}" data-id="${quoted(state)}"><title>from any state inside</title>${box}<text class="word" text-anchor="middle" x="${round(x + width / 2)}" y="${round(y + 14)}">any</text></g>`;
}

function boxOf(box: Box, active: ReadonlySet<string>): string {
  const { state, x, y, width, height, inner } = box;
  const shape = (name: string, inset: number) =>
    `<rect class="${name}" x="${round(x + inset)}" y="${round(y + inset)}" width="${round(width - 2 * inset)}" height="${round(height - 2 * inset)}" rx="${corner - inset / 2}"/>`;
  return [
    `<g class="${classesOf(box, active)}" data-id="${quoted(state.id)}">`,
    `<title>${quoted(state.description || state.name)}</title>`,
    shape('box', 0),
    ...(state.kind === 'final' ? [shape('inner', 3)] : []),
    ...(box.head > sizes.head || inner.length > 0
      ? [`<path class="rule" d="M${round(x)},${round(y + sizes.head)}H${round(x + width)}"/>`]
      : []),
    ...inner.map((one) => boxOf(one, active)),
    '</g>',
  ].join('\n');
}

/** What is written in a box and in those inside it. */
function wordsOf(layout: ChartLayout, box: Box, active: ReadonlySet<string>): string[] {
  const { state, x, y, width, inner } = box;
  const left = round(x + sizes.padding);
  const kind = `<text class="word" text-anchor="end" x="${round(x + width - sizes.padding)}" y="${round(y + 20)}">parallel</text>`;
  const lines = linesOf(layout.chart, state).map(([word, text], i) => {
    const own = state.lines[i] !== undefined;
    const first = word === '' ? '' : `<tspan class="${own ? 'word' : 'bold'}">${quoted(word)} </tspan>`;
    const rest = text === '' ? '' : `<tspan class="${own ? 'own' : 'plain'}">${quoted(text)}</tspan>`;
    return `<text x="${left}" y="${round(y + sizes.head + 16 + i * sizes.rowHeight)}">${first}${rest}</text>`;
  });
  return [
    `<g class="${classesOf(box, active)} words" data-id="${quoted(state.id)}">`,
    `<text class="title" x="${left}" y="${round(y + 20)}">${quoted(state.name)}</text>`,
    ...(state.kind === 'parallel' ? [kind] : []),
    ...lines,
    '</g>',
    ...inner.flatMap((one) => wordsOf(layout, one, active)),
  ];
}

function classesOf({ state }: Box, active: ReadonlySet<string>): string {
  return [
    'state',
    state.kind,
    ...(state.region ? ['region'] : []),
    ...(active.has(state.id) ? ['active'] : []),
  ].join(' ');
}

function arrowOf(
  { transition, points, label }: Arrow,
  active: ReadonlySet<string>,
  taken: ReadonlySet<string>,
): { line: string; label: string } {
  const marks = transition
    ? [...(active.has(transition.from) ? ['enabled'] : []), ...(taken.has(transition.id) ? ['taken'] : [])]
    : [];
  const classes = ['transition', ...(transition ? marks : ['initial'])].join(' ');
  const data = transition
    ? ` data-id="${quoted(transition.id)}" data-from="${quoted(transition.from)}" data-to="${quoted(transition.to ?? '')}" data-events="${quoted(transition.events.join(' '))}"`
    : '';
  const line = `<g class="${classes}"${data}><path class="arrow" d="${pathOf(points)}"/><path class="head" d="${headOf(points)}"/></g>`;
  if (!label) return { line, label: '' };
  const { x, y, width, height, rows } = label;
  const texts = rows.map(({ bold, plain }, i) => {
    const at = round(y + 13.5 + i * sizes.rowHeight);
    const rest =
      plain === '' ? '' : `<tspan class="plain">${quoted(bold === '' ? plain : ` ${plain}`)}</tspan>`;
    const first = bold === '' ? '' : `<tspan class="bold">${quoted(bold)}</tspan>`;
    return `<text x="${round(x + sizes.label / 2)}" y="${at}">${first}${rest}</text>`;
  });
  return {
    line,
    label: `<g class="${classes}"${data}><g class="label"><rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="7"/>${texts.join('')}</g></g>`,
  };
}

/** Right angles with round corners. */
function pathOf(points: readonly { x: number; y: number }[]): string {
  const [first = { x: 0, y: 0 }] = points;
  const parts = [`M${round(first.x)},${round(first.y)}`];
  for (let i = 1; i < points.length - 1; i++) {
    const [a, b, c] = [points[i - 1], points[i], points[i + 1]] as [Point, Point, Point];
    const before = Math.hypot(b.x - a.x, b.y - a.y);
    const after = Math.hypot(c.x - b.x, c.y - b.y);
    const radius = Math.min(corner, before / 2, after / 2);
    if (radius === 0) continue;
    const into = towards(b, a, radius / before);
    const out = towards(b, c, radius / after);
    parts.push(
      `L${round(into.x)},${round(into.y)}Q${round(b.x)},${round(b.y)} ${round(out.x)},${round(out.y)}`,
    );
  }
  const last = points.at(-1) ?? first;
  parts.push(`L${round(last.x)},${round(last.y)}`);
  return parts.join('');
}

type Point = { x: number; y: number };

function towards(from: Point, to: Point, part: number): Point {
  return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
}

/** A head of its own: markers take no colour from their line in every browser. */
function headOf(points: readonly Point[]): string {
  const tip = points.at(-1) ?? { x: 0, y: 0 };
  const before = points.at(-2) ?? tip;
  const length = Math.hypot(tip.x - before.x, tip.y - before.y) || 1;
  const [dx, dy] = [(tip.x - before.x) / length, (tip.y - before.y) / length];
  const back = { x: tip.x - 8 * dx, y: tip.y - 8 * dy };
  return `M${round(tip.x)},${round(tip.y)}L${round(back.x - 4 * dy)},${round(back.y + 4 * dx)}L${round(back.x + 4 * dy)},${round(back.y - 4 * dx)}Z`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** For text and for attributes. */
function quoted(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
