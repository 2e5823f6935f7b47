import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { RecordRunner } from '../../../controller/record/runner.ts';
import { runTimers } from '../../../controller/record/timers.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { SettableClock } from '../../faults/time.ts';
import { SimulatedClock } from '../../kit/clock.ts';

const minute = 60_000;
const year = 365 * 24 * 60 * minute;

test('what failed is tried again where the clock was set back by a year', async () => {
  const time = new SimulatedClock();
  const clock = new SettableClock(time);
  clock.offset = year;
  const store = LibsqlStore.open(':memory:');
  const stop = new AbortController();
  let recovered = 0;
  const runner = {
    recover: async () => {
      recovered++;
      return 0;
    },
  } as unknown as RecordRunner;
  const running = runTimers(store, runner, clock, stop.signal);
  const runFor = async (ms: number) => {
    for (const end = time.now() + ms; time.now() < end; time.advanceTo(time.next() ?? end))
      await new Promise<void>((resolve) => setImmediate(resolve));
  };
  await runFor(minute);
  const before = recovered;
  assert.ok(before > 0);
  clock.offset = 0;
  await runFor(minute);
  assert.ok(recovered >= before + 5, `${recovered - before} times in a minute`);
  stop.abort();
  await running;
  await store.close();
});

test.run();
