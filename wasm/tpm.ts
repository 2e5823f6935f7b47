// One TPM: power, commands, locality, NV memory. Everything runs in the caller's thread and returns when it is done.
import { createHash, randomFillSync } from 'node:crypto';
import { instantiate, type TpmExports } from './load.ts';

/** The largest command and response, in bytes (TPM_PT_MAX_COMMAND_SIZE, TPM_PT_MAX_RESPONSE_SIZE). */
export const maxCommandSize = 4096;
/** Size of the NV memory in bytes. */
export const nvSize = 65536;

export interface HostHooks {
  /** Fills the array with random bytes; every key of the TPM comes from it. Default: the system's. */
  entropy?(bytes: Uint8Array): void;
  /** Milliseconds since any epoch, for the TPM's clock. Default: performance.now(). */
  now?(): number;
}

/** What the platform says about a command. */
export interface CommandOptions {
  /** 0 to 4; the default is 0. */
  locality?: number;
  /** Whether somebody asserts physical presence; the default is false. */
  physicalPresence?: boolean;
}

/**
 * - `off`: the TPM has no power, or no NV memory yet.
 * - `away`: a worker has its memory at the moment.
 * - `dead`: the module trapped or a hook threw, so nothing about its memory is certain. Make a new instance from the
 *   last NV image.
 */
export class WasmTpmError extends Error {
  readonly code: 'off' | 'away' | 'dead';
  constructor(code: WasmTpmError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WasmTpmError';
    this.code = code;
  }
}

/** Thrown by the `fail` import to leave the module's stack; the TPM is then in failure mode (Part 1, Failure Mode). */
class FailureMode extends Error {}

// TPM_ST_NO_SESSIONS, size, TPM_RC_COMMAND_SIZE.
const commandSizeResponse = Uint8Array.of(0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x42);

export class WasmTpm {
  readonly #tpm: TpmExports;
  readonly #now: () => number;
  #state: 'empty' | 'off' | 'on' | 'away' | 'dead' = 'empty';
  #death: unknown;
  #lastFailure: string | undefined;

  /** An instance without NV memory: `manufacture` or `importNv` comes next, then `powerOn`. */
  constructor(hooks: HostHooks = {}) {
    const entropy = hooks.entropy ?? randomFillSync;
    this.#now = hooks.now ?? (() => performance.now());
    this.#tpm = instantiate({
      entropy: (pointer, size) => {
        entropy(this.#bytes(pointer, size));
      },
      blinding: (pointer, size) => {
        randomFillSync(this.#bytes(pointer, size));
      },
      now: this.#now,
      fail: (functionName, line, code) => {
        throw new FailureMode(`${this.#text(functionName)} line ${line}, failure ${code}`);
      },
    });
  }

  /** Whether it has power. */
  get powered(): boolean {
    return this.#state === 'on' || this.#state === 'away';
  }

  /** Whether it is in failure mode: it answers TPM_RC_FAILURE until the next power cycle. */
  get failed(): boolean {
    return this.#state !== 'dead' && this.#tpm.tpm_in_failure_mode() !== 0;
  }

  /** Function, line and failure code of the last entry into failure mode. */
  get lastFailure(): string | undefined {
    return this.#lastFailure;
  }

  /** Grows with each change of the NV memory. */
  get nvGeneration(): number {
    return this.#tpm.tpm_nv_generation() >>> 0;
  }

  /** The host's time as this TPM sees it, in ms. */
  now(): number {
    return this.#now();
  }

  /** SHA-256 of the numbers that decide whether this build can read an NV memory. */
  get layout(): Uint8Array {
    const hash = createHash('sha256');
    const word = Buffer.alloc(4);
    for (let index = 0; ; index++) {
      const number = this.#tpm.tpm_layout(index);
      if (number === 0) return hash.digest();
      word.writeUInt32BE(number >>> 0);
      hash.update(word);
    }
  }

  /** Makes a new TPM of it: new primary seeds, no objects, no NV indices. It is off afterwards. */
  manufacture(): void {
    this.#alive();
    const result = this.#guard(() => this.#tpm.tpm_manufacture());
    if (result !== 0) throw this.#die(new Error(this.#lastFailure ?? `TPM_Manufacture returned ${result}`));
    this.#state = 'off';
  }

  /** Takes over an NV memory that a TPM of the same `layout` exported. It is off afterwards. */
  importNv(nv: Uint8Array): void {
    this.#alive();
    if (nv.length !== nvSize) throw new TypeError(`an NV memory has ${nvSize} bytes, not ${nv.length}`);
    this.#bytes(this.#tpm.tpm_nv(), nvSize).set(nv);
    this.#tpm.tpm_adopt_nv();
    this.#state = 'off';
  }

