// deadline: 120 s
// Others are told what happens: whole, signed, in order, again when they did not hear it, and never what is secret.
import { createHmac } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OperatorError } from '../../../controller/decision.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import type { Store } from '../../../controller/store/store.ts';
import type { CloudEvent } from '../../../controller/webhook/event.ts';
import { Webhooks } from '../../../controller/webhook/webhooks.ts';
import { ApiBench } from '../../kit/api.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { EvcBench } from '../../kit/controller.ts';
import { softDevice } from '../../kit/logins.ts';
import { rejects } from '../../kit/rejects.ts';
import { throughCalls } from '../../kit/store-calls.ts';
import { stepOf } from '../../kit/stores.ts';

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
  /** What the next answer waits for. */
  held: Promise<void> | null = null;
  /** Told of each request, before it is answered. */
  hears: () => void = () => undefined;
  readonly #server = http.createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    this.heard.push({ headers: request.headers, text, event: JSON.parse(text) });
    this.hears();
    const { held } = this;
    this.held = null;
    await held;
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

  subjects(): string[] {
    return this.heard.map(({ event }) => event.subject);
  }

  async until(count: number): Promise<void> {
    const end = performance.now() + 5000;
    while (this.heard.length < count && performance.now() < end) await setImmediate();
    assert.is(this.heard.length, count);
  }

  /** Lets the next answer wait; gives what ends the wait. */
  hold(): () => void {
    let goOn: () => void = () => undefined;
    this.held = new Promise((resolve) => {
      goOn = resolve;
    });
    return goOn;
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

/** Controllers over one store, in which nothing happens but what a test lets happen. */
class Controllers {
  readonly store: LibsqlStore;
  readonly #stop = new AbortController();

  constructor(name: string) {
    this.store = LibsqlStore.open(join(bench.evc.folder, `${name}.db`));
  }

  one(clock: SimulatedClock, signal = this.#stop.signal, store: Store = this.store): Webhooks {
    return new Webhooks({ store, clock, pki: evc.pki, signal });
  }

  happens(device: string, at = 0): Promise<void> {
    return this.store.commit(stepOf(device, 0, { journal: { at, event: 'rotation.asked', body: {} } }));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.store.close();
  }
}

async function withControllers(
  name: string,
  work: (controllers: Controllers, receiver: Receiver) => Promise<void>,
): Promise<void> {
  const controllers = new Controllers(name);
  const heard = await Receiver.open();
  try {
    await work(controllers, heard);
  } finally {
    heard.close();
    await controllers.close();
  }
}

const rotations = (url: string) => ({ url, events: ['rotation.asked'], accounts: null });
const start = Date.UTC(2026, 5, 1);

test('a line is told in its order, whatever the time is that its controller put on it', () =>
  withControllers('times', async (controllers, receiver) => {
    const clock = new SimulatedClock(start);
    const hooks = controllers.one(clock);
    await hooks.add(rotations(receiver.url), ann);
    await controllers.happens('d1', start + 500);
    await controllers.happens('d2', start - 5000);
    await controllers.happens('d3', start + 10_000 * hour);
    await controllers.happens('d4', start - 5000);
    for (let i = 0; i < 3; i++) {
      await hooks.look();
      clock.pass(2000);
    }
    assert.equal(receiver.subjects(), ['d1', 'd2', 'd3', 'd4']);
  }));

test('a line that comes into sight behind a later one is told before it, and one that never comes is not waited for long', () =>
  withControllers('gaps', async (controllers, receiver) => {
    const clock = new SimulatedClock(start);
    const unseen = new Set(['d2', 'd4']);
    const store = throughCalls(controllers.store, async (name, call) => {
      const answer = await call();
      if (name !== 'journalAfter') return answer;
      return (answer as { device: string }[]).filter(({ device }) => !unseen.has(device));
    });
    const hooks = controllers.one(clock, undefined, store);
    await hooks.add(rotations(receiver.url), ann);
    for (const device of ['d1', 'd2', 'd3', 'd4', 'd5']) await controllers.happens(device, start - 60_000);
    clock.pass(5000);
    await hooks.look();
    assert.equal(receiver.subjects(), ['d1']);
    unseen.delete('d2');
    await hooks.look();
    assert.equal(receiver.subjects(), ['d1', 'd2', 'd3']);
    for (let i = 0; i < 4 && receiver.heard.length < 4; i++) {
      clock.pass(10_000);
      await hooks.look();
    }
    assert.equal(receiver.subjects(), ['d1', 'd2', 'd3', 'd5']);
  }));

test('a slow address holds up itself alone, and is told one thing at a time', () =>
  withControllers('slow', async (controllers, quick) => {
    const slow = await Receiver.open();
    const hooks = controllers.one(new SimulatedClock(start));
    await hooks.add(rotations(slow.url), ann);
    await hooks.add(rotations(quick.url), ann);
    const goOn = slow.hold();
    await controllers.happens('d1');
    const looks = [hooks.look()];
    await slow.until(1);
    await quick.until(1);
    await controllers.happens('d2');
    // The look that told it may have this one ending still.
    for (let i = 0; i < 100 && quick.heard.length < 2; i++) {
      looks.push(hooks.look());
      await setImmediate();
    }
    await quick.until(2);
    assert.equal(slow.subjects(), ['d1']);
    goOn();
    await Promise.all(looks);
    await hooks.look();
    assert.equal(slow.subjects(), ['d1', 'd2']);
    slow.close();
  }));

test('a batch ends before its lease does', () =>
  withControllers('batch', async (controllers, receiver) => {
    const clock = new SimulatedClock(start);
    const hooks = controllers.one(clock);
    await hooks.add(rotations(receiver.url), ann);
    const devices = Array.from({ length: 30 }, (_, i) => `d${i + 10}`);
    for (const device of devices) await controllers.happens(device);
    receiver.hears = () => clock.pass(9000);
    await hooks.look();
    assert.ok(clock.now() - start < 120_000, `${clock.now() - start} ms`);
    for (let i = 0; i < 5; i++) await hooks.look();
    assert.equal(receiver.subjects(), devices);
  }));

test('a controller whose lease another one took over leaves the place of the webhook as it is', () =>
  withControllers('lease', async (controllers, receiver) => {
    const clock = new SimulatedClock(start);
    const [first, second] = [controllers.one(new SimulatedClock(start)), controllers.one(clock)];
    await first.add(rotations(receiver.url), ann);
    await controllers.happens('d1');
    const goOn = receiver.hold();
    const late = first.look();
    await receiver.until(1);
    clock.pass(200_000);
    await second.look();
    await controllers.happens('d2');
    await second.look();
    assert.equal(receiver.subjects(), ['d1', 'd1', 'd2']);
    goOn();
    await late;
    await second.look();
    assert.equal(receiver.subjects(), ['d1', 'd1', 'd2']);
    assert.is((await second.list())[0]?.delivered, 2);
  }));

test('a controller that stops ends what it tells, and the next one tells it at once', () =>
  withControllers('stop', async (controllers, receiver) => {
    const clock = new SimulatedClock(start);
    const stop = new AbortController();
    const first = controllers.one(clock, stop.signal);
    await first.add(rotations(receiver.url), ann);
    await controllers.happens('d1');
    const goOn = receiver.hold();
    const look = first.look();
    await receiver.until(1);
    stop.abort();
    await look;
    await first.look();
    goOn();
    await controllers.one(clock).look();
    assert.equal(receiver.subjects(), ['d1', 'd1']);
  }));

test('a receiver that never answers does not keep EVC from stopping', async () => {
  const own = await EvcBench.open();
  const deaf = await Receiver.open();
  try {
    const device = await softDevice();
    await own.register(device, await own.onboardingKey(), 'edge');
    await own.evc.webhooks.add(rotations(deaf.url), ann);
    const goOn = deaf.hold();
    await own.evc.operator.rotateKey(device.id);
    const look = own.evc.webhooks.look();
    await deaf.until(1);
    const { finished } = await own.evc.finish(20_000);
    assert.ok(finished);
    await look;
    goOn();
  } finally {
    deaf.close();
    await own.close();
  }
});

test('of the address, which may hold a secret, the audit log has the origin alone', async () => {
  const { url } = receiver;
  await withHook({ url: `${url}services/T0KEN?key=T0KEN` }, async (id) => {
    await webhooks.remove(id, ann);
    const audits = await evc.store.audits({ limit: 10, subject: id });
    const said = audits.map(({ before, after }) => (before ?? after) as { url: string } | null);
    const { origin } = new URL(url);
    assert.equal(
      said.map((one) => one?.url),
      [origin, origin],
    );
    assert.not.match(JSON.stringify(audits), 'T0KEN');
  });
});

test.run();
