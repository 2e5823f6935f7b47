// deadline: 120 s
// The dashboard speaks of metrics and labels that EVC has, and leaves none out.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { RunnerEvent } from '../../controller/record/runner.ts';
import { ApiBench } from '../kit/api.ts';

interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string; refId: string }[];
}

interface Dashboard {
  uid: string;
  panels: Panel[];
  templating: { list: { name: string; type: string; definition?: string }[] };
}

const text = readFileSync(join(import.meta.dirname, '../../docs/grafana/evc.json'), 'utf8');
const { panels, templating } = JSON.parse(text) as Dashboard;
const queries = [
  ...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
  ...templating.list.flatMap(({ definition }) => (definition === undefined ? [] : [definition])),
];
/** Prometheus adds them to what it scrapes, and histograms have one of their own. */
const added = ['instance', 'job'];

/** Metrics that EVC tells of, by the names of their labels; each has happened once. */
async function told(): Promise<Map<string, Set<string>>> {
  const bench = await ApiBench.open();
  const { evc } = bench.evc;
  const { uud, board } = await bench.devices();
  evc.metrics.refused('wire.malformed');
  evc.metrics.shed({ putOff: 1, dropped: 1 });
  const snapshot = await evc.runner.read(uud.id);
  assert.ok(snapshot);
  const states = { before: { software: 'testing' }, after: { software: 'committed' } };
  evc.metrics.step({
    device: uud.id,
    at: 1,
    event: { type: 'timer' },
    ...states,
    snapshot,
  } as never as RunnerEvent);
  const wish = { stages: [100], haltAt: 10, atOnce: 1, window: 1000, testWindow: 1000 };
  const rollout = { ...wish, version: '9', devices: [uud.id], accounts: null };
  await evc.rollouts.add(rollout, { by: 'ann', reason: 'x' });
  const { body } = await bench.call('GET', '/metrics');
  await bench.close();
  await board.close();
  const metrics = new Map<string, Set<string>>();
  for (const line of body.toString().split('\n')) {
    const [, name = '', labels = ''] = /^([a-z_]+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (name === '') continue;
    const known = metrics.get(name) ?? new Set(added);
    for (const [, label = ''] of labels.matchAll(/([a-z_]+)="/g)) known.add(label);
    metrics.set(name, known);
  }
  return metrics;
}

const metrics = await told();

test('every metric and every label of the dashboard is one that EVC has', () => {
  assert.ok(queries.length > 20);
  for (const query of queries) {
    const named = [...query.matchAll(/\bevc_[a-z_]+/g)].map(([name]) => name);
    assert.ok(named.length > 0, query);
    for (const name of named) assert.ok(metrics.has(name), `${name} in ${query}`);
    const labels = [
      ...[...query.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(/, */)),
      ...[...query.matchAll(/([a-z_]+)(?:=|!=)~?"/g)].map(([, label = '']) => label),
      ...[...query.matchAll(/^label_values\(\w+, (\w+)\)$/g)].map(([, label = '']) => label),
    ];
    for (const label of labels)
      for (const name of named) assert.ok(metrics.get(name)?.has(label), `${label} of ${name} in ${query}`);
    const count = (sign: string) => query.split(sign).length;
    assert.equal([count('('), count('{')], [count(')'), count('}')], query);
  }
});

test('every metric of EVC stands in the dashboard', () => {
  const left = [...metrics.keys()]
    .map((name) => name.replace(/_(bucket|sum|count)$/, ''))
    .filter((name) => !text.includes(name));
  assert.equal([...new Set(left)], []);
});

test('its panels have words, and none lies on another', () => {
  assert.is(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = new Set<string>();
  for (const { type, title, description = '', gridPos, targets = [] } of panels) {
    assert.ok(title.length > 3);
    if (type !== 'row') assert.ok(description.length > 10 && targets.length > 0, title);
    assert.ok(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.not(cells.has(`${x},${y}`), `${title} lies on another`);
        cells.add(`${x},${y}`);
      }
  }
  const variables = new Set(templating.list.map(({ name }) => name));
  for (const [, name = ''] of text.matchAll(/\$\{?([a-z]+)\b(?!_)/g)) assert.ok(variables.has(name), name);
});

test.run();
