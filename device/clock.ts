import type { Clock } from '../machines/clock.ts';

/** setTimeout counts in 32 bits, and takes anything longer as nothing. */
const longestTimer = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  // As `setTimeout` of timers/promises, whose errors have a stack each: half of what a request costs that is answered in time.
  sleepUntil: (at, signal) =>
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
      const wait = () => {
        const left = at - Date.now();
        if (left > 0) {
          timer = setTimeout(wait, Math.min(left, longestTimer));
          return;
        }
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      wait();
    }),
};
