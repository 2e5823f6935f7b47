import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { clockOf } from '../../machines/clock.ts';
import { SimulatedClock } from '../kit/clock.ts';

const year = 365 * 24 * 3600 * 1000;

/** A machine whose time of day is set `ahead` after half of a sleep of a second; resolves with what it slept, ms. */
async function sleptOver(ahead: number): Promise<number> {
  const time = new SimulatedClock(0);
  let offset = 0;
  const clock = clockOf({
    now: () => time.now() + offset,
    random: () => 0,
    sleep: (ms, signal) => time.sleepUntil(time.now() + ms, signal),
  });
  let woken = -1;
  const slept = clock.sleepUntil(clock.now() + 1000).then(() => {
    woken = time.now();
  });
  time.advanceTo(500);
  offset = ahead;
  for (let next = time.next(); next !== null; next = time.next()) {
    time.advanceTo(next);
    await Promise.resolve();
  }
  await slept;
  return woken;
}

test('a sleep lasts as long as it was meant to, wherever the time of day is set meanwhile', async () => {
  assert.is(await sleptOver(0), 1000);
  assert.is(await sleptOver(-year), 1000);
  assert.is(await sleptOver(year), 1000);
});

test('a time that is past is not waited for', async () => {
  const clock = clockOf({
    now: () => 7,
    random: () => 0,
    sleep: () => Promise.reject(new Error('it slept')),
  });
  await clock.sleepUntil(7);
  await clock.sleepUntil(-1);
});

test.run();
