// Where everything of a chart goes: laid out once per definition by ELK, so that following it live only changes classes.
import type { ELK, ElkExtendedEdge, ElkNode } from 'elkjs/lib/elk-api.js';
import { type Chart, chartOf, eventText, type State, type Transition } from './model.ts';
import { textWidth, wrapWords } from './text.ts';

/** px. */
export const sizes = { title: 13, line: 11, rowHeight: 15, head: 30, padding: 12, label: 16 } as const;

export interface Box {
  state: State;
  x: number;
  y: number;
  width: number;
  height: number;
  /** Height of title and lines, above what is inside. */
  head: number;
  inner: Box[];
}

/** One row of a label: what is bold, then what is not. */
export interface LabelRow {
  bold: string;
  plain: string;
}

export interface Label {
  x: number;
  y: number;
  width: number;
  height: number;
  rows: LabelRow[];
}

export interface Arrow {
  /** null for the one from the dot to the state that a chart begins in. */
  transition: Transition | null;
  points: { x: number; y: number }[];
  label: Label | null;
}

export interface ChartLayout {
  chart: Chart;
  width: number;
  height: number;
  root: Box;
  arrows: Arrow[];
  /** Centres of the dots in which states begin. */
  dots: { x: number; y: number }[];
  /** What leads from a whole state into itself begins here, in place of each of the states inside. */
  anys: { state: string; x: number; y: number; width: number; height: number }[];
}

const rowLength = 34;
const dotSize = 10;
const anySize = { width: 40, height: 20 };

const options: Record<string, string> = {
  'elk.algorithm': 'layered',
  'elk.direction': 'DOWN',
  'elk.hierarchyHandling': 'INCLUDE_CHILDREN',
  'elk.edgeRouting': 'ORTHOGONAL',
  'elk.json.edgeCoords': 'ROOT',
  'elk.json.shapeCoords': 'ROOT',
  'elk.layered.spacing.nodeNodeBetweenLayers': '34',
  'elk.spacing.nodeNode': '34',
  'elk.spacing.edgeNode': '18',
  'elk.spacing.edgeEdge': '14',
  'elk.spacing.edgeLabel': '4',
  'elk.spacing.labelLabel': '6',
  'elk.layered.spacing.edgeNodeBetweenLayers': '18',
  'elk.layered.spacing.edgeEdgeBetweenLayers': '14',
  'elk.layered.considerModelOrder.strategy': 'NODES_AND_EDGES',
  'elk.layered.nodePlacement.strategy': 'NETWORK_SIMPLEX',
  'elk.layered.cycleBreaking.strategy': 'GREEDY',
  'elk.layered.feedbackEdges': 'true',
};

/** Lays a chart out. `elk` is elkjs, in this thread or in a worker. */
export async function layoutChart(elk: Pick<ELK, 'layout'>, definition: object): Promise<ChartLayout> {
  const chart = chartOf(definition);
  const order = readingOrder(chart);
  const lay = async (state: State) => {
    const edges: ElkExtendedEdge[] = [];
    const node = nodeOf(chart, state, edges);
    for (const transition of chart.transitions) {
      if (within(chart, transition.from, state.id)) edges.push(...edgeOf(chart, transition, order));
    }
    return read(chart, await elk.layout({ id: '$', layoutOptions: options, children: [node], edges }));
  };
  if (chart.root.kind !== 'parallel' || crossing(chart)) return lay(chart.root);
  // Regions have nothing to do with each other, and side by side they would make a chart that nobody can read.
  return packed(chart, await Promise.all(chart.root.children.map(lay)));
}

function edgeOf(chart: Chart, transition: Transition, order: ReadonlyMap<string, number>): ElkExtendedEdge[] {
  const { id, from, to } = transition;
  if (to === null || !chart.states.has(to)) return [];
  const source = leadsInside(chart, from, to) ? `${from}::any` : from;
  const up = leadsUp(chart, from, to, order);
  const { width, height } = labelSize(rowsOf(transition));
  return [
    {
      id,
      // The order in which one reads a chart is downwards: what leads back is laid out from its end to its beginning.
      sources: [up ? to : source],
      targets: [up ? source : to],
      labels: [
        {
          text: id,
          width,
          height,
          layoutOptions: { 'elk.edgeLabels.inline': 'true', 'elk.edgeLabels.placement': 'CENTER' },
        },
      ],
    },
  ];
}

/** Whether a transition leads from one region of the root to another, or begins at the root itself. */
function crossing(chart: Chart): boolean {
  const { root, transitions } = chart;
  const regionOf = (id: string | null) => root.children.find((region) => within(chart, id, region.id));
  return transitions.some(({ from, to }) => to !== null && regionOf(from) !== regionOf(to));
}

const shape = 1.5;
const gap = 24;

