import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { baseOs, baseOsPublications, type Slots } from '../../machines/base-os.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('base-os');
const coverage = new Coverage(baseOs);

const slots: Slots = {
  current: { label: 'IMGA', version: '1.0', state: 'active' },
  other: { label: 'IMGB', version: '', state: 'unused' },
  trial: null,
  failed: null,
};
const trial: Slots = {
  current: { label: 'IMGB', version: '2.0', state: 'inprogress' },
  other: { label: 'IMGA', version: '1.0', state: 'active' },
  trial: { until: Date.UTC(2026, 0, 1, 1), window: 20 * 60_000 },
  failed: null,
};
const committed: Slots = { ...trial, current: { ...trial.current, state: 'active' }, trial: null };
const image = (version: string): BaseOsConfig => ({
  version,
  url: `https://evc/${version}`,
  sha256: version,
  size: 1,
  signature: 'AA',
  testWindow: 60_000,
  retryCounter: 0,
});

type Run = ChartRun<typeof baseOs>;
const wanted = (version: string, more: Partial<BaseOsConfig> = {}) =>
  ({ type: 'baseos.wanted', baseOs: { ...image(version), ...more } }) as const;
const asked = (run: Run) => baseOsPublications(run.snapshot).RebootRequest;

async function loaded(found: Slots = slots): Promise<Run> {
  const run = await ChartRun.start(baseOs, { coverage });
  await run.answer('loadSlots', found);
  return run;
}

test('fetch, check, write, mark, reboot', async () => {
  const run = await loaded();
  await run.send(wanted('2.0'));
  for (const port of ['fetchImage', 'verifyImage', 'writeSlot'] as const) {
    assert.equal(run.inputOf(port), { baseOs: image('2.0') });
    await run.answer(port, null);
  }
  await run.answer('stageSlot', slots);
  assert.equal(asked(run), { reason: 'update' });
  run.stop();
});

test('a commit is said again after a reboot; what is on trial, or was given up, is none', async () => {
  const said = (run: Run) =>
    (baseOsPublications(run.snapshot).BaseOsStatus as { committed: string }).committed;
  const again = await loaded(committed);
  assert.is(said(again), '2.0');
  again.stop();
  const onTrial = await loaded(trial);
  assert.is(said(onTrial), '');
  await onTrial.fail('selfTest', 'baseos.self-test');
  await onTrial.answer('abandonSlot', {
    ...trial,
    current: { ...trial.current, state: 'unused' },
    trial: null,
  });
  assert.is(said(onTrial), '');
  onTrial.stop();
});

test('what runs is not fetched, and what failed here only when EVC asks for another try', async () => {
  const failed = { version: '2.0', retryCounter: 1, why: { code: 'baseos.self-test', text: 'x' } };
  const run = await loaded({ ...slots, failed });
  await run.send(wanted('1.0'));
  await run.send(wanted('2.0', { retryCounter: 1 }));
  assert.is(run.state, 'idle');
  await run.send(wanted('2.0', { retryCounter: 2 }));
  assert.is(run.state, 'fetching');
  run.stop();
});

test('EVC changes its mind: what is written is always what was checked', async () => {
  for (const busy of ['fetchImage', 'verifyImage', 'writeSlot'] as const) {
    const run = await loaded();
    await run.send(wanted('2.0'));
    for (const port of ['fetchImage', 'verifyImage'] as const) {
      if (run.ports[0] === busy) break;
      await run.answer(port, null);
    }
    assert.equal(run.ports, [busy]);
    await run.send(wanted('2.0'));
    assert.equal(run.ports, [busy], 'the same again changes nothing');
    await run.send(wanted('3.0'));
    assert.equal(run.ports, ['fetchImage']);
    assert.equal(run.inputOf('fetchImage'), { baseOs: image('3.0') });
    await run.send(wanted('1.0'));
    assert.is(run.state, 'idle', 'what runs is wanted again');
    run.stop();
  }
});

