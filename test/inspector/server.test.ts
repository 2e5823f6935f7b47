// The page's server on a device: whom it answers, how slow readers fare, and Stately's clients, as they come from npm.
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import {
  createWebSocketInspector,
  createWebSocketReceiver,
  type StatelyInspectionEvent,
} from '@xstate/inspect';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import WebSocket from 'ws';
import { createActor, createMachine, initialTransition, setup } from 'xstate';
import { type InspectServer, inspectPortOf, serveInspector } from '../../device/inspect.ts';
import { DeviceRecorder } from '../../device/recorder.ts';
import type { Line } from '../../formats/recording/format.ts';
import { RecordingReader } from '../../formats/recording/read.ts';
import { lamp } from '../kit/recording.ts';

let recorder: DeviceRecorder;
let inspector: InspectServer;
const ends: (() => void)[] = [];

test.before.each(async () => {
  recorder = new DeviceRecorder({ clock: { now: () => 1000 } });
  inspector = await serveInspector(recorder, 0, Date.now);
});
test.after.each(async () => {
  for (const end of ends.splice(0)) end();
  await inspector.close();
});

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
}

function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      new URL(path, inspector.url),
      { headers, method, agent: false },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
        );
      },
    );
    request.on('error', reject);
    request.end();
  });
}

test('the page comes packed to who can unpack it, and not again to who has it', async () => {
  const plain = await get('/app.js');
  assert.is(plain.headers['content-encoding'], undefined);
  const packed = await get('/app.js', { 'accept-encoding': 'br, gzip;q=0.5' });
  assert.is(packed.headers['content-encoding'], 'gzip');
  assert.is(packed.headers.etag, plain.headers.etag);
  assert.ok(Number(packed.text.length) < plain.text.length / 2);
  assert.is((await get('/app.js', { 'accept-encoding': 'gzip;q=0' })).headers['content-encoding'], undefined);
  const tag = plain.headers.etag as string;
  const again = await get('/app.js', { 'if-none-match': `"other", ${tag}` });
  assert.equal([again.status, again.text], [304, '']);
  assert.is(again.headers['content-security-policy'], plain.headers['content-security-policy']);
  assert.is((await get('/style.css', { 'if-none-match': tag })).status, 200, 'of another file');
});

/** Reads along, and gives what has come so far. */
function follow(path: string): { lines: Line[]; pause(): void; resume(): void } {
  const reader = new RecordingReader();
  const lines: Line[] = [];
  const request = http.get(new URL(path, inspector.url), { agent: false });
  let answer: http.IncomingMessage | null = null;
  request.on('error', () => undefined);
  request.on('response', (response) => {
    answer = response;
    response.setEncoding('utf8');
    response.on('data', (piece: string) => lines.push(...reader.push(piece)));
    response.on('error', () => undefined);
  });
  ends.push(() => request.destroy());
  return { lines, pause: () => answer?.pause(), resume: () => answer?.resume() };
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (condition()) return;
    await delay(10);
  }
  throw new Error(`never: ${what}`);
}

function startLamp() {
  const chart = lamp();
  const tap = recorder.chart('lamp', chart);
  const actor = createActor(chart, { input: { at: 1, dice: 0 }, inspect: tap.inspect });
  actor.start();
  ends.push(() => actor.stop());
  return actor;
}

const press = { type: 'press', pin: '1234', at: 1, dice: 0 } as const;

