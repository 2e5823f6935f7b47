import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createMachine, transition } from 'xstate';
import { type RecordEvent, RecordRunner } from '../../../controller/record/runner.ts';
import {
  type RecordChart,
  recordChart,
  restoreRecord,
  type StoredSnapshot,
  storedRecord,
} from '../../../controller/record/snapshot.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { StoreError } from '../../../controller/store/store.ts';
import { type DeviceRecordEvent, deviceRecord } from '../../../machines/device-record.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { type KeptRecord, recordsOf } from '../../kit/record-states.ts';
import { rejects } from '../../kit/rejects.ts';
import { stepOf } from '../../kit/stores.ts';

const versions = Array.from({ length: recordChart.version }, (_, i) => i + 1);
const request = { endpoint: 'attest', id: 'r' } as const;
/** One of each kind that may reach any record. */
const whatever: RecordEvent[] = [
  { type: 'uuid.requested', request },
  { type: 'nonce.requested', request, salt: 's', nonceHash: 'n' },
  { type: 'config.requested', request, tokenHash: null, version: 0 },
  { type: 'key.received', request, tokenHash: 'none', keyId: 'k', version: 1 },
  { type: 'info.received', request, key: 'device', body: {} },
  { type: 'link.changed', online: true },
  { type: 'timer.due', timer: 'nonce' },
  { type: 'timer.due', timer: 'trust' },
  { type: 'timer.due', timer: 'upgrade' },
  { type: 'rotation.asked' },
  { type: 'device.retired', by: 'somebody', reason: 'sold' },
];
const nameOf = ({ value }: KeptRecord) => Object.values(value).join(' ');

/** States in which a record can be found: one that is left at once is none. */
function restingStates(): string[] {
  return Object.entries(deviceRecord.states).flatMap(([region, { states }]) =>
    Object.entries(states)
      .filter(([, { always }]) => (always ?? []).length === 0)
      .map(([state]) => `${region}.${state}`),
  );
}

for (const version of versions)
  test(`records of version ${version}, in every state, go on with the chart of today`, () => {
    const records = recordsOf(version);
    const seen = new Set(
      records.flatMap(({ value }) => Object.entries(value).map(([region, state]) => `${region}.${state}`)),
    );
    if (version === recordChart.version)
      assert.equal(
        restingStates().filter((state) => !seen.has(state)),
        [],
        'npm run records makes one of each state',
      );
    for (const record of records) {
      const before = restoreRecord(record);
      assert.is(before.status, 'active', nameOf(record));
      for (const event of whatever) {
        const stamped = { ...event, at: before.context.seen + 1, dice: 0.5 } as DeviceRecordEvent;
        const [after] = transition(deviceRecord, before, stamped);
        assert.is(after.status, 'active', `${nameOf(record)} after ${event.type}`);
        const again = restoreRecord(JSON.parse(JSON.stringify(storedRecord(after))) as object);
        assert.equal(again.value, after.value);
      }
    }
  });

test('a record without a version is of the first', () => {
  const [{ chart: _, ...record } = { chart: 1 }] = recordsOf(1);
  assert.is(restoreRecord(record).status, 'active');
});

test('a record that names a state which never was is broken, and not taken for another', () => {
  const [record] = recordsOf(1);
  assert.throws(
    () => restoreRecord({ ...record, value: { ...record?.value, integrity: 'perfect' } }),
    (error: unknown) => error instanceof StoreError && error.code === 'broken',
  );
});

// ---- The next version of the chart, beside this one

const renamed = new Map([
  ['verifying', 'judging'],
  ['held', 'kept'],
  ['notLocked', 'free'],
]);

/** The same chart with other names for some states, as targets and as states. */
function rename(config: unknown): unknown {
  if (typeof config === 'string') {
    const [, dot = '', name = ''] = /^(\.?)(.*)$/.exec(config) ?? [];
    return renamed.has(name) ? `${dot}${renamed.get(name)}` : config;
  }
  if (Array.isArray(config)) return config.map(rename);
  if (typeof config !== 'object' || config === null) return config;
  return Object.fromEntries(
    Object.entries(config).map(([key, inner]) => [renamed.get(key) ?? key, rename(inner)]),
  );
}

const nextChart: RecordChart = {
  machine: createMachine(
    rename(deviceRecord.config) as never,
    deviceRecord.implementations as never,
  ) as unknown as typeof deviceRecord,
  version: recordChart.version + 1,
  migrations: [
    ...recordChart.migrations,
    ({ value, context, ...rest }: StoredSnapshot) => ({
      ...rest,
      value: rename(value),
      context: { ...(context as object), note: '' },
    }),
  ],
};

/** Two controllers on one store, one of them upgraded. */
async function sideBySide(
  work: (today: RecordRunner, next: RecordRunner, store: LibsqlStore) => Promise<void>,
) {
  const store = LibsqlStore.open(':memory:');
  const clock = new SimulatedClock();
  const runner = (chart: RecordChart) =>
    new RecordRunner({ store, clock, chart, perform: () => Promise.resolve() });
  try {
    await work(runner(recordChart), runner(nextChart), store);
  } finally {
    await store.close();
  }
}

test('records in every state are brought forward by an upgraded controller, one by one as they are stepped', () =>
  sideBySide(async (today, next, store) => {
    for (const [i, record] of recordsOf(recordChart.version).entries()) {
      const device = `d${i}`;
      await store.commit(stepOf(device, 0, { snapshot: record }));
      await today.send(device, { type: 'link.changed', online: false });
      assert.is((await today.read(device))?.value.integrity, record.value.integrity);

      // Read by both, and left as it is.
      const seen = (await next.read(device)) as unknown as { value: unknown; context: { note?: string } };
      assert.equal(seen.value, rename({ ...record.value, link: 'offline' }));
      assert.is(seen.context.note, '');
      await today.send(device, { type: 'link.changed', online: true });

      // Stepped by the upgraded one, it is the upgraded one's.
      await next.send(device, { type: 'link.changed', online: false });
      const newer = (error: StoreError) => error.code === 'ahead';
      await rejects(today.read(device), StoreError, newer);
      await rejects(today.send(device, { type: 'link.changed', online: true }), StoreError, newer);
      await rejects(today.send(device, { type: 'link.changed', online: true }), StoreError, newer);
      const after = await next.send(device, { type: 'link.changed', online: true });
      assert.equal(after.value, rename({ ...record.value, link: 'online' }));
      const row = await store.load(device);
      assert.equal([row?.version, row?.snapshot], [5, { ...row?.snapshot, chart: nextChart.version }]);
    }
  }));

test.run();
