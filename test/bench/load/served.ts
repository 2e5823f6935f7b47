// EVC as a process of its own, and the process that loads it; what either costs is read from /proc.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { AttackWay } from './attack-ways.ts';
import type { Done, Order } from './main.ts';

const here = dirname(fileURLToPath(import.meta.url));
/** dist/, where this file is as well. */
const dist = join(here, '../../..');

interface Spoken {
  child: ChildProcess;
  next(): Promise<string>;
  /** The first line that has this in it. */
  line(text: string): Promise<string>;
}

function speak(script: string, args: readonly string[], env: Record<string, string> = {}): Spoken {
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  const lines: string[] = [];
  const waiting: (() => void)[] = [];
  let ended = false;
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    lines.push(line);
    for (const wake of waiting.splice(0)) wake();
  });
  child.once('close', () => {
    ended = true;
    for (const wake of waiting.splice(0)) wake();
  });
  const next = async (): Promise<string> => {
    while (lines.length === 0) {
      if (ended) throw new Error(`${script} ended`);
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    return lines.shift() as string;
  };
  return {
    child,
    next,
    async line(text) {
      for (;;) {
        const line = await next();
        if (line.includes(text)) return line;
      }
    },
  };
}

export class ServedEvc {
  readonly #spoken: Spoken;
  readonly port: number;
  /** Of the API and the page. */
  readonly httpsPort: number;

  private constructor(spoken: Spoken, port: number, httpsPort: number) {
    this.#spoken = spoken;
    this.port = port;
    this.httpsPort = httpsPort;
  }

  static async start(data: string, args: readonly string[] = []): Promise<ServedEvc> {
    const spoken = speak(join(dist, 'controller/main.js'), [
      'serve',
      ...['--data', data, '--mqtt-port', '0', '--https-port', '0', '--with-parent', ...args],
    ]);
    const line = await spoken.line('EVC serves devices');
    const port = Number(/:(\d+) and people/.exec(line)?.[1]);
    const httpsPort = Number(/people at https:.*:(\d+)/.exec(line)?.[1]);
    return new ServedEvc(spoken, port, httpsPort);
  }

  get pid(): number {
    return this.#spoken.child.pid as number;
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#spoken.child.once('close', () => resolve()));
    this.#spoken.child.kill('SIGTERM');
    await ended;
  }
}

/** The process that answers everything and looks at nothing, with a broker of its own or before one that runs at `url`. */
export class Echo {
  readonly #spoken: Spoken;
  readonly port: number;

  private constructor(spoken: Spoken, port: number) {
    this.#spoken = spoken;
    this.port = port;
  }

  static async start(data: string, url = ''): Promise<Echo> {
    const spoken = speak(join(here, 'echo.js'), [data, url]);
    const line = await spoken.line('listens at');
    return new Echo(spoken, Number(line.split(' ').at(-1)));
  }

  get pid(): number {
    return this.#spoken.child.pid as number;
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#spoken.child.once('close', () => resolve()));
    this.#spoken.child.stdin?.end();
    await ended;
  }
}

export class Load {
  readonly #spoken: Spoken;

  constructor(data: string, port: number) {
    this.#spoken = speak(join(here, 'main.js'), [data, String(port)]);
  }

  async carryOut(order: Order): Promise<Done> {
    this.#spoken.child.stdin?.write(`${JSON.stringify(order)}\n`);
    return JSON.parse(await this.#spoken.next()) as Done;
  }

  async end(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#spoken.child.once('close', () => resolve()));
    this.#spoken.child.stdin?.write('{"do":"end"}\n');
    await ended;
  }
}

/** A process that keeps EVC from its work in one way. */
export class Attack {
  readonly #spoken: Spoken;

  private constructor(spoken: Spoken) {
    this.#spoken = spoken;
  }

  static async begin(way: AttackWay, data: string, { port, httpsPort }: ServedEvc): Promise<Attack> {
    const spoken = speak(join(here, 'attack.js'), [way, data, `${port}`, `${httpsPort}`]);
    await spoken.line('begins');
    return new Attack(spoken);
  }

  /** How often it did it. */
  async end(): Promise<number> {
    const ended = new Promise<void>((resolve) => this.#spoken.child.once('close', () => resolve()));
    this.#spoken.child.stdin?.end();
    const done = Number(await this.#spoken.next());
    await ended;
    return done;
  }
}

/** CPU that a process has used, ms [proc(5), stat: utime and stime, in hundredths of a second]. */
export function cpuOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may have blanks in it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Memory of a process that is in RAM, and the most it ever was, MB [proc(5), status]. */
export function memoryOf(pid: number): { now: number; most: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kb = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
  return { now: kb('VmRSS') / 1024, most: kb('VmHWM') / 1024 };
}
