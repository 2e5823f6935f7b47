// The TPM in this process.
import { executeInWorker, takesLong } from '../../../wasm/keygen.ts';
import { TpmStateFile } from '../../../wasm/state-file.ts';
import { type HostHooks, WasmTpm } from '../../../wasm/tpm.ts';
import type { PoweredTpm } from '../powered.ts';
import { commandBytes, TransportError } from '../transport.ts';

/** What the state file of the emulator can be refused for. */
export { NvImageError } from '../../../wasm/nv-image.ts';
export { TpmStateError } from '../../../wasm/state-file.ts';

export interface WasmTpmOptions extends HostHooks {
  /** Where its NV memory is kept, encrypted. Without it the TPM is a new one and ends with the process. */
  stateFile?: string;
  /** 32 bytes for `stateFile`. Without it, `tpm.key` beside that file. */
  key?: Uint8Array;
  /** Whether power on includes TPM2_Startup(CLEAR), as firmware does it. Default: true. */
  startup?: boolean;
  /** Whether long commands (RSA keys) leave the event loop free. Default: true, but never with an entropy hook. */
  worker?: boolean;
}

export type Startup = 'clear' | 'state' | 'none';

const startupCommand = {
  clear: Uint8Array.of(0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0),
  state: Uint8Array.of(0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 1),
};
const shutdownClear = Uint8Array.of(0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0);

/** Opens the TPM in `stateFile`, or a new one, and powers it on. Rejects with TpmStateError and NvImageError. */
export function openWasmTpm(options: WasmTpmOptions = {}): Promise<WasmTransport> {
  return WasmTransport.open(options);
}

export class WasmTransport implements PoweredTpm {
  readonly #hooks: HostHooks;
  readonly #state: TpmStateFile | undefined;
  readonly #startup: Startup;
  readonly #worker: boolean;
  #tpm: WasmTpm | undefined;
  #savedGeneration = 0;
  #locality = 0;
  #physicalPresence = false;
  #closed: Promise<void> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: WasmTpmOptions, state: TpmStateFile | undefined) {
    this.#hooks = {
      ...(options.entropy ? { entropy: options.entropy } : {}),
      ...(options.now ? { now: options.now } : {}),
    };
    this.#state = state;
    this.#startup = options.startup === false ? 'none' : 'clear';
    this.#worker = options.worker !== false && !options.entropy;
  }

  static async open(options: WasmTpmOptions): Promise<WasmTransport> {
    const state =
      options.stateFile === undefined ? undefined : await TpmStateFile.open(options.stateFile, options.key);
    const transport = new WasmTransport(options, state);
    try {
      await transport.#powerOn(transport.#startup);
      return transport;
    } catch (error) {
      await state?.close();
      throw error;
    }
  }

  get powered(): boolean {
    return this.#tpm?.powered ?? false;
  }

  /**
   * Runs one command after those sent before. Resolves when what it changed in NV memory is on disk; when that fails
   * (TransportError `io`), the change is tried again before the next command.
   */
  async send(bytes: Uint8Array): Promise<Uint8Array> {
    const command = commandBytes(bytes);
    const at = { locality: this.#locality, physicalPresence: this.#physicalPresence };
    return this.#inTurn(async (tpm) => {
      const response =
        this.#worker && takesLong(command)
          ? await executeInWorker(tpm, command, at)
          : tpm.execute(command, at);
      if (this.#unsaved(tpm)) await this.#save(tpm);
      return response;
    });
  }

  powerOn(): Promise<void> {
    return this.#queue(() => this.#powerOn(this.#startup));
  }

  powerOff(): Promise<void> {
    return this.#queue(async () => this.#powerOff());
  }

  /** Takes the power away and gives it back. A TPM in failure mode starts from its saved NV memory again. */
  powerCycle(startup: Startup = this.#startup): Promise<void> {
    return this.#queue(async () => {
      this.#powerOff();
      await this.#powerOn(startup);
    });
  }

  setLocality(locality: number): void {
    if (!Number.isInteger(locality) || locality < 0 || locality > 4)
      throw new TypeError(`a locality is 0 to 4, not ${locality}`);
    this.#locality = locality;
  }

  setPhysicalPresence(asserted: boolean): void {
    this.#physicalPresence = asserted;
  }

  hashStart(): Promise<void> {
    return this.#inTurn(async (tpm) => tpm.hashStart());
  }

  hashData(data: Uint8Array): Promise<void> {
    return this.#inTurn(async (tpm) => tpm.hashData(data));
  }

  hashEnd(): Promise<void> {
    return this.#inTurn(async (tpm) => tpm.hashEnd());
  }

  /** TPM2_Shutdown(CLEAR), the last save, and the lock of the state file is free. */
  close(): Promise<void> {
    this.#closed ??= this.#queue(async () => {
      try {
        const tpm = this.#tpm;
        if (tpm?.powered) {
          tpm.execute(shutdownClear);
          if (this.#unsaved(tpm)) await this.#save(tpm);
          tpm.powerOff();
        }
      } finally {
        this.#tpm = undefined;
        await this.#state?.close();
      }
    });
    return this.#closed;
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new TransportError('closed', 'this TPM is closed'));
    const result = this.#last.then(work).catch((error: unknown) => {
      throw asTransportError(error);
    });
    this.#last = result.catch(() => {});
    return result;
  }

  #inTurn<T>(work: (tpm: WasmTpm) => Promise<T>): Promise<T> {
    return this.#queue(async () => {
      const tpm = this.#tpm;
      if (!tpm) throw new TransportError('io', 'the TPM has no power');
      if (this.#unsaved(tpm)) await this.#save(tpm);
      return work(tpm);
    });
  }

  async #powerOn(startup: Startup): Promise<void> {
    if (this.powered) return;
    const tpm = this.#tpm ?? (await this.#makeTpm());
    this.#tpm = tpm;
    tpm.powerOn();
    if (startup !== 'none') tpm.execute(startupCommand[startup]);
    if (this.#unsaved(tpm)) await this.#save(tpm);
  }

  #powerOff(): void {
    const tpm = this.#tpm;
    if (!tpm) return;
    // A failing or dead TPM may have left its NV memory half written: the file has the last whole one.
    if (this.#state && (!tpm.powered || tpm.failed)) this.#tpm = undefined;
    else tpm.powerOff();
  }

  async #makeTpm(): Promise<WasmTpm> {
    const tpm = new WasmTpm(this.#hooks);
    const nv = await this.#state?.load(tpm.layout);
    if (nv) {
      tpm.importNv(nv);
      nv.fill(0);
    } else tpm.manufacture();
    this.#savedGeneration = nv ? tpm.nvGeneration : -1;
    return tpm;
  }

  #unsaved(tpm: WasmTpm): boolean {
    return this.#state !== undefined && tpm.nvGeneration !== this.#savedGeneration && !tpm.failed;
  }

  async #save(tpm: WasmTpm): Promise<void> {
    const generation = tpm.nvGeneration;
    const nv = tpm.exportNv();
    try {
      await this.#state?.save(nv, tpm.layout);
    } finally {
      nv.fill(0);
    }
    this.#savedGeneration = generation;
  }
}

function asTransportError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof TransportError || error instanceof TypeError)
    return error;
  return new TransportError('io', error.message, { cause: error });
}
