// deadline: 120 s
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import Database from 'libsql';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { schema, upgrades, version } from '../../../controller/store/libsql-schema.ts';
import { type Store, StoreError } from '../../../controller/store/store.ts';
import { inFolder } from '../../kit/folders.ts';
import { runToEnd } from '../../kit/process.ts';
import { rejects } from '../../kit/rejects.ts';
import { stepOf, storeSuite } from '../../kit/stores.ts';

storeSuite('libsql', (work) =>
  inFolder(async (folder) => {
    const opened: Store[] = [];
    const open = async () => {
      const store = LibsqlStore.open(join(folder, 'evc.db'));
      opened.push(store);
      return store;
    };
    try {
      await work(await open(), open);
    } finally {
      for (const store of opened) await store.close();
    }
  }),
);

/** A record, its key in escrow and an entry of the audit log, as every version before the third kept them. */
const olderRows = `
insert into records (device, version, snapshot, serial, uuid, account, trust, seen) values ('d', 7, '{"step":7}', 's', 'u', 'a', 'trusted', 5);
insert into escrow (device, version, key_id, box, at) values ('d', 1, 'k', x'010203', 5);
insert into documents (kind, id, body) values ('audit', '1', '{"at":5,"by":"ann","what":"state.accepted","device":"d","reason":"ours"}')`;

/** The error of opening. */
function refusal(path: string): StoreError {
  try {
    LibsqlStore.open(path);
  } catch (error) {
    assert.instance(error, StoreError, `${error}`);
    return error as StoreError;
  }
  return assert.unreachable('it opened') as never;
}

test('what was acknowledged outlives kill -9, whole', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    const script = fileURLToPath(new URL('../../kit/commit-loop.ts', import.meta.url));
    let expected = 0;
    for (let life = 0; life < 4; life++) {
      const child = spawn(process.execPath, ['--import', 'tsx', script, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const acknowledged = await readUntilKilled(child, 30 + 17 * life);
      const store = LibsqlStore.open(path);
      const row = await store.load('d');
      const version = row?.version ?? 0;
      assert.ok(
        version >= acknowledged && acknowledged > expected,
        `${version} steps there, ${acknowledged} acknowledged`,
      );
      // Whole: journal, effects, timer and evidence of every step that is there, and of no other.
      assert.equal(row?.snapshot, { step: version });
      assert.equal(
        (await store.journal('d', 10_000)).map(({ body }) => (body as { from: number }).from),
        countDown(version),
      );
      assert.equal(
        (await store.pending(10_000)).map(({ id }) => id),
        countDown(version)
          .reverse()
          .map((from) => `effect ${from}`),
      );
      assert.equal(await store.due(1e9, 10), [{ device: 'd', timer: 't', at: version }]);
      assert.is((await store.evidence(`evidence ${version - 1}`))?.length, 2000);
      await store.close();
      expected = acknowledged;
    }
  }));

const countDown = (version: number) => Array.from({ length: version }, (_, i) => version - 1 - i);

async function readUntilKilled(child: ChildProcess, after: number): Promise<number> {
  let last = 0;
  let lines = 0;
  const exit = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    last = Number(line);
    if (++lines === after) child.kill('SIGKILL');
  }
  assert.equal(await exit, [null, 'SIGKILL']);
  return last;
}

test('a store of a newer EVC is left alone', () =>
  inFolder((folder) => {
    const path = join(folder, 'evc.db');
    const db = new Database(path);
    db.exec('create table theirs (x); pragma user_version = 99');
    db.close();
    const { code, message } = refusal(path);
    assert.is(code, 'version');
    assert.match(message, /written by a newer EVC \(store 99, this one knows 3\); run that one/);
    const again = new Database(path);
    assert.equal(again.prepare("select name from sqlite_master where type = 'table'").all(), [
      { name: 'theirs' },
    ]);
    again.close();
  }));

for (const from of Array.from({ length: version - 1 }, (_, i) => i + 1))
  test(`a store of version ${from} is brought to ${version}, with all that is in it`, () =>
    inFolder(async (folder) => {
      const path = join(folder, 'evc.db');
      const db = new Database(path);
      db.exec(schema);
      for (let next = 2; next <= from; next++) db.exec(upgrades[next] ?? '');
      db.exec(`${olderRows}; pragma user_version = ${from}`);
      db.close();
      for (const when of ['opened', 'opened again']) {
        const store = LibsqlStore.open(path);
        assert.is((await store.load('d'))?.version, 7, when);
        assert.equal((await store.escrowed('d', 1))?.keyId, 'k');
        const audit = await store.audits({ limit: 9 });
        assert.equal(
          audit.map(({ at, by, what, subject, reason }) => [at, by, what, subject, reason]),
          [[5, 'ann', 'state.accepted', 'd', 'ours']],
        );
        assert.equal(
          (await store.list('', 9)).map(({ device, trust }) => [device, trust]),
          [['d', 'trusted']],
        );
        await store.close();
      }
      const store = LibsqlStore.open(path);
      await store.commit(stepOf('d', 7));
      assert.is((await store.load('d'))?.version, 8, 'and it goes on');
      await store.close();
    }));