test('the page comes with headers that let it do nothing but its work', async () => {
  const { status, headers } = await get('/');
  assert.is(status, 200);
  const policy = String(headers['content-security-policy']);
  assert.match(policy, "default-src 'none'");
  assert.match(policy, "script-src 'self'");
  assert.not.match(policy, /unsafe|https?:\/\/(?!localhost|127\.0\.0\.1)/);
  assert.is(headers['x-content-type-options'], 'nosniff');
  const { text } = await get('/');
  assert.not.match(text, /<script(?! src="(first\.js"|app\.js" defer)><\/script>)/, 'no inline script');
  assert.not.match(text, /https?:/, 'nothing from elsewhere');
});

for (const [what, headers] of Object.entries({
  'a name that a site gave to this address': { host: 'evil.example:80' },
  'a page of another site': { origin: 'https://evil.example' },
})) {
  test(`${what} is not answered`, async () => {
    assert.is((await get('/recording', headers)).status, 403);
    const socket = new WebSocket(`${inspector.url.replace('http', 'ws')}inspect`, { headers });
    const status = await new Promise((resolve) => {
      socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
      socket.on('open', () => resolve('open'));
      socket.on('error', () => undefined);
    });
    assert.is(status, 403);
  });
}

test('it is only read, and only what is there', async () => {
  assert.is((await get('/', {}, 'POST')).status, 405);
  assert.is((await get('/../package.json')).status, 404);
  assert.is((await get('/server/page.js')).status, 404);
  assert.throws(() => inspectPortOf('70000'), /--inspect 70000/);
});

test('a reader that comes late is told how everything stands, and then what happens', async () => {
  const actor = startLamp();
  actor.send(press);
  const { lines } = follow('/recording');
  await until('the actor is told', () => lines.some(({ kind }) => kind === 'actor'));
  const [begun] = lines.filter((line) => line.kind === 'actor');
  assert.is(begun?.kind === 'actor' && begun.context.count, 1, 'it was pressed once');
  actor.send({ type: 'off', at: 2, dice: 0 });
  await until('the event is told', () =>
    lines.some((line) => line.kind === 'event' && line.event.type === 'off'),
  );
  assert.not.match(JSON.stringify(lines), '1234', 'secrets stay where they are');
});

const eventsOf = (lines: readonly Line[]) => lines.filter(({ kind }) => kind === 'event').length;

test('a reader that is stuck holds up nobody, misses lines, and is told how many', async () => {
  const actor = startLamp();
  const stuck = follow('/recording');
  const quick = follow('/recording');
  await until('both read', () => stuck.lines.length > 0 && quick.lines.length > 0);
  stuck.pause();
  const sent = 30_000;
  for (let i = 0; i < sent; i++) {
    actor.send({ type: 'off', at: i, dice: 0 });
    if (i % 500 === 499) await until('the quick one has all of it', () => eventsOf(quick.lines) === i + 1);
  }
  assert.ok(process.memoryUsage().arrayBuffers < 200 * 1024 * 1024);
  stuck.resume();
  await until('the stuck one has read what waited for it', () => stuck.lines.length > 1000);
  await delay(100);
  actor.send(press);
  await until('it is told', () => stuck.lines.some(({ kind }) => kind === 'dropped'));
  const missed = stuck.lines.find((line) => line.kind === 'dropped');
  assert.ok(missed?.kind === 'dropped' && missed.lines > 10_000, 'it missed many lines');
  await until('it knows again how things stand', () => stuck.lines.at(-1)?.kind === 'snapshot');
});

const light = setup({}).createMachine({
  id: 'light',
  initial: 'green',
  context: { cycles: 0 },
  states: { green: { on: { NEXT: 'red' } }, red: { on: { NEXT: 'green' } } },
});

test('an unmodified client of @statelyai/inspect shows its charts', async () => {
  const { lines } = follow('/guests');
  const client = createWebSocketInspector({ url: `${inspector.url.replace('http', 'ws')}inspect` });
  ends.push(() => client.stop());
  const actor = createActor(light, { inspect: client.inspect });
  actor.start();
  actor.send({ type: 'NEXT' });
  await until('the chart is here', () => lines.some(({ kind }) => kind === 'chart'));
  await until('it has moved', () => lines.some((line) => line.kind === 'snapshot' && line.value === 'red'));
  assert.ok(lines.some((line) => line.kind === 'event' && line.event.type === 'NEXT'));
  const chart = lines.find((line) => line.kind === 'chart');
  assert.is(chart?.kind === 'chart' && chart.chart, 'light');
  const late = follow('/guests');
  await until('one who comes later sees it too', () =>
    late.lines.some((line) => line.kind === 'actor' && line.value === 'red'),
  );
  client.stop();
  ends.pop();
  await until('it is gone with its client', () => lines.some(({ kind }) => kind === 'stop'));
});

test('a receiver of @statelyai/inspect is told the charts of the device', async () => {
  const actor = startLamp();
  const receiver = createWebSocketReceiver({ server: `${inspector.url.replace('http', 'ws')}inspect` });
  const told: StatelyInspectionEvent[] = [];
  receiver.subscribe((event) => told.push(event));
  await until('the actor is told', () => told.some(({ type }) => type === '@xstate.actor'));
  actor.send(press);
  await until('it moves', () =>
    told.some(
      (event) =>
        event.type === '@xstate.snapshot' && (event.snapshot as { value?: unknown }).value === 'warm',
    ),
  );
  const shown = told.find(({ type }) => type === '@xstate.actor') as { name: string; definition: string };
  assert.is(shown.name, 'lamp');
  const again = createMachine(JSON.parse(shown.definition));
  assert.equal(Object.keys(again.states), Object.keys(lamp().states), 'a machine can be made of it');
  assert.is(initialTransition(again, {} as never)[0].value, 'off');
  assert.not.match(JSON.stringify(told), '1234');
});

for (const [what, message] of Object.entries({
  'no JSON': '{',
  'JSON of something else': '[1,2,3]',
  'an actor without a session': JSON.stringify({ type: '@xstate.actor' }),
  'a definition that is none': JSON.stringify({
    type: '@xstate.actor',
    sessionId: 'x:0',
    definition: '{"states":',
  }),
  'a snapshot of nobody': JSON.stringify({
    type: '@xstate.snapshot',
    sessionId: 'x:9',
    snapshot: { value: 'a' },
  }),
  'a megabyte and more': 'x'.repeat(1_200_000),
})) {
  test(`a client that sends ${what} shows nothing and breaks nothing`, async () => {
    const { lines } = follow('/guests');
    const socket = new WebSocket(`${inspector.url.replace('http', 'ws')}inspect`);
    ends.push(() => socket.terminate());
    socket.on('error', () => undefined);
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send(message);
    await delay(60);
    assert.is(lines.length, 0);
    assert.is((await get('/')).status, 200);
  });
}

test.run();
