// deadline: 300 s
// The exploration itself, to a bound that takes about a minute; `npm run explore` goes further.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRecording } from '../../formats/recording/read.ts';
import { replay } from '../../formats/recording/replay.ts';
import { charts } from '../../machines/charts.ts';
import { eveFaults } from './eve-faults.ts';
import { getsThere, promises } from './promises.ts';
import { recordingOf } from './recording.ts';
import { lineOf } from './report.ts';
import { newCast, scenarios } from './scenarios.ts';
import { type Scenario, search } from './search.ts';
import { Table } from './table.ts';

/** States, and not time: the same on any machine. */
const mostStates = 25_000;

const scenarioOf = (name: string) => scenarios.find((scenario) => scenario.name === name) as Scenario;

for (const scenario of scenarios) {
  test(`${scenario.name}: every promise is kept, whatever happens`, () => {
    const explored = search(scenario, newCast(), promises, { states: mostStates, broken: 3 });
    console.log(`FIGURES: explored, ${lineOf(explored)}`);
    assert.equal(
      explored.broken.map(({ sentence, path }) => [sentence, path]),
      [],
    );
    assert.ok(explored.exhausted || explored.states >= mostStates, `${explored.states} states`);
  });
}

for (const fault of eveFaults) {
  test(`EVE’s ${fault.name} is found: ${fault.text}`, () => {
    const scenario = scenarioOf(fault.scenario);
    const cast = newCast(fault.charts);
    const asked = promises.filter(({ sentence }) => sentence === fault.breaks);
    assert.is(asked.length, fault.breaks === getsThere ? 0 : 1, 'the promise is one of ours');
    const { broken, states } = search(scenario, cast, asked, {
      states: mostStates,
      alone: fault.breaks === getsThere,
    });
    const [found] = broken;
    assert.is(found?.sentence, fault.breaks);
    if (!found) return;
    console.log(`FIGURES: EVE’s ${fault.name} found, ${found.path.length} moves, among ${states} states`);

    const { lines, notes } = readRecording(recordingOf(scenario, cast, found));
    assert.equal(notes, []);
    const faulty = new Map([...charts, ...Object.entries(fault.charts)]);
    assert.is(
      replay(lines, { charts: faulty }).divergence,
      null,
      'it replays on the charts that have the fault',
    );
    const today = replay(lines, { charts });
    assert.equal(today.changed, Object.keys(fault.charts), 'and names the chart that is another one today');
    // Where the fault is that something never happens, there is no place for it in a recording.
    if (found.path.length > 0 && found.after === 0) assert.ok(today.divergence, 'which does something else');
  });
}

test('the same bound gives the same states', () => {
  const limits = { states: 3000 };
  const [one, other] = [0, 1].map(() => search(scenarioOf('power'), newCast(), promises, limits));
  assert.equal(
    [one?.states, one?.transitions, one?.depth],
    [other?.states, other?.transitions, other?.depth],
  );
});

test('the table keeps every row once', () => {
  const table = new Table(3);
  const rows = Array.from({ length: 20_000 }, (_, i) => [i % 7, i, (i * 31) % 1009]);
  assert.equal(
    rows.map((row) => table.add(row)),
    rows.map((_, i) => ~i),
  );
  assert.equal(
    rows.map((row) => table.add(row)),
    rows.map((_, i) => i),
  );
  assert.is(table.size, rows.length);
  assert.equal([...table.row(12_345)], rows[12_345]);
});

test.run();
