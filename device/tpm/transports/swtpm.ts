// A swtpm with both its channels: commands go over one, and what a mainboard does to its TPM over the other.
// Numbers: tpm_ioctl.h of swtpm 0.7, its socket form (every answer begins with a 32-bit result).
import { connect } from 'node:net';
import type { PoweredTpm } from '../powered.ts';
import { type SendOptions, TransportError } from '../transport.ts';
import { openSocketTpm, type SocketTransport } from './socket.ts';

const control = { INIT: 2, SET_LOCALITY: 5, HASH_START: 6, HASH_DATA: 7, HASH_END: 8, STOP: 14 } as const;
const timeout = 10_000;

/** Reaches a swtpm whose command channel is at `port` and whose control channel is the port above. */
export async function openSwtpm(host: string, port: number): Promise<SwtpmTransport> {
  const tpm = new SwtpmTransport(host, port);
  await tpm.powerOff();
  return tpm;
}

export class SwtpmTransport implements PoweredTpm {
  readonly #host: string;
  readonly #port: number;
  #commands: SocketTransport | undefined;
  #locality = 0;
  #localitySet = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  get powered(): boolean {
    return this.#commands !== undefined;
  }

  powerOn(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#commands) return;
      await this.#control(control.INIT, be32(0));
      this.#localitySet = 0;
      this.#commands = await openSocketTpm({ host: this.#host, port: this.#port });
    });
  }

  powerOff(): Promise<void> {
    return this.#inTurn(async () => {
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
    return this.#inTurn(async () => {
      if (!this.#commands) throw new TransportError('io', 'the TPM has no power');
      if (this.#localitySet !== this.#locality) {
        await this.#control(control.SET_LOCALITY, Uint8Array.of(this.#locality));
        this.#localitySet = this.#locality;
      }
      return this.#commands.send(command, options);
    });
  }

  hashStart(): Promise<void> {
    return this.#inTurn(() => this.#control(control.HASH_START));
  }

  hashData(data: Uint8Array): Promise<void> {
    return this.#inTurn(() => this.#control(control.HASH_DATA, Buffer.concat([be32(data.length), data])));
  }

  hashEnd(): Promise<void> {
    return this.#inTurn(() => this.#control(control.HASH_END));
  }

  async close(): Promise<void> {
    await this.#commands?.close();
    this.#commands = undefined;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  /** One control message, one connection. Rejects with TransportError when the result is not 0. */
  #control(code: number, body: Uint8Array = new Uint8Array()): Promise<void> {
    const name = `${this.#host}:${this.#port + 1}`;
    return new Promise((resolve, reject) => {
      const socket = connect(this.#port + 1, this.#host);
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

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
