// Whether those who are served notice that somebody wants them not to be: devices attest, alone and beside one attack after the
// other, in turns. Ratios of the same run count; the attacker has the lowest priority of the same two cores.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { enrolled } from '../kit/enrolled.ts';
import { type AttackWay, attackWays } from './load/attack-ways.ts';
import { Attack, Load, memoryOf, ServedEvc } from './load/served.ts';
import type { BenchTable } from './main.ts';

const devices = 100;
/** Of them, those that attest; the last is the attacker's. */
const attesting = 90;
const width = 8;
const rounds = 3;
const roundMs = 4000;
const warmUpMs = 10_000;
/** Ways that are measured; `EVE_BENCH_WAYS='handshakes;tiny packets'` for some of them. */
const ways = (process.env.EVE_BENCH_WAYS?.split(';') ?? attackWays) as readonly AttackWay[];
/** Until an attack is in full swing, and until nothing is left of it, ms. */
const swing = 1500;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] as number;

export async function bench(): Promise<BenchTable> {
  const data = mkdtempSync(join(tmpdir(), 'evc-bench-'));
  await enrolled(data, devices);
  const evc = await ServedEvc.start(data);
  const load = new Load(data, evc.port);
  await load.carryOut({ do: 'connect', from: 0, count: attesting });
  await load.carryOut({ do: 'once', width });
  await load.carryOut({ do: 'attest', width, ms: warmUpMs });
  const why: string[] = [];
  const round = async () => {
    const done = await load.carryOut({ do: 'attest', width, ms: roundMs });
    why.push(...done.why);
    return done;
  };
  const rows: BenchTable['rows'] = [];
  for (const way of ways) {
    const [alone, beside]: { median: number; p99: number; rate: number }[][] = [[], []];
    let done = 0;
    for (let i = 0; i < rounds; i++) {
      const before = await round();
      alone?.push({ ...before, rate: before.done / before.ms });
      const attack = await Attack.begin(way, data, evc);
      await sleep(swing);
      const during = await round();
      beside?.push({ ...during, rate: during.done / during.ms });
      done += await attack.end();
      await sleep(swing);
    }
    const of = (all: typeof alone, what: 'median' | 'p99' | 'rate') =>
      median((all ?? []).map((one) => one[what]));
    rows.push({
      beside: way,
      'done by the attacker': done,
      'median ms': of(beside, 'median'),
      'of alone': of(beside, 'median') / of(alone, 'median'),
      'p99, of alone': of(beside, 'p99') / of(alone, 'p99'),
      'attestations/s, of alone': of(beside, 'rate') / of(alone, 'rate'),
      'EVC MB': memoryOf(evc.pid).now,
    });
    process.stderr.write(`${way}\n`);
  }
  const memory = memoryOf(evc.pid);
  await load.end();
  await evc.stop();
  rmSync(data, { recursive: true });
  return {
    title: `${attesting} devices that attest, ${width} at once, alone and beside an attack`,
    rows,
    notes: [
      `medians of ${rounds} rounds of ${roundMs / 1000} s each; EVC at most ${memory.most.toFixed(0)} MB`,
      ...why.slice(0, 5),
    ],
  };
}
