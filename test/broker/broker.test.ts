import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type mqtt from 'mqtt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker, type BrokerOptions } from '../../broker/broker.ts';
import { createPki } from '../../controller/pki.ts';
import { dialTls, login } from '../../device/link/dial.ts';
import { Refusal } from '../../device/refusal.ts';
import { channelBinding } from '../../formats/wire/login.ts';
import { inFolder } from '../kit/folders.ts';
import {
  clientOn,
  honestClaims,
  outcome,
  pairTo,
  type SoftDevice,
  signRaw,
  softDevice,
  tokenOf,
} from '../kit/logins.ts';
import { rejects } from '../kit/rejects.ts';

const one = await softDevice();
const two = await softDevice();
const up = ({ id }: SoftDevice, request = 'r1') => `eve/v2/${id}/up/attest/${request}`;
const down = ({ id }: SoftDevice, request = 'r1') => `eve/v2/${id}/down/attest/${request}`;

interface Bench {
  broker: Broker;
  messages: [string, string][];
  links: string[];
  refused: string[];
  /** Resolves with the next refusal. */
  refusal(): Promise<string>;
  received(count: number): Promise<void>;
  /** Resolves when this is all that was told of links. */
  linked(...wanted: string[]): Promise<void>;
  connect(device: SoftDevice, options?: mqtt.IClientOptions): mqtt.MqttClient;
}

async function withBroker(
  work: (bench: Bench) => Promise<void>,
  options: Partial<BrokerOptions> = {},
): Promise<void> {
  const wakers = new Set<() => void>();
  const wake = () => {
    for (const waker of wakers) waker();
  };
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!condition()) return;
        wakers.delete(look);
        resolve();
      };
      wakers.add(look);
      look();
    });
  const messages: [string, string][] = [];
  const links: string[] = [];
  const refused: string[] = [];
  const broker = await Broker.start({
    now: () => Date.now(),
    onMessage(topic, payload) {
      messages.push([topic, Buffer.from(payload).toString('latin1')]);
      wake();
    },
    onLink(device, online) {
      links.push(`${device === one.id ? 'one' : 'two'} ${online ? 'on' : 'off'}`);
      wake();
    },
    onRefused(what, reason) {
      refused.push(`${reason} ${what}`);
      wake();
    },
    ...options,
  });
  const clients: mqtt.MqttClient[] = [];
  try {
    await work({
      broker,
      messages,
      links,
      refused,
      async refusal() {
        const before = refused.length;
        await until(() => refused.length > before);
        return refused.at(-1)?.split(' ')[0] ?? '';
      },
      received: (count) => until(() => messages.length >= count),
      async linked(...wanted) {
        await until(() => links.length >= wanted.length);
        assert.equal(links, wanted);
      },
      connect(device, more = {}) {
        const client = clientOn(pairTo(broker), {
          clientId: device.id,
          username: device.id,
          password: tokenOf(device, honestClaims(device, Date.now())),
          ...more,
        });
        clients.push(client);
        return client;
      },
    });
  } finally {
    for (const client of clients) client.end(true);
    await broker.close();
  }
}

const closed = (emitter: mqtt.MqttClient | Duplex) =>
  new Promise<void>((resolve) => {
    if ('destroyed' in emitter && emitter.destroyed) resolve();
    emitter.once('close', () => resolve());
  });
const reasonOf = (refused: string[]) => refused.map((line) => line.split(' ')[0]);

const message = (client: mqtt.MqttClient) =>
  new Promise<[string, Buffer]>((resolve) =>
    client.once('message', (topic, payload) => resolve([topic, payload])),
  );

// ---- Login

