// deadline: 480 s
// Faults by seed: some of them here, as many as anybody likes with `npm run faults`.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readRecording } from '../../formats/recording/read.ts';
import { replay } from '../../formats/recording/replay.ts';
import { charts } from '../../machines/charts.ts';
import { drawPlan, faultKinds, planInWords, sequenceNames } from './plan.ts';
import { playSeed } from './run.ts';
import { Tally } from './tally.ts';

/** As many as a minute of one processor takes. */
const seeds = 36;
/** Seeds that ended badly once, and what kept them from ending well. */
const found: [seed: number, what: string][] = [
  [28, 'an old master key that a full disk kept was never dropped'],
  [244, 'a commit whose word came after the window of its upgrade had closed was not believed'],
  [20063, 'a retry-after that was changed on its way put a device off for 46 days'],
  [20547, 'the recorder of the tests did not bear a store that was away when EVC was new'],
  [30870, 'the tests counted a verdict that was thrown away, since somebody accepted software meanwhile'],
  [31454, 'the tests did not wait for the attestation after EVC had looked at a place by a wrong clock'],
];

test('whatever goes wrong, every device gets over it', async () => {
  const tally = new Tally();
  for (let seed = 1; seed <= seeds; seed++) {
    const { plan, broken } = tally.added(await playSeed(seed));
    assert.is(broken, null, `${planInWords(plan).join('\n')}\n${broken}\nnpm run faults -- --seed ${seed}`);
  }
  console.log(`FIGURES: faults by seed: ${tally.line}`);
});

for (const [seed, what] of found) {
  test(`seed ${seed}: ${what}`, async () => {
    const { plan, broken } = await playSeed(seed);
    assert.is(broken, null, `${planInWords(plan).join('\n')}\n${broken}`);
  });
}

test('the same seed does the same', async () => {
  for (const seed of [7, 12, 23]) {
    const [one, other] = [await playSeed(seed), await playSeed(seed)];
    assert.equal(one.lines, other.lines, `seed ${seed}`);
    assert.is(one.trace, other.trace);
    assert.ok(one.lines.length > 100);
  }
});

test('every kind of fault and every sequence is drawn, and each plan is its number’s', () => {
  const plans = Array.from({ length: 400 }, (_, seed) => drawPlan(seed));
  assert.is(new Set(plans.flatMap(({ faults }) => faults.map(({ kind }) => kind))).size, faultKinds.length);
  assert.is(new Set(plans.map(({ sequence }) => sequence)).size, sequenceNames.length);
  assert.equal(drawPlan(17), plans[17]);
});

test('a run that ends badly is named with its plan, and its recording replays', async () => {
  const { broken, recording } = await playSeed(2, {
    promised: () => Promise.reject(new Error('a promise that nobody keeps')),
  });
  assert.is(broken, 'a promise that nobody keeps');
  const { lines, notes } = readRecording(recording ?? '');
  assert.equal(notes, []);
  assert.is(replay(lines, { charts }).divergence, null);
  const said = lines.flatMap((line) => (line.kind === 'fault' ? [line.text] : []));
  assert.ok(said.some((text) => text.startsWith('begins: ')) && said.includes('nothing is wrong any more'));
});

test.run();
