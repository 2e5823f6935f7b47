// The processes that `evc up` brings up: each ends with its parent, whatever ends that.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Failure } from './failure.ts';

/** Where the two commands are, built or not: processes meet, code does not. */
const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
const programs = {
  evc: fileURLToPath(new URL(`../main${extension}`, import.meta.url)),
  eve: fileURLToPath(new URL(`../../device/main${extension}`, import.meta.url)),
};

const patience = 4000;
const keptLines = 20;

export class Child {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #errors: string[] = [];
  readonly #ended: Promise<number>;
  #stopping = false;

  /** Starts `evc` or `eve`; each line of its output is handed on. */
  constructor(
    name: string,
    program: keyof typeof programs,
    args: readonly string[],
    onLine: (line: string) => void,
    onDeath: (child: Child, code: number) => void,
  ) {
    this.name = name;
    this.#process = spawn(
      process.execPath,
      [...process.execArgv, programs[program], ...args, '--with-parent'],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
    const { stdin, stdout, stderr } = this.#process;
    // Only its end means something, and it may be gone before us.
    stdin?.on('error', () => undefined);
    if (stdout) createInterface({ input: stdout }).on('line', onLine);
    if (stderr) {
      createInterface({ input: stderr }).on('line', (line) => {
        this.#errors.push(line);
        if (this.#errors.length > keptLines) this.#errors.shift();
      });
    }
    this.#ended = new Promise((resolve) => {
      this.#process.once('error', () => resolve(-1));
      this.#process.once('close', (code) => resolve(code ?? -1));
    });
    void this.#ended.then((code) => {
      if (!this.#stopping) onDeath(this, code);
    });
  }

  /** What it wrote to its standard error last. */
  get lastWords(): string {
    return this.#errors.join('\n');
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Asks it to end, and insists after a while. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), patience);
    await this.#ended;
    clearTimeout(timer);
  }
}

/** Runs a command to its end. Rejects with Failure when it fails. */
export function runCommand(program: keyof typeof programs, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...process.execArgv, programs[program], ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      if (errors.length < 10_000) errors += chunk.toString('utf8');
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve();
      else
        reject(new Failure(`${program} ${args.slice(0, 2).join(' ')} ended with ${code}: ${errors.trim()}`));
    });
  });
}
