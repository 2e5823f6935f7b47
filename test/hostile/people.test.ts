// Whoever reaches the port for people and keeps to no rule: addresses that are none, bodies that never come, answers that nobody reads,
// and readers whose token is taken back. Nothing of it ends EVC, and nothing of it is kept.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import tls from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import WebSocket from 'ws';
import type { RunnerEvent } from '../../controller/record/runner.ts';
import { ApiBench, apiOf } from '../kit/api.ts';
import { account } from '../kit/controller.ts';

const bench = await ApiBench.open();
const { trusted } = await bench.devices();
const tokenHash = createHash('sha256').update(bench.admin).digest('hex');
test.after(() => bench.close());

/** @param allowHalfOpen its own end stays open when the other is closed */
async function dial(
  port = bench.server.port,
  allowHalfOpen = false,
): Promise<{ socket: tls.TLSSocket; closed: Promise<void> }> {
  const to = { host: '127.0.0.1', servername: 'localhost', port, ca: bench.root, allowHalfOpen };
  const socket = tls.connect(to as tls.ConnectionOptions);
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await once(socket, 'secureConnect');
  return { socket, closed };
}

const lines = (...all: string[]) => [...all, '', ''].join('\r\n');
const upgrade = ['Host: localhost', 'Connection: Upgrade', 'Upgrade: websocket'];

async function answerTo(request: string, port?: number): Promise<string> {
  const { socket } = await dial(port);
  socket.write(request);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  const { status, code } =
    /^HTTP\/1\.1 (?<status>\d+)(.*"code":"(?<code>[^"]+)")?/s.exec(String(answer))?.groups ?? {};
  return `${status} ${code ?? ''}`.trim();
}

for (const target of ['//', '///', 'http://[', '//[', 'http:///'])
  test(`an address that is none, ${target}, is refused, as a request and as a change to WebSockets`, async () => {
    assert.match(await answerTo(lines(`GET ${target} HTTP/1.1`, ...upgrade)), /^404/);
    assert.match(await answerTo(lines(`GET ${target} HTTP/1.1`, 'Host: localhost')), /^4/);
    assert.is((await bench.call('GET', '/api/v1/whoami')).status, 200);
  });

for (const [method, path, says, ...more] of [
  ['POST', '/x', '404 route.unknown'],
  ['PUT', '/', '404 route.unknown'],
  ['DELETE', '/app.js', '404 route.unknown'],
  ['OPTIONS', '/', '404 route.unknown'],
  ['POST', '/api/v1/nothing', '401 auth.missing'],
  ['POST', '/api/v1/nothing', '404 route.unknown', `Authorization: Bearer ${bench.admin}`],
  ['POST', '/broker/login', '401 auth.wrong'],
] as const)
  test(`${method} ${path}: ${says}, before a body comes`, async () => {
    const brokerLogin = { secretHash: '00'.repeat(32), check: async () => null };
    const other = await apiOf(bench.evc, { tokenHash, brokerLogin });
    const body = ['Host: localhost', 'Content-Type: application/json', 'Content-Length: 8000000'];
    const port = path.startsWith('/broker') ? other.port : bench.server.port;
    assert.is(await answerTo(`${lines(`${method} ${path} HTTP/1.1`, ...body, ...more)}{`, port), says);
    await other.close();
  });

test('a change to WebSockets that is refused ends its connection, whoever keeps its own end open, and EVC stops', async () => {
  const other = await apiOf(bench.evc, { tokenHash });
  const [open, deaf] = [await dial(other.port, true), await dial(other.port, true)];
  open.socket.write(lines('GET /nothing HTTP/1.1', ...upgrade));
  deaf.socket.pause().write(lines('GET /inspect HTTP/1.1', ...upgrade));
  await once(open.socket, 'data');
  // It ends when nobody is connected any more.
  await other.close();
  open.socket.destroy();
  deaf.socket.destroy();
});

test('who reads events and stops to, and whose token is taken back then, is let go of', async () => {
  const token = await bench.token('asleep', 'viewer');
  let step: RunnerEvent | null = null;
  const publish = bench.evc.watch;
  bench.evc.watch = (one) => {
    step = one;
    publish(one);
  };
  const { socket } = await dial();
  socket.write(lines('GET /api/v1/events HTTP/1.1', 'Host: localhost', `Authorization: Bearer ${token}`));
  await once(socket, 'data');
  socket.pause();
  await bench.evc.evc.operator.rotateKey(trusted.id);
  // More than the kernel takes, so that some of it waits in EVC.
  for (let i = 0; i < 20_000; i++) publish(step as unknown as RunnerEvent);
  await bench.evc.evc.tokens.revoke('asleep', { by: 'test' });
  for (let i = 0; i < 10; i++) publish(step as unknown as RunnerEvent);
  let last = '';
  for await (const piece of socket) {
    last = (last + piece).slice(-7);
    if (last === '\r\n0\r\n\r\n') break;
  }
  bench.evc.watch = publish;
});

