// Whether an attestation costs more where a store holds more: EVC with its store filled with the records of others, and the
// same two hundred devices that attest. SQLite in a file, and PostgreSQL of Debian where it is installed.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '../../controller/store/open.ts';
import { enrolled } from '../kit/enrolled.ts';
import { PostgresServer, postgresPrograms } from '../kit/postgres.ts';
import { fillLibsql, fillPostgres } from './load/filled.ts';
import { cpuOf, Load, ServedEvc } from './load/served.ts';
import type { BenchTable } from './main.ts';

const attesting = 200;
const rounds = 7;
const roundMs = 3000;
/** Records in the store; `EVE_BENCH_RECORDS=1000,100000` for others. */
const sizes = (process.env.EVE_BENCH_RECORDS ?? '1000,1000000').split(',').map(Number);

interface Measured {
  rate: number;
  cpu: number;
  median: number;
}

/** Medians of one EVC, over rounds that it and the others take in turns. */
class Running {
  readonly measured: Measured[] = [];
  readonly evc: ServedEvc;
  readonly load: Load;

  constructor(evc: ServedEvc, load: Load) {
    this.evc = evc;
    this.load = load;
  }

  async round(): Promise<void> {
    const before = cpuOf(this.evc.pid);
    const { done, ms, median, why } = await this.load.carryOut({ do: 'attest', width: 32, ms: roundMs });
    if (why.length > 0) throw new Error(why.join('; '));
    this.measured.push({ rate: (done * 1000) / ms, cpu: (cpuOf(this.evc.pid) - before) / done, median });
  }

  get median(): Measured {
    const of = (pick: (one: Measured) => number) =>
      this.measured.map(pick).sort((a, b) => a - b)[this.measured.length >> 1] as number;
    return { rate: of(({ rate }) => rate), cpu: of(({ cpu }) => cpu), median: of(({ median }) => median) };
  }

  async end(): Promise<void> {
    await this.load.end();
    await this.evc.stop();
  }
}

const say = (text: string) => process.stderr.write(`\r\u001b[K${text}`);

async function started(data: string, args: readonly string[]): Promise<Running> {
  const evc = await ServedEvc.start(data, args);
  const load = new Load(data, evc.port);
  await load.carryOut({ do: 'connect', from: 0, count: attesting });
  await load.carryOut({ do: 'once', width: 32 });
  return new Running(evc, load);
}

export async function bench(): Promise<BenchTable> {
  const folder = mkdtempSync(join(tmpdir(), 'evc-bench-'));
  const programs = postgresPrograms();
  const server = programs ? await PostgresServer.start(programs) : null;
  const rows: BenchTable['rows'] = [];
  const notes: string[] = [];
  for (const engine of server ? (['SQLite', 'PostgreSQL'] as const) : (['SQLite'] as const)) {
    const all: Running[] = [];
    const taken: number[] = [];
    for (const size of sizes) {
      const data = join(folder, `${engine}-${size}`);
      const progress = (done: number) => say(`${engine}: ${done} of ${size} records`);
      if (engine === 'SQLite') {
        await enrolled(data, attesting);
        await fillLibsql(join(data, 'evc.db'), size, progress);
        taken.push(statSync(join(data, 'evc.db')).size / 1e6);
        all.push(await started(data, []));
      } else {
        const url = await (server as PostgresServer).database();
        await enrolled(data, attesting, await openStore(url));
        await fillPostgres(url, size, progress);
        all.push(await started(data, ['--store', url]));
      }
    }
    for (let round = 0; round < rounds; round++) {
      say(`${engine}: round ${round + 1} of ${rounds}`);
      // In turns, so that whatever else the machine does falls on all of them.
      for (const one of all) await one.round();
    }
    say('');
    const [first] = all;
    for (const [i, one] of all.entries()) {
      const { rate, cpu, median } = one.median;
      rows.push({
        store: engine,
        records: String(sizes[i]),
        'attestations/s': rate,
        'EVC ms CPU each': cpu,
        'of the first': cpu / (first as Running).median.cpu,
        'median ms': median,
      });
    }
    if (taken.length > 0)
      notes.push(`SQLite's files: ${taken.map((mb) => `${mb.toFixed(0)} MB`).join(', ')}`);
    for (const one of all) await one.end();
  }
  await server?.stop();
  rmSync(folder, { recursive: true });
  if (!server) notes.push('PostgreSQL is not measured: apt-get install postgresql-15');
  return {
    title: `${attesting} devices that attest, 32 at once, in a store with the records of others`,
    rows,
    notes: [
      ...notes,
      `medians of ${rounds} rounds of ${roundMs / 1000} s, in turns; the CPU of PostgreSQL is not EVC's`,
    ],
  };
}
