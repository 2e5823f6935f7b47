// Events on EVC's own broker: who reads them logs in with a token, hears of its accounts alone, and can do nothing else.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker } from '../../broker/broker.ts';
import { announcement, readerOf } from '../../controller/webhook/announce.ts';
import { sourceOf } from '../../controller/webhook/webhooks.ts';
import { ApiBench } from '../kit/api.ts';
import { clientOn, honestClaims, outcome, pairTo, softDevice, tokenOf } from '../kit/logins.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { uud, trusted, board } = await bench.devices();
const refused: string[] = [];
const messages: string[] = [];
const broker = await Broker.start({
  now: () => Date.now(),
  onMessage: (topic) => messages.push(topic),
  onRefused: (_, reason) => refused.push(reason),
  reader: (user, token) => readerOf(evc.tokens, bench.evc.clock, user, token),
});
const source = sourceOf(evc.pki);
const told: Promise<void>[] = [];
bench.evc.watch = (step) => {
  const event = broker.readers > 0 ? announcement(step, source) : null;
  if (event) told.push(broker.publish(event.topic, event.payload));
};
const clients: ReturnType<typeof clientOn>[] = [];
test.after(async () => {
  for (const client of clients) client.end(true);
  await broker.close();
  await bench.close();
  await board.close();
});

const idOf = (token: string) => token.split('_')[1] ?? '';

function connect(token: string, given: { user?: string; name?: string } = {}) {
  const { user = idOf(token) } = given;
  const { name = `${user}:reader` } = given;
  const client = clientOn(pairTo(broker), { clientId: name, username: user, password: token });
  clients.push(client);
  return client;
}

/** A client that has subscribed, and what it hears. */
async function reading(token: string, filter = 'eve/v2/events/#', name?: string) {
  const client = connect(token, name === undefined ? {} : { name });
  assert.is(await outcome(client), 'connected');
  const heard: { topic: string; event: Record<string, unknown> }[] = [];
  client.on('message', (topic, payload) => heard.push({ topic, event: JSON.parse(payload.toString()) }));
  const [granted] = await client.subscribeAsync(filter, { qos: 1 });
  assert.is.not(granted?.qos, 128);
  /** What it has heard, once all that was told is with it. */
  const until = async () => {
    await Promise.all(told);
    // An answer comes behind what was sent before it.
    await client.subscribeAsync(filter, { qos: 1 });
    return heard;
  };
  return { client, until };
}

const gone = (client: ReturnType<typeof clientOn>) =>
  new Promise<void>((resolve) => client.once('close', () => resolve()));

const all = await bench.token('all', 'viewer');
await evc.accounts.add({ id: 'plant', kind: 'production', locationLock: false, radius: 9, moved: 'report' });

test('a viewer is told what happens, as CloudEvents without a secret, and an event is told once', async () => {
  const { client, until } = await reading(all);
  assert.is(broker.readers, 1);
  await evc.operator.rotateKey(uud.id);
  await evc.operator.changeSettings(trusted.id, { password: 'hidden' });
  await bench.tampered(uud, board, '8.8.8');
  const heard = await until();
  assert.equal(
    heard.map(({ topic }) => topic),
    [`eve/v2/events/${uud.id}/factory/rotation.asked`, `eve/v2/events/${uud.id}/factory/verdict.given`],
  );
  const { event } = heard[1] as (typeof heard)[number];
  const { data } = event as { data: Record<string, unknown> };
  assert.equal(
    [event.specversion, event.source, event.type, event.subject, data.serial, data.trust, data.accepted],
    ['1.0', source, 'eve-attest.verdict.given', uud.id, 'edge-01', 'uud', false],
  );
  assert.is(new Set(heard.map((one) => one.event.id)).size, 2);
  assert.not.match(JSON.stringify(heard), /hidden|nonceHash|"quote"|"logs"|"pcrs"/);
  client.end(true);
  await gone(client);
  assert.is(broker.readers, 0);
});

