/** The only source of time and chance for everything that runs charts; tests put a simulated one in its place. */
export interface Clock {
  /** ms since the epoch. */
  now(): number;
  /** One random number in [0, 1), for jitter alone. */
  random(): number;
  /** Resolves when `now()` has reached `at`; rejects with the signal's reason when that comes first. */
  sleepUntil(at: number, signal?: AbortSignal): Promise<void>;
}
