// EVC on the host: the commands that people have, as processes.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { projectRoot } from '../kit/root.ts';

const evc = join(fileURLToPath(projectRoot), 'bin/evc.js');

/** What of a device is looked at here. */
export interface DeviceView {
  device: string;
  trust: string;
  online: boolean;
  ekTrust: string;
  verdict: {
    accepted: boolean;
    grounds: string | null;
    findings: { code: string; text: string; pcr?: number }[];
    versions: { image: string; firmware: string } | null;
  } | null;
  baseline: { versions: { image: string; firmware: string }; grounds: string } | null;
  upgraded: { how: string; to: string } | null;
}

export class EvcOnHost {
  readonly #data: string;
  #server: ChildProcess | null = null;
  #url = '';

  constructor(data: string) {
    this.#data = data;
  }

  /** At an address that the guest reaches as 10.0.2.2. */
  async start(): Promise<void> {
    await this.#run(['init', '--host', '10.0.2.2', 'localhost', '--data', this.#data]);
    const ports = ['--mqtt-port', '0', '--https-port', '0'];
    this.#server = spawn(process.execPath, [evc, 'serve', '--data', this.#data, ...ports, '--with-parent'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: this.#server.stdout as NodeJS.ReadableStream });
    for await (const line of lines) {
      const [, port] = /people at https:\/\/[^:]+:(\d+)/.exec(line) ?? [];
      if (port === undefined) continue;
      this.#url = `https://localhost:${port}`;
      break;
    }
    this.#server.stdout?.resume();
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (!server || server.exitCode !== null) return;
    const gone = once(server, 'exit');
    server.stdin?.end();
    await gone;
  }

  /** What a command prints that asks EVC. Rejects with what it said when it fails. */
  ask(...args: string[]): Promise<string> {
    return this.#run([...args, '--data', this.#data, '--url', this.#url]);
  }

  /** What a command prints that needs no EVC. */
  offline(...args: string[]): Promise<string> {
    return this.#run(args);
  }

  async devices(): Promise<DeviceView[]> {
    const rows = JSON.parse(await this.ask('status', '--json')) as { device: string }[];
    const shown = rows.map(({ device }) => this.ask('device', 'show', device, '--json'));
    return (await Promise.all(shown)).map((text) => JSON.parse(text) as DeviceView);
  }

  /** Looks at the one device until it is so. Rejects with what it is instead. */
  async until(what: string, fits: (device: DeviceView) => boolean, patience: number): Promise<DeviceView> {
    for (const end = Date.now() + patience; ; await delay(1500)) {
      const [device] = await this.devices();
      if (device && fits(device)) return device;
      if (Date.now() < end) continue;
      const { trust, verdict, online } = device ?? {};
      throw new Error(`never ${what}: ${JSON.stringify({ trust, online, verdict })?.slice(0, 3000)}`);
    }
  }

  async #run(args: string[]): Promise<string> {
    const child = spawn(process.execPath, [evc, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    const [code] = (await once(child, 'close')) as [number | null];
    if (code === 0) return stdout;
    throw new Error(`evc ${args.slice(0, 3).join(' ')} ends with ${code}: ${stderr || stdout}`);
  }
}
