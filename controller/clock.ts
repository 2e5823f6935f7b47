import { setTimeout } from 'node:timers/promises';
import { type Clock, clockOf } from '../machines/clock.ts';

/** setTimeout counts in 32 bits, and takes anything longer as nothing. */
const longestTimer = 2 ** 31 - 1;

export const systemClock: Clock = clockOf({
  now: () => Date.now(),
  random: () => Math.random(),
  async sleep(ms, signal) {
    // A timer may fire within its last millisecond.
    for (let left = Math.ceil(ms) + 1; left > 0; left -= longestTimer) {
      await setTimeout(Math.min(left, longestTimer), undefined, signal ? { signal } : {});
    }
  },
});
