// No wait without an end: what a chart waits for, since when, which attempt, and when it goes on by itself.
import type { Failure, Stamp } from './port.ts';

export interface Waiting {
  /** What is waited for, in a few words that an operator reads. */
  for: string;
  /** ms since the epoch. */
  since: number;
  /** When the wait ends by itself, ms since the epoch. */
  until: number;
  /** 1 for the first try. */
  attempt: number;
  /** Why the last try failed, where it did. */
  why?: Why;
}

/** A reason as charts carry it: a code of reasons.ts and its text. */
export interface Why {
  code: string;
  text: string;
  details?: Record<string, unknown>;
}

export const second = 1000;
export const minute = 60 * second;
export const hour = 60 * minute;

export interface Backoff {
  /** Upper bound of the first pause, ms. */
  base: number;
  /** Upper bound of any pause, ms. */
  cap: number;
}

/** EVE's link to EVC: from a second to ten minutes. */
export const linkBackoff: Backoff = { base: second, cap: 10 * minute };

/** What a peer's retry-after counts for at the most, ms: it stands outside of what is signed, and has room for 49 days. */
export const longestRetryAfter = 10 * minute;

/**
 * Full jitter: a pause anywhere between nothing and the bound that doubles with each attempt. A peer's retry-after is
 * the least pause, up to `longestRetryAfter`, and the jitter comes on top, so that a fleet told the same number does not come back as
 * one.
 */
export function pause(attempt: number, dice: number, backoff: Backoff, retryAfter = 0): number {
  const bound = Math.min(backoff.cap, backoff.base * 2 ** Math.min(attempt - 1, 30));
  return Math.round(Math.min(retryAfter, longestRetryAfter) + bound * dice);
}

/** A wait with a deadline: nothing failed, something has to arrive. */
export function deadline(what: string, stamp: Stamp, ms: number, attempt = 1): Waiting {
  return { for: what, since: stamp.at, until: stamp.at + ms, attempt };
}

/** A pause before the next try of something that failed. */
export function retry(
  what: string,
  failure: Failure,
  attempt: number,
  backoff: Backoff = linkBackoff,
): Waiting {
  return {
    for: what,
    since: failure.at,
    until: failure.at + pause(attempt, failure.dice, backoff, failure.retryAfter),
    attempt,
    why: whyOf(failure),
  };
}

export function whyOf(failure: Failure): Why {
  const { code, text, details } = failure;
  return details ? { code, text, details } : { code, text };
}
