// Packets of every size and in every number of pieces: what one connection may cost has a bound, and a device beside it goes on.
import { type Duplex, duplexPair } from 'node:stream';
import type mqtt from 'mqtt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Broker } from '../../broker/broker.ts';
import { defaultLimits, guard, type Limits } from '../../broker/limits.ts';
import {
  clientOn,
  honestClaims,
  outcome,
  pairTo,
  type SoftDevice,
  softDevice,
  tokenOf,
} from '../kit/logins.ts';

const attacker = await softDevice();
const witness = await softDevice();
const other = await softDevice();
const up = ({ id }: SoftDevice) => `eve/v2/${id}/up/attest/r1`;
const pause = () => new Promise<void>((resolve) => setImmediate(resolve));

/** What a guard says of these chunks, each read by itself, and how many it let through. */
async function guarded(chunks: Iterable<Buffer>, change: Partial<Limits> = {}, now = () => 0) {
  const [near, far] = duplexPair();
  const reasons: string[] = [];
  const stream = guard(far, { ...defaultLimits, ...change }, (reason) => reasons.push(reason), now);
  let passed = 0;
  stream.on('readable', () => {
    while (stream.read() !== null) passed++;
  });
  for (const chunk of chunks) {
    if (stream.destroyed) break;
    near.write(chunk);
    await pause();
  }
  near.destroy();
  stream.destroy();
  return { reasons, passed };
}

const bytesOf = (packet: Buffer) => Array.from(packet, (byte) => Buffer.of(byte));
const connect = Buffer.of(0x10, 2, 0, 0);
const ping = Buffer.of(0xc0, 0);
/** A fixed header for so many bytes. */
function header(type: number, length: number): Buffer {
  const bytes = [type];
  for (let left = length; ; left >>>= 7) {
    bytes.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    if (left <= 0x7f) return Buffer.from(bytes);
  }
}
function packetOf(type: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([header(type, body.length), body]);
}
/** UTF-8 with its length before it. */
function text(words: string): Buffer {
  const size = Buffer.alloc(2);
  size.writeUInt16BE(Buffer.byteLength(words));
  return Buffer.concat([size, Buffer.from(words)]);
}
const publish = (length: number) => Buffer.concat([header(0x30, length), Buffer.alloc(length)]);

test('of a CONNECT and of a packet the largest passes, and one byte more is cut', async () => {
  const { packet, connect: first } = defaultLimits;
  assert.equal((await guarded([header(0x10, first)])).reasons, []);
  assert.equal((await guarded([header(0x10, first + 1)])).reasons, ['limit.connect']);
  assert.equal((await guarded([connect, header(0x30, packet)])).reasons, []);
  assert.equal((await guarded([connect, header(0x30, packet + 1)])).reasons, ['limit.packet']);
  // However the header comes.
  assert.equal((await guarded([connect, ...bytesOf(header(0x30, packet + 1))])).reasons, ['limit.packet']);
});

test('a packet may come in so many pieces, each packet anew, and one piece more is cut', async () => {
  const pieces = 40;
  const split = (length: number) => bytesOf(publish(length));
  assert.is(split(pieces - 2).length, pieces);
  const whole = [connect, ...split(pieces - 2), ...split(pieces - 2), ping];
  assert.equal(await guarded(whole, { pieces }), { reasons: [], passed: whole.length });
  const { reasons, passed } = await guarded([connect, ...split(pieces + 50)], { pieces });
  assert.equal([reasons, passed], [['limit.rate'], 1 + pieces]);
});

test('a packet that came whole costs no piece of the next, though chunks hold many', async () => {
  const chunk = Buffer.concat([ping, ping, publish(4)]);
  const many = Array.from({ length: 50 }, () => chunk);
  assert.equal((await guarded([connect, ...many], { pieces: 1 })).reasons, []);
  // One that begins in the chunk in which another ends has had one piece then.
  const [begun, rest] = [publish(4).subarray(0, 3), publish(4).subarray(3)];
  const across = Array.from({ length: 50 }, () => Buffer.concat([rest, begun]));
  assert.equal((await guarded([connect, begun, ...across], { pieces: 2 })).reasons, []);
});

test('of tiny packets so many pass in ten seconds, and as many in the next', async () => {
  const most = defaultLimits.rate * 10;
  let now = 0;
  const pings = (count: number) => Buffer.concat(Array.from({ length: count }, () => ping));
  const in10s = [connect, pings(most - 1)];
  assert.equal((await guarded(in10s)).reasons, []);
  assert.equal((await guarded([...in10s, ping])).reasons, ['limit.rate']);
  function* later() {
    yield* in10s;
    now += 10_001;
    yield ping;
    yield pings(most - 1);
    yield ping;
  }
  const { reasons, passed } = await guarded(later(), {}, () => now);
  assert.equal([reasons, passed], [['limit.rate'], 4]);
});

