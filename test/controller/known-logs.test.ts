import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { KnownLogs } from '../../controller/known-logs.ts';
import { StoreError } from '../../controller/store/store.ts';
import { rejects } from '../kit/rejects.ts';

const log = Buffer.from('a log');
const name = createHash('sha256').update(log).digest('hex');

/** Rows, and how often somebody asked for them. */
function rows(kept: [string, Uint8Array][] = []) {
  const blobs = new Map(kept);
  const asked: string[] = [];
  return {
    asked,
    full: false,
    async blob(sha256: string) {
      asked.push(`blob ${sha256}`);
      return blobs.get(sha256) ?? null;
    },
    async putBlob(sha256: string, bytes: Uint8Array) {
      asked.push(`put ${sha256}`);
      if (this.full) throw new StoreError('full', 'no room');
      blobs.set(sha256, bytes);
    },
  };
}

test('a log is read once', async () => {
  const store = rows([[name, log]]);
  const logs = new KnownLogs(store);
  assert.equal(await logs.find(name), log);
  assert.equal(await logs.find(name), log);
  await logs.keep(name, log);
  assert.equal(store.asked, [`blob ${name}`]);
});

test('of what a device offers twenty logs are kept, and those of others beside them; a baseline is kept all the same', async () => {
  const store = rows();
  const logs = new KnownLogs(store);
  const named = (n: number): [string, Uint8Array] => {
    const bytes = Buffer.from(`log ${n}`);
    return [createHash('sha256').update(bytes).digest('hex'), bytes];
  };
  for (let n = 0; n < 30; n++) await logs.offer('flooder', ...named(n));
  assert.is(store.asked.length, 20);
  await logs.offer('flooder', ...named(3));
  assert.is(store.asked.length, 20, 'it is there');
  await logs.offer('other', ...named(40));
  await logs.keep(...named(41));
  assert.is(store.asked.length, 22);
  assert.is(await logs.find(named(25)[0]), null);
  assert.equal(await logs.find(named(41)[0]), named(41)[1]);
});

test('a log that EVC does not have is asked for each time: another controller may get it', async () => {
  const store = rows();
  const logs = new KnownLogs(store);
  assert.is(await logs.find(name), null);
  await store.putBlob(name, log);
  assert.equal(await logs.find(name), log);
});

test('a log that could not be stored is not known', async () => {
  const store = rows();
  store.full = true;
  const logs = new KnownLogs(store);
  await rejects(logs.keep(name, log), StoreError, ({ code }) => code === 'full');
  assert.is(await logs.find(name), null);
  store.full = false;
  await logs.keep(name, log);
  assert.equal(await new KnownLogs(store).find(name), log);
});

test.run();
