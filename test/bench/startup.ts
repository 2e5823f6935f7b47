// How long EVC and a device take from a cold process to the first useful moment: EVC serves, a device has booted and its components
// run, and it is trusted. In turns, so that a busy moment of the machine meets all alike.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cpuOf } from './load/served.ts';
import type { BenchTable } from './main.ts';

const rounds = 9;
const limits = { evc: 2000, eve: 1000 };
const root = join(import.meta.dirname, '../../..');
/** As the first lines of bin/ ask for. */
const flags = { evc: ['--max-semi-space-size=64'], eve: [] };

interface Moment {
  /** From the start of the process. */
  ms: number;
  /** That the process has used until then, ms. */
  cpu: number;
}

interface Started {
  /** The first line with this in it. Rejects when it ends before. */
  until(text: string): Promise<Moment>;
  stop(): Promise<void>;
}

function start(program: keyof typeof flags, args: readonly string[]): Started {
  const began = performance.now();
  const child = spawn(process.execPath, [...flags[program], join(root, `bin/${program}.js`), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const seen: (Moment & { line: string })[] = [];
  let wake = () => {};
  createInterface({ input: child.stdout }).on('line', (line) => {
    const ms = performance.now() - began;
    seen.push({ line, ms, cpu: child.exitCode === null ? cpuOf(child.pid as number) : 0 });
    wake();
  });
  void ended.then(() => wake());
  return {
    async until(text) {
      for (;;) {
        const found = seen.find(({ line }) => line.includes(text));
        if (found) return found;
        if (child.exitCode !== null) throw new Error(`${program} ended before it said ${text}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function run(program: keyof typeof flags, ...args: string[]): Promise<Moment> {
  const began = performance.now();
  const child = spawn(process.execPath, [...flags[program], join(root, `bin/${program}.js`), ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`${program} ${args[0]} ended with ${code}`);
  return { ms: performance.now() - began, cpu: 0 };
}

export async function bench(): Promise<BenchTable> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-startup-'));
  const data = join(folder, 'evc');
  const state = join(folder, 'd');
  const times: Record<'node' | 'help' | 'serves' | 'runs' | 'trusted', Moment[]> = {
    node: [],
    help: [],
    serves: [],
    runs: [],
    trusted: [],
  };
  const serve = (port: string) =>
    start('evc', ['serve', '--json', '--data', data, '--mqtt-port', port, '--https-port', '0']);
  try {
    await run('evc', 'init', '--data', data);
    const port = String(20_000 + (process.pid % 20_000));
    const first = serve(port);
    await first.until('"serving"');
    await run('evc', 'key', 'add', '--data', data, '--out', join(state, 'config'));
    await run('eve', 'image', 'create', join(folder, 'i'), '--version', '1.0.0');
    await run('eve', 'install', '--image', join(folder, 'i'), '--state', state);
    await first.stop();
    // The first round warms the disk, and onboards the device.
    for (let round = 0; round <= rounds; round++) {
      const began = performance.now();
      await new Promise((resolve) => spawn(process.execPath, ['-e', '0']).once('close', resolve));
      const node = { ms: performance.now() - began, cpu: 0 };
      const help = await run('eve', '--help');
      const evc = serve(port);
      const serves = await evc.until('"serving"');
      const eve = start('eve', ['run', '--json', '--state', state]);
      const runs = await eve.until('"kind":"state","component":"client"');
      const trusted = await eve.until('"state":"complete"');
      await eve.stop();
      await evc.stop();
      if (round === 0) continue;
      for (const [name, moment] of Object.entries({ node, help, serves, runs, trusted }))
        times[name as keyof typeof times].push(moment);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const row = (what: string, of: readonly Moment[], limit?: number) => {
    const inOrder = (figure: keyof Moment) => of.map((one) => one[figure]).sort((a, b) => a - b);
    const sorted = inOrder('ms');
    const median = sorted[rounds >> 1] ?? 0;
    const within = limit === undefined ? '' : median <= limit ? 'yes' : 'NO';
    return {
      what,
      'median ms': median,
      'fastest ms': sorted[0] ?? 0,
      'slowest ms': sorted.at(-1) ?? 0,
      'CPU ms': inOrder('cpu')[rounds >> 1] || '',
      'limit ms': limit ?? '',
      within,
    };
  };
  return {
    title: `From a cold process to the first useful moment, ${rounds} times each`,
    rows: [
      row('node -e 0', times.node),
      row('eve --help', times.help),
      row('EVC serves devices and people', times.serves, limits.evc),
      row('device has booted, components run', times.runs, limits.eve),
      row('device is trusted once more', times.trusted),
    ],
    notes: [
      'The device is an emulated one with its TPM in WebAssembly; EVC has its store in a file. What a busy machine adds is not in the CPU time.',
    ],
  };
}
