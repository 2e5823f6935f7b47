import { type Duplex, duplexPair } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker } from '../../../broker/broker.ts';
import { type Reply, requestDeadline, Uplink } from '../../../device/link/uplink.ts';
import { Refusal, reasonOf } from '../../../device/refusal.ts';
import { decodeFrame, encodeFrame, type Frame } from '../../../formats/wire/frame.ts';
import { SimulatedClock } from '../../kit/clock.ts';
import { honestClaims, softDevice, tokenOf } from '../../kit/logins.ts';

const device = await softDevice();
const other = await softDevice();
const container = async () => Uint8Array.of(1, 2, 3);

class Bench {
  readonly clock = new SimulatedClock(Date.now());
  readonly asked: string[] = [];
  readonly sent: Frame[] = [];
  readonly pushed: string[] = [];
  readonly links: string[] = [];
  dials = 0;
  /** Whether the last connection is gone. */
  closed: () => boolean = () => false;
  /** What happens when the device dials. */
  net: 'up' | 'down' | 'refused' | 'unsubscribed' = 'up';
  cut: (error?: Error) => void = () => undefined;
  /** What happens while the device makes its login. */
  onLogin: () => void = () => undefined;
  broker!: Broker;
  uplink!: Uplink;
  readonly #wakers = new Set<() => void>();

  static async open(): Promise<Bench> {
    const bench = new Bench();
    bench.broker = await Broker.start({
      now: () => bench.clock.now(),
      onMessage: (topic) => {
        bench.asked.push(topic);
        bench.#wake();
      },
    });
    bench.uplink = new Uplink({
      device: device.id,
      name: 'eve',
      clock: bench.clock,
      dial: async () => {
        bench.dials++;
        bench.#wake();
        if (bench.net === 'down') throw Object.assign(new Error('no route'), { code: 'ENETUNREACH' });
        const [near, far] = duplexPair();
        near.on('close', () => far.destroy());
        far.on('close', () => near.destroy());
        bench.closed = () => near.destroyed;
        bench.cut = (error) => near.destroy(error);
        if (bench.net === 'unsubscribed') answerConnectAlone(far);
        else bench.broker.accept(far);
        return { stream: near, channel: null };
      },
      login: async () => {
        bench.onLogin();
        return tokenOf(
          device,
          honestClaims(device, bench.clock.now()),
          bench.net === 'refused' ? other.key : device.key,
        );
      },
      watch: (direction, _, bytes) => {
        if (direction === 'up') bench.sent.push(decodeFrame(bytes));
      },
      onPush: (topic, frame) => {
        bench.pushed.push(`${topic.split('/').slice(3).join('/')} ${frame.kind}`);
        bench.#wake();
      },
      onLink: (up, why) => {
        bench.links.push(up ? 'up' : `down: ${why}`);
        bench.#wake();
      },
    });
    return bench;
  }

  async close(): Promise<void> {
    await this.uplink.close();
    await this.broker.close();
  }

  /** Waits for the thing itself; time stands still. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition()) return;
        this.#wakers.delete(look);
        resolve();
      };
      this.#wakers.add(look);
      look();
    });
  }

  /** The next request as EVC sees it. */
  async question(): Promise<string> {
    const before = this.asked.length;
    await this.until(() => this.asked.length > before);
    return this.asked.at(-1) ?? '';
  }

  answer(topic: string, frame: Partial<Frame> = {}): Promise<void> {
    const whole: Frame = {
      kind: 'reply',
      status: 200,
      retryAfter: 0,
      patience: 0,
      container: Uint8Array.of(9),
      ...frame,
    };
    return this.broker.publish(topic.replace('/up/', '/down/'), encodeFrame(whole));
  }

  #wake(): void {
    for (const waker of this.#wakers) waker();
  }
}

/** A broker that takes the connection, and says nothing to what comes after. */
function answerConnectAlone(stream: Duplex): void {
  stream.once('data', () => {
    stream.write(Uint8Array.of(0x20, 2, 0, 0));
    stream.resume();
  });
}

async function withUplink(work: (bench: Bench) => Promise<void>): Promise<void> {
  const bench = await Bench.open();
  try {
    await bench.until(() => bench.links.length > 0);
    await work(bench);
  } finally {
    await bench.close();
  }
}

const codeOf = (reply: Promise<Reply>) =>
  reply.then(
    ({ status }) => `answered ${status}`,
    (error: unknown) => reasonOf(error).code,
  );

test('a request is sent, and its own answer comes back', () =>
  withUplink(async (bench) => {
    assert.ok(bench.uplink.connected);
    const asked = bench.question();
    const reply = bench.uplink.request('uuid', container);
    const topic = await asked;
    assert.match(topic, new RegExp(`^eve/v2/${device.id}/up/uuid/[A-Za-z0-9_-]{16}$`));
    await bench.answer(topic, { status: 304, retryAfter: 7 });
    const { status, retryAfter, container: bytes, topic: from } = await reply;
    assert.equal([status, retryAfter, [...bytes], from], [304, 7, [9], topic.replace('/up/', '/down/')]);
  }));

