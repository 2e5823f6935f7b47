// What can stand between a Tpm and its transport: an ear, a hand, a broken wire.

import type { PoweredTpm } from '../../device/tpm/powered.ts';
import type { Tpm } from '../../device/tpm/tpm.ts';
import { type SendOptions, type Transport, TransportError } from '../../device/tpm/transport.ts';
import { TPM_CC } from '../../formats/tpm2/constants.ts';
import { type TpmSetup, withTpm } from './tpm.ts';

export type CommandName = keyof typeof TPM_CC;

/** The command code of a command. */
export function codeOf(command: Uint8Array): number {
  return new DataView(command.buffer, command.byteOffset).getUint32(6);
}

export function isCommand(command: Uint8Array, name: CommandName): boolean {
  return codeOf(command) === TPM_CC[name];
}

/** An error response. */
export function errorResponse(code: number): Uint8Array {
  const response = new Uint8Array(10);
  const view = new DataView(response.buffer);
  view.setUint16(0, 0x8001);
  view.setUint32(2, 10);
  view.setUint32(6, code);
  return response;
}

/** Decides what becomes of a command; `send` passes it on. */
export type Fault = (
  command: Uint8Array,
  send: (command: Uint8Array) => Promise<Uint8Array>,
) => Promise<Uint8Array>;

/** A transport whose fault can be set and taken away while it is in use. */
export class FaultyTransport implements Transport {
  fault: Fault | undefined;
  /** Everything that went over the wire since the last `forget`. */
  readonly commands: Uint8Array[] = [];
  readonly responses: Uint8Array[] = [];
  readonly #inner: Transport;

  constructor(inner: Transport) {
    this.#inner = inner;
  }

  async send(command: Uint8Array): Promise<Uint8Array> {
    this.commands.push(command.slice());
    const pass = (bytes: Uint8Array) => this.#inner.send(bytes);
    const response = this.fault ? await this.fault(command, pass) : await pass(command);
    this.responses.push(response.slice());
    return response;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  forget(): void {
    this.commands.length = 0;
    this.responses.length = 0;
  }

  /** Whether these bytes went over the wire anywhere, in either direction. */
  saw(bytes: Uint8Array): boolean {
    const wanted = Buffer.from(bytes);
    return [...this.commands, ...this.responses].some((message) => Buffer.from(message).includes(wanted));
  }

  /** How often a command was sent. */
  count(name: CommandName): number {
    return this.commands.filter((command) => isCommand(command, name)).length;
  }
}

/** The TPM of a board with something between it and the device. */
export class FaultyTpm implements PoweredTpm {
  fault: Fault | undefined;
  readonly chip: PoweredTpm;

  constructor(chip: PoweredTpm) {
    this.chip = chip;
  }

  get powered(): boolean {
    return this.chip.powered;
  }
  send(command: Uint8Array, options?: SendOptions): Promise<Uint8Array> {
    const send = (bytes: Uint8Array) => this.chip.send(bytes, options);
    return this.fault ? this.fault(command, send) : send(command);
  }
  close = () => this.chip.close();
  powerOn = () => this.chip.powerOn();
  powerOff = () => this.chip.powerOff();
  setLocality = (locality: number) => this.chip.setLocality(locality);
  setPhysicalPresence = (asserted: boolean) => this.chip.setPhysicalPresence(asserted);
  hashStart = () => this.chip.hashStart();
  hashData = (data: Uint8Array) => this.chip.hashData(data);
  hashEnd = () => this.chip.hashEnd();
}

/** The TPM runs the command, but its response is lost. */
export const responseLost: Fault = async (command, send) => {
  await send(command);
  throw new TransportError('timeout', 'no response within 1 ms');
};

/** Changes the responses to one command. */
export function changed(name: CommandName, change: (response: Uint8Array) => void): Fault {
  return async (command, send) => {
    const response = (await send(command)).slice();
    if (isCommand(command, name)) change(response);
    return response;
  };
}

/** Refuses a command `times` times before it lets it through. */
export function refusing(name: CommandName, code: number, times: number): Fault {
  let left = times;
  return async (command, send) => {
    if (isCommand(command, name) && left > 0) {
      left--;
      return errorResponse(code);
    }
    return send(command);
  };
}

/** A test on a TPM behind a faulty wire. Its pauses are written down instead of waited for. */
export function withFaults(
  test: (tpm: Tpm, wire: FaultyTransport, pauses: number[]) => Promise<void>,
  setup: TpmSetup = {},
): Promise<void> {
  let wire: FaultyTransport | undefined;
  const pauses: number[] = [];
  return withTpm((tpm) => test(tpm, wire as FaultyTransport, pauses), {
    ...setup,
    wrap: (transport) => {
      wire = new FaultyTransport(transport);
      return wire;
    },
    sleep: async (ms) => {
      pauses.push(ms);
    },
  });
}
