import { createRequire } from 'node:module';
import type { ELK } from 'elkjs/lib/elk-api.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { setup } from 'xstate';
import { definitionOf } from '../../../formats/recording/definition.ts';
import { drawChart } from '../../../inspector/chart/draw.ts';
import { type Box, type ChartLayout, layoutChart, sizes } from '../../../inspector/chart/layout.ts';
import { activeIds, chartOf, eventText, takenIn } from '../../../inspector/chart/model.ts';
import { charts } from '../../../machines/charts.ts';

const elk = new (createRequire(import.meta.url)('elkjs/lib/elk.bundled.js') as new () => ELK)();
const layouts = new Map<string, ChartLayout>();
for (const [id, chart] of charts) layouts.set(id, await layoutChart(elk, definitionOf(chart)));
const layoutOf = (id: string) => layouts.get(id) as ChartLayout;

type Rect = { what: string; x: number; y: number; width: number; height: number };

const boxes = (box: Box): Box[] => [box, ...box.inner.flatMap(boxes)];
const overlap = (a: Rect, b: Rect) =>
  a.x < b.x + b.width - 0.5 &&
  b.x < a.x + a.width - 0.5 &&
  a.y < b.y + b.height - 0.5 &&
  b.y < a.y + a.height - 0.5;

/** What is written: labels, titles with their lines, whole boxes where nothing is inside. */
function written({ root, arrows, anys }: ChartLayout): Rect[] {
  return [
    ...arrows.flatMap(({ label, transition }) =>
      label ? [{ what: `label of ${transition?.id}`, ...label }] : [],
    ),
    ...anys.map((any) => ({ what: `any of ${any.state}`, ...any })),
    ...boxes(root).map(({ state, x, y, width, height, head, inner }) =>
      inner.length === 0
        ? { what: state.id, x, y, width, height }
        : { what: `head of ${state.id}`, x, y, width: Math.min(width, 200), height: head },
    ),
  ];
}

for (const [id, layout] of layouts) {
  test(`${id}: no text stands on another`, () => {
    const all = written(layout);
    const clashes = all.flatMap((one, i) =>
      all.slice(i + 1).flatMap((other) => (overlap(one, other) ? [`${one.what} and ${other.what}`] : [])),
    );
    assert.equal(clashes, []);
  });

  test(`${id}: every state is inside its parent, every transition is drawn between its states`, () => {
    const all = new Map(boxes(layout.root).map((box) => [box.state.id, box]));
    assert.is(all.size, layout.chart.states.size);
    for (const box of all.values()) {
      const outer = box.state.parent === null ? null : all.get(box.state.parent);
      if (!outer) continue;
      assert.ok(box.x >= outer.x && box.x + box.width <= outer.x + outer.width, box.state.id);
      assert.ok(box.y >= outer.y + outer.head && box.y + box.height <= outer.y + outer.height, box.state.id);
    }
    const drawn = layout.arrows.filter(({ transition }) => transition !== null);
    const moving = layout.chart.transitions.filter(({ to }) => to !== null);
    assert.is(drawn.length, moving.length);
    for (const { transition, points } of drawn) {
      const target = all.get(transition?.to ?? '');
      const tip = points.at(-1);
      assert.ok(target && tip, transition?.id);
      const dx = Math.max(target.x - tip.x, 0, tip.x - target.x - target.width);
      const dy = Math.max(target.y - tip.y, 0, tip.y - target.y - target.height);
      assert.ok(dx + dy < 1.5, `${transition?.id} ends ${dx}, ${dy} px from ${target.state.id}`);
    }
  });

  test(`${id}: a chart begins at its top`, () => {
    if (layout.root.state.initial === null) return;
    const inner = layout.root.inner.filter(({ state }) => state.id === layout.root.state.initial);
    assert.is(inner[0]?.y, Math.min(...layout.root.inner.map(({ y }) => y)));
  });
}

