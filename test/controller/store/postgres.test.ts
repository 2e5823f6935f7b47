// deadline: 180 s
import pg from 'pg';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PostgresStore } from '../../../controller/store/postgres.ts';
import { postgresSteps, postgresVersion } from '../../../controller/store/postgres-schema.ts';
import { type Store, StoreError } from '../../../controller/store/store.ts';
import { inTransaction } from '../../../controller/store/transaction.ts';
import { needDebian } from '../../kit/debian.ts';
import { Pooler, PostgresServer, postgresPrograms } from '../../kit/postgres.ts';
import { rejects } from '../../kit/rejects.ts';
import { stepOf, storeSuite } from '../../kit/stores.ts';

const unreachable = ({ code }: StoreError) => code === 'unreachable';

/** Rows of each table. */
async function countOf(url: string, tables: readonly string[]): Promise<number[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const counts: number[] = [];
    for (const name of tables) {
      const { rows } = await client.query<{ n: number }>(`select count(*)::int as n from ${name}`);
      counts.push(rows[0]?.n ?? -1);
    }
    return counts;
  } finally {
    await client.end();
  }
}

if (await needDebian(['postgresql-15', 'pgbouncer'], [])) {
  const server = await PostgresServer.start(postgresPrograms() as string);
  const pooler = await Pooler.start(server);
  test.after(async () => {
    await pooler.stop();
    await server.stop();
  });

  /** Stores of one database, each as a controller of its own. */
  async function shared(
    work: (open: (lease?: number) => Promise<PostgresStore>, url: string) => Promise<void>,
  ) {
    const url = await server.database();
    const opened: Store[] = [];
    try {
      await work(async (lease) => {
        const store = await PostgresStore.open({
          url,
          connections: 4,
          ...(lease === undefined ? {} : { lease }),
        });
        opened.push(store);
        return store;
      }, url);
    } finally {
      for (const store of opened) await store.close();
    }
  }

  test('a connection that is lost in the middle of a transaction fails it, and ends nothing else', async () => {
    const pool = new pg.Pool({ connectionString: await server.database(), max: 1 });
    pool.on('error', () => undefined);
    try {
      const lost = inTransaction(pool, async (client) => {
        const gone = new Promise((resolve) => client.once('end', resolve));
        await client.query('select pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
        await gone;
        await client.query('select 1');
      });
      await rejects(lost, Error, () => true);
      const { rows } = await inTransaction(pool, (client) => client.query('select 1 as one'));
      assert.equal(rows, [{ one: 1 }]);
    } finally {
      await pool.end();
    }
  });

  // Without a lease everything is anybody's at once, as the suite wants to see it.
  storeSuite('postgres', (work) => shared(async (open) => work(await open(-1), () => open(-1))));

  storeSuite('postgres behind a pooler', async (work) => {
    const url = pooler.through(await server.database());
    const opened: Store[] = [];
    const open = async () => {
      const store = await PostgresStore.open({ url, connections: 4, lease: -1 });
      opened.push(store);
      return store;
    };
    try {
      await work(await open(), open);
    } finally {
      for (const store of opened) await store.close();
    }
  });

  const effect = (id: string) => ({ id, device: 'd', type: 'push', params: {} });

  test('an effect is left to the controller that stored it, and taken over by one other when that is gone', () =>
    shared(async (open) => {
      const one = await open();
      await one.commit(stepOf('d', 0, { effects: [effect('a'), effect('b')] }));
      const others = await Promise.all([open(), open()]);
      for (const other of others) assert.equal(await other.pending(10), []);
      const hasty = await open(-1);
      await hasty.commit(stepOf('d', 1, { effects: [effect('c'), effect('d')] }));
      const taken = await Promise.all(others.map((other) => other.pending(10)));
      assert.equal(
        taken
          .flat()
          .map(({ id }) => id)
          .sort(),
        ['c', 'd'],
      );
      assert.equal(await hasty.pending(10), []);
    }));

  test('of many controllers one wins each step, and each timer is answered once', () =>
    shared(async (open) => {
      const stores = await Promise.all([open(), open(), open()]);
      const timer = { device: 'd', timer: 't', at: 5 };
      await (stores[0] as Store).commit(stepOf('d', 0, { setTimers: [timer] }));
      for (let version = 1; version < 20; version++) {
        const tries = stores.map((store, i) =>
          store.commit(
            stepOf('d', version, {
              timer: { ...timer, at: version + 4 },
              setTimers: [{ timer: 't', at: version + 5 }],
              snapshot: { by: i },
              effects: [effect(`${version} ${i}`)],
            }),
          ),
        );
        const results = await Promise.allSettled(tries);
        assert.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
      }
      const store = stores[0] as Store;
      assert.is((await store.load('d'))?.version, 20);
      assert.is((await store.journal('d', 100)).length, 20);
      assert.equal(await store.due(99, 9), [{ ...timer, at: 24 }]);
    }));

  test('tables of a newer EVC are left alone, with a sentence', () =>
    shared(async (open, url) => {
      await (await open()).commit(stepOf('d', 0));
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      await client.query('update evc_store set version = $1', [postgresVersion + 1]);
      await client.end();
      await rejects(
        open(),
        StoreError,
        ({ code, message }) => code === 'version' && /newer EVC/.test(message),
      );
    }));

  for (const from of Array.from({ length: postgresVersion - 1 }, (_, i) => i + 1))
    test(`tables of version ${from} are brought to ${postgresVersion}, with all that is in them`, () =>
      shared(async (open, url) => {
        const client = new pg.Client({ connectionString: url });
        await client.connect();
        for (const step of postgresSteps.slice(0, from)) await client.query(step);
        await client.query('create table evc_store (version integer not null)');
        await client.query('insert into evc_store (version) values ($1)', [from]);
        await client.query(`
          insert into records (device, version, snapshot, serial, uuid, account, trust, seen)
            values ('d', 7, '{"step":7}', 's', 'u', 'a', 'trusted', 5);
          insert into escrow (device, version, key_id, box, at) values ('d', 1, 'k', '\\x010203', 5);
          insert into documents (kind, id, body)
            values ('audit', '1', '{"at":5,"by":"ann","what":"state.accepted","device":"d","reason":"ours"}')`);
        await client.end();
        const store = await open();
        assert.is((await store.load('d'))?.version, 7);
        assert.is((await store.escrowed('d', 1))?.keyId, 'k');
        const audit = await store.audits({ limit: 9 });
        assert.equal(
          audit.map(({ at, by, what, subject, reason }) => [at, by, what, subject, reason]),
          [[5, 'ann', 'state.accepted', 'd', 'ours']],
        );
        await store.commit(stepOf('d', 7));
        assert.is((await (await open()).load('d'))?.version, 8, 'and it goes on');
      }));

  test('controllers that start at once make the tables once', () =>
    shared(async (open) => {
      const stores = await Promise.all(Array.from({ length: 6 }, () => open()));
      await (stores[0] as Store).commit(stepOf('d', 0));
      assert.is((await (stores[5] as Store).load('d'))?.version, 1);
    }));

  test('the journal has a part for each month; the old goes whole', () =>
    shared(async (open, url) => {
      const store = await open();
      const at = (year: number, month: number) => Date.UTC(year, month - 1, 15);
      const journal = (time: number) => ({ at: time, event: 'tested', body: {} });
      await store.commit(stepOf('d', 0, { journal: journal(at(2026, 1)) }));
      await Promise.all([store, await open(), await open()].map((one) => one.maintain(at(2026, 3))));
      await store.maintain(at(2026, 3));
      await store.commit(stepOf('d', 1, { journal: journal(at(2026, 3)) }));
      await store.commit(stepOf('d', 2, { journal: journal(at(2026, 4)) }));
      assert.equal(await countOf(url, ['journal_default', 'journal_2026_03', 'journal_2026_04']), [1, 1, 1]);
      await store.maintain(at(2026, 7));
      assert.equal(
        (await store.journal('d', 10)).map((entry) => entry.at),
        [at(2026, 4)],
      );
    }));

  test('a month that is in the rest already stays there', () =>
    shared(async (open, url) => {
      const store = await open();
      const at = Date.UTC(2026, 2, 15);
      await store.commit(stepOf('d', 0, { journal: { at, event: 'tested', body: {} } }));
      await store.maintain(at);
      await store.commit(stepOf('d', 1, { journal: { at: at + 1, event: 'tested', body: {} } }));
      assert.equal(await countOf(url, ['journal_default', 'journal_2026_04']), [2, 0]);
    }));

  test('a database that is not there, a user who is not let in, nobody at the socket: said without the password', async () => {
    const open = (url: string) => PostgresStore.open({ url });
    await rejects(open(server.url('nowhere')), StoreError, unreachable);
    const nobody = server.url('postgres').replace('evc@', 'nobody:geheim@');
    await rejects(open(nobody), StoreError, (error) => unreachable(error) && !/geheim/.test(error.message));
    await rejects(open('postgres://evc@127.0.0.1:1/evc'), StoreError, unreachable);
  });

  test('a server that is killed under way loses nothing that was acknowledged, and comes back', async () => {
    const own = await PostgresServer.start(postgresPrograms() as string);
    const url = await own.database();
    const store = await PostgresStore.open({ url, connections: 2 });
    let version = 0;
    const end = Date.now() + 1000;
    while (Date.now() < end) await store.commit(stepOf('d', version++));
    await own.kill();
    await rejects(store.commit(stepOf('d', version)), StoreError, unreachable);
    await store.close();
    const again = await own.restart();
    const after = await PostgresStore.open({ url, connections: 2 });
    assert.is((await after.load('d'))?.version, version);
    await after.close();
    await again.stop();
  });
} else test.skip('PostgreSQL is not on this machine', () => {});

test.run();
