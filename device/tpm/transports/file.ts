// A TPM as a file of the kernel, with plain reads and writes: for machines on which no addon can be built. Nothing here can
// time out. The driver of the kernel does, after minutes, and reads fail then.
import { type FileHandle, open } from 'node:fs/promises';
import {
  announcedSize,
  commandBytes,
  largestMessage,
  Queue,
  type Transport,
  TransportError,
} from '../transport.ts';
import { checkDevice } from './device.ts';

/** Opens `/dev/tpmrm0` or another character device. Rejects with TransportError. */
export async function openFileTpm(path: string): Promise<FileTransport> {
  await checkDevice(path);
  try {
    return new FileTransport(path, await open(path, 'r+'));
  } catch (error) {
    throw failed(path, error);
  }
}

export class FileTransport implements Transport {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #queue = new Queue();
  #broken: TransportError | undefined;

  constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Sends one command after those before it. After a failure the file has to be opened anew. */
  async send(command: Uint8Array): Promise<Uint8Array> {
    const bytes = commandBytes(command);
    return this.#queue.run(async () => {
      if (this.#broken) throw this.#broken;
      try {
        return await this.#exchange(bytes);
      } catch (error) {
        this.#broken = failed(this.#path, error);
        throw this.#broken;
      } finally {
        bytes.fill(0);
      }
    });
  }

  close(): Promise<void> {
    this.#broken ??= new TransportError('closed', `${this.#path} is closed`);
    return this.#queue.run(() => this.#file.close());
  }

  async #exchange(command: Uint8Array): Promise<Uint8Array> {
    // The kernel takes a command whole or not at all.
    await this.#file.write(command, 0, command.length, null);
    const received = new Uint8Array(largestMessage);
    try {
      for (let length = 0; ; ) {
        const { bytesRead } = await this.#file.read(received, length, largestMessage - length, null);
        if (bytesRead === 0) throw new TransportError('closed', `${this.#path} gave no whole response`);
        length += bytesRead;
        if (announcedSize(received.subarray(0, length), this.#path) === length)
          return received.slice(0, length);
      }
    } finally {
      received.fill(0);
    }
  }
}

function failed(path: string, error: unknown): TransportError {
  if (error instanceof TransportError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  return new TransportError('io', `${path}: ${code ?? message}`, { cause: error });
}
