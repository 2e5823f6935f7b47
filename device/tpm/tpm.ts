// A TPM at work: one command sequence at a time over one transport, and the commands that need no key.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Fields } from '../../formats/tpm2/codec.ts';
import type { Command, Handles } from '../../formats/tpm2/commands.ts';
import * as commands from '../../formats/tpm2/commands.ts';
import { TPM_CAP, TPM_HT, TPM_PT, TPM_SU } from '../../formats/tpm2/constants.ts';
import { concat, digestSize, type HashName, hashId, hashName } from '../../formats/tpm2/hash.ts';
import { pcrSelection, selectedPcrs, selectedPcrsOf } from '../../formats/tpm2/pcrs.ts';
import { TPM_RC } from '../../formats/tpm2/response-codes.ts';
import type { TPMS_CAPABILITY_DATA, TPMS_TIME_INFO, TPMT_HA } from '../../formats/tpm2/structures.ts';
import type { SessionUse } from './authorization.ts';
import { type Arguments, execute, type Link, type Result, TpmError } from './execute.ts';
import { type Transport, TransportError } from './transport.ts';

export interface TpmOptions {
  /** Opens a fresh connection when the old one may hold objects that nobody knows (after a time-out). */
  reopen?: () => Promise<Transport>;
  /** Nobody else uses this TPM and no resource manager is in between: unknown objects and sessions are flushed. */
  sole?: boolean;
  /** Runs each sequence in a turn among the other processes that use this TPM. */
  turn?: <T>(work: () => Promise<T>) => Promise<T>;
  /** Waits between attempts, in ms. For tests; default: real time. */
  sleep?: (ms: number) => Promise<void>;
}

/** What a TPM says about itself. */
export interface Capabilities {
  /** TPM_PT_MANUFACTURER as text, such as `IFX`. */
  manufacturer: string;
  /** The four vendor strings, joined. */
  vendor: string;
  firmwareVersion: bigint;
  /** Revision of the specification, times 100: 138, 159, … */
  revision: number;
  /** Largest part of an NV index that one command reads or writes, in bytes. */
  nvBufferMax: number;
  /** PCRs of each bank that is allocated; banks with a hash unknown here are left out. */
  banks: ReadonlyMap<HashName, readonly number[]>;
}

// Making keys may take minutes on a slow TPM, anything else not even seconds.
const slowCommands: ReadonlySet<string> = new Set(['CreatePrimary', 'Create', 'SelfTest']);
const timeouts = { slow: 180_000, other: 30_000 };

const outOfMemory: ReadonlySet<number> = new Set([
  TPM_RC.OBJECT_MEMORY,
  TPM_RC.SESSION_MEMORY,
  TPM_RC.MEMORY,
  TPM_RC.SESSION_HANDLES,
  TPM_RC.OBJECT_HANDLES,
]);

const capabilityPage = 64;
// A TPM that always has more data must not keep us for ever.
const capabilityPages = 64;

type CapabilityPage<C> = Extract<TPMS_CAPABILITY_DATA, { capability: C }>['data'];

interface Turn {
  tpm: Tpm;
  active: boolean;
  /** Work on one TPM may need another one. */
  outer: Turn | undefined;
}

/** One for all: Node follows each of them through every promise, and never forgets one. */
const turns = new AsyncLocalStorage<Turn>();

function hasTurn(tpm: Tpm, turn: Turn | undefined): boolean {
  for (let at = turn; at; at = at.outer) if (at.tpm === tpm && at.active) return true;
  return false;
}

export class Tpm {
  #transport: Transport;
  readonly #options: TpmOptions;
  /** Ends when the last sequence ends, and when the last command ends. */
  #sequences: Promise<unknown> = Promise.resolve();
  #commands: Promise<unknown> = Promise.resolve();
  #lost: string | undefined;
  #nvBufferMax: number | undefined;

  constructor(transport: Transport, options: TpmOptions = {}) {
    this.#transport = transport;
    this.#options = options;
  }

  /** Why the connection has to be reopened before the next sequence, undefined if it need not be. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /**
   * Runs a sequence of commands with no other sequence in between: a TPM has three transient slots in all. Within it,
   * further calls of `exclusive` join in. Do not wait for a network in there.
   * @throws TransportError `closed` if the connection must be reopened and nobody said how.
   */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const outer = turns.getStore();
    if (hasTurn(this, outer)) return work();
    const turn: Turn = { tpm: this, active: true, outer };
    const sequence = () =>
      turns.run(turn, async () => {
        try {
          if (this.#lost !== undefined) await this.#recover(this.#lost);
          return await work();
        } finally {
          turn.active = false;
        }
      });
    const among = this.#options.turn;
    const result = this.#sequences.then(() => (among ? among(sequence) : sequence()));
    this.#sequences = result.catch(() => {});
    return result;
  }

