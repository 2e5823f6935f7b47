// A swtpm with both its channels: commands go over one, and what a mainboard does to its TPM over the other.
// Numbers: tpm_ioctl.h of swtpm 0.7, its socket form (every answer begins with a 32-bit result).
import { connect } from 'node:net';
import type { PoweredTpm } from '../powered.ts';
import { Queue, type SendOptions, TransportError } from '../transport.ts';
import { nameOf, openSocketTpm, type SocketAddress, type SocketTransport } from './socket.ts';

const control = { INIT: 2, SET_LOCALITY: 5, HASH_START: 6, HASH_DATA: 7, HASH_END: 8, STOP: 14 } as const;
const timeout = 10_000;

/**
 * Reaches a swtpm whose command channel is at `address`, and whose control channel is at the port above, or at the path
 * with `.ctrl` behind it.
 */
export async function openSwtpm(address: SocketAddress): Promise<SwtpmTransport> {
  const tpm = new SwtpmTransport(address);
  await tpm.powerOff();
  return tpm;
}

export class SwtpmTransport implements PoweredTpm {
  readonly #address: SocketAddress;
  readonly #queue = new Queue();
  #commands: SocketTransport | undefined;
  /** The TPM goes on when its connection fails: the next command goes over a new one. */
  #broken = false;
  #locality = 0;
  #localitySet = 0;

  constructor(address: SocketAddress) {
    this.#address = address;
  }

  get powered(): boolean {
    return this.#commands !== undefined;
  }

  powerOn(): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#commands) return;
      await this.#control(control.INIT, be32(0));
      this.#localitySet = 0;
      this.#commands = await openSocketTpm(this.#address);
      this.#broken = false;
    });
  }

  powerOff(): Promise<void> {
    return this.#queue.run(async () => {
      await this.#commands?.close();
      this.#commands = undefined;
      await this.#control(control.STOP);
    });
  }

  /** Physical presence is no matter of this protocol. */
  setPhysicalPresence(): void {}

  setLocality(locality: number): void {
    this.#locality = locality;
  }

  send(command: Uint8Array, options?: SendOptions): Promise<Uint8Array> {
    return this.#queue.run(async () => {
      if (!this.#commands) throw new TransportError('io', 'the TPM has no power');
      if (this.#broken) {
        this.#commands = await openSocketTpm(this.#address);
        this.#broken = false;
      }
      if (this.#localitySet !== this.#locality) {
        await this.#control(control.SET_LOCALITY, Uint8Array.of(this.#locality));
        this.#localitySet = this.#locality;
      }
      try {
        return await this.#commands.send(command, options);
      } catch (error) {
        this.#broken = true;
        throw error;
      }
    });
  }

  hashStart(): Promise<void> {
    return this.#queue.run(() => this.#control(control.HASH_START));
  }

  hashData(data: Uint8Array): Promise<void> {
    return this.#queue.run(() => this.#control(control.HASH_DATA, Buffer.concat([be32(data.length), data])));
  }

  hashEnd(): Promise<void> {
    return this.#queue.run(() => this.#control(control.HASH_END));
  }

  async close(): Promise<void> {
    await this.#commands?.close();
    this.#commands = undefined;
  }

  /** One control message, one connection. Rejects with TransportError when the result is not 0. */
  #control(code: number, body: Uint8Array = new Uint8Array()): Promise<void> {
    const address = controlOf(this.#address);
    const name = nameOf(address);
    return new Promise((resolve, reject) => {
      const socket = connect(address);
      let answer = Buffer.alloc(0);
      const fail = (code: TransportError['code'], why: string) => {
        socket.destroy();
        reject(new TransportError(code, `the control channel of the swtpm at ${name}: ${why}`));
      };
      socket.setTimeout(timeout, () => fail('timeout', `no answer within ${timeout} ms`));
      socket.once('error', (error: NodeJS.ErrnoException) => fail('io', error.code ?? error.message));
      socket.once('close', () => fail('closed', 'the connection ended'));
      socket.once('connect', () => socket.write(Buffer.concat([be32(code), body])));
      socket.on('data', (bytes: Buffer) => {
        answer = Buffer.concat([answer, bytes]);
        if (answer.length < 4) return;
        const result = answer.readUInt32BE(0);
        if (result !== 0) return fail('io', `command ${code} failed with 0x${result.toString(16)}`);
        resolve();
        socket.destroy();
      });
    });
  }
}

function controlOf(address: SocketAddress): SocketAddress {
  return 'path' in address
    ? { path: `${address.path}.ctrl` }
    : { host: '127.0.0.1', ...address, port: address.port + 1 };
}

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
