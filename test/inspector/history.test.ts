import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { JournalEntry } from '../../inspector/answers.ts';
import { baselinesOf } from '../../inspector/history.ts';

const verdict = (seq: number, grounds: string | null, image: string): JournalEntry => ({
  seq,
  at: seq * 1000,
  event: 'verdict.given',
  body: { accepted: grounds !== null, grounds, versions: { image, firmware: 'ACME' } },
});
const accepted = (seq: number, by: string): JournalEntry => ({
  seq,
  at: seq * 1000,
  event: 'state.accepted',
  body: { by, reason: 'the kernel is ours', attempt: 'a1' },
});

test('baselines are what was first seen, accepted and pushed, the newest first; who accepted stands there', () => {
  const journal = [
    verdict(1, 'first-boot', '1.0.0'),
    verdict(2, 'baseline', '1.0.0'),
    verdict(3, null, '6.6.6'),
    accepted(4, 'ann'),
    { seq: 5, at: 5000, event: 'link.up', body: {} },
    verdict(6, 'acceptance', '6.6.6'),
    verdict(7, 'upgrade', '7.0.0'),
    verdict(8, 'fallback', '6.6.6'),
  ].reverse();
  assert.equal(
    baselinesOf(journal).map(({ at, image, grounds, by, reason }) => [at, image, grounds, by, reason]),
    [
      [7000, '7.0.0', 'upgrade', '', ''],
      [6000, '6.6.6', 'acceptance', 'ann', 'the kernel is ours'],
      [1000, '1.0.0', 'first-boot', '', ''],
    ],
  );
});

test('a journal that begins in between, or is not as it was, makes no baseline of nothing', () => {
  assert.equal(baselinesOf([]), []);
  assert.equal(baselinesOf([accepted(1, 'ann'), verdict(2, null, '1.0.0')]), []);
  const [bare] = baselinesOf([
    { seq: 1, at: 1, event: 'verdict.given', body: { accepted: true, grounds: 'acceptance' } },
  ]);
  assert.equal(bare, { at: 1, image: '', firmware: '', grounds: 'acceptance', by: '', reason: '' });
});

test.run();