test('who shows charts, or reads them, does so no longer once its token is taken back', async () => {
  const token = await bench.token('shows', 'viewer');
  const address = `wss://127.0.0.1:${bench.server.port}/inspect?token=${token}`;
  const socket = new WebSocket(address, {
    ca: bench.root,
    servername: 'localhost',
  } as WebSocket.ClientOptions);
  socket.on('error', () => undefined);
  await once(socket, 'open');
  const closed = once(socket, 'close');
  await bench.evc.evc.tokens.revoke('shows', { by: 'test' });
  await closed;
});

test('a token that another controller takes back is noticed by whoever lets its reader read', async () => {
  const token = await bench.token('elsewhere', 'viewer');
  const other = await apiOf(bench.evc, { tokenHash, recheck: 50 });
  const { socket } = await dial(other.port);
  const { id } = (await bench.call('GET', '/api/v1/whoami', { token })).json as { id: string };
  socket.write(lines('GET /api/v1/events HTTP/1.1', 'Host: localhost', `Authorization: Bearer ${token}`));
  await once(socket, 'data');
  await bench.evc.evc.store.remove('token', id);
  for await (const piece of socket) if (String(piece).endsWith('0\r\n\r\n')) break;
  await other.close();
});

test('who follows a device of its account follows it no longer when it is in another', async () => {
  await bench.evc.evc.accounts.add({ ...account, id: 'another' });
  const token = await bench.token('scoped', 'viewer', [account.id]);
  const other = await apiOf(bench.evc, { tokenHash, recheck: 50 });
  const { socket } = await dial(other.port);
  const path = `/api/v1/devices/${trusted.id}/recording`;
  socket.write(lines(`GET ${path} HTTP/1.1`, 'Host: localhost', `Authorization: Bearer ${token}`));
  const [first] = (await once(socket, 'data')) as [Buffer];
  assert.match(String(first), /^HTTP\/1\.1 200/);
  await bench.evc.evc.operator.moveDevice(trusted.id, 'another');
  for await (const piece of socket) if (String(piece).endsWith('0\r\n\r\n')) break;
  await other.close();
});

test('who may look and not change sees which settings a device has, and no values', async () => {
  const viewer = await bench.token('looks', 'viewer');
  const put = { body: { settings: { 'wifi.password': 'hunter2' } } };
  assert.is((await bench.call('PUT', `/api/v1/devices/${trusted.id}/settings`, put)).status, 200);
  const journal = await bench.call('GET', `/api/v1/devices/${trusted.id}/journal`, { token: viewer });
  assert.is(journal.status, 200);
  const told = journal.body.toString();
  assert.match(told, '"event":"settings.changed","body":{"settings":["wifi.password"]}');
  assert.not.match(told, 'hunter2');
});

test('of images a connection holds four files open, however many it asks for, and none when it is gone', async () => {
  const path = bench.evc.evc.catalogue.file('ab'.repeat(32));
  mkdirSync(dirname(path), { recursive: true });
  // More than lies between the two of them.
  writeFileSync(path, '');
  truncateSync(path, 256 * 1024 * 1024);
  const open = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === path;
      } catch {
        // Closed meanwhile.
        return false;
      }
    }).length;
  const request = lines(`GET /images/${'ab'.repeat(32)} HTTP/1.1`, 'Host: localhost');
  for (let i = 0; i < 10; i++) {
    const { socket, closed } = await dial();
    // As much as comes in one piece: Node ends a connection where more comes while an answer waits.
    socket.write(request.repeat(100));
    // What is asked for later is answered, so these have been looked at.
    for (let n = 0; n < 20 || (open() === 0 && n < 500); n++) await bench.call('GET', '/api/v1/whoami');
    assert.ok(open() >= 1 && open() <= 4, `${open()} are open`);
    socket.destroy();
    await closed;
    for (let n = 0; open() > 0 && n < 500; n++) await bench.call('GET', '/api/v1/whoami');
    assert.is(open(), 0);
  }
});

test.run();
