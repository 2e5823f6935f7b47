// Connections that are slow on purpose: what never gets to its login is cut by name, what has logged in holds its own places alone,
// and whoever is beside them is served.
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type mqtt from 'mqtt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker } from '../../broker/broker.ts';
import { makeToken } from '../../controller/api/token.ts';
import { createPki } from '../../controller/pki.ts';
import { dialTls } from '../../device/link/dial.ts';
import { apiOf } from '../kit/api.ts';
import { EvcBench } from '../kit/controller.ts';
import { inFolder } from '../kit/folders.ts';
import {
  clientOn,
  honestClaims,
  outcome,
  pairTo,
  type SoftDevice,
  softDevice,
  tokenOf,
} from '../kit/logins.ts';

const slow = await softDevice();
const witness = await softDevice();
const closed = (stream: { destroyed: boolean; once(event: 'close', listener: () => void): unknown }) =>
  new Promise<void>((resolve) => {
    if (stream.destroyed) resolve();
    else stream.once('close', () => resolve());
  });
const of = (device: SoftDevice, clientId = device.id, channel: Uint8Array | null = null) => ({
  clientId,
  username: device.id,
  password: tokenOf(device, honestClaims(device, Date.now(), channel)),
});

/** Sends the bytes one after the other, for as long as it is let. */
function drip(socket: net.Socket | tls.TLSSocket, bytes: Buffer): () => void {
  let at = 0;
  const timer = setInterval(() => {
    if (at < bytes.length && socket.writable) socket.write(bytes.subarray(at, ++at));
  }, 5);
  socket.once('close', () => clearInterval(timer));
  return () => clearInterval(timer);
}

test('handshakes that never end, and logins of one byte after the other, are cut by name; a device beside them is let in', () =>
  inFolder(async (folder) => {
    const refused: string[] = [];
    const broker = await Broker.start({
      now: Date.now,
      onMessage: () => undefined,
      onRefused: (what, reason) => refused.push(`${reason} ${what}`),
      limits: { login: 500 },
    });
    const pki = await createPki(folder, ['localhost', '127.0.0.1'], Date.now());
    const key = pki.server.key.export({ type: 'pkcs8', format: 'pem' }).toString();
    const at = { host: '127.0.0.1', port: 0 };
    const { port, close } = await broker.listen(at, key, pki.server.certificate.toString());
    const ca = pki.root.toString();
    try {
      // The start of a ClientHello, of which more never comes.
      const silent = Array.from({ length: 20 }, () => net.connect(port, '127.0.0.1'));
      for (const socket of silent) drip(socket, Buffer.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3));
      const dripping = Array.from({ length: 20 }, () => tls.connect({ port, host: 'localhost', ca }));
      // A CONNECT of 4000 bytes.
      const connect = Buffer.concat([
        Buffer.of(0x10, 0xa0, 0x1f, 0, 4),
        Buffer.from('MQTT'),
        Buffer.alloc(4000, 4),
      ]);
      for (const socket of dripping) socket.once('secureConnect', () => drip(socket, connect));
      for (const socket of [...silent, ...dripping]) socket.on('error', () => undefined).resume();
      // One that is paused for as long as that begins anew, as a device does.
      const enter = async (): Promise<mqtt.MqttClient> => {
        const { stream, channel } = await dialTls({ host: 'localhost', port }, ca);
        const client = clientOn(stream, of(witness, witness.id, channel));
        return (await outcome(client)) === 'connected' ? client : enter();
      };
      const client = await enter();
      await Promise.all([...silent, ...dripping].map(closed));
      assert.equal(new Set(refused), new Set(['limit.malformed connection']));
      assert.ok(refused.length >= 40, `${refused.length} were named`);
      await client.publishAsync(`eve/v2/${witness.id}/up/attest/r1`, 'alive', { qos: 1 });
      client.end(true);
    } finally {
      await close();
      await broker.close();
    }
  }));

test('a device that is slow after its login holds four connections, and no more', async () => {
  const refused: string[] = [];
  const broker = await Broker.start({
    now: Date.now,
    onMessage: () => undefined,
    onRefused: (what, reason) => refused.push(`${reason} ${what}`),
  });
  const clients = [];
  try {
    for (let n = 0; n < 4; n++) {
      const stream = pairTo(broker);
      const client = clientOn(stream, of(slow, `${slow.id}:c${n}`));
      clients.push(client);
      assert.is(await outcome(client), 'connected');
      // The header of a message of 600,000 bytes.
      stream.write(Buffer.of(0x30, 0xc0, 0xcf, 0x24));
    }
    const fifth = clientOn(pairTo(broker), of(slow, `${slow.id}:c5`));
    clients.push(fifth);
    assert.is(await outcome(fifth), 3);
    assert.equal(refused, [`limit.device-connections ${slow.id}`]);
    const other = clientOn(pairTo(broker), of(witness));
    clients.push(other);
    assert.is(await outcome(other), 'connected');
    await other.publishAsync(`eve/v2/${witness.id}/up/attest/r1`, 'alive', { qos: 1 });
  } finally {
    for (const client of clients) client.end(true);
    await broker.close();
  }
});

test('requests that come byte by byte hold their own connection alone, and who may not ask is answered before a body comes', async () => {
  const bench = await EvcBench.open();
  const { root } = bench.evc.pki;
  const { token, hash } = makeToken();
  /** From one address. */
  const most = 12;
  const api = await apiOf(bench, { tokenHash: hash, connections: 2 * most });
  const sockets: tls.TLSSocket[] = [];
  const dial = async () => {
    const socket = tls.connect({ port: api.port, host: 'localhost', ca: root.toString() });
    socket.on('error', () => undefined);
    sockets.push(socket);
    await once(socket, 'secureConnect');
    return socket;
  };
  const answer = async (socket: tls.TLSSocket): Promise<string> => {
    let heard = '';
    for await (const chunk of socket) {
      heard += String(chunk);
      if (/"code":"|^HTTP\/1.1 200/.test(heard)) break;
    }
    return `${heard.slice(9, 12)} ${/"code":"([^"]+)"/.exec(heard)?.[1] ?? ''}`.trim();
  };
  const head = (method: string, path: string, ...lines: string[]) =>
    [`${method} ${path} HTTP/1.1`, 'Host: localhost', ...lines, '', ''].join('\r\n');
  const body = ['Content-Type: application/json', 'Content-Length: 8000000'];
  try {
    // Each of the three that are answered early has its place for a second more; the last is the witness's.
    for (let n = 0; n < most - 4; n++)
      drip(
        await dial(),
        Buffer.from(head('GET', '/api/v1/status', ...Array<string>(400).fill('X-Slow: yes'))),
      );
    const asking = async (...lines: string[]) => {
      const socket = await dial();
      const heard = answer(socket);
      socket.write(head('POST', '/api/v1/tokens', ...body, ...lines));
      socket.write('{');
      const said = await heard;
      socket.destroy();
      await closed(socket);
      return said;
    };
    assert.is(await asking(), '401 auth.missing');
    assert.is(await asking('Authorization: Bearer wrong'), '401 auth.wrong');
    const viewer = await bench.evc.tokens.add({
      name: 'viewer',
      role: 'viewer',
      accounts: null,
      expires: null,
    });
    assert.is(await asking(`Authorization: Bearer ${viewer.token}`), '403 auth.role');
    const witness = await dial();
    const heard = answer(witness);
    witness.write(head('GET', '/api/v1/whoami', `Authorization: Bearer ${token}`));
    assert.match(await heard, /^200/);
  } finally {
    for (const socket of sockets) socket.destroy();
    await api.close();
    await bench.close();
  }
});

test.run();
