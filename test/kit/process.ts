// The two commands as processes: run to the end, or followed line by line.
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const mains = { evc: join(root, 'controller/main.ts'), eve: join(root, 'device/main.ts') };
const patience = 40_000;

type Program = keyof typeof mains;

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end; standard input is empty. */
export function runToEnd(
  program: Program,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ended> {
  const child = start(program, args, env, 'ignore');
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
}

/** A command that goes on, and its output. */
export class Running {
  readonly process: ChildProcess;
  readonly lines: string[] = [];
  readonly ended: Promise<number | null>;
  readonly #checks = new Set<() => void>();

  constructor(program: Program, args: readonly string[], env: Record<string, string> = {}) {
    this.process = start(program, args, env, 'pipe');
    for (const stream of [this.process.stdout, this.process.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on('line', (line) => {
        this.lines.push(line);
        for (const check of [...this.#checks]) check();
      });
    }
    this.ended = new Promise((resolve) => this.process.once('close', resolve));
  }

  /** The first line, from a place on, that fits. Rejects with what was said instead. */
  line(fits: RegExp, from = 0): Promise<string> {
    return new Promise((resolve, reject) => {
      const settle = (done: () => void) => {
        clearTimeout(timer);
        this.#checks.delete(check);
        done();
      };
      const check = () => {
        const found = this.lines.slice(from).find((line) => fits.test(line));
        if (found !== undefined) settle(() => resolve(found));
      };
      const late = (why: string) =>
        settle(() =>
          reject(
            new Error(
              `no line ${fits} ${why}:\n${this.lines
                .slice(-15)
                .map((l) => l.slice(0, 300))
                .join('\n')}`,
            ),
          ),
        );
      const timer = setTimeout(() => late(`in ${patience / 1000} s`), patience);
      this.#checks.add(check);
      void this.ended.then((code) => late(`before it ended with ${code}`));
      check();
    });
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.process.kill(signal);
    return this.ended;
  }
}

/** Pieces of the command line of a running process, for those that a command starts itself. */
export async function processesWith(text: string): Promise<number[]> {
  const { readdir, readFile } = await import('node:fs/promises');
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return line.split('\0').join(' ').includes(text) && pid !== process.pid ? [pid] : [];
    }),
  );
  return found.flat();
}

function start(
  program: Program,
  args: readonly string[],
  env: Record<string, string>,
  stdin: 'ignore' | 'pipe',
) {
  return spawn(process.execPath, ['--import', 'tsx', mains[program], ...args], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: [stdin, 'pipe', 'pipe'],
  });
}
