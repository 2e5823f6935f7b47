import type { Clock } from '../machines/clock.ts';

/** setTimeout counts in 32 bits, and takes anything longer as nothing. */
const longestTimer = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  sleepUntil: (at, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      let timer: NodeJS.Timeout;
      const arm = () => {
        const left = at - Date.now();
        if (left <= 0) {
          signal?.removeEventListener('abort', stop);
          return resolve();
        }
        timer = setTimeout(arm, Math.min(left, longestTimer));
      };
      const stop = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', stop, { once: true });
      arm();
    }),
};
