import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { deviceSteps } from '../../machines/device-steps.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('device-steps');
const coverage = new Coverage(deviceSteps);

type Run = ChartRun<typeof deviceSteps>;
const failure = (component: 'info-task' | 'client') =>
  ({
    type: 'component.failed',
    component,
    why: { code: 'internal.component-failed', text: 'it broke' },
  }) as const;
const components = (run: Run) => (run.inputOf('startComponents') as { components: string[] }).components;

async function running(): Promise<Run> {
  const run = await ChartRun.start(deviceSteps, { coverage });
  await run.answer('startComponents', null);
  await run.send({ type: 'client.settled', state: 'provisioned' });
  await run.answer('startComponents', null);
  await run.send({ type: 'vault.settled', status: 'unlocked' });
  await run.send({ type: 'tpm.settled', state: 'ready' });
  await run.answer('startComponents', null);
  return run;
}

test('starts the components in the seed’s order', async () => {
  const run = await ChartRun.start(deviceSteps, { coverage });
  assert.equal(components(run), ['client']);
  await run.answer('startComponents', null);
  assert.is(run.state, 'client');
  await run.send({ type: 'client.settled', state: 'provisioned' });
  assert.equal(components(run), ['vault-manager', 'tpm-manager']);
  await run.send({ type: 'vault.settled', status: 'locked' });
  await run.answer('startComponents', null);
  assert.is(run.state, 'vaultAndTpm.settling');
  await run.send({ type: 'tpm.settled', state: 'ready' });
  assert.equal(components(run), ['attest-task', 'info-task', 'config-task', 'base-os']);
  await run.answer('startComponents', null);
  assert.is(run.state, 'running');
  run.stop();
});

test('waits for none of them for ever, and not at all for one that has settled already', async () => {
  const run = await ChartRun.start(deviceSteps, { coverage });
  await run.send({ type: 'client.settled', state: 'provisionedOffline' });
  await run.answer('startComponents', null);
  assert.is(run.state, 'vaultAndTpm.starting');
  await run.answer('startComponents', null);
  await run.elapse();
  assert.is(run.state, 'agents');
  run.stop();

  const slow = await ChartRun.start(deviceSteps, { coverage });
  await slow.answer('startComponents', null);
  await slow.elapse();
  assert.is(slow.state, 'vaultAndTpm.starting');
  slow.stop();
});

test('restarts what fails, ever less often, and starts anew after a steady time', async () => {
  const run = await running();
  run.dice = 1;
  const pauses: number[] = [];
  const fail = async () => {
    await run.send(failure('info-task'));
    pauses.push((run.context.waiting?.until ?? 0) - run.clock.now());
    await run.elapse();
    await run.answer('startComponents', null);
    assert.is(run.state, 'running');
  };
  for (let i = 0; i < 8; i++) await fail();
  assert.equal(
    pauses,
    [1, 2, 4, 8, 16, 32, 60, 60].map((s) => s * 1000),
  );
  run.clock.advanceTo(run.clock.now() + 3600_000);
  await fail();
  assert.is(pauses.at(-1), 1000);
  assert.is(run.context.restarts, 9);
  run.stop();
});

test('a start that fails is tried again', async () => {
  const run = await ChartRun.start(deviceSteps, { coverage });
  await run.fail('startComponents', 'disk.full');
  assert.is(run.state, 'degraded.waiting');
  await run.elapse();
  await run.fail('startComponents', 'disk.full');
  assert.is(run.state, 'degraded.waiting');
  await run.elapse();
  assert.is(components(run).length, 7);
  run.stop();
});

test('a reboot that is wanted happens, whatever fails meanwhile', async () => {
  const run = await running();
  await run.send({ type: 'reboot.requested', reason: 'update' });
  assert.equal(run.inputOf('reboot'), { reason: 'update' });
  await run.send(failure('client'));
  await run.send({ type: 'reboot.requested', reason: 'update' });
  assert.equal(run.ports, ['reboot']);
  await run.fail('reboot', 'internal.error');
  await run.elapse();
  await run.answer('startComponents', null);
  assert.equal(run.ports, ['reboot'], 'tried again');
  await run.answer('reboot', null);
  assert.ok(run.done);
  run.stop();
});

testRules(test, deviceSteps, {
  coverage,
  stimuli: {
    events: [
      { type: 'client.settled', state: 'provisioned' },
      { type: 'vault.settled', status: 'unlocked' },
      { type: 'tpm.settled', state: 'ready' },
      { type: 'component.failed', component: 'info-task', why: { code: 'internal.error', text: 'it broke' } },
      { type: 'reboot.requested', reason: 'update' },
    ],
    answers: { startComponents: [null], reboot: [null] },
  },
  resting: { running: 'everything runs; what fails and who wants a reboot says so' },
});

test.run();