/** Regions in rows, highest first, in a box of about three by two. */
function packed(chart: Chart, regions: readonly ChartLayout[]): ChartLayout {
  const area = regions.reduce((sum, { root }) => sum + (root.width + gap) * (root.height + gap), 0);
  const widest = Math.max(...regions.map(({ root }) => root.width));
  const most = Math.max(widest, Math.sqrt(area * shape));
  const head = headHeight(linesOf(chart, chart.root).length);
  const whole: ChartLayout = {
    chart,
    width: 0,
    height: 0,
    root: { state: chart.root, x: 0, y: 0, width: 0, height: 0, head, inner: [] },
    arrows: [],
    dots: [],
    anys: [],
  };
  let [x, y, row, right] = [gap, head + gap / 2, 0, 0];
  for (const region of [...regions].sort((a, b) => b.root.height - a.root.height)) {
    const { width, height } = region.root;
    if (x > gap && x + width > gap + most) [x, y, row] = [gap, y + row + gap, 0];
    const { root, arrows, dots, anys } = moved(region, x - region.root.x, y - region.root.y);
    whole.root.inner.push(root);
    whole.arrows.push(...arrows);
    whole.dots.push(...dots);
    whole.anys.push(...anys);
    x += width + gap;
    row = Math.max(row, height);
    right = Math.max(right, x);
  }
  whole.width = whole.root.width = right;
  whole.height = whole.root.height = y + row + gap;
  return whole;
}

function moved(layout: ChartLayout, dx: number, dy: number): ChartLayout {
  const at = <Place extends { x: number; y: number }>(place: Place): Place => ({
    ...place,
    x: place.x + dx,
    y: place.y + dy,
  });
  const box = (one: Box): Box => ({ ...at(one), inner: one.inner.map(box) });
  const arrows = layout.arrows.map((arrow) => ({
    ...arrow,
    points: arrow.points.map(at),
    label: arrow.label && at(arrow.label),
  }));
  return { ...layout, root: box(layout.root), arrows, dots: layout.dots.map(at), anys: layout.anys.map(at) };
}

function nodeOf(chart: Chart, state: State, edges: ElkExtendedEdge[]): ElkNode {
  const lines = linesOf(chart, state);
  const head = headHeight(lines.length);
  const texts = [
    textWidth(state.name, sizes.title, true) + (state.kind === 'parallel' ? 60 : 0),
    ...lines.map(
      ([word, text], i) =>
        textWidth(`${word} `, sizes.line, state.lines[i] === undefined) + textWidth(text, sizes.line),
    ),
  ];
  const width = Math.max(80, ...texts.map((text) => text + 2 * sizes.padding));
  if (state.children.length === 0) return { id: state.id, width, height: head };
  const children = state.children.map((child) => nodeOf(chart, child, edges));
  if (state.initial !== null) {
    const dot = `${state.id}::dot`;
    children.unshift({ id: dot, width: dotSize, height: dotSize });
    edges.push({
      id: `${dot}:arrow`,
      sources: [dot],
      targets: [state.initial],
      layoutOptions: { 'elk.layered.priority.direction': '100', 'elk.layered.priority.straightness': '10' },
    });
  }
  // From the border of the box the line would run through all that is written at its top.
  if (chart.transitions.some(({ from, to }) => from === state.id && leadsInside(chart, from, to)))
    children.push({ id: `${state.id}::any`, ...anySize });
  return {
    id: state.id,
    children,
    layoutOptions: {
      'elk.padding': `[top=${head + 14},left=20,right=20,bottom=20]`,
      'elk.nodeSize.constraints': 'MINIMUM_SIZE',
      'elk.nodeSize.minimum': `(${width},${head})`,
    },
  };
}

/** Whether a transition leads to what is read earlier: compared side by side, in the box that holds both. */
function leadsUp(chart: Chart, from: string, to: string, order: ReadonlyMap<string, number>): boolean {
  const [a, b] = [lineage(chart, from), lineage(chart, to)];
  let depth = 0;
  while (a[depth] !== undefined && a[depth] === b[depth]) depth++;
  const [one, other] = [a[depth], b[depth]];
  if (one === undefined || other === undefined) return false;
  return (order.get(other) ?? 0) < (order.get(one) ?? 0);
}

/** Ids from the root to a state. */
function lineage({ states }: Chart, id: string): string[] {
  const ids: string[] = [];
  for (let at: string | null = id; at !== null; at = states.get(at)?.parent ?? null) ids.unshift(at);
  return ids;
}

/** Whether a transition goes from a state to one inside it. */
function leadsInside(chart: Chart, from: string, to: string | null): boolean {
  return from !== to && within(chart, to, from);
}

/** Whether a state is another one, or inside it. */
function within({ states }: Chart, id: string | null, outer: string): boolean {
  for (let at = id; at !== null; at = states.get(at)?.parent ?? null) if (at === outer) return true;
  return false;
}