test('a token of other accounts hears nothing of ours, whatever it asks for', async () => {
  const plant = await bench.token('plant', 'admin', ['plant']);
  const ours = await reading(plant);
  const narrow = await reading(plant, `eve/v2/events/${uud.id}/#`, `${idOf(plant)}:narrow`);
  await evc.operator.rotateKey(uud.id);
  await evc.operator.moveDevice(trusted.id, 'plant');
  assert.equal(
    (await ours.until()).map(({ topic }) => topic),
    [`eve/v2/events/${trusted.id}/plant/account.changed`],
  );
  assert.equal(await narrow.until(), []);
});

test('a reader can say nothing, and read nothing of devices', async () => {
  for (const topic of [`eve/v2/${uud.id}/up/attest/r1`, `eve/v2/events/${uud.id}/factory/verdict.given`]) {
    const { client } = await reading(all, undefined, `${idOf(all)}:says`);
    const end = gone(client);
    client.publish(topic, 'x', { qos: 0 });
    await end;
    assert.is(refused.at(-1), 'acl.publish');
  }
  assert.equal(messages, []);
  const { client } = await reading(all);
  for (const filter of ['#', 'eve/v2/#', `eve/v2/${uud.id}/down/#`, 'eve/v2/+/up/#', '$SYS/#']) {
    const [granted] = await client.subscribeAsync(filter).catch(() => [{ qos: 128 }]);
    assert.is(granted?.qos, 128, filter);
    assert.is(refused.at(-1), 'acl.subscribe');
  }
});

test('a device is told no events', async () => {
  const device = await softDevice();
  const client = clientOn(pairTo(broker), {
    clientId: device.id,
    username: device.id,
    password: tokenOf(device, honestClaims(device, Date.now())),
  });
  clients.push(client);
  assert.is(await outcome(client), 'connected');
  const heard: string[] = [];
  client.on('message', (topic) => heard.push(topic));
  // Aedes keeps a filter that was denied beside one that was not.
  await client.subscribeAsync([`eve/v2/${device.id}/down/#`, 'eve/v2/events/#']).catch(() => undefined);
  const { until } = await reading(all, undefined, `${idOf(all)}:beside`);
  await evc.operator.rotateKey(uud.id);
  assert.is((await until()).length, 1);
  await client.subscribeAsync(`eve/v2/${device.id}/down/#`);
  assert.equal(heard, []);
});

test('wrong tokens, names and client ids let nobody in', async () => {
  const cases: [Parameters<typeof connect>, number, string][] = [
    [[`${all}x`, {}], 4, 'auth.wrong'],
    [[all, { user: 'admin' }], 4, 'auth.wrong'],
    [['secret', { user: 'admin' }], 4, 'auth.wrong'],
    [[all, { name: uud.id }], 2, 'login.client-id'],
    [[all, { name: `${uud.id}:eve` }], 2, 'login.client-id'],
    [[all, { name: 'reader' }], 2, 'login.client-id'],
  ];
  for (const [args, code, reason] of cases) {
    assert.is(await outcome(connect(...args)), code, reason);
    assert.is(refused.at(-1), reason);
  }
  const short = await bench.token('short', 'viewer', null, bench.evc.clock.now() - 1);
  assert.is(await outcome(connect(short)), 4);
  assert.is(refused.at(-1), 'auth.expired');
});

test('who asks for too many topics is cut, and so is whose token is taken back', async () => {
  const greedy = await reading(all, undefined, `${idOf(all)}:greedy`);
  const end = gone(greedy.client);
  const filters = Array.from({ length: 101 }, (_, i) => `eve/v2/events/${`${i}`.padStart(64, '0')}/#`);
  greedy.client.subscribe(filters, () => undefined);
  await end;
  assert.is(refused.at(-1), 'limit.filters');
  const token = await bench.token('brief', 'viewer');
  const { client } = await reading(token);
  const cut = gone(client);
  await evc.tokens.revoke('brief', { by: 'ann', reason: 'gone' });
  await cut;
  assert.is(await outcome(connect(token)), 4);
  assert.is(refused.at(-1), 'auth.revoked');
});

test.run();
