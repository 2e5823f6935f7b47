// deadline: 180 s
// Pages of EVC that stop reading, on everything that there is to read: devices and EVC go on as if they were not there.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RecordingReader } from '../../formats/recording/read.ts';
import { openReader, serveApi, Traffic } from '../kit/traffic.ts';
import { inWorld } from '../kit/world.ts';

test('stuck pages hold up neither devices nor EVC nor one that reads, cost bounded memory, and are told what they missed', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const { api, token, url } = await serveApi(world);
    const recording = `${url}api/v1/devices/${device.id}/recording`;
    const stuck = [];
    for (let i = 0; i < 8; i++) stuck.push(await openReader(recording, token));
    stuck.push(await openReader(`${url}api/v1/events`, token));
    const reading = await openReader(recording, token);
    try {
      for (const page of stuck) page.pause();
      const traffic = new Traffic(world, device);
      const mute = await traffic.connect('mute');
      mute.stream.pause();
      const before = memory();
      const rounds = 9;
      const each = 300;
      // Every one of these is answered, or this fails.
      for (let i = 0; i < rounds; i++) await traffic.ask(each);
      assert.ok(memory() - before < 160 * 1024 * 1024, `${memory() - before} bytes more`);
      // The device works on, while nobody of them reads.
      await device.node.reboot('test');
      await world.attested(device);

      const requests = () => linesWith(reading.text, '"kind":"message"', '/up/config/');
      await seen(() => requests() >= rounds * each);
      assert.not.match(reading.text, '"kind":"dropped"', 'one that reads misses nothing');

      const [first] = stuck;
      first?.resume();
      // What follows the gap may come in another piece.
      await seen(async () => {
        await traffic.ask(1);
        return /"kind":"dropped","lines":\d+.*"component":"device-record".*\n/s.test(first?.text ?? '');
      });
      const lines = new RecordingReader().push(first?.text ?? '');
      const dropped = lines.findIndex(({ kind }) => kind === 'dropped');
      const missed = lines[dropped];
      assert.ok(missed?.kind === 'dropped' && missed.lines > 100, `it missed ${JSON.stringify(missed)}`);
      const next = lines
        .slice(dropped)
        .find(({ component, kind }) => component === 'device-record' && kind !== 'dropped');
      assert.is(next?.kind, 'actor', 'it is told anew how the record stands');
      mute.end(true);
    } finally {
      for (const page of [...stuck, reading]) page.close();
      await api.close();
    }
  }));

function memory(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function linesWith(text: string, ...words: string[]): number {
  return text.split('\n').filter((line) => words.every((word) => line.includes(word))).length;
}

/** Sockets move in their own time, and not in that of the world. */
async function seen(condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error('never');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test.run();
