import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseFilter } from '../../formats/filter/filter.ts';
import { noFacts } from '../../formats/filter/row.ts';
import type { DeviceRow } from '../../inspector/answers.ts';
import { Fleet } from '../../inspector/fleet.ts';

const now = 1_000_000;
const made = (serial: string, trust: string, more: Partial<DeviceRow> = {}): DeviceRow => ({
  device: Buffer.from(serial).toString('hex').padEnd(64, '0'),
  revision: 1,
  serial,
  uuid: '',
  account: 'plant-7',
  trust,
  seen: now,
  labels: [],
  facts: noFacts,
  ...more,
});
const serials = (fleet: Fleet, filter = '') =>
  fleet.select(parseFilter(filter), now).map(({ serial }) => serial);

test('those that need somebody come first, and names count as people do', () => {
  const fleet = new Fleet();
  fleet.merge([
    made('edge-10', 'trusted'),
    made('edge-9', 'trusted'),
    made('edge-3', 'retired'),
    made('edge-5', 'something of tomorrow'),
    made('edge-7', 'stale'),
    made('edge-20', 'uud'),
    made('edge-4', 'umd'),
  ]);
  assert.equal(serials(fleet), ['edge-20', 'edge-4', 'edge-7', 'edge-9', 'edge-10', 'edge-3', 'edge-5']);
  assert.equal(serials(fleet, 'trust:uud,umd'), ['edge-20', 'edge-4']);
  assert.equal(serials(fleet, '-trust:trusted edge-2'), ['edge-20']);
});

test('a page that was on its way brings nothing back that has changed since', () => {
  const fleet = new Fleet();
  fleet.merge([made('edge-1', 'uud', { revision: 7 })]);
  const { version } = fleet;
  fleet.merge([made('edge-1', 'trusted', { revision: 6 })]);
  assert.equal([serials(fleet, 'trust:uud'), fleet.version], [['edge-1'], version]);
  fleet.merge([made('edge-1', 'trusted', { revision: 8 })]);
  assert.equal(serials(fleet, 'trust:uud'), []);
  // A label is no part of the record.
  fleet.merge([made('edge-1', 'trusted', { revision: 8, labels: ['lab'] })]);
  assert.equal(serials(fleet, 'label:lab'), ['edge-1']);
  assert.ok(fleet.version > version);
});

test('a device that is called otherwise moves, and one that is gone goes', () => {
  const fleet = new Fleet();
  const [one, other] = [made('a', 'trusted'), made('b', 'trusted')];
  fleet.merge([one, other]);
  assert.equal(serials(fleet), ['a', 'b']);
  fleet.merge([{ ...one, serial: 'c', revision: 2 }]);
  assert.equal(serials(fleet), ['b', 'c']);
  fleet.keep(new Set([other.device]));
  assert.equal([serials(fleet), fleet.size], [['b'], 1]);
  fleet.clear();
  assert.is(fleet.size, 0);
});

test('counts are of what the filter means but for the trust, the most urgent first', () => {
  const fleet = new Fleet();
  fleet.merge([
    made('a', 'trusted'),
    made('b', 'trusted'),
    made('c', 'uud'),
    made('d', 'uud', { account: 'lab' }),
  ]);
  const counts = (filter: string) => [...fleet.counts(parseFilter(filter), now)];
  const all = [
    ['uud', 2],
    ['trusted', 2],
  ];
  assert.equal(counts(''), all);
  assert.equal(counts('trust:uud'), all);
  assert.equal(counts('account:plant-7 -trust:trusted'), [
    ['uud', 1],
    ['trusted', 2],
  ]);
});

test.run();
