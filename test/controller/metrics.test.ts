import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ApiBench } from '../kit/api.ts';
import { softDevice } from '../kit/logins.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { uud, board } = await bench.devices();
test.after(async () => {
  await bench.close();
  await board.close();
});

/** Samples by name and labels. */
async function scrape(): Promise<Map<string, number>> {
  const { status, headers, body } = await bench.call('GET', '/metrics');
  assert.is(status, 200);
  assert.match(`${headers['content-type']}`, 'text/plain; version=0.0.4');
  const samples = body
    .toString()
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line): [string, number] => {
      const [, name = '', value = ''] = /^(\S+(?:\{.*\})?) (\S+)$/.exec(line) ?? [];
      return [name, Number(value)];
    });
  return new Map(samples);
}

test('verdicts by their reason, devices by trust, times to trust', async () => {
  const samples = await scrape();
  assert.is(samples.get('evc_verdicts_total{outcome="trusted",reason="first-boot"}'), 2);
  assert.is(samples.get('evc_verdicts_total{outcome="refused",reason="policy.software.unknown"}'), 1);
  assert.is(samples.get('evc_devices{account="factory",trust="trusted"}'), 1);
  assert.is(samples.get('evc_devices{account="factory",trust="uud"}'), 1);
  assert.is(samples.get('evc_attestation_seconds_count'), 3);
  assert.is(samples.get('evc_time_to_trust_seconds_count'), 2);
  assert.is(samples.get('evc_waiting_effects'), 0);
  assert.is(samples.get('evc_escrowed_devices'), 0);
  assert.is(samples.get('evc_messages{where="queued"}'), 0);
});

test('what was refused is counted by its code, and codes that nobody knows share one name', async () => {
  const stranger = await softDevice();
  await bench.evc.register(stranger, await softDevice(), 'nobody');
  for (let i = 0; i < 300; i++) evc.metrics.refused(`made.up-${i}`);
  const samples = await scrape();
  assert.is(samples.get('evc_refused_messages_total{code="enrol.unknown-key"}'), 1);
  assert.ok((samples.get('evc_refused_messages_total{code="other"}') ?? 0) > 90);
  assert.ok([...samples.keys()].filter((name) => name.startsWith('evc_refused')).length <= 201);
});

test('what was too much for EVC is counted', async () => {
  evc.metrics.shed({ putOff: 3, dropped: 1 });
  assert.is((await scrape()).get('evc_shed_messages_total{how="put-off"}'), 3);
});

test('roll-outs that are not over show how far they are', async () => {
  const wish = { stages: [100], haltAt: 10, atOnce: 1, window: 1000, testWindow: 1000 };
  const rollout = { ...wish, version: '9', devices: [uud.id], accounts: null };
  const { id } = await evc.rollouts.add(rollout, { by: 'ann', reason: 'x' });
  const name = `evc_rollout_devices{rollout="${id}",version="9",progress="waiting"}`;
  assert.is((await scrape()).get(name), 1);
  await evc.rollouts.stop(id, { by: 'ann', reason: 'x' });
  assert.is((await scrape()).get(name), undefined);
});

test.run();
