// The process that makes the load, so that what it costs is not counted as EVC's: reads orders from its standard input, one
// JSON a line, and answers each with one.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { linkBackoff, pause } from '../../../machines/waiting.ts';
import { Attester, Fleet, type FleetFile, fleetFileIn } from '../../kit/attester.ts';

export type Order =
  /** Without certificates where nobody is EVC. */
  | { do: 'connect'; from: number; count: number; certificates?: boolean }
  /** Each of `width` connections in turn attests, one after the other, for `ms`. */
  | { do: 'attest'; width: number; ms: number }
  /** As `attest`, with one request and its answer, and nothing signed. */
  | { do: 'ping'; width: number; ms: number }
  /** Each connection attests once, `width` at a time. */
  | { do: 'once'; width: number }
  /** So many dial, log in and attest at the same moment, each until it is trusted. */
  | { do: 'storm'; count: number }
  | { do: 'end' };

export interface Done {
  done: number;
  failed: number;
  /** The first few, in words. */
  why: string[];
  ms: number;
  /** Of one attestation each, ms: median, 99 of 100, the slowest. */
  median: number;
  p99: number;
  slowest: number;
  /** Of a storm: how often the one that was put off most had to begin. */
  tries: number;
  /** CPU of this process meanwhile, ms. */
  cpu: number;
}

const [data = '', port = ''] = process.argv.slice(2);
const file = JSON.parse(readFileSync(fleetFileIn(data), 'utf8')) as FleetFile;
const root = readFileSync(`${data}/pki/root.cert.pem`, 'utf8');
const fleet = new Fleet(file, root, { host: 'localhost', port: Number(port) });
const attesters: Attester[] = [];
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const stormLimit = 600_000;
/** Handshakes under way at once. */
const dialling = 50;

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Order;
  if (order.do === 'end') break;
  process.stdout.write(`${JSON.stringify(await carryOut(order))}\n`);
}
await Promise.all(attesters.map((attester) => attester.close()));
// An open pipe would keep it alive.
process.stdin.destroy();

async function carryOut(order: Exclude<Order, { do: 'end' }>): Promise<Done> {
  const cpu = process.cpuUsage();
  let begun = performance.now();
  const times: number[] = [];
  const why: string[] = [];
  let failed = 0;
  let tries = 0;
  const timed = async (work: () => Promise<void>) => {
    const begin = performance.now();
    try {
      await work();
      times.push(performance.now() - begin);
    } catch (error) {
      failed++;
      const { code = '', message } = error as Error & { code?: string };
      if (why.length < 5) why.push(`${code} ${message}`);
    }
  };
  switch (order.do) {
    case 'connect': {
      const wanted = file.devices.slice(order.from, order.from + order.count);
      await inTurns(wanted.length, dialling, async (i) => {
        const attester = new Attester(fleet, wanted[i] as FleetFile['devices'][number]);
        attesters.push(attester);
        await timed(async () => {
          while (!attester.connected) await new Promise((resolve) => setTimeout(resolve, 5));
          if (order.certificates !== false && !fleet.certificates) await attester.fetchCertificates();
        });
      });
      break;
    }
    case 'storm':
      // Devices have EVC's certificates from before.
      await knowEvc();
      begun = performance.now();
      await Promise.all(
        file.devices.slice(0, order.count).map((device) => {
          const attester = new Attester(fleet, device);
          attesters.push(attester);
          return timed(async () => {
            tries = Math.max(tries, await trusted(attester, begun + stormLimit));
          });
        }),
      );
      break;
    case 'once':
      await inTurns(attesters.length, order.width, (i) => timed(() => (attesters[i] as Attester).attest()));
      break;
    case 'ping':
    case 'attest': {
      let next = 0;
      const end = begun + order.ms;
      const busy = Array.from({ length: order.width }, async () => {
        // A connection that attests is in nobody else's hands: two attestations of one device would meet.
        while (performance.now() < end) {
          const attester = attesters[next++ % attesters.length] as Attester;
          await timed(() => (order.do === 'ping' ? attester.ping() : attester.attest()));
        }
      });
      await Promise.all(busy);
      break;
    }
  }
  const ms = performance.now() - begun;
  const { user, system } = process.cpuUsage(cpu);
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return {
    done: times.length,
    failed,
    why,
    ms,
    median: at(0.5),
    p99: at(0.99),
    slowest: times.at(-1) ?? 0,
    tries,
    cpu: (user + system) / 1000,
  };
}

async function knowEvc(): Promise<void> {
  const attester = new Attester(fleet, file.devices.at(-1) as FleetFile['devices'][number]);
  while (!attester.connected) await sleep(5);
  await attester.fetchCertificates();
  await attester.close();
}

/** As a device does: what fails on the way is tried again, after as long as EVC asks for, or a pause that doubles. */
async function trusted(attester: Attester, until: number): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      while (!attester.connected) {
        if (performance.now() > until) throw new Error('no connection');
        await sleep(20);
      }
      await attester.attest();
      return attempt;
    } catch (error) {
      const { retryAfter = 0 } = error as { retryAfter?: number };
      if (performance.now() > until) throw error;
      await sleep(pause(attempt, Math.random(), linkBackoff, retryAfter));
    }
  }
}

/** Runs `work` for each index, so many at a time. */
async function inTurns(count: number, width: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let i = next++; i < count; i = next++) await work(i);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
}