test('a device logs in, asks, and is answered; its link comes and goes', () =>
  withBroker(async ({ broker, messages, linked, received, connect }) => {
    const client = connect(one);
    assert.is(await outcome(client), 'connected');
    await client.subscribeAsync(`eve/v2/${one.id}/down/#`, { qos: 1 });
    await client.publishAsync(up(one), 'question', { qos: 1 });
    await received(1);
    assert.equal(messages, [[up(one), 'question']]);
    const answer = message(client);
    await broker.publish(down(one), Buffer.from('answer'));
    const [topic, payload] = await answer;
    assert.equal([topic, payload.toString()], [down(one), 'answer']);
    const gone = closed(client);
    client.end(true);
    await gone;
    const again = connect(one);
    await outcome(again);
    await linked('one on', 'one off', 'one on');
  }));

test('a wrong login is answered with CONNACK 4, and named', () =>
  withBroker(async ({ refused, connect }) => {
    assert.is(await outcome(connect(one, { password: 'secret' })), 4);
    assert.is(await outcome(connect(one, { username: '\x1b[31m'.repeat(30) })), 4);
    assert.is(
      await outcome(connect(one, { password: tokenOf(one, honestClaims(one, Date.now()), two.key) })),
      4,
    );
    assert.equal(refused, [
      `login.malformed ${one.id}`,
      'login.malformed nobody',
      `login.signature ${one.id}`,
    ]);
  }));

test('nobody takes the place of another device, or a client id that no device has', () =>
  withBroker(async ({ refused, links, connect }) => {
    const victim = connect(one);
    assert.is(await outcome(victim), 'connected');
    for (const clientId of [
      one.id,
      `${one.id}:eve`,
      'inspector',
      `${two.id}x`,
      `${two.id}:`,
      `${two.id}:\x1b[2J`,
      `${two.id}:${'a'.repeat(40)}`,
    ]) {
      assert.is(await outcome(connect(two, { clientId })), 2, clientId);
    }
    assert.equal(new Set(reasonOf(refused)), new Set(['login.client-id']));
    await victim.publishAsync(up(one), 'still here', { qos: 1 });
    assert.equal([victim.connected, links], [true, ['one on']]);
  }));

test('the same device again takes its own place over', () =>
  withBroker(async ({ linked, connect }) => {
    const first = connect(one);
    await outcome(first);
    await linked('one on');
    const gone = closed(first);
    const second = connect(one);
    assert.is(await outcome(second), 'connected');
    await gone;
    await second.publishAsync(up(one), 'x', { qos: 1 });
    await linked('one on', 'one off', 'one on');
  }));

test('a device has four connections at most', () =>
  withBroker(async ({ refused, linked, connect }) => {
    for (const name of ['a', 'b', 'c', 'd'])
      assert.is(await outcome(connect(one, { clientId: `${one.id}:${name}` })), 'connected');
    assert.is(await outcome(connect(one, { clientId: `${one.id}:e` })), 3);
    // One of the four comes back, and others are not concerned.
    assert.is(await outcome(connect(one, { clientId: `${one.id}:a` })), 'connected');
    assert.is(await outcome(connect(two)), 'connected');
    assert.equal(reasonOf(refused), ['limit.device-connections']);
    await linked('one on', 'two on');
  }));

test('when nobody can say whether a device is retired, it is not let in', () =>
  withBroker(
    async ({ refused, connect }) => {
      assert.is(await outcome(connect(one)), 3);
      assert.equal(reasonOf(refused), ['login.unavailable']);
    },
    { retired: () => Promise.reject(new Error('the store is gone')) },
  ));

test('MQTT 5 is refused with the return code for it', () =>
  withBroker(async ({ broker }) => {
    // CONNECT: protocol MQTT, level 5, clean start, keep alive 60, no properties, client id x.
    const connect = Buffer.from([0x10, 14, 0, 4, 0x4d, 0x51, 0x54, 0x54, 5, 2, 0, 60, 0, 0, 1, 0x78]);
    const stream = pairTo(broker);
    stream.write(connect);
    const answer: number[] = [];
    stream.on('data', (chunk: Buffer) => answer.push(...chunk));
    await closed(stream);
    assert.equal(answer, [0x20, 2, 0, 1]);
  }));

