// Connections to EVC's API that say nothing: there is a most of them, and room is made by those that go.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeToken } from '../../controller/api/token.ts';
import { apiOf } from '../kit/api.ts';
import { EvcBench } from '../kit/controller.ts';

const most = 6;

test('silent connections of one address take half of the places, of several all of them, and who comes beside or after them is answered', async () => {
  const bench = await EvcBench.open();
  const { root } = bench.evc.pki;
  const api = await apiOf(bench, { tokenHash: makeToken().hash, connections: most });
  try {
    const open = new Set<net.Socket>();
    const dial = async (localAddress: string) => {
      const socket = net.connect({ port: api.port, host: '127.0.0.1', localAddress });
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      open.add(socket);
      socket.once('close', () => open.delete(socket));
      return socket;
    };
    const status = async () => {
      const ca = root.toString();
      const at = {
        host: '127.0.0.1',
        servername: 'localhost',
        port: api.port,
        path: '/api/v1/status',
        ca,
        agent: false,
      };
      const [response] = await once(https.get(at), 'response');
      response.resume();
      return response.statusCode as number;
    };
    const [one, another] = ['127.0.0.2', '127.0.0.3'] as const;
    for (let n = 0; n < most / 2; n++) await dial(one);
    for (let n = 0; n < most; n++) await once(await dial(one), 'close');
    assert.is(open.size, most / 2);
    assert.is(await status(), 401);
    for (let n = 0; n < most / 2; n++) await dial(another);
    for (let n = 0; n < 3 * most; n++) await once(await dial('127.0.0.4'), 'close');
    assert.is(open.size, most);
    for (const socket of open) {
      const closed = once(socket, 'close');
      socket.destroy();
      await closed;
    }
    assert.is(await status(), 401);
  } finally {
    await api.close();
    await bench.close();
  }
});

test('a handshake that never ends is cut', async () => {
  const bench = await EvcBench.open();
  const api = await apiOf(bench, { tokenHash: makeToken().hash, handshake: 200 });
  try {
    const socket = net.connect(api.port, '127.0.0.1');
    socket.on('error', () => undefined).resume();
    socket.write(Buffer.of(0x16, 3, 1));
    await once(socket, 'close');
  } finally {
    await api.close();
    await bench.close();
  }
});

test('of a large body of somebody who was answered before it came nothing more is read, and the connection ends', async () => {
  const bench = await EvcBench.open();
  const api = await apiOf(bench, { tokenHash: makeToken().hash });
  let onTaken: (message: unknown) => void = () => undefined;
  const read = new Promise<number>((resolve) => {
    onTaken = (message) => {
      const { socket } = message as { socket: net.Socket };
      socket.once('close', () => resolve(socket.bytesRead));
    };
  });
  subscribe('net.server.socket', onTaken);
  const socket = tls.connect({ port: api.port, host: 'localhost', ca: bench.evc.pki.root.toString() });
  try {
    socket.on('error', () => undefined);
    await once(socket, 'secureConnect');
    const head = ['POST /api/v1/tokens HTTP/1.1', 'Host: localhost', 'Content-Length: 1000000000', '', ''];
    socket.write(head.join('\r\n'));
    const piece = Buffer.alloc(64 * 1024, 'x');
    const send = () => {
      while (!socket.destroyed && socket.write(piece));
    };
    socket.on('drain', send);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 401 .*"code":"auth\.missing"/s);
    send();
    const bytes = await read;
    assert.ok(bytes < 1_000_000, `${bytes} bytes were read`);
  } finally {
    unsubscribe('net.server.socket', onTaken);
    socket.destroy();
    await api.close();
    await bench.close();
  }
});

test.run();
