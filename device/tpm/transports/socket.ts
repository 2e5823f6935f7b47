// A TPM behind a socket: a swtpm, or a TCG simulator.
import { connect, type Socket } from 'node:net';
import {
  commandBytes,
  defaultTimeout,
  headerSize,
  largestMessage,
  Queue,
  type SendOptions,
  type Transport,
  TransportError,
} from '../transport.ts';

export type SocketAddress = { host?: string; port: number } | { path: string };
export type SocketProtocol = 'swtpm' | 'mssim';

const localhost = '127.0.0.1';
const connectTimeout = 10_000;
const SEND_COMMAND = 8;
const SESSION_END = 20;

export function nameOf(address: SocketAddress): string {
  return 'path' in address ? address.path : `${address.host ?? localhost}:${address.port}`;
}

/**
 * Connects to a TPM's command channel. Rejects with TransportError.
 * `locality` goes with each command to a simulator; a swtpm takes it from its control channel, where nobody asks here.
 */
export async function openSocketTpm(
  address: SocketAddress,
  protocol: SocketProtocol = 'swtpm',
  locality = 0,
): Promise<SocketTransport> {
  const socket = connect('path' in address ? address : { ...address, host: address.host ?? localhost });
  const name = nameOf(address);
  await new Promise<void>((resolve, reject) => {
    const fail = (code: 'io' | 'timeout', why: string, cause?: Error) => {
      socket.destroy();
      reject(new TransportError(code, `no TPM at ${name}: ${why}`, { cause }));
    };
    const timer = setTimeout(
      () => fail('timeout', `no connection within ${connectTimeout} ms`),
      connectTimeout,
    );
    socket.once('connect', resolve);
    socket.once('error', (error: NodeJS.ErrnoException) => fail('io', error.code ?? error.message, error));
    socket.once('connect', () => clearTimeout(timer));
    socket.once('error', () => clearTimeout(timer));
  });
  socket.removeAllListeners('error');
  return new SocketTransport(socket, name, protocol, locality);
}

interface Waiting {
  resolve(response: Uint8Array): void;
  reject(error: TransportError): void;
}

export class SocketTransport implements Transport {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #protocol: SocketProtocol;
  readonly #locality: number;
  #received: Buffer = Buffer.alloc(0);
  #waiting: Waiting | undefined;
  #broken: TransportError | undefined;
  readonly #queue = new Queue();

  constructor(socket: Socket, name: string, protocol: SocketProtocol, locality: number) {
    this.#socket = socket.setNoDelay(true);
    this.#name = name;
    this.#protocol = protocol;
    this.#locality = locality;
    socket.on('data', (bytes) => this.#receive(bytes));
    socket.on('error', (error) => this.#break(new TransportError('io', `${name}: ${error.message}`)));
    socket.on('close', () =>
      this.#break(new TransportError('closed', `${name} ended the connection; the command may have run`)),
    );
  }

  /** Sends one command after those before it. After a time-out, or a response out of bounds, the link is closed. */
  async send(bytes: Uint8Array, options: SendOptions = {}): Promise<Uint8Array> {
    const command = commandBytes(bytes);
    return this.#queue.run(() => this.#exchange(command, options.timeout ?? defaultTimeout));
  }

  async close(): Promise<void> {
    this.#break(new TransportError('closed', `the connection to ${this.#name} is closed`));
  }

  #exchange(command: Uint8Array, timeout: number): Promise<Uint8Array> {
    if (this.#broken) return Promise.reject(this.#broken);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        // Its response may still come, and would be taken for that of the next command.
        () =>
          this.#break(new TransportError('timeout', `${this.#name} gave no response within ${timeout} ms`)),
        timeout,
      );
      this.#waiting = {
        resolve: (response) => {
          clearTimeout(timer);
          resolve(response);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      if (this.#protocol === 'mssim') {
        const header = Buffer.alloc(9);
        header.writeUInt32BE(SEND_COMMAND, 0);
        header.writeUInt8(this.#locality, 4);
        header.writeUInt32BE(command.length, 5);
        this.#socket.write(Buffer.concat([header, command]));
      } else this.#socket.write(command);
    });
  }

  #receive(bytes: Buffer): void {
    if (!this.#waiting) {
      this.#break(new TransportError('io', `${this.#name} sent bytes that nobody asked for`));
      return;
    }
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    // swtpm: the response, whose size is in it; simulator: size, response, acknowledgement.
    const framed = this.#protocol === 'mssim';
    const sizeAt = framed ? 0 : 2;
    if (this.#received.length < sizeAt + 4) return;
    const size = this.#received.readUInt32BE(sizeAt);
    if (size > largestMessage || size < headerSize) {
      const what = size === 0 && framed ? 'has no power' : `announced a response of ${size} bytes`;
      this.#break(new TransportError(size > largestMessage ? 'oversize' : 'io', `${this.#name} ${what}`));
      return;
    }
    const total = framed ? 4 + size + 4 : size;
    if (this.#received.length < total) return;
    if (this.#received.length > total) {
      this.#break(new TransportError('oversize', `${this.#name} sent more than its response`));
      return;
    }
    const start = framed ? 4 : 0;
    const response = Uint8Array.from(this.#received.subarray(start, start + size));
    this.#received = Buffer.alloc(0);
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve(response);
  }

  #break(error: TransportError): void {
    if (this.#broken) return;
    this.#broken = error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    if (this.#protocol === 'mssim' && error.code === 'closed' && this.#socket.writable) {
      const end = Buffer.alloc(4);
      end.writeUInt32BE(SESSION_END);
      this.#socket.end(end, () => this.#socket.destroy());
    } else this.#socket.destroy();
  }
}