// ---- Rights

test('a message for a foreign topic ends the connection, and reaches nobody', () =>
  withBroker(async ({ messages, refusal, received, connect }) => {
    for (const topic of [up(two), down(one), down(two), '$SYS/x', 'a', `eve/v2/${one.id}/up/push/1`]) {
      const client = connect(one);
      await outcome(client);
      const gone = closed(client);
      const why = refusal();
      client.publish(topic, 'evil', { qos: 0 });
      assert.is(await why, 'acl.publish', topic);
      await gone;
    }
    const honest = connect(two);
    await honest.publishAsync(up(two), 'mine', { qos: 1 });
    await received(1);
    assert.equal(messages, [[up(two), 'mine']]);
  }));

test('a retained message, one of QoS 2, and a will', () =>
  withBroker(async ({ messages, refusal, connect }) => {
    for (const options of [{ retain: true, qos: 1 }, { qos: 2 }] as const) {
      const client = connect(one);
      await outcome(client);
      const gone = closed(client);
      const why = refusal();
      client.publish(up(one), 'kept', options);
      assert.is(await why, 'acl.kept');
      await gone;
    }
    const why = refusal();
    const willed = connect(one, {
      will: { topic: up(one), payload: Buffer.from('x'), qos: 0, retain: false },
    });
    assert.is(await outcome(willed), 'closed');
    assert.is(await why, 'acl.will');
    assert.equal(messages, []);
  }));

test('no filter but its own is granted', () =>
  withBroker(async ({ broker, refused, connect }) => {
    const spy = connect(two);
    await outcome(spy);
    const heard: string[] = [];
    spy.on('message', (topic) => heard.push(topic));
    const filters = [
      '#',
      '+/+/+/+/#',
      'eve/v2/+/down/#',
      `eve/v2/${one.id}/down/#`,
      down(one),
      'eve/v2/+/up/#',
      '$SYS/#',
      `$share/g/eve/v2/${one.id}/down/#`,
    ];
    for (const filter of filters) {
      const result = await spy.subscribeAsync(filter, { qos: 1 }).catch((error: Error) => error);
      assert.ok(result instanceof Error || result.every(({ qos }) => qos === 128), filter);
    }
    assert.equal(
      reasonOf(refused),
      filters.map(() => 'acl.subscribe'),
    );
    await spy.subscribeAsync(`eve/v2/${two.id}/down/#`, { qos: 1 });
    await broker.publish(down(one), Buffer.from('for one'));
    const own = message(spy);
    await broker.publish(down(two), Buffer.from('for two'));
    await own;
    assert.equal(heard, [down(two)]);
  }));

// Aedes keeps both filters of such a SUBSCRIBE for the next connection of a persistent session.
test('a denied filter beside an allowed one is not served after the session was taken up again', () =>
  withBroker(async ({ broker, connect }) => {
    const persistent = { clean: false, clientId: `${two.id}:eve` };
    const first = connect(two, persistent);
    await outcome(first);
    await first
      .subscribeAsync([`eve/v2/${two.id}/down/#`, `eve/v2/${one.id}/down/#`], { qos: 1 })
      .catch(() => undefined);
    const gone = closed(first);
    first.end(true);
    await gone;
    await broker.publish(down(one, 'offline'), Buffer.from('secret'));

    const again = connect(two, persistent);
    const heard: string[] = [];
    again.on('message', (topic) => heard.push(topic));
    const connack = await new Promise<{ sessionPresent: boolean }>((resolve) =>
      again.once('connect', resolve),
    );
    assert.not(connack.sessionPresent);
    await again.subscribeAsync(`eve/v2/${two.id}/down/#`, { qos: 1 });
    const own = message(again);
    await broker.publish(down(one, 'online'), Buffer.from('secret'));
    await broker.publish(down(two, 'last'), Buffer.from('mine'));
    await own;
    assert.equal(heard, [down(two, 'last')]);
  }));

