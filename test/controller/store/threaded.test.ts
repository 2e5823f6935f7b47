// deadline: 120 s
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { type Store, StoreError } from '../../../controller/store/store.ts';
import { openThreaded } from '../../../controller/store/threaded.ts';
import { inFolder } from '../../kit/folders.ts';
import { rejects } from '../../kit/rejects.ts';
import { stepOf, storeSuite } from '../../kit/stores.ts';

storeSuite('libsql on a thread', (work) =>
  inFolder(async (folder) => {
    const opened: Store[] = [];
    const open = async () => {
      const store = await openThreaded(join(folder, 'evc.db'));
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

test('what cannot be opened is named, with its own code', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    writeFileSync(path, 'no database'.repeat(1000));
    await rejects(openThreaded(path), StoreError, ({ code, message }) => {
      return code === 'broken' && message.includes(path);
    });
  }));

test('what was asked before the end is answered, and is in the file', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'evc.db');
    const store = await openThreaded(path);
    const steps = Array.from({ length: 50 }, (_, i) => store.commit(stepOf(`d${i}`, 0)));
    await store.close();
    await Promise.all(steps);
    const again = LibsqlStore.open(path);
    assert.is((await again.list('', 100)).length, 50);
    await again.close();
  }));

test('bytes that are part of a larger buffer go over alone', () =>
  inFolder(async (folder) => {
    const store = await openThreaded(join(folder, 'evc.db'));
    const large = new Uint8Array(1000).fill(7);
    const part = large.subarray(10, 14);
    await store.commit(stepOf('d', 0, { evidence: { id: 'e', bytes: part, at: 1 } }));
    await store.putBlob('aa', part);
    const expected = Uint8Array.of(7, 7, 7, 7);
    assert.equal([await store.evidence('e'), await store.blob('aa')], [expected, expected]);
    assert.is(part.length, 4, 'the caller keeps its own');
    await store.close();
  }));

test.run();