test('the frame of a request says how long somebody waits, and no time of day', () =>
  withUplink(async (bench) => {
    const asked = bench.question();
    const reply = bench.uplink.request('uuid', container);
    await bench.answer(await asked);
    await reply;
    assert.equal(
      bench.sent.map(({ kind, status, patience, container: bytes }) => [kind, status, patience, [...bytes]]),
      [['request', 0, requestDeadline, [1, 2, 3]]],
    );
  }));

test('many requests at once get each its own answer, in any order', () =>
  withUplink(async (bench) => {
    const replies = Array.from({ length: 20 }, () => bench.uplink.request('attest', container));
    await bench.until(() => bench.asked.length === 20);
    for (const [index, topic] of [...bench.asked.entries()].reverse())
      await bench.answer(topic, { status: 200 + index });
    const answers = await Promise.all(replies);
    assert.equal(new Set(answers.map(({ status }) => status)).size, 20);
    for (const { topic, status } of answers)
      assert.is(bench.asked[status - 200]?.replace('/up/', '/down/'), topic);
  }));

test('answers that are foreign, late, of another endpoint, or unreadable are ignored', () =>
  withUplink(async (bench) => {
    const asked = bench.question();
    const reply = bench.uplink.request('config', container);
    const topic = await asked;
    await bench.answer(topic.replace(/[^/]+$/, 'somebody-elses'), { status: 201 });
    await bench.answer(topic.replace('/config/', '/attest/'), { status: 202 });
    await bench.answer(topic, { kind: 'request', status: 203 });
    await bench.answer(topic, { kind: 'push', status: 204 });
    await bench.broker.publish(topic.replace('/up/', '/down/'), Buffer.from('rubbish'));
    await bench.answer(topic, { status: 200 });
    assert.is(await codeOf(reply), 'answered 200');
    // Again: nobody waits any more.
    await bench.answer(topic, { status: 205 });
    const next = bench.question();
    const another = bench.uplink.request('config', container);
    await bench.answer(await next, { status: 206 });
    assert.is(await codeOf(another), 'answered 206');
    assert.ok(bench.uplink.connected);
  }));

test('what EVC pushes is handed on', () =>
  withUplink(async (bench) => {
    await bench.answer(`eve/v2/${device.id}/up/push/n1`, { kind: 'push', status: 0 });
    await bench.until(() => bench.pushed.length === 1);
    assert.equal(bench.pushed, ['down/push/n1 push']);
  }));

test('nobody answers: the request ends at its deadline, and a later answer is nobody’s', () =>
  withUplink(async (bench) => {
    const asked = bench.question();
    const reply = codeOf(bench.uplink.request('uuid', container));
    const topic = await asked;
    bench.clock.advanceTo(bench.clock.now() + requestDeadline);
    assert.is(await reply, 'link.timeout');
    await bench.answer(topic);
    assert.ok(bench.uplink.connected);
  }));

test('a request that is not wanted any more ends at once', () =>
  withUplink(async (bench) => {
    const stop = new AbortController();
    const asked = bench.question();
    const reply = bench.uplink.request('uuid', container, stop.signal).catch((error: unknown) => error);
    await asked;
    stop.abort(new Error('not any more'));
    assert.is(((await reply) as Error).message, 'not any more');
  }));

test('the link breaks with a request out: it fails at once, and the link comes back by itself', () =>
  withUplink(async (bench) => {
    const asked = bench.question();
    const reply = codeOf(bench.uplink.request('uuid', container));
    await asked;
    bench.cut();
    assert.is(await reply, 'link.lost');
    await bench.until(() => bench.links.length === 2);
    assert.not(bench.uplink.connected);
    assert.match(bench.links[1] ?? '', /^down: /);
    assert.is(await codeOf(bench.uplink.request('uuid', container)), 'link.down');
    // Within a second, somewhere: the first pause is short.
    bench.clock.advanceTo(bench.clock.now() + 1000);
    await bench.until(() => bench.links.length === 3);
    assert.is(bench.links[2], 'up');
    const next = bench.question();
    const again = codeOf(bench.uplink.request('uuid', container));
    await bench.answer(await next);
    assert.is(await again, 'answered 200');
  }));