// ---- Limits

/** A fixed header [MQTT 3.1.1, 2.2]. */
function header(type: number, length: number): Buffer {
  const bytes = [type];
  do {
    const more = length >= 128;
    bytes.push((length % 128) | (more ? 0x80 : 0));
    length = Math.floor(length / 128);
  } while (length > 0);
  return Buffer.from(bytes);
}

test('a CONNECT of 100 MB is cut at its header, and costs nothing', () =>
  withBroker(async ({ broker, refused }) => {
    const stream = pairTo(broker);
    const before = process.memoryUsage().rss;
    const size = 100 * 1024 * 1024;
    const gone = closed(stream);
    stream.on('error', () => undefined);
    stream.write(header(0x10, size));
    const chunk = Buffer.alloc(64 * 1024);
    let sent = 0;
    while (sent < size && !stream.destroyed) {
      sent += chunk.length;
      if (!stream.write(chunk)) await Promise.race([once(stream, 'drain').catch(() => undefined), gone]);
    }
    await gone;
    assert.equal(reasonOf(refused), ['limit.connect']);
    assert.ok(sent < 1024 * 1024, `${sent} bytes were taken`);
    assert.ok(process.memoryUsage().rss - before < 32 * 1024 * 1024);
  }));

test('a large packet before and after the login', () =>
  withBroker(async ({ broker, refusal, connect }) => {
    const early = pairTo(broker);
    const why = refusal();
    early.write(header(0x30, 5000));
    assert.is(await why, 'limit.connect');

    const client = connect(one);
    await outcome(client);
    const gone = closed(client);
    const late = refusal();
    client.publish(up(one), Buffer.alloc(700 * 1024), { qos: 0 });
    assert.is(await late, 'limit.packet');
    await gone;
  }));

test('the largest message that a device may send is taken whole', () =>
  withBroker(async ({ messages, received, connect }) => {
    const client = connect(one);
    await outcome(client);
    await client.publishAsync(up(one), Buffer.alloc(512 * 1024 + 16, 'x'), { qos: 1 });
    await received(1);
    assert.is(messages[0]?.[1].length, 512 * 1024 + 16);
  }));

test('a remaining length of five bytes is malformed', () =>
  withBroker(async ({ broker, refusal }) => {
    const stream = pairTo(broker);
    const why = refusal();
    stream.write(Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x01]));
    assert.is(await why, 'limit.malformed');
    await closed(stream);
  }));

test('rubbish instead of MQTT ends the connection and nothing else', () =>
  withBroker(async ({ broker, connect }) => {
    const witness = connect(one);
    await outcome(witness);
    for (const bytes of [
      Buffer.from(`GET / HTTP/1.1\r\nHost: evc\r\nCookie: ${'x'.repeat(100)}\r\n\r\n`),
      Buffer.from([0xf0, 0]),
      Buffer.from([0x10, 0]),
      Buffer.from([0x10, 2, 0, 9]),
      Buffer.from([0xc0, 0]),
      Buffer.from([0x82, 2, 0, 1]),
    ]) {
      const stream = pairTo(broker);
      stream.on('error', () => undefined);
      const gone = closed(stream);
      stream.write(bytes);
      await gone;
    }
    await witness.publishAsync(up(one), 'alive', { qos: 1 });
    assert.ok(witness.connected);
  }));

test('who sends too many packets is cut', () =>
  withBroker(
    async ({ refusal, connect }) => {
      const client = connect(one);
      await outcome(client);
      const why = refusal();
      const gone = closed(client);
      for (let i = 0; i < 60; i++) client.publish(up(one, `r${i}`), 'x', { qos: 0 });
      assert.is(await why, 'limit.rate');
      await gone;
    },
    { limits: { rate: 5 } },
  ));

