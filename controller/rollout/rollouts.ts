// Roll-outs: an image to many devices, share by share. All that moves them is kept, so whichever controller looks next goes on.
import { createHash, randomUUID } from 'node:crypto';
import type { Clock } from '../../machines/clock.ts';
import { type Decision, OperatorError } from '../decision.ts';
import { CatalogueError } from '../images/error.ts';
import type { Operator } from '../operator.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { Store } from '../store/store.ts';
import { type Counts, countsOf, nextOf, type Rollout, type RolloutDevice } from './plan.ts';

export interface RolloutsOptions {
  store: Store;
  clock: Clock;
  runner: RecordRunner;
  operator: Operator;
}

export interface RolloutWish
  extends Pick<Rollout, 'version' | 'stages' | 'haltAt' | 'atOnce' | 'window' | 'testWindow'> {
  devices: readonly string[];
  accounts: readonly string[] | null;
}

/** A roll-out in a list. */
export interface RolloutView extends Omit<Rollout, 'devices'> {
  counts: Counts;
}

/** With it, what one controller works at is left to it, ms. */
interface Kept extends Rollout {
  leased: number;
}

/** What a person may do to a roll-out. */
interface Turn {
  from: readonly Rollout['state'][];
  to: Rollout['state'];
  what: string;
  device(one: RolloutDevice): RolloutDevice;
}

const turns: Readonly<Record<'stop' | 'resume' | 'cancel', Turn>> = {
  stop: { from: ['running'], to: 'stopped', what: 'rollout.stopped', device: (one) => one },
  resume: {
    from: ['halted', 'stopped'],
    to: 'running',
    what: 'rollout.resumed',
    device: (one) => (one.progress === 'failed' ? { ...one, progress: 'waiting', why: '' } : one),
  },
  cancel: {
    from: ['running', 'halted', 'stopped'],
    to: 'cancelled',
    what: 'rollout.cancelled',
    device: (one) =>
      one.progress === 'waiting' ? { ...one, progress: 'skipped', why: 'rollout.not-begun' } : one,
  },
};

export const mostDevices = 20_000;
const lease = 60_000;
const mostKept = 200;

export class Rollouts {
  readonly #options: RolloutsOptions;

  constructor(options: RolloutsOptions) {
    this.#options = options;
  }

  /** Begins one; the first devices are begun with at the next look. Throws OperatorError rollout.*, device.unknown. */
  async add(wish: RolloutWish, { by, reason = '' }: Decision): Promise<RolloutView> {
    const { store, clock, operator } = this.#options;
    const { stages, devices: words, ...rest } = wish;
    if (stages.at(-1) !== 100 || stages.some((stage, i) => stage <= (stages[i - 1] ?? 0)))
      throw new OperatorError('rollout.stages', 422, 'shares are percentages that ascend to 100');
    const found = new Map<string, string>();
    for (const one of words) {
      const { device, serial } = await operator.named(one, wish.accounts);
      found.set(device, serial);
    }
    const id = randomUUID().slice(0, 8);
    // Neither the order of ids nor of age: those of one batch of boards are not first all together.
    const order = (device: string) => createHash('sha256').update(`${id} ${device}`).digest('hex');
    const devices = [...found]
      .map(([device, serial]) => ({ device, serial, rank: order(device) }))
      .sort((one, other) => (one.rank < other.rank ? -1 : 1))
      .map(({ device, serial }): RolloutDevice => ({ device, serial, progress: 'waiting', why: '' }));
    const kept: Kept = {
      ...{ id, by, reason, created: clock.now(), devices, stages, ...rest },
      ...{ stage: 0, state: 'running', why: '', leased: 0 },
    };
    await this.#forgetOld();
    await store.put('rollout', id, kept);
    await this.#audit(by, 'rollout.started', kept, reason);
    return viewOf(kept);
  }

