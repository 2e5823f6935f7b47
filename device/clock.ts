import { setTimeout } from 'node:timers/promises';
import type { Clock } from '../machines/clock.ts';

/** setTimeout counts in 32 bits, and takes anything longer as nothing. */
const longestTimer = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  async sleepUntil(at, signal) {
    for (let left = at - Date.now(); left > 0; left = at - Date.now()) {
      await setTimeout(Math.min(left, longestTimer), undefined, signal ? { signal } : {});
    }
  },
};
