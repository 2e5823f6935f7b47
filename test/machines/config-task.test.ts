import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configTask, configTaskPublications } from '../../machines/config-task.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('config-task');
const coverage = new Coverage(configTask);
const full = { kind: 'full' as const, version: 2, baseOs: null, why: null };
const why = { code: 'policy.software.unknown', text: 'unknown' };

type Run = ChartRun<typeof configTask>;
const confirmed = (tokenHash: string) => ({ type: 'token.confirmed', tokenHash }) as const;
const status = (run: Run) => configTaskPublications(run.snapshot).ConfigStatus as Record<string, unknown>;

async function requesting(version = 0, tokenHash?: string): Promise<Run> {
  const run = await ChartRun.start(configTask, { coverage });
  if (tokenHash) await run.send(confirmed(tokenHash));
  await run.answer('loadCheckpoint', { version, baseOs: null });
  return run;
}

async function applied(): Promise<Run> {
  const run = await requesting(0, 't1');
  await run.answer('requestConfig', full);
  await run.answer('applyConfig', null);
  return run;
}

test('with a good token: the full configuration, then only what is newer', async () => {
  const run = await requesting(2, 't1');
  assert.equal(
    run.inputOf('requestConfig'),
    { tokenHash: 't1', version: 0 },
    'a checkpoint is not of this boot',
  );
  await run.answer('requestConfig', full);
  assert.equal(run.inputOf('applyConfig'), { version: 2, partial: false });
  await run.answer('applyConfig', null);
  assert.is(status(run).source, 'evc');
  await run.elapse();
  assert.equal(run.inputOf('requestConfig'), { tokenHash: 't1', version: 2 });
  await run.answer('requestConfig', { ...full, kind: 'unchanged' });
  assert.is(run.state, 'idle');
  run.stop();
});

test('without approval: the base OS alone, and what runs is not called configured', async () => {
  const run = await requesting(0, 't1');
  await run.answer('requestConfig', { ...full, kind: 'partial', why });
  assert.equal(run.inputOf('applyConfig'), { version: 2, partial: true });
  await run.answer('applyConfig', null);
  assert.is(run.state, 'forbidden');
  assert.is(status(run).source, 'none');
  assert.is(status(run).full, 0);
  assert.equal(status(run).error, why);
  run.stop();
});

test('forbidden names the token that was asked with, and a newer one is tried at once', async () => {
  const run = await requesting(0, 't1');
  await run.fail('requestConfig', 'config.forbidden');
  assert.equal(status(run).forbidden, { count: 1, tokenHash: 't1' });
  await run.send(confirmed('t2'));
  assert.equal(run.inputOf('requestConfig'), { tokenHash: 't2', version: 0 });
  run.stop();

  const late = await requesting(0, 't1');
  await late.send(confirmed('t2'));
  await late.fail('requestConfig', 'config.forbidden');
  assert.equal(late.context.forbidden, { count: 1, tokenHash: 't1' }, 't2 was not asked with');
  assert.equal(late.inputOf('requestConfig'), { tokenHash: 't2', version: 0 });
  late.stop();
});

test('a push that comes while a request is out is not lost', async () => {
  const run = await requesting(0, 't1');
  await run.send({ type: 'config.pushed' });
  await run.answer('requestConfig', full);
  await run.answer('applyConfig', null);
  assert.equal(run.ports, ['requestConfig']);
  await run.answer('requestConfig', { ...full, kind: 'unchanged' });
  assert.is(run.state, 'idle', 'and asked for once');
  await run.send({ type: 'config.pushed' });
  assert.equal(run.ports, ['requestConfig']);
  run.stop();
});

test('never an older configuration', async () => {
  const run = await requesting(2, 't1');
  await run.answer('requestConfig', { ...full, version: 1 });
  assert.is(run.state, 'refused');
  assert.is(run.context.error?.code, 'config.older');
  await run.elapse();
  assert.equal(run.ports, ['requestConfig']);
  run.stop();
});

test('EVC out of reach: the checkpoint, once, and EVC again when it is back', async () => {
  const run = await requesting(2);
  await run.fail('requestConfig', 'link.down');
  assert.equal(run.ports, ['applyCheckpoint']);
  await run.answer('applyCheckpoint', null);
  assert.is(status(run).source, 'checkpoint');
  await run.elapse();
  await run.fail('requestConfig', 'link.down');
  assert.is(run.state, 'offline.backingOff');
  await run.send({ type: 'link.up' });
  assert.equal(run.ports, ['requestConfig']);
  run.stop();
});

test('backing off grows, and a good answer forgives', async () => {
  const run = await requesting();
  run.dice = 1;
  for (const seconds of [1, 2, 4]) {
    await run.fail('requestConfig', 'link.down');
    assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), seconds * 1000);
    await run.elapse();
  }
  await run.answer('requestConfig', full);
  await run.answer('applyConfig', null);
  await run.elapse();
  await run.fail('requestConfig', 'link.down', { retryAfter: 5000 });
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 6000);
  run.stop();
});

test('polls are spread', async () => {
  const waits: number[] = [];
  for (const dice of [0, 0.999]) {
    const run = await applied();
    run.dice = dice;
    await run.elapse();
    await run.answer('requestConfig', { ...full, kind: 'unchanged' });
    waits.push((run.context.waiting?.until ?? 0) - run.clock.now());
    run.stop();
  }
  const [least = 0, most = 0] = waits;
  assert.ok(
    least > 0 && Math.abs(least / most - 0.3) < 0.01,
    'from 0.3 of the interval to all of it, as EVE',
  );
});

testRules(test, configTask, {
  coverage,
  stimuli: {
    events: [
      { type: 'token.confirmed', tokenHash: 't1' },
      { type: 'token.confirmed', tokenHash: 't2' },
      { type: 'config.pushed' },
      { type: 'link.up' },
    ],
    answers: {
      loadCheckpoint: [
        { version: 0, baseOs: null },
        { version: 2, baseOs: null },
      ],
      requestConfig: [
        full,
        { ...full, version: 1 },
        { ...full, kind: 'partial', why },
        { ...full, kind: 'unchanged' },
      ],
      applyConfig: [null],
      applyCheckpoint: [null],
    },
    failures: { requestConfig: ['config.forbidden'] },
  },
  resting: {},
  pausing: { 'offline.applyingCheckpoint': 'the pause before the next try of EVC runs meanwhile' },
});

test.run();