  /** The newest first. */
  async list(accounts: readonly string[] | null = null): Promise<RolloutView[]> {
    const all = (await this.#options.store.all<Kept>('rollout')).map(({ body }) => body);
    return all
      .filter((one) => visible(one, accounts))
      .sort((one, other) => other.created - one.created)
      .map(viewOf);
  }

  /** Throws OperatorError rollout.unknown. */
  async get(id: string, accounts: readonly string[] | null = null): Promise<Rollout & { counts: Counts }> {
    const kept = await this.#options.store.get<Kept>('rollout', id);
    if (!kept || !visible(kept, accounts)) throw unknown(id);
    const { leased: _, devices, ...rollout } = kept;
    // Those that began before names were kept have none.
    const named = devices.map((one) => ({ ...one, serial: one.serial ?? '' }));
    return { ...rollout, devices: named, counts: countsOf(kept) };
  }

  /** Begins with no further device; those that were begun with go on. Throws OperatorError rollout.unknown, rollout.not-so. */
  stop(id: string, decision: Decision, accounts: readonly string[] | null = null): Promise<RolloutView> {
    return this.#turn(id, decision, accounts, turns.stop);
  }

  /** Goes on, and with the devices that failed once more. Throws OperatorError rollout.unknown, rollout.not-so. */
  resume(id: string, decision: Decision, accounts: readonly string[] | null = null): Promise<RolloutView> {
    return this.#turn(id, decision, accounts, turns.resume);
  }

  /**
   * Ends it for good: devices that wait are skipped, those that were begun with go on. Throws OperatorError rollout.unknown,
   * rollout.not-so.
   */
  cancel(id: string, decision: Decision, accounts: readonly string[] | null = null): Promise<RolloutView> {
    return this.#turn(id, decision, accounts, turns.cancel);
  }

  /** Brings each roll-out that runs to where it can be now, and follows the devices of those that do not any more. */
  async look(): Promise<void> {
    const { store, clock } = this.#options;
    for (const id of await store.ids('rollout')) {
      const now = clock.now();
      const known = await store.get<Kept>('rollout', id);
      if (!known || !moves(known) || known.leased > now) continue;
      let ours = false;
      const kept = await store.update<Kept>('rollout', id, (found) => {
        ours = found !== null && moves(found) && found.leased <= now;
        return ours ? { ...(found ?? known), leased: now + lease } : (found ?? known);
      });
      if (ours) await this.#step(kept);
    }
  }

  async #step(kept: Kept): Promise<void> {
    const { store } = this.#options;
    const devices = await Promise.all(kept.devices.map((one) => this.#seen(kept, one)));
    const { begin = [], ...next } = kept.state === 'running' ? nextOf({ ...kept, devices }) : {};
    const first = new Set<string>(begin);
    const begun = new Map<string, RolloutDevice>();
    for (const one of devices) if (first.has(one.device)) begun.set(one.device, await this.#begin(kept, one));
    // Somebody may have stopped, cancelled or resumed it meanwhile: what they changed of a device stands.
    const merged = (found: RolloutDevice, i: number) =>
      begun.get(found.device) ??
      (found.progress === kept.devices[i]?.progress ? (devices[i] ?? found) : found);
    const written = await store.update<Kept>('rollout', kept.id, (found) => ({
      ...(found ?? kept),
      devices: (found ?? kept).devices.map(merged),
      leased: 0,
      ...(found?.state === 'running' ? next : {}),
    }));
    if (kept.state === 'running' && written.state === 'halted')
      await this.#audit('evc', 'rollout.halted', written, written.why);
  }

  /** How a device that was begun with stands by now. */
  async #seen(kept: Kept, one: RolloutDevice): Promise<RolloutDevice> {
    if (one.progress !== 'assigned') return one;
    const context = (await this.#options.runner.read(one.device))?.context;
    const { upgrade, upgraded } = context ?? {};
    if (upgrade?.to === kept.version) return one;
    if (upgraded?.to !== kept.version) return { ...one, progress: 'failed', why: 'rollout.replaced' };
    return upgraded.how === 'committed'
      ? { ...one, progress: 'committed' }
      : { ...one, progress: 'failed', why: upgraded.why?.code ?? '' };
  }

  async #begin(kept: Kept, one: RolloutDevice): Promise<RolloutDevice> {
    const { runner, operator } = this.#options;
    const { device } = one;
    const skipped = (why: string): RolloutDevice => ({ ...one, progress: 'skipped', why });
    const context = (await runner.read(device))?.context;
    if (!context?.active) return skipped('device.unknown');
    // Who began it may have nothing to say about where the device is now.
    if (kept.accounts && !kept.accounts.includes(context.account?.id ?? '')) return skipped('device.unknown');
    if (context.baseline?.versions.image === kept.version) return skipped('rollout.there');
    // An earlier look began with it, and could not write so any more.
    if (context.upgrade?.to === kept.version) return { ...one, progress: 'assigned', why: '' };
    try {
      const { version, window, testWindow, by, reason } = kept;
      await operator.assignUpgrade(device, { version, window, testWindow }, { by, reason });
      return { ...one, progress: 'assigned', why: '' };
    } catch (error) {
      if (error instanceof OperatorError || error instanceof CatalogueError) return skipped(error.code);
      throw error;
    }
  }

  async #turn(
    id: string,
    { by, reason = '' }: Decision,
    accounts: readonly string[] | null,
    turn: Turn,
  ): Promise<RolloutView> {
    await this.get(id, accounts);
    const kept = await this.#options.store.update<Kept>('rollout', id, (found) => {
      if (!found) throw unknown(id);
      if (!turn.from.includes(found.state))
        throw new OperatorError('rollout.not-so', 409, `the roll-out ${id} is ${found.state}`);
      return {
        ...found,
        state: turn.to,
        why: turn.to === 'running' ? '' : reason,
        devices: found.devices.map(turn.device),
      };
    });
    await this.#audit(by, turn.what, kept, reason);
    return viewOf(kept);
  }

  /** Of those that are over, the oldest. */
  async #forgetOld(): Promise<void> {
    const over = (await this.list()).filter(({ state }) => ['done', 'stopped', 'cancelled'].includes(state));
    for (const { id } of over.slice(mostKept)) await this.#options.store.remove('rollout', id);
  }

  async #audit(by: string, what: string, kept: Kept, reason: string): Promise<void> {
    const { store, clock } = this.#options;
    const { version, stages, haltAt, state } = kept;
    const after = { version, stages, haltAt, state, counts: countsOf(kept) };
    const account = kept.accounts?.length === 1 ? (kept.accounts[0] as string) : '';
    const subject = kept.id;
    await store.audit({ at: clock.now(), by, what, subject, account, reason, before: null, after });
  }
}

function viewOf({ devices, leased: _, ...rest }: Kept): RolloutView {
  return { ...rest, counts: countsOf({ devices }) };
}

/** Whether there is anything to look after: devices to begin with, or some that are under way. */
function moves({ state, devices }: Rollout): boolean {
  return state === 'running' || devices.some(({ progress }) => progress === 'assigned');
}

/** To a token of some accounts, those that concern no other. */
function visible(rollout: Rollout, accounts: readonly string[] | null): boolean {
  return accounts === null || (rollout.accounts?.every((one) => accounts.includes(one)) ?? false);
}

function unknown(id: string): OperatorError {
  return new OperatorError('rollout.unknown', 404, `no roll-out is called ${id}`);
}
