// Power is back in a whole region: thousands of devices dial, log in and attest at the same moment, and EVC has them all trusted.
// The devices are their protocol alone (test/kit/attester.ts), so that they do not compete with EVC for the machine.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { enrolled } from '../kit/enrolled.ts';
import { cpuOf, Load, memoryOf, ServedEvc } from './load/served.ts';
import type { BenchTable } from './main.ts';

/** Devices of the storm, and connections that do nothing; `EVE_BENCH_STORM=1000,2000` for others. */
const [devices = 5000, idle = 10_000] = (process.env.EVE_BENCH_STORM ?? '')
  .split(',')
  .filter(Boolean)
  .map(Number);

const say = (text: string) => process.stderr.write(`\r\u001b[K${text}`);

export async function bench(): Promise<BenchTable> {
  const data = mkdtempSync(join(tmpdir(), 'evc-bench-'));
  say(`${Math.max(devices, idle)} devices are enrolled`);
  await enrolled(data, Math.max(devices, idle));
  const evc = await ServedEvc.start(data);
  const fresh = memoryOf(evc.pid).now;
  const load = new Load(data, evc.port);
  say(`${devices} devices boot`);
  const before = cpuOf(evc.pid);
  const storm = await load.carryOut({ do: 'storm', count: devices });
  const cpu = cpuOf(evc.pid) - before;
  const worst = memoryOf(evc.pid).most;
  say(`${idle} devices are connected`);
  await load.end();
  await evc.stop();

  const quiet = await ServedEvc.start(data);
  const start = memoryOf(quiet.pid).now;
  const many = new Load(data, quiet.port);
  const connected = await many.carryOut({ do: 'connect', from: 0, count: idle });
  // What connecting left behind is gone when somebody has worked again: each device says twice a minute that it is there.
  await new Promise((resolve) => setTimeout(resolve, 90_000));
  const resting = memoryOf(quiet.pid);
  const idleCpu = cpuOf(quiet.pid);
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  const idleShare = (cpuOf(quiet.pid) - idleCpu) / 100;
  await many.end();
  await quiet.stop();
  rmSync(data, { recursive: true });
  say('');
  return {
    title: `${devices} devices boot at once; ${idle} devices do nothing`,
    rows: [
      { what: 'trusted', value: storm.done, unit: 'devices' },
      { what: 'not trusted', value: storm.failed, unit: 'devices' },
      { what: 'until the last is trusted', value: storm.ms / 1000, unit: 's' },
      { what: 'trusted a second', value: (storm.done * 1000) / storm.ms, unit: '1/s' },
      { what: 'a device, from power to trust: median', value: storm.median / 1000, unit: 's' },
      { what: '99 of 100', value: storm.p99 / 1000, unit: 's' },
      { what: 'the slowest', value: storm.slowest / 1000, unit: 's' },
      { what: 'tries of a device on its way, at most', value: storm.tries, unit: '' },
      { what: 'EVC, CPU of each', value: cpu / storm.done, unit: 'ms' },
      { what: 'EVC, memory before', value: fresh, unit: 'MB' },
      { what: 'EVC, memory at its most', value: worst, unit: 'MB' },
      { what: 'connecting', value: (connected.done * 1000) / connected.ms, unit: '1/s' },
      { what: `EVC, memory with ${idle} idle`, value: resting.now, unit: 'MB' },
      { what: 'of which they cost', value: resting.now - start, unit: 'MB' },
      { what: 'EVC, CPU with them idle', value: idleShare, unit: '% of a core' },
    ],
    notes: [...storm.why, ...connected.why],
  };
}