test('evc says which store it cannot read, and ends', () =>
  inFolder(async (folder) => {
    const data = join(folder, 'evc');
    await runToEnd('evc', ['init', '--data', data]);
    const db = new Database(join(data, 'evc.db'));
    db.exec('pragma user_version = 99');
    db.close();
    const { code, stderr } = await runToEnd('evc', [
      'serve',
      '--data',
      data,
      '--mqtt-port',
      '0',
      '--https-port',
      '0',
    ]);
    assert.is(code, 1);
    assert.match(stderr, /evc\.db was written by a newer EVC \(store 99, this one knows \d+\); run that one/);
  }));

test('a damaged file is named as one, and not touched', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    const rubbish = Buffer.alloc(8192, 'no database ');
    writeFileSync(path, rubbish);
    const { code, message } = refusal(path);
    assert.equal([code, message], ['broken', `${path} is damaged; restore it from a backup`]);
    assert.equal(readFileSync(path), rubbish);
  }));

test('a file that was cut short', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    const store = LibsqlStore.open(path);
    for (let from = 0; from < 50; from++)
      await store.commit(
        stepOf('d', from, { journal: { at: 1, event: 'x', body: { text: 'x'.repeat(2000) } } }),
      );
    await store.close();
    truncateSync(path, 3 * 4096);
    const reading = async () => {
      const cut = LibsqlStore.open(path);
      try {
        await cut.journal('d', 1000);
      } finally {
        await cut.close();
      }
    };
    await rejects(reading(), StoreError, ({ code }) => code === 'broken');
  }));

test('a folder that cannot be made, and a path that is a folder', () =>
  inFolder((folder) => {
    writeFileSync(join(folder, 'file'), '');
    for (const path of [join(folder, 'file', 'evc.db'), folder]) {
      const { code, message } = refusal(path);
      assert.is(code, 'broken');
      assert.match(message, /cannot be opened; check the folder and its permissions$/);
    }
  }));

test('a folder that is not writable', () =>
  inFolder((folder) => {
    if (process.getuid?.() === 0) {
      // Root writes everywhere but to a file system that is mounted read-only.
      const mounted = mount(folder, 'size=1m');
      if (!mounted) return;
      try {
        spawnSync('mount', ['-o', 'remount,ro', mounted.path]);
        assert.is(refusal(join(mounted.path, 'evc.db')).code, 'broken');
      } finally {
        mounted.end();
      }
      return;
    }
    const path = join(folder, 'closed');
    mkdirSync(path);
    chmodSync(path, 0o500);
    assert.is(refusal(join(path, 'evc.db')).code, 'broken');
  }));

test('a full disk is said, loses nothing, and passes', () =>
  inFolder(async (folder) => {
    const mounted = mount(folder, 'size=2m');
    if (!mounted) return;
    try {
      const store = LibsqlStore.open(join(mounted.path, 'evc.db'));
      let version = 0;
      const big = () =>
        stepOf('d', version, {
          evidence: { id: `e${version}`, bytes: new Uint8Array(100_000), at: version },
        });
      const fill = async () => {
        for (; version < 100; version++) await store.commit(big());
      };
      await rejects(
        fill(),
        StoreError,
        ({ code, message }) =>
          code === 'full' && /is full; free some space, what was stored is safe/.test(message),
      );
      assert.ok(version > 3);
      assert.is((await store.load('d'))?.version, version);
      await rejects(
        store.putBlob('aa', new Uint8Array(3_000_000)),
        StoreError,
        ({ code }) => code === 'full',
      );
      spawnSync('mount', ['-o', 'remount,size=20m', mounted.path]);
      await store.commit(big());
      assert.is((await store.journal('d', 1000)).length, version + 1);
      await store.close();
    } finally {
      mounted.end();
    }
  }));

function mount(folder: string, options: string): { path: string; end(): void } | null {
  const path = join(folder, 'small');
  mkdirSync(path);
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]);
  if (status !== 0) {
    console.log('NOT RUN: a disk of a few MB needs the right to mount a tmpfs');
    return null;
  }
  return { path, end: () => spawnSync('umount', ['-l', path]) };
}

test('another process that holds the store for long is named', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    const store = LibsqlStore.open(path);
    const holder = new Database(path);
    holder.exec('begin immediate');
    await rejects(store.commit(stepOf('d', 0)), StoreError, ({ code }) => code === 'taken');
    await rejects(store.put('account', 'a', {}), StoreError, ({ code }) => code === 'taken');
    holder.exec('rollback');
    holder.close();
    await store.commit(stepOf('d', 0));
    await store.close();
  }));

test('the folder of the store is for its owner alone', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'data', 'evc.db');
    await LibsqlStore.open(path).close();
    assert.is(statSync(join(folder, 'data')).mode & 0o777, 0o700);
  }));

test('the journal of a device is cut', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    await LibsqlStore.open(path).close();
    const db = new Database(path);
    db.exec(
      `insert into records (device, version, snapshot, serial, uuid, account, trust, seen) values ('d', 5100, '{}', '', '', '', '', 0)`,
    );
    const insert = db.prepare(`insert into journal (device, at, event, body) values (?, ?, 'x', '{}')`);
    db.exec('begin');
    for (let i = 0; i < 5100; i++) insert.run(['d', i]);
    insert.run(['e', 0]);
    db.exec('commit');
    db.close();
    const store = LibsqlStore.open(path);
    await store.commit(stepOf('d', 5100));
    const rows = await store.journal('d', 10_000);
    assert.equal([rows.length, rows[0]?.event, (await store.journal('e', 10)).length], [5000, 'tested', 1]);
    await store.close();
  }));

test.run();
