// What pages cost the broker and EVC: requests of a device through the embedded broker, answered by EVC, with nobody who looks,
// with pages that read, and with pages that are stuck. The pages run in a thread of their own, as they would elsewhere.
import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { serveApi, Traffic } from '../kit/traffic.ts';
import { World } from '../kit/world.ts';
import type { BenchTable } from './main.ts';

const rounds = 24;
const memory = '/dev/shm';
const turns = 4;
const asked = 250;
/** Rounds before the measurement, in which the buffers of those that are stuck fill. */
const filling = 6;

interface Way {
  what: string;
  paths: string[];
  reads: boolean;
  /** A connection to the broker that listens to all it may, and reads nothing. */
  mute?: boolean;
}

const pages = `
const { parentPort, workerData } = require('node:worker_threads');
const https = require('node:https');
const { urls, token, reads } = workerData;
let open = 0;
for (const url of urls) {
  const request = https.get(url, { agent: false, rejectUnauthorized: false, headers: { authorization: 'Bearer ' + token } });
  request.on('error', () => {});
  request.on('response', (response) => {
    if (response.statusCode !== 200) throw new Error(url + ': ' + response.statusCode);
    if (reads) response.on('data', () => {});
    else response.socket.pause();
    if (++open === urls.length) parentPort.postMessage('open');
  });
}
`;

async function openPages(urls: string[], token: string, reads: boolean): Promise<Worker> {
  const worker = new Worker(pages, { eval: true, workerData: { urls, token, reads } });
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return worker;
}

export async function bench(): Promise<BenchTable> {
  // Else the disk would be what is measured.
  if (existsSync(memory)) process.env.TMPDIR = memory;
  const world = await World.start();
  world.recordings.off = true;
  const device = await world.addDevice();
  await world.attested(device);
  const { api, token, url } = await serveApi(world);
  const recording = `api/v1/devices/${device.id}/recording`;
  const times = (count: number, path: string) => Array.from({ length: count }, () => path);
  const ways: Way[] = [
    { what: 'no page', paths: [], reads: true },
    { what: 'a page on the device', paths: [recording, 'api/v1/events'], reads: true },
    {
      what: '20 pages on everything',
      paths: [...times(20, recording), ...times(20, 'api/v1/events')],
      reads: true,
    },
    {
      what: '20 pages on everything, stuck',
      paths: [...times(20, recording), ...times(20, 'api/v1/events')],
      reads: false,
    },
    { what: 'a client of the broker on all it may hear, stuck', paths: [], reads: true, mute: true },
  ];
  const taken = ways.map((): number[] => []);
  const traffic = new Traffic(world, device);
  for (let i = 0; i < 3; i++) await traffic.ask(asked);
  // In turns, so that whatever else the machine does falls on all.
  for (let turn = 0; turn < turns; turn++)
    for (const [j, way] of ways.entries()) {
      const worker =
        way.paths.length > 0
          ? await openPages(
              way.paths.map((path) => url + path),
              token,
              way.reads,
            )
          : null;
      const mute = way.mute ? await muted(traffic) : null;
      if (!way.reads) for (let i = 0; i < filling; i++) await traffic.ask(asked);
      for (let i = 0; i < rounds / turns; i++) taken[j]?.push(await rate(traffic));
      mute?.end(true);
      await worker?.terminate();
    }
  await api.close();
  await world.stop();
  const [off = []] = taken;
  return {
    title: 'Requests of a device through the broker, answered by EVC, while pages look',
    rows: ways.map(({ what }, j) => {
      const mine = taken[j] ?? [];
      return { what, 'requests/s': median(mine), 'of no page': median(mine) / median(off) };
    }),
    notes: [
      `medians of ${rounds} times ${asked} requests for the configuration, each a step of the record that EVC stores, in memory where there is ${memory}`,
      `"everything" is the recording of the device and the steps of all; MQTT has no # for anybody: the broker refuses it`,
    ],
  };
}

async function muted(traffic: Traffic) {
  const client = await traffic.connect('mute');
  client.stream.pause();
  return client;
}

async function rate(traffic: Traffic): Promise<number> {
  const before = performance.now();
  await traffic.ask(asked);
  return (asked * 1000) / (performance.now() - before);
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
