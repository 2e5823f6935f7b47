// deadline: 120 s
// What people decide about devices: each is kept with who, why, before and after, or not made at all.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../controller/decision.ts';
import { RevisionChanged } from '../../controller/record/runner.ts';
import { StoreError } from '../../controller/store/store.ts';
import { ApiBench } from '../kit/api.ts';
import { rejects } from '../kit/rejects.ts';
import { stepOf, storeWith, summary } from '../kit/stores.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { operator, accounts, store } = evc;
const { uud, trusted, board } = await bench.devices();
const ann = { by: 'ann' };
test.after(async () => {
  await bench.close();
  await board.close();
});

const coded = (wanted: string) => (error: OperatorError) => error.code === wanted;
const contextOf = async (device: string) => (await evc.runner.read(device))?.context;

test('labels are sorted, once each, bounded, and found again', async () => {
  assert.equal((await operator.labelDevice(uud.id, ['lab', 'hall-2', 'lab'], ann)).labels, ['hall-2', 'lab']);
  assert.equal(
    (await operator.list({ filter: 'label:hall-*', limit: 9 })).devices.map(({ device }) => device),
    [uud.id],
  );
  await rejects(operator.labelDevice(uud.id, ['no label'], ann), OperatorError, coded('label.name'));
  const many = Array.from({ length: 33 }, (_, i) => `l${i}`);
  await rejects(operator.labelDevice(uud.id, many, ann), OperatorError, coded('label.too-many'));
  const [entry] = await store.audits({ limit: 1, subject: uud.id });
  assert.equal([entry?.before, entry?.after], [{ labels: [] }, { labels: ['hall-2', 'lab'] }]);
  assert.equal((await operator.show(uud.id)).labels, ['hall-2', 'lab'], 'what was refused changed nothing');
});

test('a device has a lock of its own, which outlives changes of its account', async () => {
  await accounts.add({ id: 'plant', kind: 'production', locationLock: false, radius: 100, moved: 'report' });
  await operator.moveDevice(trusted.id, 'plant', ann);
  const locked = await operator.lockDevice(trusted.id, { locationLock: true, moved: 'block' }, ann);
  assert.equal(locked.lock, { locationLock: true, radius: 100, moved: 'block' });
  assert.is((locked.states as { location: string }).location, 'baselinePending');
  await accounts.change('plant', { radius: 50 }, ann);
  assert.equal((await operator.show(trusted.id)).lock, { locationLock: true, radius: 50, moved: 'block' });
  const open = await operator.lockDevice(trusted.id, {}, { ...ann, reason: 'as the others' });
  assert.equal(open.lock, { locationLock: false, radius: 50, moved: 'report' });
  assert.is((open.states as { location: string }).location, 'notLocked');
  assert.is(await accounts.lockOf(trusted.id), null);
});

test('a lock that the record did not take is not kept either', async () => {
  const { revision } = await operator.show(trusted.id);
  const stale = { ...ann, ifRevision: revision - 1 };
  await rejects(operator.lockDevice(trusted.id, { radius: 1 }, stale), RevisionChanged);
  assert.is(await accounts.lockOf(trusted.id), null);
});

test('a decision and its line in the audit log are stored together, or not at all', async () => {
  const lines = async () => (await store.audits({ limit: 1000 })).length;
  const before = [await lines(), (await operator.show(uud.id)).revision];
  const { runner } = evc;
  const broken = storeWith(store, {
    commit: () => Promise.reject(new StoreError('full', 'no room')),
  });
  const other = new (runner.constructor as new (options: object) => typeof runner)({
    store: broken,
    clock: bench.evc.clock,
    perform: async () => undefined,
  });
  const decided = { by: 'ann', what: 'rotation.asked', reason: '' };
  await rejects(other.send(uud.id, { type: 'rotation.asked' }, { decided }), StoreError);
  assert.equal([await lines(), (await operator.show(uud.id)).revision], before);
});

test('many are accepted by their list: each with the evidence that was looked at, or it is said why not', async () => {
  const attempt = (await operator.changes(uud.id)).software?.attempt ?? '';
  const list = [
    { device: uud.id, attempt },
    { device: trusted.id, attempt: 'a' },
    { device: uud.id, attempt: 'b' },
  ];
  await rejects(operator.acceptMany(list, 'ann', ' '), OperatorError, coded('reason.missing'));
  assert.is((await contextOf(uud.id))?.acceptance, null);
  const results = await operator.acceptMany(list, 'ann', 'ours');
  assert.equal(
    results.map(({ refused }) => refused?.code ?? 'accepted'),
    ['accepted', 'device.nothing-to-accept', 'device.other-attempt'],
  );
  assert.equal((await contextOf(uud.id))?.acceptance?.by, 'ann');
});

test('a page ends where it must, with filters and without', async () => {
  for (let i = 0; i < 30; i++)
    await store.commit(
      stepOf(`e${`${i}`.padStart(63, '0')}`, 0, {
        summary: { ...summary, serial: `p-${i}`, account: i % 2 === 0 ? 'even' : 'odd' },
      }),
    );
  for (const [filter, limit, accountsOf, count] of [
    ['serial:p-*', 7, null, 30],
    ['serial:p-*', 30, null, 30],
    ['serial:p-* account:odd', 4, null, 15],
    ['', 5, ['even'], 15],
    ['', 15, ['even'], 15],
    ['account:odd', 5, ['even'], 0],
    ['', 5, [], 0],
  ] as const) {
    const seen: string[] = [];
    let after = '';
    for (let pages = 0; ; pages++) {
      assert.ok(pages < 40, 'it ends');
      const page = await operator.list({ filter, after, limit, accounts: accountsOf });
      assert.ok(page.devices.length <= limit);
      seen.push(...page.devices.map(({ device }) => device));
      if (page.next === null) break;
      after = page.next;
    }
    assert.equal([seen.length, new Set(seen).size], [count, count], `${filter} by ${limit}`);
  }
});

test('a device of another account is not there', async () => {
  await rejects(operator.find('edge-01', ['plant']), OperatorError, coded('device.unknown'));
  assert.is(await operator.find('edge-01', ['factory']), uud.id);
  await rejects(operator.find('e000'), OperatorError, coded('device.ambiguous'));
});

test('facts of a list are those of the record', async () => {
  const { devices } = await operator.list({ filter: 'serial:edge-01', limit: 1 });
  assert.equal(devices[0]?.facts, (await operator.show(uud.id)).facts);
  assert.ok((devices[0]?.facts.pcrs.length ?? 0) > 0);
  assert.is(devices[0]?.facts.reason, (await operator.show(uud.id)).verdict?.findings[0]?.code);
});

test.run();
