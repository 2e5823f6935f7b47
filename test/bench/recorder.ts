// What the recorder costs: a start of `eve run` as a process, and a restart in a process that is warm and has EVC, its broker,
// the device and its TPM in it; with nobody who listens, and with everything recorded into files and to a reader. CPU time.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataFolder } from '../../controller/options.ts';
import { AttemptRing, RecordingFile } from '../../device/recording-file.ts';
import { Pieces } from '../../formats/recording/pieces.ts';
import { takeStep } from '../../formats/recording/step.ts';
import { deviceRecord } from '../../machines/device-record.ts';
import { World, type WorldDevice } from '../kit/world.ts';
import { DeviceProcess } from './load/device.ts';
import { ServedEvc } from './load/served.ts';
import type { BenchTable } from './main.ts';

/** Starts of a process in each way. */
const starts = 30;
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
  const [asProcess, inOne] = [await processes(), await restarts()];
  return {
    title: 'A start of a device with its attestation, with and without the recorder',
    rows: [...asProcess.rows, ...inOne.rows],
    notes: [...asProcess.notes, ...inOne.notes],
  };
}

/** As a device is: a process that starts, is attested, and is stopped. */
async function processes(): Promise<Pick<BenchTable, 'rows' | 'notes'>> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-bench-'));
  const data = join(folder, 'evc');
  await new DataFolder(data).init(['localhost'], Date.now());
  const evc = await ServedEvc.start(data);
  const device = new DeviceProcess(folder, evc, data);
  const ways = [
    { what: 'eve run --attempts 0: no recorder', options: ['--attempts', '0'] },
    { what: 'eve run: the last attempts', options: [] },
    { what: 'eve run --record: everything as well', options: ['--record', join(folder, 'all.jsonl')] },
  ];
  for (const { options } of ways) await device.run(...options);
  const taken = ways.map((): number[] => []);
  for (let i = 0; i < starts; i++)
    for (const [j, { options }] of ways.entries()) taken[j]?.push(await device.run(...options));
  await evc.stop();
  rmSync(folder, { recursive: true });
  return {
    rows: compared(ways, taken),
    notes: [`processes: medians of ${starts} starts each, in turns`],
  };
}

/** In one process that is warm: EVC, its broker, the device and its TPM. */
async function restarts(): Promise<Pick<BenchTable, 'rows' | 'notes'>> {
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
    { what: 'warm: nobody listens', begin: async () => async () => undefined },
    { what: 'warm: the last attempts', begin: intoRing },
    { what: 'warm: everything as well', begin: all(intoRing, intoFile) },
    { what: 'warm: somebody reads at EVC, evc record', begin: toReader },
    { what: 'warm: all of it', begin: all(intoRing, intoFile, toReader) },
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
  return {
    rows: compared(ways, taken),
    notes: [
      `warm: one process for EVC, broker, device and TPM; medians of ${rounds} rows of ${row - 1}, with the beginning and the end of each recording; EVC keeps its attempts in all; ${Math.round(lines / rounds / row / 2)} lines of EVC a restart`,
      `a step of a record takes EVC ${step.toFixed(0)} µs, and ${attempt.toFixed(0)} µs with its lines for the recording of the attempt`,
    ],
  };
}

/** Against the first, as medians of the differences of neighbours: the machine drifts more than the recorder costs. */
function compared(ways: readonly { what: string }[], taken: readonly number[][]): BenchTable['rows'] {
  const [off = []] = taken;
  const without = median(off);
  return ways.map(({ what }, j) => {
    const more = median((taken[j] ?? []).map((time, i) => time - (off[i] as number)));
    return { what, 'ms CPU': without + more, 'more %': (more / without) * 100 };
  });
}

const tick = { type: 'link.changed', online: true, at: 1, dice: 0 };

function microsecondsOf(work: () => void): number {
  const times = 2000;
  for (let i = 0; i < 200; i++) work();
  const before = process.cpuUsage();
  for (let i = 0; i < times; i++) work();
  return (millisecondsSince(before) * 1000) / times;
}
