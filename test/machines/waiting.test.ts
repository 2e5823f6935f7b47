import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { failureOf, stampOf } from '../../machines/port.ts';
import { deadline, linkBackoff, longestRetryAfter, pause, retry } from '../../machines/waiting.ts';

const dice = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test('a pause is anywhere between none and a bound that doubles, and never above the cap', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000 }), dice, (attempt, roll) => {
      const ms = pause(attempt, roll, linkBackoff);
      const bound = Math.min(linkBackoff.cap, linkBackoff.base * 2 ** (attempt - 1));
      assert.ok(Number.isSafeInteger(ms) && ms >= 0 && ms <= bound);
    }),
  );
  assert.equal(
    [1, 2, 3, 10, 11, 1000].map((attempt) => pause(attempt, 0.999_999_999, linkBackoff)),
    [1000, 2000, 4000, 512_000, 600_000, 600_000],
  );
  assert.is(pause(5, 0, linkBackoff), 0);
});

test('a peer’s retry-after is the least pause, and the jitter comes on top', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      dice,
      fc.nat(longestRetryAfter),
      (attempt, roll, retryAfter) => {
        const plain = pause(attempt, roll, linkBackoff);
        assert.ok(Math.abs(pause(attempt, roll, linkBackoff, retryAfter) - retryAfter - plain) <= 1);
      },
    ),
  );
});

test('no retry-after makes anybody wait for longer than the longest', () => {
  // As much as the frame has room for.
  for (const retryAfter of [longestRetryAfter + 1, 0xffffffff])
    assert.is(pause(1, 0, linkBackoff, retryAfter), longestRetryAfter);
  assert.is(pause(100, 0.999_999_999, linkBackoff, 0xffffffff), longestRetryAfter + linkBackoff.cap);
});

test('a fleet that fails at once does not come back at once', () => {
  const pauses = new Set(Array.from({ length: 1000 }, (_, i) => pause(6, i / 1000, linkBackoff)));
  assert.is(pauses.size, 1000);
});

test('what is waited for says since when, until when, which attempt and why', () => {
  assert.equal(deadline('the quote', { at: 1000, dice: 0.5 }, 60_000, 2), {
    for: 'the quote',
    since: 1000,
    until: 61_000,
    attempt: 2,
  });
  const failure = { code: 'link.down', text: 'out of reach', at: 1000, dice: 0.5, retryAfter: 5000 };
  assert.equal(retry('EVC', failure, 3), {
    for: 'EVC',
    since: 1000,
    until: 8000,
    attempt: 3,
    why: { code: 'link.down', text: 'out of reach' },
  });
});

test('whatever is thrown is a failure', () => {
  const type = 'xstate.error.actor.x';
  for (const error of [undefined, null, 'text', new Error('secret'), 5, { code: 7, text: null }]) {
    assert.equal(failureOf({ type, error }), {
      code: 'internal.error',
      text: 'an effect failed without saying why',
      at: 0,
      dice: 0,
    });
  }
});

test('the stamp is that of what reached the chart', () => {
  const stamp = { at: 5, dice: 0.1 };
  assert.equal(stampOf({ type: 'restart', ...stamp }), stamp);
  assert.equal(stampOf({ type: 'xstate.done.actor.x', output: { value: null, ...stamp } }), stamp);
  assert.equal(stampOf({ type: 'xstate.error.actor.x', error: { code: 'a', ...stamp } }), stamp);
  assert.equal(stampOf({ type: 'xstate.init', input: stamp }), stamp);
  assert.equal(stampOf({ type: 'xstate.error.actor.wait', error: new Error('clock') }), { at: 0, dice: 0 });
});

test.run();
