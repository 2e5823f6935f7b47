import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { askGpsd, readFix } from '../../../device/location/gpsd.ts';
import { needDebian } from '../../kit/debian.ts';

const now = Date.UTC(2026, 5, 1, 12);
const tpv = (changes: object = {}) =>
  JSON.stringify({
    class: 'TPV',
    mode: 3,
    time: new Date(now - 1000).toISOString(),
    lat: 52.52,
    lon: 13.405,
    eph: 7.5,
    ...changes,
  });

test('a fix has its place, its error and its time', () => {
  assert.equal(readFix(tpv(), now), { latitude: 52.52, longitude: 13.405, accuracy: 7.5, at: now - 1000 });
});

test('where the error is not stated: of both axes, or what such a fix is good for', () => {
  assert.is(readFix(tpv({ eph: undefined, epx: 3, epy: 4 }), now)?.accuracy, 5);
  assert.is(readFix(tpv({ eph: undefined, mode: 2 }), now)?.accuracy, 100);
  assert.is(readFix(tpv({ eph: undefined, mode: 3 }), now)?.accuracy, 50);
});

const none: [what: string, line: string][] = [
  ['no fix yet', tpv({ mode: 1 })],
  ['a mode that does not exist', tpv({ mode: 9 })],
  ['a latitude beyond the pole', tpv({ lat: 91 })],
  ['a longitude beyond the globe', tpv({ lon: 181 })],
  ['a place in words', tpv({ lat: '52.52' })],
  ['an old fix', tpv({ time: new Date(now - 61_000).toISOString() })],
  ['a time that is none', tpv({ time: 'noon' })],
  ['another report', '{"class":"SKY","satellites":[]}'],
  ['no JSON', '$GPGGA,120000.00'],
  ['no object', 'null'],
  ['an endless line', `${tpv().slice(0, -1)},"x":"${'y'.repeat(70_000)}"}`],
];
for (const [what, line] of none)
  test(`${what} is no fix`, () => {
    assert.is(readFix(line, now), null);
  });

/** A server that says what it is told to, once somebody watches. */
async function daemon(speak: (socket: Socket) => void): Promise<{ port: number; server: Server }> {
  const server = createServer((socket) => {
    socket.once('data', () => speak(socket));
    socket.once('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as { port: number }).port, server };
}

test('a fix that comes in pieces among other reports is found', async () => {
  const { port, server } = await daemon((socket) => {
    const text = `{"class":"VERSION"}\n{"class":"DEVICES"}\n${tpv({ mode: 0 })}\n${tpv()}\n`;
    socket.write(text.slice(0, 60));
    setImmediate(() => socket.write(text.slice(60)));
  });
  const fix = await askGpsd({ host: '127.0.0.1', port }, () => now);
  assert.is(fix?.latitude, 52.52);
  server.close();
});

test('a daemon that hangs up, that sends no end, or that is not there, knows no place', async () => {
  for (const speak of [(s: Socket) => s.end(), (s: Socket) => s.write('x'.repeat(100_000))]) {
    const { port, server } = await daemon(speak);
    assert.is(await askGpsd({ host: '127.0.0.1', port }), null);
    server.close();
  }
  assert.is(await askGpsd({ host: '127.0.0.1', port: 1 }), null);
});

/** NMEA 0183 with its checksum. */
const sentence = (body: string) => {
  const sum = [...body].reduce((all, char) => all ^ char.charCodeAt(0), 0);
  return `$${body}*${sum.toString(16).toUpperCase().padStart(2, '0')}\r\n`;
};

/** What a receiver at this place says about this second. */
function nmea(at: Date): string {
  const time = at.toISOString().slice(11, 19).replaceAll(':', '');
  const [year = '', month = '', day = ''] = at.toISOString().slice(2, 10).split('-');
  return [
    `GPGGA,${time}.00,5231.2000,N,01324.3000,E,1,08,0.9,40.0,M,45.0,M,,`,
    'GPGSA,A,3,01,02,03,04,05,06,07,08,,,,,1.8,0.9,1.5',
    `GPRMC,${time}.00,A,5231.2000,N,01324.3000,E,0.0,0.0,${day}${month}${year},,,A`,
  ]
    .map(sentence)
    .join('');
}

const here = await needDebian(['gpsd'], ['gpsd']);
(here ? test : test.skip)('a fix of Debian’s gpsd and a receiver on its line', async () => {
  const receivers = new Set<Socket>();
  const receiver = createServer((socket) => {
    receivers.add(socket);
    socket.once('error', () => undefined);
  });
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  const feed = setInterval(() => {
    for (const socket of receivers) socket.write(nmea(new Date()));
  }, 100);
  const reserve = createServer().listen(0, '127.0.0.1');
  await once(reserve, 'listening');
  const { port } = reserve.address() as { port: number };
  reserve.close();
  const source = `tcp://127.0.0.1:${(receiver.address() as { port: number }).port}`;
  const gpsd = spawn('gpsd', ['-N', '-n', '-S', String(port), source], { stdio: 'ignore' });
  try {
    let fix = null;
    const end = Date.now() + 20_000;
    while (!fix && Date.now() < end) fix = await askGpsd({ host: '127.0.0.1', port });
    assert.ok(fix);
    assert.ok(Math.abs((fix?.latitude ?? 0) - 52.52) < 1e-4);
    assert.ok(Math.abs((fix?.longitude ?? 0) - 13.405) < 1e-4);
    assert.ok((fix?.accuracy ?? 0) > 0);
    assert.ok(Math.abs((fix?.at ?? 0) - Date.now()) < 60_000);
  } finally {
    clearInterval(feed);
    gpsd.kill();
    await once(gpsd, 'exit');
    for (const socket of receivers) socket.destroy();
    receiver.close();
  }
});

test.run();
