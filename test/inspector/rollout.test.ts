import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { barOf, progressText, shareText } from '../../inspector/rollout.ts';

const counts = { all: 50, committed: 41, assigned: 3, failed: 6, skipped: 0, waiting: 0 };

test('a roll-out says how far it is, and leaves out what is nothing', () => {
  assert.is(progressText({ counts }), '41 of 50 done, 3 under way, 6 failed');
  assert.equal(barOf({ counts }), [
    { progress: 'committed', count: 41 },
    { progress: 'assigned', count: 3 },
    { progress: 'failed', count: 6 },
  ]);
  const none = { all: 2, committed: 0, assigned: 0, failed: 0, skipped: 0, waiting: 2 };
  assert.is(progressText({ counts: none }), '0 of 2 done');
  assert.equal(barOf({ counts: none }), [{ progress: 'waiting', count: 2 }]);
});

test('shares are counted from one', () => {
  assert.is(shareText({ stages: [1, 10, 100], stage: 1 }), 'share 2 of 3 (10 %)');
});

test.run();
