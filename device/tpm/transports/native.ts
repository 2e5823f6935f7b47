// A TPM through the TCG software stack: the TPM of the machine above all, with time-outs.
import { AddonMissing, nativeAddon, type TctiConnection } from '../../native/addon.ts';
import {
  announcedSize,
  commandBytes,
  defaultTimeout,
  Queue,
  type SendOptions,
  type Transport,
  TransportError,
} from '../transport.ts';
import { checkDevice } from './device.ts';

/** The stack prints what it does not like to standard error; what it says is in our errors. */
const quiet = 'all+NONE';

/** A process that ends waits for its threads, and those would wait for the TPM. */
const open = new Set<TctiConnection>();
process.once('exit', () => {
  for (const connection of open) connection.cancel();
});

/**
 * Opens `device:/dev/tpmrm0`, or another TCTI as tpm2-tools name them: swtpm, mssim, tabrmd.
 * Rejects with TransportError that says what to do.
 */
export async function openNativeTpm(tcti: string): Promise<NativeTransport> {
  const [name = '', ...rest] = tcti.split(':');
  if (name === 'device') await checkDevice(rest.join(':'));
  process.env.TSS2_LOG ??= quiet;
  try {
    const addon = nativeAddon();
    // The probe of a device at opening gives it a second; one that wakes up needs more.
    const connection = await addon.openTcti(tcti).catch((error: unknown) => {
      if (codeOf(error) !== 'TCTI_IO_ERROR') throw error;
      return addon.openTcti(tcti);
    });
    return new NativeTransport(tcti, connection);
  } catch (error) {
    throw failed(tcti, error);
  }
}

export class NativeTransport implements Transport {
  readonly #name: string;
  readonly #connection: TctiConnection;
  readonly #queue = new Queue();
  #closed = false;

  constructor(name: string, connection: TctiConnection) {
    this.#name = name;
    this.#connection = connection;
    open.add(connection);
  }

  /** False where the stack cannot end a wait: then the time-out of a command is ignored. */
  get canTimeOut(): boolean {
    return this.#connection.polls;
  }

  /**
   * Sends one command after those before it. After a time-out the TPM still works on the command: the next one waits for
   * it first, and what it made is flushed when the connection is closed.
   */
  async send(command: Uint8Array, options: SendOptions = {}): Promise<Uint8Array> {
    const bytes = commandBytes(command);
    return this.#queue.run(async () => {
      if (this.#closed) throw new TransportError('closed', `the connection to ${this.#name} is closed`);
      try {
        const response = await this.#connection.transmit(bytes, options.timeout ?? defaultTimeout);
        if (announcedSize(response, this.#name) !== response.length)
          throw new TransportError('io', `${this.#name} gave no whole response`);
        return response;
      } catch (error) {
        throw failed(this.#name, error);
      } finally {
        bytes.fill(0);
      }
    });
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#connection.cancel();
    return this.#queue.run(async () => {
      if (open.delete(this.#connection)) await this.#connection.close();
    });
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}

const codes: Record<string, TransportError['code']> = {
  TCTI_TIMEOUT: 'timeout',
  TCTI_BUSY: 'timeout',
  TCTI_CANCELLED: 'closed',
  TCTI_CLOSED: 'closed',
  TCTI_INSUFFICIENT_BUFFER: 'oversize',
};

const libraries =
  'apt-get install libtss2-tctildr0 libtss2-tcti-device0; Alpine: apk add tpm2-tss-tcti-device';
const without = 'or without it, and without time-outs: --tpm file:/dev/tpmrm0';
const hints: Record<string, string> = {
  TCTI_NO_LOADER: `${libraries}; ${without}`,
  TCTI_NOT_SUPPORTED:
    'the TCTI is not installed; on Debian it is libtss2-tcti-NAME0, for tabrmd libtss2-tcti-tabrmd0',
};

function failed(name: string, error: unknown): unknown {
  if (error instanceof TransportError || error instanceof RangeError) return error;
  if (error instanceof AddonMissing)
    return new TransportError('io', error.message, { cause: error, hint: `${error.hint}; ${without}` });
  const code = codeOf(error) ?? '';
  if (!code.startsWith('TCTI_')) return error;
  return new TransportError(codes[code] ?? 'io', `${name}: ${(error as Error).message}`, {
    cause: error,
    hint: hints[code] ?? '',
  });
}