test('an image that is refused or out of reach is tried again, unless it is not wanted any more', async () => {
  const run = await loaded();
  run.dice = 1;
  await run.send(wanted('2.0'));
  await run.fail('fetchImage', 'link.down');
  assert.is(run.state, 'fetchingBackOff');
  await run.elapse();
  await run.fail('fetchImage', 'baseos.image-size');
  assert.is(run.state, 'refused');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 2000);
  await run.elapse();
  await run.answer('fetchImage', null);
  await run.fail('verifyImage', 'baseos.image-signature');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 4000, 'fetching alone is no progress');
  await run.send(wanted('3.0'));
  await run.fail('fetchImage', 'link.down');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 1000, 'another image starts anew');
  await run.send(wanted('1.0'));
  assert.is(run.state, 'idle');
  run.stop();
});

test('an upgrade that EVC withdraws is dropped, unless it is staged', async () => {
  const run = await loaded(slots);
  await run.send(wanted('2.0'));
  assert.is(run.state, 'fetching');
  await run.send({ type: 'baseos.unwanted' });
  assert.is(run.state, 'idle');
  await run.send(wanted('2.0'));
  assert.is(run.state, 'fetching');
  run.stop();
});

test('a trial: self-test, approval, window, commit', async () => {
  const run = await loaded(trial);
  await run.answer('selfTest', null);
  assert.is(run.state, 'testing.unapproved');
  await run.send({ type: 'config.full' });
  const approved = run.clock.now();
  await run.elapse();
  assert.is(run.clock.now() - approved, 20 * 60_000);
  await run.fail('commitSlot', 'disk.full');
  await run.elapse();
  await run.answer('commitSlot', committed);
  assert.is(run.state, 'idle');
  assert.is((baseOsPublications(run.snapshot).BaseOsStatus as { committed: string }).committed, '2.0');
  run.stop();
});

test('approval counts when it comes during the self-test, which has to pass all the same', async () => {
  const run = await loaded(trial);
  await run.send({ type: 'config.full' });
  await run.fail('selfTest', 'baseos.self-test');
  assert.is(run.state, 'fallingBack');
  assert.is((run.inputOf('abandonSlot') as { why: { code: string } }).why.code, 'baseos.self-test');
  run.stop();
});

test('no approval by the end of the trial: falls back, whatever else happens', async () => {
  const run = await loaded(trial);
  await run.answer('selfTest', null);
  await run.send(wanted('3.0'));
  await run.elapse();
  assert.is(run.clock.now(), trial.trial?.until);
  assert.is((run.inputOf('abandonSlot') as { why: { code: string } }).why.code, 'baseos.trial-expired');
  await run.fail('abandonSlot', 'disk.failed');
  assert.equal(asked(run), { reason: 'fallback' });
  run.stop();
});

test('a trial that began with a clock that was a year ahead ends all the same', async () => {
  const ahead = (trial.trial?.until ?? 0) + 365 * 86_400_000;
  const run = await loaded({ ...trial, trial: { until: ahead, window: 60_000 } });
  await run.answer('selfTest', null);
  const began = run.clock.now();
  await run.elapse();
  assert.is(run.clock.now() - began, 3 * 60_000);
  assert.is((run.inputOf('abandonSlot') as { why: { code: string } }).why.code, 'baseos.trial-expired');
  run.stop();
});

test('the end of the trial survives a power cut', async () => {
  let run = await loaded(trial);
  await run.answer('selfTest', null);
  run = await run.restart(10 * 60_000);
  assert.is(run.state, 'testing.unapproved');
  await run.elapse();
  assert.is(run.clock.now(), trial.trial?.until);
  run.stop();
});

testRules(test, baseOs, {
  coverage,
  stimuli: {
    events: [
      { type: 'baseos.wanted', baseOs: image('2.0') },
      { type: 'baseos.wanted', baseOs: image('3.0') },
      { type: 'baseos.wanted', baseOs: image('1.0') },
      { type: 'baseos.unwanted' },
      { type: 'config.full' },
    ],
    answers: {
      loadSlots: [slots, trial],
      fetchImage: [null],
      verifyImage: [null],
      writeSlot: [null],
      stageSlot: [slots],
      selfTest: [null],
      commitSlot: [committed],
      abandonSlot: [slots],
    },
    failures: { fetchImage: ['baseos.image-size'] },
  },
  resting: { idle: 'what is wanted runs' },
});

test.run();