interface Beside {
  refused: string[];
  /** Logs a device in on a stream of its own. */
  enter(device: SoftDevice): Promise<{ stream: Duplex; client: mqtt.MqttClient }>;
  /** A message of the witness, until it has come. */
  goesOn(): Promise<void>;
  taken: string[];
  broker: Broker;
}

async function withWitness(work: (beside: Beside) => Promise<void>): Promise<void> {
  const refused: string[] = [];
  const taken: string[] = [];
  let heard: () => void = () => undefined;
  const broker = await Broker.start({
    now: Date.now,
    onMessage(topic, payload) {
      taken.push(`${topic} ${payload.length}`);
      heard();
    },
    onRefused: (what, reason) => refused.push(`${reason} ${what}`),
  });
  const clients: mqtt.MqttClient[] = [];
  const enter = async (device: SoftDevice) => {
    const stream = pairTo(broker);
    const password = tokenOf(device, honestClaims(device, Date.now()));
    const client = clientOn(stream, { clientId: device.id, username: device.id, password });
    clients.push(client);
    assert.is(await outcome(client), 'connected');
    return { stream, client };
  };
  try {
    const { client } = await enter(witness);
    const goesOn = async () => {
      const came = new Promise<void>((resolve) => {
        heard = () => {
          if (taken.at(-1)?.startsWith(up(witness))) resolve();
        };
      });
      await client.publishAsync(up(witness), 'alive', { qos: 1 });
      await came;
    };
    await work({ refused, enter, goesOn, taken, broker });
    await goesOn();
    assert.ok(client.connected);
  } finally {
    for (const client of clients) client.end(true);
    await broker.close();
  }
}

test('a login and a message that come byte by byte are taken like any other', () =>
  withWitness(async ({ broker, refused, taken, goesOn }) => {
    const stream = pairTo(broker);
    const answers: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => answers.push(chunk));
    const password = tokenOf(attacker, honestClaims(attacker, Date.now()));
    // Clean session with a name and a password, no keep alive; then a message of QoS 1 with the id 7 [MQTT 3.1.1, 3.1 and 3.3].
    const fields = [
      text('MQTT'),
      Buffer.of(4, 0xc2, 0, 0),
      text(attacker.id),
      text(attacker.id),
      text(password),
    ];
    const login = packetOf(0x10, ...fields);
    const message = packetOf(0x32, text(up(attacker)), Buffer.of(0, 7), Buffer.from('in pieces'));
    for (const byte of [...bytesOf(login), ...bytesOf(message)]) {
      stream.write(byte);
      await pause();
    }
    await goesOn();
    while (Buffer.concat(answers).length < 8) await pause();
    // CONNACK and PUBACK of 7.
    assert.equal(Buffer.concat(answers), Buffer.of(0x20, 2, 0, 0, 0x40, 2, 0, 7));
    assert.ok(taken.includes(`${up(attacker)} 9`));
    assert.equal(refused, []);
    stream.destroy();
  }));

test('the largest packet, byte by byte, is cut long before it costs what it could', () =>
  withWitness(async ({ enter, refused, taken, goesOn }) => {
    const { stream } = await enter(attacker);
    stream.write(header(0x30, defaultLimits.packet));
    let sent = 0;
    while (!stream.destroyed) {
      stream.write(Buffer.of(0));
      sent++;
      await pause();
      if (sent % 1000 === 0) await goesOn();
    }
    assert.equal(refused, ['limit.rate connection']);
    assert.ok(sent <= defaultLimits.pieces + 8, `${sent} pieces were taken`);
    assert.not(taken.some((line) => line.startsWith(up(attacker))));
  }));

test('thousands of tiny packets are cut by name', () =>
  withWitness(async ({ enter, refused, goesOn }) => {
    const { stream } = await enter(attacker);
    const flood = Buffer.concat(Array.from({ length: 10 * defaultLimits.rate + 1 }, () => ping));
    stream.write(flood);
    await goesOn();
    while (!stream.destroyed) await pause();
    assert.equal(refused, ['limit.rate connection']);
  }));

test('who was cut off for all it sent is not let in again by another connection; others are', () =>
  withWitness(async ({ enter, refused, goesOn, broker }) => {
    const { stream } = await enter(attacker);
    stream.write(Buffer.concat(Array.from({ length: 10 * defaultLimits.rate + 1 }, () => ping)));
    while (!stream.destroyed) await pause();
    for (const name of ['', ':other']) {
      const client = clientOn(pairTo(broker), {
        clientId: `${attacker.id}${name}`,
        username: attacker.id,
        password: tokenOf(attacker, honestClaims(attacker, Date.now())),
      });
      // Server unavailable [MQTT 3.1.1, 3.2.2.3].
      assert.is(await outcome(client), 3);
      client.end(true);
    }
    await goesOn();
    await enter(other);
    assert.equal(refused, [
      'limit.rate connection',
      `limit.rate ${attacker.id}`,
      `limit.rate ${attacker.id}`,
    ]);
  }));

test.run();
