// What the recorder costs a device and EVC: the same restart and attestation, with nobody who listens, and with everything
// recorded into a file and to a reader. CPU time of this process, which is EVC, its broker, the device and its TPM.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createActor } from 'xstate';
import { RecordingFile } from '../../device/recording-file.ts';
import { stepBodies } from '../../formats/recording/step.ts';
import { deviceRecord } from '../../machines/device-record.ts';
import { World, type WorldDevice } from '../kit/world.ts';
import type { BenchTable } from './main.ts';

const rounds = 150;

async function restart(world: World, device: WorldDevice): Promise<number> {
  const before = process.cpuUsage();
  await device.node.reboot('bench');
  await world.attested(device);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

export async function bench(): Promise<BenchTable> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-bench-'));
  const world = await World.start();
  world.recordings.off = true;
  const device = await world.addDevice();
  await world.attested(device);
  const off: number[] = [];
  const on: number[] = [];
  let lines = 0;
  for (let i = 0; i < 5; i++) await restart(world, device);
  // In turns, so that whatever else the machine does falls on both.
  for (let i = 0; i < rounds; i++) {
    off.push(await restart(world, device));
    const file = new RecordingFile(join(folder, `${i}.jsonl`));
    const leave = [
      device.recorder.attach(file),
      world.evc.recorder.listen(device.id, await world.evc.runner.read(device.id), {
        line: () => void lines++,
        room: () => true,
      }),
    ];
    on.push(await restart(world, device));
    for (const stop of leave) stop();
    await file.close();
  }
  const snapshot = await world.evc.runner.read(device.id);
  const attempt = snapshot ? microsecondsOf(() => void stepBodies(deviceRecord, snapshot, tick, 'x')) : 0;
  const plain = snapshot
    ? microsecondsOf(
        () =>
          void createActor(deviceRecord, { snapshot: snapshot as never })
            .start()
            .stop(),
      )
    : 0;
  await world.stop();
  rmSync(folder, { recursive: true });
  const without = median(off);
  // Of neighbours, since the machine drifts more than the recorder costs.
  const more = median(on.map((with_, i) => with_ - (off[i] as number)));
  return {
    title: 'A restart with its attestation, with and without the recorder',
    rows: [
      { what: 'nobody listens', 'ms CPU': without, 'more %': 0 },
      {
        what: 'all of it into a file and to a reader',
        'ms CPU': without + more,
        'more %': (more / without) * 100,
      },
    ],
    notes: [
      `medians of ${rounds}; EVC keeps its attempts in both; ${Math.round(lines / rounds)} lines of EVC a restart`,
      `keeping an attempt costs EVC ${attempt.toFixed(0)} µs a step, of which ${plain.toFixed(0)} µs begin and end an actor`,
    ],
  };
}

const tick = { type: 'link.changed', online: true, at: 1, dice: 0 };

function microsecondsOf(work: () => void): number {
  const times = 2000;
  for (let i = 0; i < 200; i++) work();
  const before = process.cpuUsage();
  for (let i = 0; i < times; i++) work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / times;
}
