import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { tolerances } from './figures.ts';
import { trendOf } from './slope.ts';

const line = (count: number, of: (minute: number) => number) =>
  Array.from({ length: count }, (_, minute) => ({ minute, value: of(minute) }));
/** Noise that is the same each time. */
const noise = (minute: number) => ((minute * 7919) % 13) - 6;

test('a leak of half a megabyte a minute is found in an hour, and noise is not', () => {
  const { heapMb } = tolerances;
  assert.ok(
    trendOf(
      line(60, (m) => 60 + noise(m)),
      heapMb,
    ).flat,
  );
  const leaking = trendOf(
    line(60, (m) => 60 + noise(m) + m / 2),
    heapMb,
  );
  assert.not(leaking.flat);
  assert.ok(Math.abs(leaking.slope - 0.5) < 0.1);
});

test('what rises at the start alone is flat, and what rises at the end alone is not', () => {
  assert.ok(
    trendOf(
      line(60, (m) => Math.min(m, 20) * 10),
      tolerances.heapMb,
    ).flat,
  );
  assert.not(
    trendOf(
      line(60, (m) => Math.max(0, m - 30) * 10),
      tolerances.heapMb,
    ).flat,
  );
});

test('one record more is a rise, and fewer than eight samples say nothing', () => {
  assert.not(
    trendOf(
      line(60, (m) => (m < 45 ? 200 : 201)),
      tolerances.records,
    ).flat,
  );
  assert.throws(
    () =>
      trendOf(
        line(7, () => 1),
        tolerances.records,
      ),
    RangeError,
  );
});

test.run();
