// A Mosquitto of Debian with EVC's plug-in, on loopback.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const build = fileURLToPath(new URL('../../broker/mosquitto/build.js', import.meta.url));

/** Debian packages that the plug-in is built from and runs in. */
export const mosquittoPackages = [
  'mosquitto',
  'gcc',
  'libc6-dev',
  'mosquitto-dev',
  'libmosquitto-dev',
  'libcurl4-openssl-dev',
];

export function buildLogin(out: string): string {
  const built = spawnSync(process.execPath, [build, out], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr);
  return out;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

export class Mosquitto {
  readonly #process: ChildProcess;
  said = '';

  private constructor(process: ChildProcess) {
    this.#process = process;
    process.stderr?.on('data', (chunk) => {
      this.said += chunk;
    });
  }

  /** With the folder of `evc broker config`. */
  static async start(folder: string, port: number): Promise<Mosquitto> {
    const file = join(folder, 'mosquitto.conf');
    const program = spawnSync('which', ['mosquitto'], { encoding: 'utf8' }).stdout.trim();
    const child = spawn(program || '/usr/sbin/mosquitto', ['-c', file], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const started = new Mosquitto(child);
    for (let tries = 0; tries < 200; tries++) {
      if (child.exitCode !== null) throw new Error(`mosquitto ended: ${started.said}`);
      if (await listens(port)) return started;
      await delay(25);
    }
    throw new Error(`mosquitto does not listen: ${started.said}`);
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    this.#process.kill('SIGTERM');
    await once(this.#process, 'exit');
  }
}

/** Puts it on loopback, as tests want it, and lets root stay root: its files are in a folder of root's. */
export function keepLocal(folder: string): void {
  const file = join(folder, 'mosquitto.conf');
  const local = readFileSync(file, 'utf8').replace(/^(listener \d+)$/m, '$1 127.0.0.1');
  writeFileSync(file, `${local}user root\n`);
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
