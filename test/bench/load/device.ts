// `eve run` as a process, from its start to its attestation, and what that costs.
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ServedEvc } from './served.ts';

const dist = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const main = (program: 'controller' | 'device') => join(dist, program, 'main.js');
/** ms after the attestation: configuration and reports, and what is still to be written. */
const rest = 500;

/** A device with an emulated board and a software TPM, installed for an EVC that is served. */
export class DeviceProcess {
  readonly #state: string;

  /** @param folder for its state and its image @param data of that EVC */
  constructor(folder: string, evc: ServedEvc, data: string) {
    this.#state = join(folder, 'device');
    const image = join(folder, 'image');
    const run = (program: 'controller' | 'device', ...args: string[]) =>
      execFileSync(process.execPath, [main(program), ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
    const url = `https://localhost:${evc.httpsPort}`;
    const config = join(this.#state, 'config');
    run('controller', 'key', 'add', '--data', data, '--url', url, '--out', config, '--limit', '1');
    run('device', 'image', 'create', image, '--version', '1.0.0');
    run('device', 'install', '--state', this.#state, '--image', image);
  }

  /** Starts it, stops it when it is attested, and resolves to the CPU time of all its threads, ms. */
  async run(...options: string[]): Promise<number> {
    const args = [main('device'), 'run', '--state', this.#state, '--json', ...options];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const attested = new Promise<void>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (/^\{"kind":"state","component":"attest-task".*"state":"complete"/.test(line)) resolve();
      });
    });
    const early = ended.then((code) => {
      throw new Error(`eve run ended with ${code} before it was attested`);
    });
    await Promise.race([attested, early]);
    early.catch(() => undefined);
    await setTimeout(rest);
    const used = threadsCpu(child.pid as number);
    child.kill('SIGTERM');
    await ended;
    return used;
  }
}

/** CPU time of the threads of a process, ms [Linux, Documentation/scheduler/sched-stats: nanoseconds come first]. */
function threadsCpu(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  const each = readdirSync(tasks).map((task) =>
    Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]),
  );
  return each.reduce((sum, ns) => sum + ns, 0) / 1e6;
}
