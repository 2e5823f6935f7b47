// EVC and a fleet as processes for a long time, with faults, and figures of both at each sample.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import Database from 'libsql';
import { runToEnd } from '../kit/process.ts';
import { projectRoot } from '../kit/root.ts';
import { type Figure, type Figures, folderMb, procFigures, tolerances } from './figures.ts';
import { CutLink } from './link.ts';
import { type Trend, trendOf } from './slope.ts';
import { type Upgraded, Upgrades } from './upgrades.ts';

export interface SoakOptions {
  devices: number;
  /** ms of the whole, and between two samples. */
  duration: number;
  every: number;
  /** Between two roll-outs of an image to half of the devices, ms; none without it. */
  upgradeEvery?: number;
  /** Bytes that EVC leaks at each sample: to show that they are found. */
  leak?: number;
  onSample?(sample: SoakSample): void;
}

export interface SoakSample {
  minute: number;
  evc: Figures;
  fleet: Figures;
}

export interface SoakReport {
  samples: SoakSample[];
  trends: ({ process: 'evc' | 'fleet'; figure: Figure; why: string } & Trend)[];
  flat: boolean;
  faults: { cuts: number; kills: number };
  /** Trusted at the beginning. */
  trusted: number;
  upgrades: Upgraded;
}

const patience = 5000;
/** As a part of the whole: EVC is killed once while half of it is still to come, so that each line is of one process. */
const killAt = 0.3;
/** As a part of the whole: later no upgrade begins, so that the last has its time. */
const lastUpgradeAt = 0.8;
/** How long the last upgrade may take beyond the end, ms. */
const upgradePatience = 60_000;

class Soaked {
  readonly process: ChildProcess;
  readonly #program: string;
  readonly #lines = new Set<(line: string) => void>();
  /** Its pipes are closed, too. */
  readonly #ended: Promise<unknown>;

  constructor(program: 'controller' | 'device', args: readonly string[], env: Record<string, string> = {}) {
    this.#program = program;
    const file = (path: string) => fileURLToPath(new URL(path, projectRoot));
    const flags = ['--expose-gc', '--import', 'tsx', '--import', file('test/soak/probe.ts')];
    this.process = spawn(process.execPath, [...flags, file(`${program}/main.ts`), ...args, '--with-parent'], {
      stdio: ['pipe', 'pipe', 'inherit', 'ipc'],
      env: { ...process.env, ...env },
    });
    this.#ended = new Promise((resolve) => this.process.once('close', resolve));
    if (this.process.stdout)
      createInterface({ input: this.process.stdout }).on('line', (line) => {
        for (const look of this.#lines) look(line);
      });
  }

  line(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const look = (line: string) => {
        if (!line.includes(text)) return;
        this.#lines.delete(look);
        resolve(line);
      };
      this.#lines.add(look);
      this.process.once('exit', (code) => reject(new Error(`it ended with ${code} before it said ${text}`)));
    });
  }

  /**
   * What it says of itself and what is seen from outside; the second alone where it has not the time. Rejects where it has ended by
   * itself.
   */
  async figures(): Promise<Figures> {
    const { exitCode, signalCode } = this.process;
    if (exitCode !== null || signalCode !== null)
      throw new Error(`the ${this.#program} ended by itself, with ${exitCode ?? signalCode}`);
    let hear = (_: Figures) => {};
    const inside = new Promise<Figures>((resolve) => {
      hear = resolve;
    });
    this.process.once('message', hear);
    this.process.send('figures', () => undefined);
    const over = new AbortController();
    const late = pause(patience, {}, { signal: over.signal }).catch(() => ({}));
    const said = await Promise.race([inside, late]);
    over.abort();
    this.process.off('message', hear);
    return { ...said, ...procFigures(this.process.pid as number) };
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.process.kill(signal);
    await this.#ended;
  }
}

