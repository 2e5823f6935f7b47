// Somebody who wants that others are served no more: one way after the other, from a process of its own, which leaves the processor
// to everybody else, since an attacker brings a machine of its own. Says how often it did what it does, when its input ends.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { constants, setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import tls from 'node:tls';
import type mqtt from 'mqtt';
import { dialTls } from '../../../device/link/dial.ts';
import { Attester, Fleet, type FleetFile, fleetFileIn, privateKey } from '../../kit/attester.ts';
import { clientOn, honestClaims, outcome, type SoftDevice, softDevice, tokenOf } from '../../kit/logins.ts';
import type { AttackWay } from './attack-ways.ts';

const [way = '', data = '', mqttPort = '', httpsPort = ''] = process.argv.slice(2);
const ca = readFileSync(`${data}/pki/root.cert.pem`, 'utf8');
const server = { host: 'localhost', port: Number(mqttPort) };
/** The last of those that are enrolled: the others are served. */
const fleetFile = JSON.parse(readFileSync(fleetFileIn(data), 'utf8')) as FleetFile;
const own = fleetFile.devices.at(-1) as FleetFile['devices'][number];
const device: SoftDevice = {
  id: own.id,
  key: privateKey(own.key),
  certificate: new Uint8Array(Buffer.from(own.certificate, 'base64')),
};
const stranger = await softDevice();
let done = 0;
let over = false;

async function work(): Promise<void> {
  for (let i = 0; i < 20; i++) tokenOf(device, honestClaims(device, Date.now(), null), stranger.key);
  done++;
  await pause(0);
}

async function shakeHands(port = server.port): Promise<void> {
  const { stream } = await dialTls({ ...server, port }, ca);
  stream.destroy();
  done++;
}

async function connected(options: mqtt.IClientOptions = {}, key = device.key): Promise<mqtt.MqttClient> {
  const { stream, channel } = await dialTls(server, ca);
  stream.on('error', () => undefined);
  const password = tokenOf(device, honestClaims(device, Date.now(), channel), key);
  return clientOn(stream, { clientId: device.id, username: device.id, password, ...options });
}

async function enter(): Promise<Attester> {
  const attester = new Attester(new Fleet(fleetFile, ca, server), own);
  while (!attester.connected) await pause(20);
  await attester.fetchCertificates();
  return attester;
}

let attester: Promise<Attester> | null = null;
const lanesOfAttester = 16;

/** True quotes, of which each spoils the nonce of the one before: most are refused. With 190 requests a second nobody is cut. */
async function attest(): Promise<void> {
  attester ??= enter();
  const entered = await attester;
  const fast = pause((lanesOfAttester * 4 * 1000) / 190);
  await entered.attest().catch(() => undefined);
  done++;
  await fast;
}

/** Sends as fast as it is let, and comes back when it is cut off. */
async function insist(send: (client: mqtt.MqttClient, n: number) => void): Promise<void> {
  const client = await connected();
  if ((await outcome(client)) !== 'connected') return;
  for (let n = 0; client.connected && !over; n++) {
    send(client, n);
    done++;
    if (n % 50 === 49) await pause(0);
  }
  client.end(true);
}

async function refusedLogin(options: mqtt.IClientOptions, key = device.key): Promise<void> {
  const client = await connected(options, key);
  await outcome(client);
  done++;
  client.end(true);
}

/** Holds a connection open, with a byte a second. */
async function drip(open: () => net.Socket, first: Buffer): Promise<void> {
  const socket = open();
  socket.on('error', () => undefined).resume();
  done++;
  for (const byte of first) {
    await pause(1000);
    if (over || socket.destroyed) break;
    socket.write(Buffer.of(byte));
  }
  socket.destroy();
}

const topic = (request: string, endpoint = 'attest') => `eve/v2/${device.id}/up/${endpoint}/${request}`;
const hello = Buffer.concat([Buffer.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3), Buffer.alloc(500)]);
const large = Buffer.alloc(10 * 1024 * 1024, 0x20);

/** Sockets that are used again: one listener each. */
const heard = new WeakSet<net.Socket>();

function refusedRequest(body: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const request = https.request(
      { host: 'localhost', port: httpsPort, path: '/api/v1/devices/x/retire', method: 'POST', ca },
      (response) => response.on('error', () => undefined).resume(),
    );
    // Where an answer came early Node lets go of the socket, and what is still being written fails there.
    request.on('socket', (socket) => {
      if (heard.has(socket)) return;
      heard.add(socket);
      socket.on('error', () => undefined);
    });
    request
      .on('error', () => undefined)
      .once('close', () => {
        done++;
        resolve();
      });
    request.end(body);
  });
}

/** What one lane does again and again, and how many lanes there are. */
const ways: Record<AttackWay, [lanes: number, act: () => Promise<void>]> = {
  'nothing, and keeps the processor busy': [1, work],
  handshakes: [20, shakeHands],
  'handshakes of the API': [20, () => shakeHands(Number(httpsPort))],
  'half a handshake': [2000, () => drip(() => net.connect(server.port, '127.0.0.1'), hello)],
  'half a login': [500, () => drip(() => tls.connect({ ...server, ca }), Buffer.alloc(600, 0x10))],
  'logins with the key of another': [20, () => refusedLogin({}, stranger.key)],
  'logins with a will': [
    20,
    () => refusedLogin({ will: { topic: 'x', payload: Buffer.alloc(1), qos: 0, retain: true } }),
  ],
  'attestations of one device, as many as it may': [lanesOfAttester, attest],
  'tiny packets': [1, () => insist((client) => client.sendPing())],
  'retained messages': [
    1,
    () => insist((client, n) => client.publish(topic(`r${n}`), 'x', { retain: true })),
  ],
  subscriptions: [1, () => insist((client, n) => client.subscribe(`eve/v2/${device.id}/down/attest/r${n}`))],
  'topics, each another': [
    1,
    () => insist((client, n) => client.publish(topic(`r${n}`), Buffer.alloc(400, n))),
  ],
  'packets that are too large': [4, () => insist((client) => client.publish(topic('r'), large))],
  'requests without a token': [20, () => refusedRequest(Buffer.from('{}'))],
  'requests of 10 MB without a token': [4, () => refusedRequest(large)],
  'half a request': [
    1000,
    () =>
      drip(
        () => tls.connect({ host: 'localhost', port: Number(httpsPort), ca }),
        Buffer.from('GET /api/v1/devices HTTP/1.1\r\nx: '.padEnd(600, 'x')),
      ),
  ],
};

setPriority(constants.priority.PRIORITY_LOW);
process.stdin.once('end', () => {
  over = true;
  console.log(done);
  process.exit(0);
});
process.stdin.resume();
console.log('begins');
const [lanes, act] = ways[way as AttackWay];
await Promise.all(
  Array.from({ length: lanes }, async () => {
    while (!over) await act().catch(() => pause(10));
  }),
);