test('pauses grow while EVC is out of reach, and end at ten minutes', () =>
  withUplink(async (bench) => {
    bench.net = 'down';
    bench.cut();
    const pauses: number[] = [];
    for (let tries = 0; tries < 25; tries++) {
      const { dials } = bench;
      const next = await nextSleep(bench);
      pauses.push(next - bench.clock.now());
      bench.clock.advanceTo(next);
      await bench.until(() => bench.dials > dials);
    }
    for (const [index, pause] of pauses.entries())
      assert.ok(pause <= Math.min(600_000, 1000 * 2 ** index), `pause ${index} is ${pause}`);
    assert.ok(Math.max(...pauses) > 60_000);
    assert.match(bench.links.at(-1) ?? '', /^down: ENETUNREACH$/);
    assert.is(await codeOf(bench.uplink.request('uuid', container)), 'link.down');
    // Somebody knows that it works again.
    bench.net = 'up';
    await nextSleep(bench);
    bench.uplink.retryNow();
    await bench.until(() => bench.uplink.connected || bench.links.at(-1) === 'up');
  }));

/** Of the event loop, enough for what goes on to end. */
async function turns(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function nextSleep(bench: Bench): Promise<number> {
  for (;;) {
    const next = bench.clock.next();
    if (next !== null) return next;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a login that the broker refuses is named as one', () =>
  withUplink(async (bench) => {
    bench.net = 'refused';
    bench.cut();
    const { dials } = bench;
    bench.clock.advanceTo(await nextSleep(bench));
    await bench.until(() => bench.dials > dials && bench.links.length >= 3);
    assert.is(bench.links.at(-1), 'down: the broker refuses the login of this device');
    const { message } = await bench.uplink.request('uuid', container).then(
      () => new Error('answered'),
      (error: Error) => error,
    );
    assert.match(message, /refuses the login/);
  }));

test('a connection that breaks while the TPM makes the login is one that is lost, and ends nothing else', () =>
  withUplink(async (bench) => {
    bench.onLogin = () => bench.cut(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
    bench.cut();
    const lost = () =>
      bench.links.filter((link) => link === 'down: the connection was lost before the login');
    for (let tries = 1; tries <= 2; tries++) {
      bench.clock.advanceTo(await nextSleep(bench));
      await bench.until(() => lost().length === tries);
    }
    assert.is(await codeOf(bench.uplink.request('uuid', container)), 'link.down');
    bench.onLogin = () => undefined;
    bench.clock.advanceTo(await nextSleep(bench));
    await bench.until(() => bench.uplink.connected);
  }));

test('a login that the TPM does not make lets the connection go', () =>
  withUplink(async (bench) => {
    bench.onLogin = () => {
      throw new Refusal('tpm.timeout', 'the TPM does not answer');
    };
    bench.cut();
    const { dials } = bench;
    bench.clock.advanceTo(await nextSleep(bench));
    await bench.until(() => bench.dials > dials && bench.links.at(-1) === 'down: the TPM does not answer');
    assert.ok(bench.closed());
  }));

/** A new connection, to a broker that answers no subscription. */
async function dialUnsubscribed(bench: Bench): Promise<void> {
  bench.net = 'unsubscribed';
  bench.cut();
  const { dials } = bench;
  bench.clock.advanceTo(await nextSleep(bench));
  await bench.until(() => bench.dials > dials);
}

test('a broker that does not answer the subscription is left at its deadline, and tried again', () =>
  withUplink(async (bench) => {
    await dialUnsubscribed(bench);
    const reply = codeOf(bench.uplink.request('uuid', container));
    await turns();
    bench.clock.advanceTo(bench.clock.now() + requestDeadline);
    const why = 'the broker did not answer the subscription within 10 s';
    await bench.until(() => bench.links.at(-1) === `down: ${why}`);
    assert.is(await reply, 'link.down');
    assert.ok(bench.closed());
    bench.net = 'up';
    bench.clock.advanceTo(await nextSleep(bench));
    await bench.until(() => bench.uplink.connected && bench.links.at(-1) === 'up');
  }));

test('closing leaves a broker that does not answer the subscription', () =>
  withUplink(async (bench) => {
    await dialUnsubscribed(bench);
    await turns();
    assert.not(bench.closed());
    await bench.uplink.close();
    await turns();
    assert.ok(bench.closed());
    assert.is(bench.clock.next(), null);
  }));

test('a request waits for a link that is being made, no longer than its deadline', async () => {
  const bench = await Bench.open();
  try {
    const asked = bench.question();
    const reply = codeOf(bench.uplink.request('uuid', container));
    await bench.answer(await asked);
    assert.is(await reply, 'answered 200');
  } finally {
    await bench.close();
  }
});

test('a link that is closed while it is being made stays closed', async () => {
  const bench = await Bench.open();
  await bench.uplink.close();
  assert.is(await codeOf(bench.uplink.request('uuid', container)), 'link.down');
  await turns();
  assert.not(bench.uplink.connected);
  assert.not(bench.links.includes('up'));
  await bench.broker.close();
});

test('closing ends what is out', () =>
  withUplink(async (bench) => {
    const asked = bench.question();
    const reply = codeOf(bench.uplink.request('uuid', container));
    await asked;
    await bench.uplink.close();
    assert.is(await reply, 'link.lost');
  }));

test.run();