/** Rejects when EVC or the fleet does not start, or ends. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { devices, duration, every, upgradeEvery, leak = 0 } = options;
  const folder = mkdtempSync(join(tmpdir(), 'eve-soak-'));
  const [data, config, state] = ['evc', 'config', 'fleet'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  let port = 0;
  let httpsPort = 0;
  const serve = async () => {
    const args = [
      ...['serve', '--json', '--data', data],
      ...['--mqtt-port', `${port}`, '--https-port', `${httpsPort}`],
    ];
    const started = new Soaked('controller', args, leak > 0 ? { EVE_SOAK_LEAK: `${leak}` } : {});
    ({ mqttPort: port, httpsPort } = JSON.parse(await started.line('"kind":"serving"')) as {
      mqttPort: number;
      httpsPort: number;
    });
    return started;
  };
  const link = await CutLink.open(() => port);
  const processes: Soaked[] = [];
  try {
    await runToEnd('evc', ['init', '--data', data]);
    let evc = await serve();
    processes.push(evc);
    await runToEnd('evc', ['key', 'add', '--data', data, '--out', config, '--limit', `${devices}`]);
    writeFileSync(join(config, 'server'), `mqtts://localhost:${link.port}\n`);
    const fleetArgs = ['fleet', `${devices}`, '--config', config, '--state', state, '--json'];
    const fleet = new Soaked('device', [...fleetArgs, '--slow', '10:40', '--at-once', '8']);
    processes.push(fleet);
    const { trusted } = JSON.parse(await fleet.line('"kind":"phase"')) as { trusted: number };
    const upgrades = new Upgrades(data, join(folder, 'images'));
    if (upgradeEvery !== undefined) await upgrades.label(2);
    let nextUpgrade = 0;
    const began = performance.now();
    const samples: SoakSample[] = [];
    let kills = 0;
    for (let now = 0; now < duration; now = performance.now() - began) {
      await pause(every);
      if (kills === 0 && now > duration * killAt) {
        await evc.end('SIGKILL');
        evc = await serve();
        processes.push(evc);
        kills++;
      }
      if (upgradeEvery !== undefined && now >= nextUpgrade && now < duration * lastUpgradeAt) {
        nextUpgrade = now + upgradeEvery;
        await upgrades.begin();
      }
      const [ofEvc, ofFleet] = await Promise.all([evc.figures(), fleet.figures()]);
      const sample = {
        minute: (performance.now() - began) / 60_000,
        evc: { ...ofEvc, ...storeFigures(data) },
        fleet: { ...ofFleet, foldersMb: folderMb(state) },
      };
      samples.push(sample);
      options.onSample?.(sample);
      // After the sample: who is cut off has time to come back until the next.
      link.cut(0.2);
    }
    const trends = trendsOf(samples);
    const flat = trends.every((trend) => trend.flat);
    const upgraded = await upgrades.ended(upgradePatience);
    return { samples, trends, flat, faults: { cuts: link.cuts, kills }, trusted, upgrades: upgraded };
  } finally {
    for (const one of processes.reverse()) await one.end('SIGTERM');
    await link.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function trendsOf(samples: readonly SoakSample[]): SoakReport['trends'] {
  return (['evc', 'fleet'] as const).flatMap((process) =>
    (Object.keys(tolerances) as Figure[]).flatMap((figure) => {
      const values = samples.flatMap(({ minute, [process]: { [figure]: value } }) =>
        value === undefined ? [] : [{ minute, value }],
      );
      if (values.length < 8) return [];
      const { why } = tolerances[figure];
      return [{ process, figure, why, ...trendOf(values, tolerances[figure]) }];
    }),
  );
}

function storeFigures(data: string): Figures {
  const db = new Database(join(data, 'evc.db'), { readonly: true } as Database.Options);
  try {
    const count = (table: string) =>
      (db.prepare(`select count(*) as n from ${table}`).all([]) as { n: number }[])[0]?.n ?? 0;
    const entries = count('journal');
    const kb = folderMb(data, (name) => name.startsWith('evc.db')) * 1024;
    return { records: count('records'), kbPerEntry: kb / Math.max(1, entries) };
  } finally {
    db.close();
  }
}
