// The guest as a machine: QEMU with OVMF under Secure Boot, and swtpm as its TPM. Its console is read line by line; a shell
// behind a port that is forwarded to this machine runs what the host asks for.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { certify } from '../kit/swtpm.ts';
import type { Disk } from './disk.ts';
import type { Parts } from './parts.ts';

const machine = ['-machine', 'q35,smm=on', '-cpu', 'max,-arch-capabilities', '-nodefaults', '-nographic'];

/** KVM where it can do system management mode, without which firmware cannot keep its keys; else the emulator. */
export function accelerator(): { name: 'kvm' | 'tcg'; why: string } {
  if (!existsSync('/dev/kvm')) return { name: 'tcg', why: 'no /dev/kvm' };
  // Stopped before its first instruction: whoever is still there after a while could have begun.
  const { signal, stderr } = spawnSync('qemu-system-x86_64', [...machine, '-accel', 'kvm', '-S'], {
    timeout: 2000,
    encoding: 'utf8',
  });
  if (signal !== null) return { name: 'kvm', why: '' };
  return {
    name: 'tcg',
    why:
      stderr
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^.*?: /, '') ?? 'KVM does not start',
  };
}

export interface MachineOptions {
  folder: string;
  parts: Parts;
  disk: Disk;
  accelerator: 'kvm' | 'tcg';
}

export class Machine {
  readonly #options: MachineOptions;
  readonly #checks = new Set<() => void>();
  readonly lines: string[] = [];
  #tpm: ChildProcess | null = null;
  #qemu: ChildProcess | null = null;
  /** Of this machine, where the shell of the guest is reached. */
  #port = 0;

  /** A board from the factory: its firmware's variables as Microsoft and Debian have them, its TPM certified. */
  constructor(options: MachineOptions) {
    this.#options = options;
    const { folder, parts } = options;
    mkdirSync(this.#tpmFolder, { recursive: true });
    copyFileSync(parts.firmware.variables, join(folder, 'variables.fd'));
    certify(this.#tpmFolder);
    // Whatever ends us ends the guest, and with it its TPM.
    process.once('exit', () => this.#qemu?.kill('SIGKILL'));
  }

  /** Certificates of the authority that vouches for its TPM. */
  get authority(): string[] {
    return ['ca/issuercert.pem', 'ca/swtpm-localca-rootca-cert.pem'].map((name) =>
      join(this.#tpmFolder, name),
    );
  }

  async powerOn(): Promise<void> {
    const { folder, parts, disk, accelerator: name } = this.#options;
    const socket = join(folder, 'tpm.sock');
    this.#port = await freePort();
    this.#tpm = spawn(
      'swtpm',
      [
        'socket',
        '--tpm2',
        '--tpmstate',
        `dir=${this.#tpmFolder}`,
        '--ctrl',
        `type=unixio,path=${socket}`,
        '--terminate',
      ],
      { stdio: 'ignore' },
    );
    for (let tries = 0; !existsSync(socket) && tries < 200; tries++) await delay(10);
    const qemu = spawn(
      'qemu-system-x86_64',
      [
        ...machine,
        ...['-accel', name, '-smp', '2', '-m', '1024'],
        ...['-global', 'driver=cfi.pflash01,property=secure,value=on', '-global', 'ICH9-LPC.disable_s3=1'],
        ...['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${parts.firmware.code}`],
        ...['-drive', `if=pflash,format=raw,unit=1,file=${join(folder, 'variables.fd')}`],
        ...['-chardev', `socket,id=tpm,path=${socket}`, '-tpmdev', 'emulator,id=tpm0,chardev=tpm'],
        ...['-device', 'tpm-tis,tpmdev=tpm0'],
        ...['-drive', `id=disk,if=none,format=raw,file=${disk.path}`],
        ...['-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
        // The guest reaches this machine's own address at 10.0.2.2.
        ...['-netdev', `user,id=net,hostfwd=tcp:127.0.0.1:${this.#port}-:23`],
        ...['-device', 'virtio-net-pci,netdev=net,romfile=', '-serial', 'stdio'],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#qemu = qemu;
    for (const stream of [qemu.stdout, qemu.stderr])
      createInterface({ input: stream as NodeJS.ReadableStream }).on('line', (line) => this.#line(line));
  }

  /** Pulls the plug. */
  async powerOff(): Promise<void> {
    for (const child of [this.#qemu, this.#tpm]) {
      if (!child || child.exitCode !== null || child.signalCode !== null) continue;
      const gone = once(child, 'exit');
      child.kill(child === this.#qemu ? 'SIGKILL' : 'SIGTERM');
      await gone;
    }
    this.#qemu = null;
    this.#tpm = null;
  }

  /** The first line of the console, from a place on, that fits. Rejects with the last lines after `patience` ms. */
  line(fits: RegExp, patience: number, from = this.lines.length): Promise<string> {
    return this.#until(`a line ${fits}`, patience, () =>
      this.lines.slice(from).find((line) => fits.test(line)),
    );
  }

  /** What a command in the guest prints. Rejects when it fails, or takes over `patience` ms. */
  async run(command: string, patience = 60_000): Promise<string> {
    const shell = connect(this.#port, '127.0.0.1').setEncoding('utf8').setTimeout(patience);
    shell.once('timeout', () => shell.destroy(new Error(`over ${patience / 1000} s: ${command}`)));
    // Its own standard input is the connection, and a program would read the rest of it.
    shell.write(`{ ${command}\n} </dev/null 2>&1; echo "ended $?"; exit\n`);
    let said = '';
    for await (const chunk of shell) said += chunk;
    const [, output = '', code] = /^(.*)ended (\d+)\n$/s.exec(said) ?? [];
    if (code !== '0')
      throw new Error(`${command} ends with ${code} in the guest: ${said.trim().slice(-2000)}`);
    return output;
  }

  /** A file of the guest. */
  async read(path: string): Promise<Buffer> {
    return Buffer.from(await this.run(`base64 ${path}`), 'base64');
  }

  get #tpmFolder(): string {
    return join(this.#options.folder, 'tpm');
  }

  #line(line: string): void {
    // Firmware and GRUB draw on the console.
    const plain = line.replace(/\p{Cc}\[[0-9;?=]*[A-Za-z]|[^ -~]/gu, '').trim();
    if (plain === '') return;
    this.lines.push(plain);
    appendFileSync(join(this.#options.folder, 'console.log'), `${plain}\n`);
    for (const check of [...this.#checks]) check();
  }

  #until<Value>(what: string, patience: number, look: () => Value | null | undefined): Promise<Value> {
    return new Promise((resolve, reject) => {
      const settle = (done: () => void) => {
        clearTimeout(timer);
        this.#checks.delete(check);
        this.#qemu?.off('exit', gone);
        done();
      };
      const check = () => {
        const found = look();
        if (found !== null && found !== undefined) settle(() => resolve(found));
      };
      const fail = (why: string) =>
        settle(() => reject(new Error(`never ${what}: ${why}\n${this.lines.slice(-25).join('\n')}`)));
      const gone = () => fail('the machine is off');
      const timer = setTimeout(() => fail(`not in ${patience / 1000} s`), patience);
      this.#checks.add(check);
      this.#qemu?.once('exit', gone);
      check();
    });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
