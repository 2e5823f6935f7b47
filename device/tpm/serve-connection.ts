// What the two protocols of serve.ts share: reading a client's bytes without trusting them.
import type { Socket } from 'node:net';
import type { PoweredTpm } from './powered.ts';

/** Serves one connection until it ends. Throwing, or returning, closes it. */
export type Channel = (connection: Connection) => Promise<void>;

export interface Channels {
  command: Channel;
  control: Channel;
  /** What the path of the control socket adds to that of the command socket. */
  suffix: string;
}

/** A socket read in pieces of known size. It buffers no more than the piece that is asked for and the system's share. */
export class Connection {
  readonly #socket: Socket;
  readonly #timeout: number;
  #wake = () => {};

  constructor(socket: Socket, timeout: number) {
    this.#socket = socket;
    this.#timeout = timeout;
    for (const name of ['readable', 'drain', 'end', 'close']) socket.on(name, () => this.#wake());
  }

  /**
   * The next `size` bytes, or undefined when the connection ended. The first piece of a message may take any time, the
   * others (`started`) have to come within the time of a message.
   */
  async take(size: number, started = true): Promise<Buffer | undefined> {
    const socket = this.#socket;
    if (size === 0) return Buffer.alloc(0);
    const late = () => socket.destroy();
    let timer = started ? setTimeout(late, this.#timeout) : undefined;
    try {
      for (;;) {
        if (socket.destroyed || socket.readableEnded) return undefined;
        const bytes: Buffer | null = socket.read(size);
        if (bytes) return bytes.length === size ? bytes : undefined;
        if (socket.readableLength > 0) timer ??= setTimeout(late, this.#timeout);
        await this.#change();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** The next big-endian 32-bit number. */
  async number(started = true): Promise<number | undefined> {
    return (await this.take(4, started))?.readUInt32BE();
  }

  /** Writes, and waits for a client that does not read, for as long as a message may take. */
  async write(...parts: (number | Uint8Array)[]): Promise<void> {
    const bytes = Buffer.concat(parts.map((part) => (typeof part === 'number' ? be32(part) : part)));
    if (this.#socket.destroyed || this.#socket.write(bytes)) return;
    const timer = setTimeout(() => this.#socket.destroy(), this.#timeout);
    while (this.#socket.writableNeedDrain && !this.#socket.destroyed) await this.#change();
    clearTimeout(timer);
  }

  /** Until more bytes are here, or were taken, or the connection ends. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Sends a command and turns a failing link into the response of a failing TPM, for which the protocols have words. */
export async function answerOf(tpm: PoweredTpm, command: Uint8Array): Promise<Uint8Array> {
  try {
    return await tpm.send(command);
  } catch {
    // TPM_ST_NO_SESSIONS, size, TPM_RC_FAILURE.
    return Uint8Array.of(0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01);
  }
}
