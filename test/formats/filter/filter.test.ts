import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Filter,
  FilterError,
  filterKeys,
  filterText,
  matches,
  parseFilter,
} from '../../../formats/filter/filter.ts';
import { type FleetRow, noFacts } from '../../../formats/filter/row.ts';

const hour = 3_600_000;
const now = 100 * hour;

const row: FleetRow = {
  device: '4f2a'.padEnd(64, '0'),
  serial: 'edge-02',
  uuid: 'b0a7c1d2-0000-4000-8000-000000000000',
  account: 'plant-7',
  trust: 'uud',
  seen: now - 3 * hour,
  labels: ['lab', 'hall "B"'],
  facts: {
    ...noFacts,
    reason: 'policy.pcr.unexpected',
    pcrs: [8, 9],
    image: '2.1.0',
    firmware: 'ACME 1',
    upgrade: '3.0.0',
  },
};

const cases: [filter: string, holds: boolean][] = [
  ['', true],
  ['   ', true],
  ['trust:uud', true],
  ['trust:trusted,uud', true],
  ['trust:trusted', false],
  ['-trust:trusted', true],
  ['-trust:uud', false],
  ['trust:uud pcr:8 account:plant-7', true],
  ['trust:uud pcr:7', false],
  ['pcr:7,9', true],
  ['pcr:08', true],
  ['account:plant-*', true],
  ['account:plant', false],
  ['label:lab', true],
  ['label:"hall \\"B\\""', true],
  ['label:"hall \\"C\\"",lab', true],
  ['-label:lab', false],
  ['reason:policy.*', true],
  ['reason:policy.pcr.unexpected', true],
  ['image:2.*', true],
  ['image:2', false],
  ['firmware:"ACME 1"', true],
  ['upgrade:3.0.0', true],
  ['link:offline', true],
  ['link:online', false],
  ['serial:edge-02', true],
  ['device:4F2A', true],
  ['device:5', false],
  ['edge', true],
  ['EDGE-0*', true],
  ['4f2a', true],
  ['b0a7', true],
  ['plant', false],
  ['stale:', false],
  ['stale:2h', true],
  ['stale:180m', true],
  ['stale:4h', false],
  ['-stale:7d', true],
  ['TRUST:uud', true],
];

for (const [text, holds] of cases)
  test(`${text === '' ? 'nothing' : text}: ${holds ? 'is meant' : 'is not'}`, () => {
    assert.is(matches(parseFilter(text), row, now), holds);
    assert.is(
      matches(parseFilter(filterText(parseFilter(text))), row, now),
      holds,
      'and so is what it is printed as',
    );
  });

test('a device that is connected is not silent, and one whose trust ran out is stale', () => {
  assert.not(matches(parseFilter('stale:2h'), { ...row, facts: { ...row.facts, online: true } }, now));
  assert.ok(matches(parseFilter('stale:'), { ...row, trust: 'stale' }, now));
});

const wrong: [filter: string, at: number, says: RegExp][] = [
  ['trust:good', 0, /trust: good is none; it is trusted, uud/],
  ['trust:', 0, /wants a value/],
  ['a  pcr:24', 3, /a number from 0 to 23/],
  ['pcr:8,', 0, /wants a value/],
  ['colour:red', 0, /no key colour:; known: trust, pcr/],
  ['constructor:x', 0, /no key/],
  ['label:"x', 6, /no end/],
  ['stale:soon', 0, /30m, 2h, 7d/],
  ['link:up', 0, /online, offline/],
  ['x'.repeat(501), 500, /500 characters/],
  ['a '.repeat(21), 40, /20 terms/],
  [`pcr:${'8,'.repeat(50)}8`, 0, /50 alternatives/],
];

for (const [text, at, says] of wrong)
  test(`${text.slice(0, 20)} is no filter, and it is said where`, () => {
    try {
      parseFilter(text);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, FilterError);
      assert.match((error as Error).message, says);
      assert.is((error as FilterError).at, at);
    }
  });

test('whatever is typed is a filter or said to be none', () => {
  const pieces = ['trust:', '"', '\\', ',', '-', ':', ' ', 'uud', 'label:', '*', 'ü', '\n'];
  let seed = 7;
  let filters = 0;
  const orNull = (parse: () => Filter): Filter | null => {
    try {
      return parse();
    } catch (error) {
      if (error instanceof FilterError) return null;
      throw error;
    }
  };
  for (let round = 0; round < 5000; round++) {
    let text = '';
    for (let i = 0; i < 8; i++) {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
      text += pieces[seed % pieces.length];
    }
    const filter = orNull(() => parseFilter(text));
    if (!filter) continue;
    filters++;
    assert.equal(parseFilter(filterText(filter)), filter, `${JSON.stringify(text)} ${filterText(filter)}`);
  }
  assert.ok(filters > 500, `${filters} of them are filters`);
});

test('every key says what its values are', () => {
  assert.ok(filterKeys.length > 10);
  for (const { says } of filterKeys) assert.ok(says.length > 3);
});

test.run();