test('transitions without an event are there, and those that differ in their event alone are one', () => {
  const { transitions } = layoutOf('attestTask').chart;
  const starting = transitions.filter(({ from }) => from === 'attestTask.none.starting');
  assert.equal(
    starting.map(({ events, guard, to }) => [eventText(events), guard, to]),
    [
      ['always', 'certified', 'nonceWait'],
      ['always', 'certKnown', 'attestTask.none.certifying'],
      ['always', '', 'attestTask.none.waitingForCert'],
    ],
  );
  const waited = transitions.find(
    ({ from, events }) => from === 'attestTask.none.backingOff' && events.length > 1,
  );
  assert.equal(waited?.events, ['xstate.done.actor.wait', 'xstate.error.actor.wait']);
  assert.is(eventText(waited?.events ?? []), 'elapsed');
});

test('a transition of a recording is found among those that are drawn', () => {
  const { chart } = layoutOf('attestTask');
  const taken = {
    from: 'attestTask.none.backingOff',
    event: 'xstate.error.actor.wait',
    to: ['attestTask.none.certifying'],
    actions: ['tryAgain'],
  };
  const found = takenIn(chart, taken);
  assert.equal([found?.from, found?.to, found?.events.length], [taken.from, taken.to[0], 2]);
  assert.is(takenIn(chart, { ...taken, event: 'gone' }), null);
});

test('a guard is drawn with the words that it is asked with', () => {
  const guards = layoutOf('deviceRecord').chart.transitions.map(({ guard }) => guard);
  assert.ok(guards.includes('timerIs nonce') && guards.includes('timerIs trust'));
});

test('active are the states of a value, with all that they are in', () => {
  const { chart } = layoutOf('attestTask');
  assert.equal(activeIds(chart, { none: 'certifying' }), [
    'attestTask',
    'none',
    'attestTask.none.certifying',
  ]);
  const record = layoutOf('deviceRecord').chart;
  const active = activeIds(record, { integrity: 'trusted', link: 'online' });
  assert.equal(active, [
    'deviceRecord',
    'deviceRecord.integrity',
    'deviceRecord.integrity.trusted',
    'deviceRecord.link',
    'deviceRecord.link.online',
  ]);
  assert.equal(activeIds(chart, 'gone'), ['attestTask']);
});

test('what is active and what was taken are classes, and nothing else moves', () => {
  const layout = layoutOf('client');
  const plain = drawChart(layout);
  const [transition] = layout.chart.transitions.filter(({ to }) => to !== null);
  assert.ok(transition);
  const active = new Set([transition.from]);
  const live = drawChart(layout, { active, taken: new Set([transition.id]) });
  assert.match(live, new RegExp(`class="transition enabled taken" data-id="${transition.id}"`));
  const unmarked = live.replaceAll(/ (active|enabled|taken)(?=[ "])/g, '');
  assert.is(unmarked, plain);
  assert.ok(!drawChart(layout, { style: false }).includes('<style>'));
});

test('names are text, whatever is in them', async () => {
  const evil = '<script>alert(1)</script>"&\'';
  const chart = setup({}).createMachine({
    id: 'evil',
    description: evil,
    initial: 'a',
    states: { a: { description: evil, on: { [evil]: 'b' } }, b: {} },
  });
  const definition = JSON.parse(
    JSON.stringify(definitionOf(chart)).replaceAll('"key":"b"', `"key":${JSON.stringify(evil)}`),
  );
  const svg = drawChart(await layoutChart(elk, definition));
  assert.ok(!svg.includes('<script') && !svg.includes('alert(1)</'), 'escaped');
  assert.match(svg, '&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#38;&#39;');
  assert.is((svg.match(/"/g) ?? []).length % 2, 0);
});

test('what is no definition is refused, and breaks nothing else', () => {
  for (const value of [{}, { id: 'x' }, [], { states: 3 }])
    assert.throws(
      () => chartOf(value),
      (error: Error) => error instanceof TypeError,
    );
  assert.ok(sizes.title > 0);
});

test.run();
