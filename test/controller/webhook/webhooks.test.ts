// deadline: 120 s
// Others are told what happens: whole, signed, in order, again when they did not hear it, and never what is secret.
import { createHmac } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../../controller/decision.ts';
import type { CloudEvent } from '../../../controller/webhook/event.ts';
import { ApiBench } from '../../kit/api.ts';
import { softDevice } from '../../kit/logins.ts';
import { rejects } from '../../kit/rejects.ts';

const bench = await ApiBench.open();
const { evc } = bench.evc;
const { webhooks, operator } = evc;
const { uud, trusted, board } = await bench.devices();
const ann = { by: 'ann', reason: 'for the test' };
const hour = 3_600_000;

interface Heard {
  headers: http.IncomingHttpHeaders;
  text: string;
  event: CloudEvent;
}

/** Hears what it is told, and answers as it is asked to. */
class Receiver {
  readonly heard: Heard[] = [];
  answer = 204;
  readonly #server = http.createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    this.heard.push({ headers: request.headers, text, event: JSON.parse(text) });
    response.writeHead(this.answer, { location: `${this.url}elsewhere` }).end();
  });
  url = '';

  static async open(): Promise<Receiver> {
    const receiver = new Receiver();
    await new Promise<void>((resolve) => receiver.#server.listen(0, '127.0.0.1', resolve));
    receiver.url = `http://127.0.0.1:${(receiver.#server.address() as AddressInfo).port}/`;
    return receiver;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  types(): string[] {
    return this.heard.map(({ event }) => event.type);
  }
}

const receiver = await Receiver.open();
test.after(async () => {
  receiver.close();
  await bench.close();
  await board.close();
});

async function withHook(
  wish: Partial<Parameters<typeof webhooks.add>[0]>,
  work: (id: string, secret: string) => Promise<void>,
): Promise<void> {
  receiver.heard.length = 0;
  receiver.answer = 204;
  const events = ['rotation.asked', 'account.changed'];
  const { webhook, secret } = await webhooks.add({ url: receiver.url, events, accounts: null, ...wish }, ann);
  try {
    await work(webhook.id, secret);
  } finally {
    await webhooks.remove(webhook.id, ann).catch(() => undefined);
  }
}

/** Time passes, and what is due is told. */
async function later(ms = 2000): Promise<void> {
  bench.evc.clock.advanceTo(bench.evc.clock.now() + ms);
  await setImmediate();
  await webhooks.look();
  await webhooks.look();
}

const of = async (id: string) => (await webhooks.list()).find((one) => one.id === id);

test('an event is told once, as a CloudEvent, with a signature that its secret proves', () =>
  withHook({}, async (id, secret) => {
    await operator.rotateKey(uud.id);
    await later();
    await later();
    assert.is(receiver.heard.length, 1);
    const [{ headers, text, event } = {} as Heard] = receiver.heard;
    assert.match(`${headers['content-type']}`, 'application/cloudevents+json');
    assert.equal(
      [event.specversion, event.type, event.subject, event.data.serial, event.data.account, event.data.trust],
      ['1.0', 'eve-attest.rotation.asked', uud.id, 'edge-01', 'factory', 'uud'],
    );
    assert.match(event.source, /^urn:evc:[0-9a-f]{16}$/);
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${text}`;
    const signature = `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
    assert.is(headers['webhook-signature'], signature);
    assert.is(headers['webhook-id'], event.id);
    assert.is((await of(id))?.delivered, 1);
    assert.not.match(JSON.stringify(await evc.store.all('webhook')), secret.slice(6));
  }));

test('what happened while an address was away is told in its order when it is back', () =>
  withHook({}, async (id) => {
    receiver.answer = 500;
    await operator.rotateKey(uud.id);
    await operator.rotateKey(trusted.id);
    await later();
    assert.equal([receiver.heard.length, (await of(id))?.why], [1, 'it answers 500']);
    await later(100);
    assert.is(receiver.heard.length, 1, 'not before its time');
    await later(hour);
    assert.is((await of(id))?.tries, 2);
    receiver.answer = 200;
    await later(hour);
    const subjects = receiver.heard.map(({ event }) => event.subject);
    assert.equal(subjects, [uud.id, uud.id, uud.id, trusted.id]);
    const ids = new Set(receiver.heard.map(({ event }) => event.id));
    assert.is(ids.size, 2, 'the same event has the same id');
    const view = await of(id);
    assert.equal([view?.delivered, view?.tries, view?.why], [2, 0, '']);
  }));

test('what nobody took is set aside and shown, the next is told, and it can be told again', () =>
  withHook({}, async (id) => {
    receiver.answer = 503;
    await operator.rotateKey(uud.id);
    for (let i = 0; i < 25 && (await of(id))?.deadLetters.length === 0; i++) await later(2 * hour);
    const [dead] = (await of(id))?.deadLetters ?? [];
    assert.equal([dead?.event, dead?.device, dead?.why], ['rotation.asked', uud.id, 'it answers 503']);
    receiver.answer = 200;
    receiver.heard.length = 0;
    await operator.rotateKey(trusted.id);
    await later(2 * hour);
    assert.equal(
      receiver.heard.map(({ event }) => event.subject),
      [trusted.id],
    );
    const after = await webhooks.retry(id);
    assert.equal([after.deadLetters, after.delivered], [[], 2]);
    assert.is(receiver.heard.at(-1)?.event.subject, uud.id);
  }));

test('a redirect is not followed, and an address that is not there is a failure', () =>
  withHook({}, async (id) => {
    receiver.answer = 302;
    await operator.rotateKey(uud.id);
    await later();
    assert.equal([receiver.heard.length, (await of(id))?.why], [1, 'it answers 302']);
    const gone = await Receiver.open();
    gone.close();
    await withHook({ url: gone.url }, async (other) => {
      await operator.rotateKey(uud.id);
      await later();
      assert.match(`${(await of(other))?.why}`, 'out of reach (ECONNREFUSED)');
    });
  }));

test('only what was asked for is told, and nothing of other accounts', async () => {
  await evc.accounts.add({
    id: 'plant',
    kind: 'production',
    locationLock: false,
    radius: 9,
    moved: 'report',
  });
  await withHook({ events: ['account.changed'], accounts: ['plant'] }, async () => {
    await operator.rotateKey(trusted.id);
    await operator.changeSettings(trusted.id, { password: 'a secret of ours' });
    await operator.moveDevice(trusted.id, 'plant');
    await operator.lockDevice(uud.id, { radius: 7 }, ann);
    await later();
    assert.equal(
      receiver.heard.map(({ event }) => [event.type, event.subject, event.data.account]),
      [['eve-attest.account.changed', trusted.id, { id: 'plant' }]],
    );
  });
});

test('settings and proofs are in no event', () =>
  withHook({ events: ['device.registered', 'verdict.given', 'account.changed'] }, async () => {
    const device = await softDevice();
    await bench.evc.register(device, await bench.evc.onboardingKey(), 'edge-03');
    await bench.evc.certify(device, board);
    await bench.evc.trusted(device, board);
    await operator.changeSettings(device.id, { password: 'a secret of ours' });
    await operator.moveDevice(device.id, 'plant');
    await later();
    assert.equal(
      receiver.types(),
      ['device.registered', 'verdict.given', 'account.changed'].map((one) => `eve-attest.${one}`),
    );
    const journal = JSON.stringify(await evc.store.journal(device.id, 100));
    assert.match(journal, /hostname/, 'the journal has it');
    for (const { text } of receiver.heard)
      assert.not.match(text, /settings|hostname|proof|challenge|secret|"pcrs"/);
  }));

test('addresses are checked, and events are those that are told', async () => {
  const add = (url: string, events = ['verdict.given']) => webhooks.add({ url, events, accounts: null }, ann);
  for (const url of [
    'http://example.com/',
    'ftp://example.com/',
    'https://ann:secret@example.com/',
    'file:///etc/passwd',
    'example.com',
    '',
  ])
    await rejects(add(url), OperatorError, ({ code }) => code === 'webhook.url');
  for (const events of [[], ['nonce.requested'], ['settings.changed']])
    await rejects(add(receiver.url, events), OperatorError, ({ code }) => code === 'webhook.event');
  await rejects(
    webhooks.add({ url: receiver.url, events: ['verdict.given'], accounts: ['none'] }, ann),
    OperatorError,
    ({ code }) => code === 'account.unknown',
  );
  await rejects(webhooks.remove('none', ann), OperatorError, ({ code }) => code === 'webhook.unknown');
  await rejects(webhooks.retry('none'), OperatorError, ({ code }) => code === 'webhook.unknown');
});

test('one that was removed while it was told something does not come back', () =>
  withHook({}, async (id) => {
    await operator.rotateKey(uud.id);
    bench.evc.clock.advanceTo(bench.evc.clock.now() + 2000);
    const looking = webhooks.look();
    await webhooks.remove(id, ann);
    await looking;
    assert.is(await of(id), undefined);
  }));

test.run();
