// How bytes reach a TPM, whichever it is. Retry, queueing, recording and faults wrap a transport and are one.

export interface SendOptions {
  /** How long to wait for the response, in ms. Transports that cannot time out ignore it. */
  timeout?: number;
}

export interface Transport {
  /** Sends one whole command and resolves with the whole response; a TPM_RC in it is not an error here. */
  send(command: Uint8Array, options?: SendOptions): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** No command and no response is longer, in bytes; TPMs state less in TPM_PT_MAX_COMMAND_SIZE. */
export const largestMessage = 4096;
/** Tag, size and code. */
export const headerSize = 10;

/** Where a command says nothing of its own, in ms: a slow TPM takes minutes for an RSA key. */
export const defaultTimeout = 300_000;

/** The link to the TPM failed, not the TPM: nothing is known about whether the command ran. */
export class TransportError extends Error {
  readonly code: 'closed' | 'timeout' | 'io' | 'oversize';
  /** The next thing to do, for a person; empty where nothing is known. */
  readonly hint: string;
  constructor(
    code: TransportError['code'],
    message: string,
    { hint = '', ...options }: ErrorOptions & { hint?: string } = {},
  ) {
    super(message, options);
    this.name = 'TransportError';
    this.code = code;
    this.hint = hint;
  }
}

/** One piece of work after the other, whether the one before succeeded or not. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}

/** The bytes of a command, its own from now on. Throws TransportError `oversize`. */
export function commandBytes(command: Uint8Array): Uint8Array {
  if (command.length > largestMessage)
    throw new TransportError(
      'oversize',
      `a command has at most ${largestMessage} bytes, not ${command.length}`,
    );
  return Uint8Array.from(command);
}

/** Size of the whole response that these first bytes announce, null while they are too few. */
export function announcedSize(received: Uint8Array, where: string): number | null {
  if (received.length < 6) return null;
  const size = new DataView(received.buffer, received.byteOffset).getUint32(2);
  if (size >= headerSize && size <= largestMessage && received.length <= size) return size;
  throw new TransportError(
    size > largestMessage ? 'oversize' : 'io',
    received.length > size && size >= headerSize
      ? `${where} sent more than its response`
      : `${where} announced a response of ${size} bytes`,
  );
}
