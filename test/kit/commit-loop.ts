// A process that steps one record for ever, and says each version once its commit is acknowledged. To be killed.
import { LibsqlStore } from '../../controller/store/libsql.ts';
import { stepOf } from './stores.ts';

const [path = ''] = process.argv.slice(2);
const store = LibsqlStore.open(path);
for (let from = (await store.load('d'))?.version ?? 0; ; from++) {
  await store.commit(
    stepOf('d', from, {
      effects: [{ id: `effect ${from}`, device: 'd', type: 'push', params: {} }],
      setTimers: [{ timer: 't', at: from + 1 }],
      evidence: { id: `evidence ${from}`, bytes: new Uint8Array(2000), at: from },
    }),
  );
  process.stdout.write(`${from + 1}\n`);
}
