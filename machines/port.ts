// A port is an effect that a chart names and somebody else performs. Every answer of a port, and every event that
// reaches a chart, bears a stamp, so a chart knows the time and has its dice without asking anybody: it stays pure,
// and a recording of its inputs replays to the same states.
import { fromPromise } from 'xstate';

/** When something reached a chart (ms since the epoch), and one random number in [0, 1) for its jitter. */
export interface Stamp {
  at: number;
  dice: number;
}

/** What a port answers. */
export interface Answer<Value> extends Stamp {
  value: Value;
}

/** Why a port could not answer; `code` is one of reasons.ts. */
export interface Failure extends Stamp {
  code: string;
  text: string;
  /** What the peer asked us to wait before the next try, in ms. */
  retryAfter?: number;
  /** Details worth showing: PCRs that differ, the address that was tried. Never a secret. */
  details?: Record<string, unknown>;
}

/** Declares a port. Ports are safe to run again: after a restart XState invokes an unfinished one a second time. */
export function port<Value, Input = void>(name: string) {
  return fromPromise<Answer<Value>, Input>(() => {
    throw new TypeError(`the port ${name} is not provided`);
  });
}

/** The one way to wait: until an absolute time (ms since the epoch), since XState loses `after` on restore (statelyai/xstate#5331). */
export const sleepUntil = port<null, { at: number }>('sleepUntil');

/**
 * The invoke of a state that waits: it goes on when `context.waiting` says so, whatever else happens. A clock that
 * fails counts as elapsed, because a wait that cannot end is worse than one that ends early.
 */
export const elapsed = <const Transition>(transition: Transition) => ({
  id: 'wait',
  src: 'sleepUntil' as const,
  input: ({ context }: { context: { waiting: { until: number } | null } }) => ({
    at: context.waiting?.until ?? 0,
  }),
  onDone: transition,
  onError: transition,
});

/** The stamp of whatever reached the chart: an event, the answer or the failure of a port, or the start. */
export function stampOf(event: unknown): Stamp {
  const { output, error, input, ...own } = event as Record<string, Partial<Stamp> | undefined>;
  for (const bearer of [output, error, input, own as Partial<Stamp>]) {
    if (typeof bearer?.at === 'number') return { at: bearer.at, dice: bearer.dice ?? 0 };
  }
  return { at: 0, dice: 0 };
}

/** What a component shows the others, by type name: retained on the device's bus; null takes it back. */
export type Publications = Record<string, object | null>;

/** Reads the failure out of an error event; whatever was thrown becomes one, so that a chart never sees a bare Error. */
export function failureOf(event: object): Failure {
  const error = (event as { error?: unknown }).error as Partial<Failure> | undefined;
  return {
    code: typeof error?.code === 'string' ? error.code : 'internal.error',
    text: typeof error?.text === 'string' ? error.text : 'an effect failed without saying why',
    at: typeof error?.at === 'number' ? error.at : 0,
    dice: typeof error?.dice === 'number' ? error.dice : 0,
    ...(typeof error?.retryAfter === 'number' ? { retryAfter: error.retryAfter } : {}),
    ...(error?.details ? { details: error.details } : {}),
  };
}
