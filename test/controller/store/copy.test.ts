// deadline: 120 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { copyStore } from '../../../controller/store/copy.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { PostgresStore } from '../../../controller/store/postgres.ts';
import { type Store, StoreError } from '../../../controller/store/store.ts';
import { needDebian } from '../../kit/debian.ts';
import { inFolder } from '../../kit/folders.ts';
import { PostgresServer, postgresPrograms } from '../../kit/postgres.ts';
import { rejects } from '../../kit/rejects.ts';
import { stepOf, summary } from '../../kit/stores.ts';

/** Everything that can be asked of a store. */
async function all(store: Store): Promise<unknown> {
  const devices = await store.list('', 10_000);
  const of = await Promise.all(
    devices.map(async ({ device }) => [
      await store.load(device),
      await store.journal(device, 10_000),
      await store.escrowed(device, 1),
      await store.evidence(`evidence ${device}`),
      await store.attempts(device),
      await store.attemptLines(device, 1),
    ]),
  );
  const documents = [await store.all('account'), await store.all('setting')];
  return [
    devices,
    of,
    documents,
    await store.due(1e9, 10_000),
    await store.blob('aa'),
    await store.pending(10_000),
  ];
}

/** Part by part, since a difference in thousands of rows shows nothing. */
async function same(one: Store, other: Store): Promise<void> {
  const [ours, theirs] = [(await all(one)) as unknown[], (await all(other)) as unknown[]];
  for (const [i, part] of ours.entries())
    for (const [j, row] of (part as unknown[]).entries())
      assert.is(JSON.stringify(row), JSON.stringify((theirs[i] as unknown[])[j]), `part ${i}`);
}

async function fill(store: Store, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const device = `d${i}`;
    await store.commit(
      stepOf(device, 0, {
        summary: { ...summary, serial: `serial ${i}` },
        effects: [{ id: `e${i}`, device, type: 'push', params: { text: '\0"\u{1f600}' } }],
        setTimers: [{ timer: 't', at: i }],
        escrow: { device, version: 1, keyId: 'k', box: Uint8Array.of(i & 255, 0, 255), at: 5 },
        attempt: { begins: true, lines: [`line ${i}`], standing: () => 'stands' },
        evidence: { id: `evidence ${device}`, bytes: new Uint8Array(100).fill(i), at: 6 },
      }),
    );
  }
  await store.putBlob('aa', Uint8Array.of(1, 2, 3));
  await store.put('account', 'a', { id: 'a', name: 'ü' });
}

if (await needDebian(['postgresql-15'], [])) {
  const server = await PostgresServer.start(postgresPrograms() as string);
  test.after(() => server.stop());

  test('all that is in the file is in the database, and again what has changed since', () =>
    inFolder(async (folder) => {
      const path = join(folder, 'evc.db');
      const url = await server.database();
      // EVC has it open, and goes on.
      const file = LibsqlStore.open(path);
      await fill(file, 1200);
      const { rows } = await copyStore(path, url);
      assert.equal([rows.records, rows.journal, rows.blobs], [1200, 1200, 1]);
      const database = await PostgresStore.open({ url, lease: -1 });
      await same(database, file);

      await file.commit(
        stepOf('d1', 1, { attempt: { begins: false, lines: ['later'], standing: () => 's' } }),
      );
      await file.commit(stepOf('d0', 1, { clearTimers: ['t'], snapshot: { late: true } }));
      await file.commit(stepOf('new', 0));
      await file.done(['e5']);
      await file.put('setting', 'x', { late: true });
      await copyStore(path, url);
      await same(database, file);
      // The database goes on where the file stopped.
      await database.commit(stepOf('d0', 2));
      const [newest] = await database.journal('d0', 1);
      assert.ok((newest?.seq ?? 0) > 1201);
      await rejects(copyStore(path, url), StoreError, ({ code }) => code === 'newer');
      await file.close();
      await database.close();
    }));

  test('a copy that breaks off leaves the database as it was', () =>
    inFolder(async (folder) => {
      const path = join(folder, 'evc.db');
      const url = await server.database();
      const file = LibsqlStore.open(path);
      await fill(file, 3);
      await copyStore(path, url);
      await file.commit(stepOf('d1', 1));
      const stop = new Error('stop');
      await rejects(
        copyStore(path, url, (table) => {
          if (table === 'timers') throw stop;
        }),
        Error,
        (error) => error === stop,
      );
      const database = await PostgresStore.open({ url });
      assert.is((await database.load('d1'))?.version, 1);
      await database.close();
      await file.close();
    }));
} else test.skip('PostgreSQL is not on this machine', () => {});

test.run();