  /** Executes one command; see `execute` for its sessions and errors. */
  execute<H extends Handles, P extends Fields, RH extends string, R extends Fields>(
    command: Command<H, P, RH, R>,
    args: Arguments<H, P>,
    sessions: readonly (SessionUse | undefined)[] = [],
  ): Promise<Result<RH, R>> {
    return this.exclusive(() => {
      // Sessions roll their nonces command by command, so within a sequence, too, one waits for the other.
      const result = this.#commands.then(() => execute(this.#link(command.name), command, args, sessions));
      this.#commands = result.catch((error) => this.#ranOut(error));
      return result;
    });
  }

  /** A sequence gives back what it takes: when there is no room, something of nobody is in the way. */
  #ranOut(error: unknown): void {
    const { reopen, sole } = this.#options;
    if (error instanceof TpmError && outOfMemory.has(error.base) && (reopen || sole))
      this.#lost ??= `${error.rcName}: something was left behind`;
  }

  #link(name: string): Link {
    const timeout = slowCommands.has(name) ? timeouts.slow : timeouts.other;
    return {
      send: (bytes) => {
        if (this.#lost !== undefined && name !== 'FlushContext')
          return Promise.reject(new TransportError('closed', `reopen the TPM first: ${this.#lost}`));
        return this.#transport.send(bytes, { timeout }).catch((error) => {
          // A connection that failed may stay so, or still owe a response.
          if (this.#options.reopen) this.#lost ??= `TPM2_${name} got no response`;
          throw error;
        });
      },
      lost: (why) => {
        this.#lost ??= why;
      },
      abandon: async (handles) => {
        for (const handle of handles) await this.#flushNow(handle);
      },
      ...(this.#options.sleep ? { sleep: this.#options.sleep } : {}),
    };
  }

  async #flushNow(flushHandle: number): Promise<void> {
    try {
      await execute(this.#link('FlushContext'), commands.FlushContext, { flushHandle });
    } catch {
      this.#lost ??= 'an object or session could not be flushed';
    }
  }

  async #recover(why: string): Promise<void> {
    const { reopen, sole } = this.#options;
    if (!reopen && !sole) throw new TransportError('closed', `reopen the TPM first: ${why}`);
    if (reopen) {
      await this.#transport.close().catch(() => {});
      this.#transport = await reopen();
    }
    this.#lost = undefined;
    if (sole) await this.flushAll();
  }

  /**
   * Flushes an object or session. Never rejects: what cannot be flushed makes the connection one to be reopened, and
   * the error that led here matters more.
   */
  flush(handle: number): Promise<void> {
    return this.exclusive(() => {
      const done = this.#commands.then(() => this.#flushNow(handle));
      this.#commands = done;
      return done;
    });
  }

  /** Hands out the handle and flushes it when the work is done or has failed. */
  async flushing<T>(handle: number, work: (handle: number) => Promise<T>): Promise<T> {
    try {
      return await work(handle);
    } finally {
      await this.flush(handle);
    }
  }

  /** Flushes every transient object and every loaded session, whoever made them. */
  async flushAll(): Promise<void> {
    for (const type of [TPM_HT.TRANSIENT, TPM_HT.HMAC_SESSION])
      for (const handle of await this.handles(type)) await this.flush(handle);
  }

  /** TPM2_Startup(CLEAR). False if the firmware has done it before. */
  async startup(): Promise<boolean> {
    try {
      await this.execute(commands.Startup, { startupType: TPM_SU.CLEAR });
      return true;
    } catch (error) {
      if (error instanceof TpmError && error.base === TPM_RC.INITIALIZE) return false;
      throw error;
    }
  }

  /** TPM2_Shutdown(CLEAR): the next start is orderly, and nothing counts as a failed authorization. */
  async shutdown(): Promise<void> {
    await this.execute(commands.Shutdown, { shutdownType: TPM_SU.CLEAR });
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  /** Random bytes from the TPM, as many as asked for. Encrypted on the way if a salted session is given. */
  async random(size: number, session?: SessionUse['session']): Promise<Uint8Array> {
    if (!Number.isInteger(size) || size < 0 || size > 4096) throw new TypeError('0 to 4096 random bytes');
    const parts: Uint8Array[] = [];
    for (let left = size; left > 0; ) {
      const { randomBytes } = await this.execute(
        commands.GetRandom,
        { bytesRequested: Math.min(left, 32) },
        session ? [{ session, encrypt: true }] : [],
      );
      if (randomBytes.length === 0 || randomBytes.length > left)
        throw new TransportError('io', `TPM2_GetRandom gave ${randomBytes.length} of ${left} bytes`);
      parts.push(randomBytes);
      left -= randomBytes.length;
    }
    return concat(...parts);
  }

  async readClock(): Promise<TPMS_TIME_INFO> {
    return (await this.execute(commands.ReadClock, {})).currentTime;
  }

  /**
   * Values of PCRs, ascending. A command returns at most eight, so a change in between can be seen by halves: compare
   * with a quote where that matters.
   * @throws RangeError if the bank is not allocated, or lacks one of these registers.
   */
  async pcrRead(bank: HashName, pcrs: Iterable<number>): Promise<Map<number, Uint8Array>> {
    const wanted = selectedPcrs(pcrSelection(bank, pcrs));
    const values = new Map<number, Uint8Array>();
    while (values.size < wanted.length) {
      const missing = wanted.filter((pcr) => !values.has(pcr));
      const read = await this.execute(commands.PCR_Read, { pcrSelectionIn: [pcrSelection(bank, missing)] });
      const got = selectedPcrsOf(bank, read.pcrSelectionOut);
      if (got.length === 0)
        throw new RangeError(`this TPM has no PCR ${missing.join(', ')} in its ${bank} bank`);
      for (const [i, pcr] of got.entries()) {
        const value = read.pcrValues[i];
        if (!missing.includes(pcr) || value?.length !== digestSize(bank))
          throw new TransportError('io', `TPM2_PCR_Read gave no ${bank} value of PCR ${pcr}`);
        values.set(pcr, value);
      }
    }
    return new Map(wanted.map((pcr) => [pcr, values.get(pcr) as Uint8Array]));
  }

  /** Extends a PCR in each of the given banks. */
  async pcrExtend(pcr: number, digests: Partial<Record<HashName, Uint8Array>>): Promise<void> {
    const values = Object.entries(digests).map(
      ([bank, digest]) => ({ hashAlg: hashId(bank as HashName), digest }) as TPMT_HA,
    );
    await this.execute(commands.PCR_Extend, { pcrHandle: pcr, digests: values });
  }

  /** Handles of one type that exist now. HMAC_SESSION lists the loaded sessions of both kinds. */
  async handles(type: number): Promise<number[]> {
    const found: number[] = [];
    await this.#capability(TPM_CAP.HANDLES, (type << 24) >>> 0, (page) => {
      found.push(...page);
      return (found.at(-1) ?? 0) + 1;
    });
    return found;
  }

  /** Fixed and changing properties [TPM2 Part 2, 6.13] by number. */
  async properties(): Promise<Map<number, number>> {
    const found = new Map<number, number>();
    for (const first of [TPM_PT.FAMILY_INDICATOR, TPM_PT.PERMANENT])
      await this.#capability(TPM_CAP.TPM_PROPERTIES, first, (page) => {
        for (const { property, value } of page) found.set(property, value);
        return (page.at(-1)?.property ?? 0) + 1;
      });
    return found;
  }

  /** What it can compute: TPM_ALG_IDs and TPM_ECC_CURVEs, ascending. */
  async algorithms(): Promise<{ algorithms: number[]; curves: number[] }> {
    const algorithms: number[] = [];
    const curves: number[] = [];
    await this.#capability(TPM_CAP.ALGS, 0, (page) => {
      algorithms.push(...page.map(({ alg }) => alg));
      return (algorithms.at(-1) ?? 0) + 1;
    });
    await this.#capability(TPM_CAP.ECC_CURVES, 0, (page) => {
      curves.push(...page);
      return (curves.at(-1) ?? 0) + 1;
    });
    return { algorithms, curves };
  }

  /** Asks page by page; `take` returns the property to go on with. */
  async #capability<C extends TPMS_CAPABILITY_DATA['capability']>(
    capability: C,
    first: number,
    take: (page: CapabilityPage<C>) => number,
  ): Promise<void> {
    for (let property = first, page = 0; page < capabilityPages; page++) {
      const { moreData, capabilityData } = await this.execute(commands.GetCapability, {
        capability,
        property,
        propertyCount: capabilityPage,
      });
      if (capabilityData.capability !== capability)
        throw new TransportError('io', 'TPM2_GetCapability answered another question');
      const next = take(capabilityData.data as CapabilityPage<C>);
      if (!moreData || next <= property) return;
      property = next;
    }
  }

  async capabilities(): Promise<Capabilities> {
    const properties = await this.properties();
    const of = (property: number) => properties.get(property) ?? 0;
    const banks = new Map<HashName, readonly number[]>();
    await this.#capability(TPM_CAP.PCRS, 0, (page) => {
      for (const selection of page) {
        const bank = hashName(selection.hash);
        const pcrs = selectedPcrs(selection);
        if (bank && pcrs.length > 0) banks.set(bank, pcrs);
      }
      return 0;
    });
    return {
      manufacturer: text(of(TPM_PT.MANUFACTURER)),
      vendor: [1, 2, 3, 4].map((n) => text(of(TPM_PT.VENDOR_STRING_1 + n - 1))).join(''),
      firmwareVersion: (BigInt(of(TPM_PT.FIRMWARE_VERSION_1)) << 32n) | BigInt(of(TPM_PT.FIRMWARE_VERSION_2)),
      revision: of(TPM_PT.REVISION),
      nvBufferMax: of(TPM_PT.NV_BUFFER_MAX),
      banks,
    };
  }

  /** TPM_PT_NV_BUFFER_MAX, asked for once. */
  async nvBufferMax(): Promise<number> {
    this.#nvBufferMax ??= (await this.properties()).get(TPM_PT.NV_BUFFER_MAX) || 512;
    return this.#nvBufferMax;
  }
}

/** Four characters in an integer, padded with zeros. */
function text(value: number): string {
  return [24, 16, 8, 0]
    .map((shift) => (value >>> shift) & 0xff)
    .filter((code) => code !== 0)
    .map((code) => String.fromCharCode(code))
    .join('')
    .trim();
}
