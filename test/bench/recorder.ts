// What the recorder costs a device and EVC: the same restart and attestation, with nobody who listens, and with everything
// recorded into a file and to a reader. CPU time of this process, which is EVC, its broker, the device and its TPM.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AttemptRing, RecordingFile } from '../../device/recording-file.ts';
import { Pieces } from '../../formats/recording/pieces.ts';
import { takeStep } from '../../formats/recording/step.ts';
import { deviceRecord } from '../../machines/device-record.ts';
import { World, type WorldDevice } from '../kit/world.ts';
import type { BenchTable } from './main.ts';

const rounds = 30;
/** Restarts in a row of one way: what one leaves to be collected as garbage falls on the next. */
const row = 8;

async function restart(world: World, device: WorldDevice): Promise<void> {
  await device.node.reboot('bench');
  await world.attested(device);
}

/** CPU time of this process, all its threads. */
function millisecondsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

interface Way {
  what: string;
  /** Begins to listen; the result ends it. */
  begin(name: string): Promise<() => Promise<void>>;
}

function all(...begins: Way['begin'][]): Way['begin'] {
  return async (name) => {
    const ends: (() => Promise<void>)[] = [];
    for (const begin of begins) ends.push(await begin(name));
    return async () => {
      for (const end of ends) await end();
    };
  };
}

export async function bench(): Promise<BenchTable> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-bench-'));
  const world = await World.start();
  world.recordings.off = true;
  const device = await world.addDevice();
  await world.attested(device);
  const intoRing = async () => {
    const ring = new AttemptRing(device.recorder, { folder: join(folder, 'attempts'), keep: 5 });
    return () => ring.close();
  };
  const intoFile = async (name: string) => {
    const file = new RecordingFile(join(folder, `${name}.jsonl`));
    const detach = device.recorder.attach(file);
    return async () => {
      detach();
      await file.close();
    };
  };
  let lines = 0;
  const toReader = async () => {
    const pieces = new Pieces((_, done) => done(), 40);
    const now = await world.evc.runner.read(device.id);
    const leave = world.evc.recorder.listen(device.id, now, {
      line: (text) => {
        lines++;
        pieces.line(text);
      },
      late: (line) => {
        lines++;
        pieces.late(line);
      },
      room: () => true,
    });
    return async () => {
      leave();
      await pieces.flush();
    };
  };
  const ways: Way[] = [
    { what: 'nobody listens', begin: async () => async () => undefined },
    { what: 'the last attempts: eve run', begin: intoRing },
    { what: 'everything as well: eve run --record', begin: all(intoRing, intoFile) },
    { what: 'somebody reads at EVC: evc record', begin: toReader },
    { what: 'all of it', begin: all(intoRing, intoFile, toReader) },
  ];
  for (let i = 0; i < 5; i++) await restart(world, device);
  const taken = ways.map((): number[] => []);
  // In turns, so that whatever else the machine does falls on all.
  for (let i = 0; i < rounds; i++)
    for (const [j, { begin }] of ways.entries()) {
      let sum = 0;
      for (let k = 0; k < row; k++) {
        const before = process.cpuUsage();
        const end = await begin(`${i}-${j}-${k}`);
        await restart(world, device);
        await end();
        if (k > 0) sum += millisecondsSince(before);
      }
      taken[j]?.push(sum / (row - 1));
    }
  const snapshot = await world.evc.runner.read(device.id);
  const step = snapshot ? microsecondsOf(() => void takeStep(deviceRecord, snapshot, tick)) : 0;
  const attempt = snapshot
    ? microsecondsOf(() => void JSON.stringify(takeStep(deviceRecord, snapshot, tick).bodies('x')))
    : 0;
  await world.stop();
  rmSync(folder, { recursive: true });
  const [off = []] = taken;
  const without = median(off);
  // Of neighbours, since the machine drifts more than the recorder costs.
  const more = taken.map((times) => median(times.map((time, i) => time - (off[i] as number))));
  return {
    title: 'A restart with its attestation, with and without the recorder',
    rows: ways.map(({ what }, j) => ({
      what,
      'ms CPU': without + (more[j] as number),
      'more %': ((more[j] as number) / without) * 100,
    })),
    notes: [
      `medians of ${rounds} rows of ${row - 1}, with the beginning and the end of each recording; EVC keeps its attempts in all; ${Math.round(lines / rounds / row / 2)} lines of EVC a restart`,
      `a step of a record takes EVC ${step.toFixed(0)} µs, and ${attempt.toFixed(0)} µs with its lines for the recording of the attempt`,
    ],
  };
}

const tick = { type: 'link.changed', online: true, at: 1, dice: 0 };

function microsecondsOf(work: () => void): number {
  const times = 2000;
  for (let i = 0; i < 200; i++) work();
  const before = process.cpuUsage();
  for (let i = 0; i < times; i++) work();
  return (millisecondsSince(before) * 1000) / times;
}
