// deadline: 180 s
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import mqtt from 'mqtt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus, type BusServer, startBus } from '../../broker/bus.ts';
import { needDebian } from '../kit/debian.ts';
import { inFolder } from '../kit/folders.ts';

/** Resolves with the body of the next publication on a topic. */
function next(bus: Bus, topic: string): Promise<unknown> {
  return new Promise((resolve) => {
    const stop = bus.listen((found, body) => {
      if (found !== topic) return;
      stop();
      resolve(body);
    });
  });
}

async function withBus(
  work: (server: BusServer, bus: Bus) => Promise<void>,
  options: { socket?: string } = {},
): Promise<void> {
  const server = await startBus(options);
  const bus = await Bus.open(server.connect);
  try {
    await work(server, bus);
  } finally {
    await bus.close();
    await server.close();
  }
}

const raw = (server: BusServer) => {
  const client = new mqtt.MqttClient(server.connect, {
    reconnectPeriod: 0,
    keepalive: 0,
    protocolVersion: 4,
  });
  client.on('error', () => undefined);
  return client;
};

test('a state is kept for those that come late', () =>
  withBus(async (server, bus) => {
    const heard = next(bus, 'vault-manager/VaultStatus');
    bus.publish('vault-manager/VaultStatus', { status: 'locked' });
    assert.equal(await heard, { status: 'locked' });
    assert.equal(bus.latest('vault-manager/VaultStatus'), { status: 'locked' });

    const late = await Bus.open(server.connect);
    if (!late.latest('vault-manager/VaultStatus')) await next(late, 'vault-manager/VaultStatus');
    assert.equal(late.latest('vault-manager/VaultStatus'), { status: 'locked' });
    const newer = next(late, 'vault-manager/VaultStatus');
    bus.publish('vault-manager/VaultStatus', { status: 'unlocked' });
    assert.equal(await newer, { status: 'unlocked' });
    await late.close();
  }));

test('null takes a state back, for those that come late as well', () =>
  withBus(async (server, bus) => {
    bus.publish('a/B', { x: 1 });
    await next(bus, 'a/B');
    const back = next(bus, 'a/B');
    bus.publish('a/B', null);
    assert.is(await back, null);
    assert.equal([bus.latest('a/B'), bus.topics()], [undefined, []]);

    const late = await Bus.open(server.connect);
    const probe = next(late, 'c/D');
    late.publish('c/D', {});
    await probe;
    assert.equal(late.topics(), ['c/D']);
    await late.close();
  }));

test('who stops listening hears nothing more', () =>
  withBus(async (_, bus) => {
    const heard: unknown[] = [];
    const stop = bus.listen((_topic, body) => heard.push(body));
    let seen = next(bus, 'a/B');
    bus.publish('a/B', { n: 1 });
    await seen;
    stop();
    seen = next(bus, 'a/B');
    bus.publish('a/B', { n: 2 });
    await seen;
    assert.equal(heard, [{ n: 1 }]);
  }));

test('rubbish of others is ignored', () =>
  withBus(async (server, bus) => {
    const heard: [string, unknown][] = [];
    bus.listen((topic, body) => heard.push([topic, body]));
    const other = raw(server);
    for (const payload of ['{', 'x', '\xff\xfe', '{"a":1}{', Buffer.alloc(1024 * 1024 + 1, 0x20)]) {
      await other.publishAsync('a/B', payload, { qos: 1, retain: true });
    }
    const end = next(bus, 'a/B');
    await other.publishAsync('a/B', '{"a":1}', { qos: 1, retain: true });
    await end;
    assert.equal(heard, [['a/B', { a: 1 }]]);
    await other.endAsync(true);
  }));

test('a message over the limit is a mistake of the component', () =>
  withBus(async (_, bus) => {
    assert.throws(
      () => bus.publish('a/B', { text: 'x'.repeat(1024 * 1024) }),
      /a message of 10485\d\d bytes on a\/B/,
    );
    // Counted in bytes: its receivers do so too.
    assert.throws(() => bus.publish('a/B', { text: '€'.repeat(400_000) }), /a message of 1200011 bytes/);
  }));

test('a Unix socket that only its owner reaches, and nothing left behind', () =>
  inFolder(async (folder) => {
    const socket = join(folder, 'bus.sock');
    await withBus(
      async (_, bus) => {
        assert.is(statSync(socket).mode & 0o777, 0o600);
        const guest = await Bus.openSocket(socket);
        const heard = next(guest, 'a/B');
        bus.publish('a/B', { over: 'the socket' });
        assert.equal(await heard, { over: 'the socket' });
        await guest.close();
      },
      { socket },
    );
    assert.not(existsSync(socket));
  }));

test('the bus ends with guests that do not go', () =>
  inFolder(async (folder) => {
    const socket = join(folder, 'bus.sock');
    const server = await startBus({ socket });
    const silent = net.connect(socket);
    await once(silent, 'connect');
    const guest = await Bus.openSocket(socket);
    const gone = once(silent, 'close');
    await server.close();
    await gone;
    await guest.close();
  }));

test('a socket that an earlier life left behind is replaced', () =>
  inFolder(async (folder) => {
    const socket = join(folder, 'bus.sock');
    const script = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await once(spawn(process.execPath, ['-e', script]), 'exit');
    assert.ok(existsSync(socket));
    await withBus(async () => undefined, { socket });
  }));

test('nobody serves the bus: said once, and nothing goes on trying', () =>
  inFolder(async (folder) => {
    const error = await Bus.openSocket(join(folder, 'bus.sock')).catch(
      (cause: NodeJS.ErrnoException) => cause,
    );
    assert.is((error as NodeJS.ErrnoException).code, 'ENOENT');
  }));

test('mosquitto_sub shows a person what happens', async () => {
  if (!(await needDebian(['mosquitto-clients'], ['mosquitto_sub']))) return;
  await inFolder(async (folder) => {
    const socket = join(folder, 'bus.sock');
    await withBus(
      async (_, bus) => {
        const seen = next(bus, 'vault-manager/VaultStatus');
        bus.publish('vault-manager/VaultStatus', { status: 'locked' });
        await seen;
        const child = spawn(
          'mosquitto_sub',
          ['--unix', socket, '-V', 'mqttv311', '-t', '#', '-v', '-C', '2'],
          {
            stdio: ['ignore', 'pipe', 'inherit'],
          },
        );
        const lines = linesOf(child);
        assert.is((await lines.next()).value, 'vault-manager/VaultStatus {"status":"locked"}');
        bus.publish('client/OnboardingStatus', { state: 'onboarded' });
        assert.is((await lines.next()).value, 'client/OnboardingStatus {"state":"onboarded"}');
        if (child.exitCode === null) await once(child, 'exit');
        assert.is(child.exitCode, 0);
      },
      { socket },
    );
  });
});

function linesOf({ stdout }: ChildProcess): AsyncIterator<string> {
  if (!stdout) throw new TypeError('no stdout');
  return createInterface({ input: stdout })[Symbol.asyncIterator]();
}

test.run();
