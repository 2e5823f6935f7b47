import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { client, clientPublications } from '../../machines/client.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('client');
const coverage = new Coverage(client);
const nobody = { device: 'd', serial: 's', uuid: null, certificates: false, registered: false };

const known = { device: 'd', serial: 's', uuid: 'u', certificates: true, registered: true };

async function loaded(identity: typeof known | typeof nobody) {
  const run = await ChartRun.start(client, { coverage });
  await run.answer('loadIdentity', identity);
  return run;
}

test('a new device: certificates, registration, UUID', async () => {
  const run = await loaded(nobody);
  assert.equal(run.ports, ['fetchCertificates']);
  await run.answer('fetchCertificates', null);
  assert.equal(run.ports, ['register']);
  await run.answer('register', null);
  await run.answer('fetchUuid', { uuid: 'u' });
  assert.is(run.state, 'provisioned');
  assert.is((clientPublications(run.snapshot).OnboardingStatus as { uuid: string }).uuid, 'u');
  run.stop();
});

test('EVC out of reach: a device that was provisioned goes on at once, and asks again when the link is up', async () => {
  const run = await loaded(known);
  await run.fail('fetchUuid', 'link.down');
  assert.is(run.state, 'provisionedOffline');
  await run.send({ type: 'link.up' });
  await run.answer('fetchUuid', { uuid: 'u' });
  assert.is(run.state, 'provisioned');
  run.stop();
});

test('a device that needs something goes on trying, less and less often', async () => {
  const run = await loaded(nobody);
  run.dice = 1;
  for (const seconds of [1, 2, 4]) {
    await run.fail('fetchCertificates', 'link.down');
    assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), seconds * 1000);
    await run.elapse();
  }
  await run.answer('fetchCertificates', null);
  await run.fail('register', 'link.timeout');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 1000, 'progress forgives');
  await run.elapse();
  await run.fail('register', 'link.timeout');
  await run.send({ type: 'link.up' });
  await run.answer('register', null);
  await run.fail('fetchUuid', 'link.timeout');
  assert.is(run.state, 'uuidBackingOff');
  run.stop();
});

test('a refusal is shown with its reason, asked again seldom, and may be taken back', async () => {
  const run = await loaded({ ...nobody, certificates: true });
  run.dice = 1;
  await run.fail('register', 'enrol.key-expired');
  assert.is(run.state, 'refused');
  assert.is(run.context.error?.code, 'enrol.key-expired');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 60_000);
  await run.elapse();
  await run.answer('loadIdentity', { ...nobody, certificates: true });
  await run.answer('register', null);
  assert.is(run.context.error, null);
  run.stop();
});

test('EVC forgot the device: it registers again', async () => {
  const run = await loaded(known);
  await run.fail('fetchUuid', 'enrol.unknown-device');
  assert.is(run.context.registered, false);
  await run.elapse();
  await run.answer('loadIdentity', { ...known, registered: false, uuid: null });
  assert.equal(run.ports, ['register']);
  run.stop();
});

test('certificates that this device’s root does not vouch for are refused', async () => {
  const run = await loaded(nobody);
  await run.fail('fetchCertificates', 'certs.untrusted');
  assert.is(run.state, 'refused');
  run.stop();
});

test('EVC signs with another key: the certificates are fetched again, and not faster than once in a while', async () => {
  const run = await loaded(known);
  run.dice = 1;
  await run.fail('fetchUuid', 'wire.signature');
  assert.is(run.state, 'fetchingCertificates.backingOff');
  assert.is((run.context.waiting?.until ?? 0) - run.clock.now(), 60_000);
  await run.elapse();
  await run.answer('fetchCertificates', null);
  await run.answer('fetchUuid', { uuid: 'u' });
  assert.is(run.state, 'provisioned');
  await run.send({ type: 'certificates.stale' });
  assert.equal(run.ports, ['fetchCertificates']);
  run.stop();
});

testRules(test, client, {
  coverage,
  stimuli: {
    events: [{ type: 'link.up' }, { type: 'certificates.stale' }],
    answers: {
      loadIdentity: [
        nobody,
        { ...nobody, certificates: true },
        { ...nobody, certificates: true, registered: true },
        { ...nobody, certificates: true, registered: true, uuid: 'u' },
      ],
      fetchCertificates: [null],
      register: [null],
      fetchUuid: [{ uuid: 'u' }],
    },
    failures: {
      fetchCertificates: ['certs.untrusted'],
      register: ['enrol.unknown-key'],
      fetchUuid: ['enrol.unknown-device', 'wire.signature'],
    },
  },
  resting: {
    provisioned: 'there is nothing left to do until EVC changes its certificates',
  },
});

test.run();
