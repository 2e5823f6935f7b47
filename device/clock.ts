import { type Clock, clockOf } from '../machines/clock.ts';

/** setTimeout counts in 32 bits, and takes anything longer as nothing. */
const longestTimer = 2 ** 31 - 1;

export const systemClock: Clock = clockOf({
  now: () => Date.now(),
  random: () => Math.random(),
  // As `setTimeout` of timers/promises, whose errors have a stack each: half of what a request costs that is answered in time.
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      let timer: NodeJS.Timeout | undefined;
      const stop = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', stop, { once: true });
      // A timer may fire within its last millisecond.
      let left = Math.ceil(ms) + 1;
      const wait = () => {
        if (left <= 0) {
          signal?.removeEventListener('abort', stop);
          resolve();
          return;
        }
        const next = Math.min(left, longestTimer);
        left -= next;
        timer = setTimeout(wait, next);
      };
      wait();
    }),
});