test('a reader that stops reading is cut, and nobody waits for it', () =>
  withBroker(async ({ broker, refused, connect }) => {
    // Frozen after its SUBACK: the bytes stay in the stream.
    const frozen = pairTo(broker);
    const client = clientOn(frozen, {
      clientId: one.id,
      username: one.id,
      password: tokenOf(one, honestClaims(one, Date.now())),
    });
    await outcome(client);
    await client.subscribeAsync(`eve/v2/${one.id}/down/#`, { qos: 1 });
    frozen.removeAllListeners('data');
    frozen.removeAllListeners('readable');
    frozen.unpipe();
    frozen.pause();

    const other = connect(two);
    await outcome(other);
    await other.subscribeAsync(`eve/v2/${two.id}/down/#`, { qos: 1 });
    let heard = 0;
    other.on('message', () => heard++);
    const payload = Buffer.alloc(64 * 1024);
    for (let i = 0; i < 100; i++) {
      await broker.publish(down(one, `n${i}`), payload);
      await broker.publish(down(two, `n${i}`), Buffer.from('x'));
      await other.publishAsync(up(two, `n${i}`), 'x', { qos: 1 });
    }
    assert.equal(reasonOf(refused), ['limit.slow-reader']);
    assert.is(heard, 100);
    client.end(true);
  }));

test('connections over the limit are closed at once, and room is made by those that go', () =>
  withBroker(
    async ({ broker, refused, connect }) => {
      const first = connect(one);
      await outcome(first);
      const second = pairTo(broker);
      const third = pairTo(broker);
      await closed(third);
      assert.equal(refused, ['limit.connections connection']);
      assert.ok(first.connected);
      const gone = closed(second);
      second.destroy();
      await gone;
      assert.is(await outcome(connect(two)), 'connected');
    },
    { connections: 2 },
  ));

test('closing the broker ends those that never logged in as well', async () => {
  const broker = await Broker.start({ now: () => Date.now(), onMessage: () => undefined });
  const silent = pairTo(broker);
  const gone = closed(silent);
  await broker.close();
  await gone;
});

// ---- TLS

async function overTls(
  work: (
    bench: Bench & {
      port: number;
      root: string;
      dial(): Promise<{ stream: Duplex; channel: Uint8Array | null }>;
    },
  ) => Promise<void>,
  options: Partial<BrokerOptions> = {},
): Promise<void> {
  await inFolder(async (folder) => {
    const pki = await createPki(folder, ['localhost', '127.0.0.1'], Date.now());
    const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
    await withBroker(async (bench) => {
      const listener = await bench.broker.listen(
        { host: '127.0.0.1', port: 0 },
        key,
        pki.server.certificate.toString(),
      );
      const root = pki.root.toString();
      try {
        await work({
          ...bench,
          port: listener.port,
          root,
          dial: () => dialTls({ host: 'localhost', port: listener.port }, root),
        });
      } finally {
        await listener.close();
      }
    }, options);
  });
}

const identity = { device: one.id, serial: 's', certificate: one.certificate, certificatePem: '' };
const ticking = { now: () => 0, random: () => 0, sleepUntil: () => Promise.resolve() };

test('over TLS a login is bound to its channel: it works at any time, and on no other channel', () =>
  overTls(async ({ dial, refused, linked }) => {
    const sign = async (bytes: Uint8Array) => signRaw(one.key, bytes);
    const first = await dial();
    assert.is(first.channel?.length, channelBinding.length);
    // The clock of this device stands at 1970.
    const password = await login(identity, first.channel, sign, ticking);
    const client = clientOn(first.stream, { clientId: one.id, username: one.id, password });
    assert.is(await outcome(client), 'connected');

    const second = await dial();
    assert.not.equal(second.channel, first.channel);
    const thief = clientOn(second.stream, { clientId: one.id, username: one.id, password });
    assert.is(await outcome(thief), 4);
    const third = await dial();
    const unbound = await login(identity, null, sign, { ...ticking, now: () => Date.now() });
    assert.is(
      await outcome(clientOn(third.stream, { clientId: one.id, username: one.id, password: unbound })),
      4,
    );
    assert.equal(refused, [`login.channel ${one.id}`, `login.channel ${one.id}`]);
    assert.ok(client.connected);
    client.end(true);
    await linked('one on');
  }));

