// What EVC does with a fleet that attests: whole attestations a second through its broker into its store, and what one costs.
// The load is another process; where a number is EVC's, it is the CPU of EVC's process alone.
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { enrolled } from '../kit/enrolled.ts';
import { cpuOf, Echo, Load, memoryOf, ServedEvc } from './load/served.ts';
import type { BenchTable } from './main.ts';

const devices = 1000;
const rounds = 3;
const roundMs = 6000;
/** Until the code of both is compiled. */
const warmUpMs = 15_000;

function verifiesPerSecond(): number {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const data = Buffer.alloc(145, 1);
  const signature = sign('sha256', data, privateKey);
  for (let i = 0; i < 500; i++) verify('sha256', data, publicKey, signature);
  const start = process.cpuUsage();
  let count = 0;
  for (const end = performance.now() + 1000; performance.now() < end; count++)
    verify('sha256', data, publicKey, signature);
  const { user, system } = process.cpuUsage(start);
  return (count * 1e6) / (user + system);
}

/** Requests and answers a second, of a controller that looks at nothing. */
async function brokerAlone(data: string): Promise<number> {
  const echo = await Echo.start(data);
  const load = new Load(data, echo.port);
  await load.carryOut({ do: 'connect', from: 0, count: 200, certificates: false });
  await load.carryOut({ do: 'ping', width: 64, ms: 2000 });
  const { done, ms } = await load.carryOut({ do: 'ping', width: 64, ms: 5000 });
  await load.end();
  await echo.stop();
  return (done * 1000) / ms;
}

export async function bench(): Promise<BenchTable> {
  const data = mkdtempSync(join(tmpdir(), 'evc-bench-'));
  await enrolled(data, devices);
  const evc = await ServedEvc.start(data);
  const load = new Load(data, evc.port);
  const rows: BenchTable['rows'] = [];
  const connected = await load.carryOut({ do: 'connect', from: 0, count: devices });
  const first = await load.carryOut({ do: 'once', width: 32 });
  const said = [...connected.why, ...first.why];
  await load.carryOut({ do: 'attest', width: 64, ms: warmUpMs });
  for (const width of [1, 16, 64, 256]) {
    const measured: { rate: number; cpu: number; median: number; p99: number; load: number }[] = [];
    for (let round = 0; round < rounds; round++) {
      const before = cpuOf(evc.pid);
      const done = await load.carryOut({ do: 'attest', width, ms: roundMs });
      said.push(...done.why);
      measured.push({
        rate: (done.done * 1000) / done.ms,
        cpu: (cpuOf(evc.pid) - before) / done.done,
        median: done.median,
        p99: done.p99,
        load: done.cpu / done.done,
      });
    }
    measured.sort((a, b) => a.rate - b.rate);
    const { rate, cpu, median, p99, load: loadCpu } = measured[rounds >> 1] as (typeof measured)[number];
    rows.push({
      'at once': width,
      'attestations/s': rate,
      'EVC ms CPU each': cpu,
      'load ms CPU each': loadCpu,
      'median ms': median,
      'p99 ms': p99,
    });
  }
  const memory = memoryOf(evc.pid);
  const reference = verifiesPerSecond();
  await load.end();
  await evc.stop();
  const broker = await brokerAlone(data);
  rmSync(data, { recursive: true });
  return {
    title: `Whole attestations: nonce, quote, verdict, token, key into escrow, config; ${devices} devices`,
    rows,
    notes: [
      `EVC: ${memory.now.toFixed(0)} MB, at most ${memory.most.toFixed(0)} MB; crypto.verify alone ${reference.toFixed(0)} a second, of which an attestation needs nine in all,`,
      `and the broker alone ${broker.toFixed(0)} requests and answers a second, of which it needs four`,
      `connecting: ${((connected.done * 1000) / connected.ms).toFixed(0)} devices a second`,
      ...said.slice(0, 5),
    ],
  };
}