  /** A copy of the NV memory: seeds, persistent objects and NV indices, none of it encrypted. */
  exportNv(): Uint8Array {
    this.#alive();
    if (this.#state === 'empty') throw new WasmTpmError('off', 'this TPM has no NV memory yet');
    return this.#bytes(this.#tpm.tpm_nv(), nvSize).slice();
  }

  /** _TPM_Init: all that is not in NV memory is gone, and the TPM waits for TPM2_Startup. Also when it was on. */
  powerOn(): void {
    this.#alive();
    if (this.#state === 'empty')
      throw new WasmTpmError('off', 'this TPM has no NV memory: manufacture it, or import one');
    const result = this.#guard(() => this.#tpm.tpm_power_on());
    if (result === 1) throw this.#die(new Error('the TPM does not know that it was manufactured'));
    // In failure mode it still answers TPM2_GetTestResult and TPM2_GetCapability, so it counts as on.
    this.#state = 'on';
  }

  /** Power loss. Without TPM2_Shutdown before it the next TPM2_Startup finds an unorderly shutdown. */
  powerOff(): void {
    this.#alive();
    if (this.#state === 'on') this.#state = 'off';
  }

  /**
   * Runs one command and returns its response, TPM_RC and all. A TPM that fails answers TPM_RC_FAILURE.
   * Throws WasmTpmError only.
   */
  execute(command: Uint8Array, options: CommandOptions = {}): Uint8Array {
    this.#ready();
    if (command.length > maxCommandSize) return commandSizeResponse.slice();
    const locality = options.locality ?? 0;
    const presence = options.physicalPresence ? 1 : 0;
    const run = () => {
      this.#bytes(this.#tpm.tpm_command(), command.length).set(command);
      return this.#tpm.tpm_execute(command.length, locality, presence);
    };
    // The second run builds the response of a TPM that has just entered failure mode.
    const size = this.#guard(run) ?? this.#guard(run);
    if (size === undefined) throw this.#die(new Error('the TPM fails in failure mode'));
    return this.#bytes(this.#tpm.tpm_response(), size).slice();
  }

  /** _TPM_Hash_Start: opens the D-RTM event sequence and resets PCR 17 to 22 (Part 1, Dynamic Root of Trust Measurement). */
  hashStart(): void {
    this.#ready();
    this.#guard(() => this.#tpm.tpm_hash_start());
  }

  /** _TPM_Hash_Data, of any size. */
  hashData(data: Uint8Array): void {
    this.#ready();
    for (let offset = 0; offset < data.length; offset += maxCommandSize) {
      const part = data.subarray(offset, offset + maxCommandSize);
      this.#bytes(this.#tpm.tpm_command(), part.length).set(part);
      this.#guard(() => this.#tpm.tpm_hash_data(part.length));
    }
  }

  /** _TPM_Hash_End: extends PCR 17 with the digest of what came since `hashStart`. */
  hashEnd(): void {
    this.#ready();
    this.#guard(() => this.#tpm.tpm_hash_end());
  }

  /** A copy of its whole memory, for a worker to go on with; until `comeBack` this instance refuses commands. */
  goAway(): ArrayBuffer {
    this.#ready();
    this.#state = 'away';
    return this.#tpm.memory.buffer.slice(0);
  }

  /** Takes over the memory another instance of the same module left, powered and between two commands. */
  comeBack(memory: ArrayBuffer): void {
    this.#takeMemory(memory);
    this.#state = 'on';
  }

  /** Ends this instance for a reason that lies outside it. */
  die(cause: unknown): WasmTpmError {
    return this.#die(cause);
  }

  #takeMemory(memory: ArrayBuffer): void {
    const missing = memory.byteLength - this.#tpm.memory.buffer.byteLength;
    if (missing > 0) this.#tpm.memory.grow(missing / 65536);
    new Uint8Array(this.#tpm.memory.buffer).set(new Uint8Array(memory));
  }

  // Views do not outlive a growing memory, so each use makes its own.
  #bytes(pointer: number, size: number): Uint8Array {
    return new Uint8Array(this.#tpm.memory.buffer, pointer, size);
  }

  #text(pointer: number): string {
    const memory = new Uint8Array(this.#tpm.memory.buffer);
    return Buffer.from(memory.subarray(pointer, memory.indexOf(0, pointer))).toString('latin1');
  }

  /** Runs an export. `undefined`: the TPM entered failure mode. Any other exception ends the instance. */
  #guard<T>(run: () => T): T | undefined {
    const stackPointer = this.#tpm.__stack_pointer.value;
    try {
      return run();
    } catch (error) {
      if (!(error instanceof FailureMode)) throw this.#die(error);
      this.#tpm.__stack_pointer.value = stackPointer;
      this.#lastFailure = error.message;
      return undefined;
    }
  }

  #die(cause: unknown): WasmTpmError {
    this.#state = 'dead';
    this.#death = cause;
    return this.#deadError();
  }

  #deadError(): WasmTpmError {
    const why = this.#death instanceof Error ? this.#death.message : String(this.#death);
    return new WasmTpmError(
      'dead',
      `the TPM instance is unusable (${why}); start again from its last NV image`,
      {
        cause: this.#death,
      },
    );
  }

  #alive(): void {
    if (this.#state === 'dead') throw this.#deadError();
    if (this.#state === 'away') throw new WasmTpmError('away', 'a worker runs a command of this TPM');
  }

  #ready(): void {
    this.#alive();
    if (this.#state !== 'on') throw new WasmTpmError('off', 'the TPM has no power');
  }
}