test('a connection that is gone before its login is looked at does no harm', () =>
  overTls(async ({ dial, linked }) => {
    for (let i = 0; i < 20; i++) {
      const { stream } = await dial();
      const client = clientOn(stream, {
        clientId: two.id,
        username: two.id,
        password: tokenOf(two, honestClaims(two, Date.now())),
      });
      client.once('packetsend', () => (stream as tls.TLSSocket).resetAndDestroy());
      await closed(stream);
    }
    const { stream, channel } = await dial();
    const client = clientOn(stream, {
      clientId: one.id,
      username: one.id,
      password: tokenOf(one, honestClaims(one, Date.now(), channel)),
    });
    assert.is(await outcome(client), 'connected');
    client.end(true);
    await linked('one on');
  }));

test('a port that is taken is named', () =>
  overTls(async ({ broker, port, root }) => {
    const again = broker.listen({ host: '127.0.0.1', port }, '', '').catch((error: Error) => error);
    const error = await again;
    assert.instance(error, Error);
    assert.match(
      (error as Error).message,
      new RegExp(`^port ${port} on 127.0.0.1 is taken by another program`),
    );
    assert.ok(root.startsWith('-----BEGIN'));
  }));

test('TLS 1.2 is refused', () =>
  overTls(async ({ port, root }) => {
    const socket = tls.connect({ port, host: 'localhost', ca: root, maxVersion: 'TLSv1.2' });
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    assert.match(error.code ?? '', /PROTOCOL_VERSION/);
  }));

test('a device says why it does not trust a broker, and why it does not reach one', () =>
  inFolder((folder) =>
    overTls(async ({ port }) => {
      const foreign = (await createPki(folder, ['localhost'], Date.now())).root.toString();
      await rejects(dialTls({ host: 'localhost', port }, foreign), Refusal, ({ code, message }) => {
        return (
          code === 'link.down' &&
          /shows a certificate that this device’s root does not vouch for/.test(message)
        );
      });
      await rejects(dialTls({ host: 'localhost', port: 1 }, foreign), Refusal, ({ code, message }) => {
        return code === 'link.down' && /^nobody listens at localhost:1$/.test(message);
      });
    }),
  ));

for (const [made, says] of [
  [30, /is not valid yet, and the clock of this device says \d{4}-.*: set it/],
  [-400, /has run out, and the clock of this device says \d{4}-.*renew the certificate/],
] as const)
  test(`a device whose clock is ${Math.abs(made)} days ${made < 0 ? 'after' : 'before'} EVC’s set-up says that it is about time`, () =>
    withBroker((bench) =>
      inFolder(async (folder) => {
        const { server, root } = await createPki(folder, ['localhost'], Date.now() + made * 86_400_000);
        const key = server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
        const listener = await bench.broker.listen(
          { host: '127.0.0.1', port: 0 },
          key,
          server.certificate.toString(),
        );
        const dialled = dialTls({ host: 'localhost', port: listener.port }, root.toString());
        await rejects(
          dialled,
          Refusal,
          ({ code, message }) => code === 'certs.expired' && says.test(message),
        ).finally(() => listener.close());
      }),
    ));

test('a peer that speaks no TLS ends alone', () =>
  overTls(async ({ port, dial }) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\n\r\n'.repeat(10));
    socket.on('error', () => undefined);
    socket.resume();
    await closed(socket);
    (await dial()).stream.destroy();
  }));

test.run();
