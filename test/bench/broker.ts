// What the broker alone bears: a request and its answer, through EVC's own broker and through Mosquitto, with a controller that
// looks at nothing. TLS as devices use it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { enrolled } from '../kit/enrolled.ts';
import { freePort, Mosquitto } from '../kit/mosquitto.ts';
import { cpuOf, Echo, Load, memoryOf } from './load/served.ts';
import type { BenchTable } from './main.ts';

const connections = 200;
const rounds = 5;
const roundMs = 2000;

export async function bench(): Promise<BenchTable> {
  const data = mkdtempSync(join(tmpdir(), 'evc-bench-'));
  await enrolled(data, connections);
  const mosquitto = await mosquittoOf(data).catch((error: Error) => error);
  const own = await Echo.start(data);
  const subjects = [{ what: 'the broker of EVC', echo: own, pids: [own.pid] }];
  if (!(mosquitto instanceof Error)) {
    const echo = await Echo.start(data, `mqtts://localhost:${mosquitto.port}`);
    subjects.push({ what: 'Mosquitto, and a controller', echo, pids: [mosquitto.broker.pid, echo.pid] });
  }
  const rows: BenchTable['rows'] = [];
  const loads = subjects.map(({ echo }) => new Load(data, echo.port));
  for (const load of loads)
    await load.carryOut({ do: 'connect', from: 0, count: connections, certificates: false });
  for (const width of [1, 32, 200]) {
    const measured = subjects.map(() => [] as { rate: number; cpu: number; median: number }[]);
    for (let round = 0; round < rounds; round++)
      for (const [i, { pids }] of subjects.entries()) {
        const cpu = () => pids.reduce((sum, pid) => sum + cpuOf(pid), 0);
        const before = cpu();
        const { done, ms, median } = await (loads[i] as Load).carryOut({ do: 'ping', width, ms: roundMs });
        measured[i]?.push({ rate: (done * 1000) / ms, cpu: ((cpu() - before) * 1000) / done, median });
      }
    for (const [i, { what }] of subjects.entries()) {
      const all = (measured[i] ?? []).sort((a, b) => a.rate - b.rate);
      const { rate, cpu, median } = all[rounds >> 1] as (typeof all)[number];
      rows.push({
        broker: what,
        'at once': width,
        'answers/s': rate,
        'µs CPU each': cpu,
        'median ms': median,
      });
    }
  }
  const memory = subjects.map(({ what, pids }) => `${what} ${memoryOf(pids[0] as number).now.toFixed(0)} MB`);
  for (const load of loads) await load.end();
  for (const { echo } of subjects) await echo.stop();
  if (!(mosquitto instanceof Error)) await mosquitto.broker.stop();
  rmSync(data, { recursive: true });
  return {
    title: `Requests and answers of 400 bytes over TLS, ${connections} connections`,
    rows,
    notes: [
      `memory: ${memory.join(', ')}`,
      ...(mosquitto instanceof Error ? [`Mosquitto is not measured: ${mosquitto.message}`] : []),
    ],
  };
}

/** A Mosquitto with EVC's certificate that lets everybody in: what logins cost is not the question here. */
async function mosquittoOf(data: string): Promise<{ broker: Mosquitto; port: number }> {
  const port = await freePort();
  writeFileSync(
    join(data, 'mosquitto.conf'),
    [
      `listener ${port} 127.0.0.1`,
      `certfile ${join(data, 'pki/server.cert.pem')}`,
      `keyfile ${join(data, 'pki/server.key.pem')}`,
      'allow_anonymous true',
      'set_tcp_nodelay true',
      'max_inflight_messages 0',
      'max_queued_messages 100000',
      'user root',
      '',
    ].join('\n'),
  );
  return { broker: await Mosquitto.start(data, port), port };
}