/** What a box says below its name: what it does by itself, and the events that change nothing but its memory. */
export function linesOf(chart: Chart, state: State): [word: string, text: string][] {
  const staying = chart.transitions.filter(({ from, to }) => from === state.id && to === null);
  const inside = staying.flatMap((transition): [string, string][] =>
    rowsOf(transition).map(({ bold, plain }) => [bold, plain]),
  );
  return [...state.lines, ...inside];
}

function headHeight(lines: number): number {
  return sizes.head + (lines === 0 ? 0 : lines * sizes.rowHeight + 8);
}

/** A label in rows: the event and its guard, then what is done. */
export function rowsOf({ events, guard, actions }: Transition): LabelRow[] {
  const bold = eventText(events);
  const condition = guard === '' ? '' : `[${guard}]`;
  const done = actions.map((action, i) => (i < actions.length - 1 ? `${action},` : action));
  const whole = [condition, ...(done.length > 0 ? ['/', ...done] : [])]
    .filter((word) => word !== '')
    .join(' ');
  if (bold.length + 1 + whole.length <= rowLength) return [{ bold, plain: whole }];
  const first = bold.length + 1 + condition.length <= rowLength ? condition : '';
  const rest = wrapWords(
    [
      ...(first === condition ? [] : [condition]),
      ...(done.length > 0 ? [`/ ${done[0]}`, ...done.slice(1)] : []),
    ],
    rowLength,
  );
  return [{ bold, plain: first }, ...rest.map((plain) => ({ bold: '', plain }))];
}

function labelSize(rows: readonly LabelRow[]): { width: number; height: number } {
  const widths = rows.map(
    ({ bold, plain }) =>
      textWidth(bold, sizes.line, true) +
      textWidth(plain, sizes.line) +
      (bold !== '' && plain !== '' ? 5 : 0),
  );
  return { width: Math.max(...widths) + sizes.label, height: rows.length * sizes.rowHeight + 5 };
}

/** Depth first from where the chart begins: what comes later is read later. */
function readingOrder({ root, states, transitions }: Chart): ReadonlyMap<string, number> {
  const order = new Map<string, number>();
  const leaving = new Map<string, string[]>();
  for (const { from, to } of transitions)
    if (to !== null) leaving.set(from, [...(leaving.get(from) ?? []), to]);
  const visit = (id: string) => {
    const state = states.get(id);
    if (!state || order.has(id)) return;
    order.set(id, order.size);
    if (state.initial !== null) visit(state.initial);
    else for (const child of state.children) visit(child.id);
    for (const to of leaving.get(id) ?? []) visit(to);
    for (const child of state.children) visit(child.id);
  };
  visit(root.id);
  return order;
}

function read(chart: Chart, laid: ElkNode): ChartLayout {
  const dots: ChartLayout['dots'] = [];
  const anys: ChartLayout['anys'] = [];
  const boxOf = (node: ElkNode): Box => {
    const state = chart.states.get(node.id) as State;
    const { x = 0, y = 0, width = 0, height = 0, children = [] } = node;
    const inner: Box[] = [];
    for (const child of children) {
      if (child.id.endsWith('::dot'))
        dots.push({ x: (child.x ?? 0) + dotSize / 2, y: (child.y ?? 0) + dotSize / 2 });
      else if (child.id.endsWith('::any')) {
        const { x: left = 0, y: top = 0 } = child;
        anys.push({ state: state.id, x: left, y: top, ...anySize });
      } else inner.push(boxOf(child));
    }
    return { state, x, y, width, height, head: headHeight(linesOf(chart, state).length), inner };
  };
  const order = readingOrder(chart);
  const byId = new Map(chart.transitions.map((transition) => [transition.id, transition]));
  const arrows: Arrow[] = [];
  for (const edge of edgesIn(laid)) {
    const transition = byId.get(edge.id) ?? null;
    const [label] = edge.labels ?? [];
    for (const { startPoint, bendPoints = [], endPoint } of edge.sections ?? []) {
      const { x = 0, y = 0, width = 0, height = 0 } = label ?? {};
      const points = [startPoint, ...bendPoints, endPoint].map((point) => ({ x: point.x, y: point.y }));
      arrows.push({
        transition,
        points:
          transition?.to && leadsUp(chart, transition.from, transition.to, order) ? points.reverse() : points,
        label: transition && label ? { x, y, width, height, rows: rowsOf(transition) } : null,
      });
    }
  }
  const [root] = laid.children ?? [];
  return {
    chart,
    width: laid.width ?? 0,
    height: laid.height ?? 0,
    root: boxOf(root as ElkNode),
    arrows,
    dots,
    anys,
  };
}

function edgesIn(node: ElkNode): ElkExtendedEdge[] {
  return [...(node.edges ?? []), ...(node.children ?? []).flatMap(edgesIn)];
}
