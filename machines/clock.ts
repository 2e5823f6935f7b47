/** The only source of time and chance for everything that runs charts; tests put a simulated one in its place. */
export interface Clock {
  /** ms since the epoch. */
  now(): number;
  /** One random number in [0, 1), for jitter alone. */
  random(): number;
  /**
   * Resolves when `now()` has reached `at`; rejects with the signal's reason when that comes first. The time of day may be set
   * meanwhile: it resolves no later than it would have without, and `now()` can then be before `at`.
   */
  sleepUntil(at: number, signal?: AbortSignal): Promise<void>;
}

/** A clock that stands before this was never set: a time before this program was made, ms since the epoch. */
export const earliest = Date.UTC(2026, 0, 1);

/** What a machine has of time. */
export interface TimeSource {
  /** Time of day, ms since the epoch: somebody may set it. */
  now(): number;
  random(): number;
  /** Sleeps so many ms, whatever the time of day is set to; rejects with the signal's reason when that comes first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/**
 * A clock that survives a time of day that is set while it sleeps. How long a sleep lasts is settled when it begins: a device that
 * boots with its clock a year ahead would otherwise sleep for a year when its clock is put right.
 */
export function clockOf({ now, random, sleep }: TimeSource): Clock {
  return {
    now,
    random,
    async sleepUntil(at, signal) {
      const ms = at - now();
      if (ms > 0) await sleep(ms, signal);
    },
  };
}
