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

/** The link to the TPM failed, not the TPM: nothing is known about whether the command ran. */
export class TransportError extends Error {
  readonly code: 'closed' | 'timeout' | 'io' | 'oversize';
  constructor(code: TransportError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TransportError';
    this.code = code;
  }
}
