// What is broken at the moment, put where it breaks: the world follows the set of faults that are on.
import type { PoweredTpm } from '../../device/tpm/powered.ts';
import { TransportError } from '../../device/tpm/transport.ts';
import type { FaultyTpm } from '../kit/tpm-faults.ts';
import type { World, WorldDevice } from '../kit/world.ts';
import { chance } from './dice.ts';
import type { Disk } from './disk.ts';
import type { Mail } from './mail.ts';
import type { Fault, FaultKind } from './plan.ts';
import type { FaultyStore } from './store.ts';

/** As a service manager does it that starts EVC anew. */
const restartPause = 5000;

export interface Parts {
  world: World;
  mail: Mail;
  store: FaultyStore;
  disk: Disk;
  tpm: FaultyTpm;
  seed: number;
}

export class Hazards {
  readonly #parts: Parts;
  readonly #on = new Set<Fault>();
  #device: WorldDevice | null = null;
  /** What the sequence wants of the link. */
  #linkWanted = true;
  #evcUp = true;
  #brokerUp = true;
  #turn: Promise<void> = Promise.resolve();
  #commands = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
    parts.tpm.fault = (command, send) => this.#command(command, send);
  }

  /** Whether nothing is wrong, and EVC there. */
  get calm(): boolean {
    return this.#on.size === 0 && this.#evcUp && this.#brokerUp;
  }

  /** Whether EVC can be asked anything. */
  get evcUp(): boolean {
    return this.#evcUp;
  }

  watch(device: WorldDevice): void {
    this.#device = device;
    const { net } = device;
    const up = () => this.#linkWanted && !this.#any('cut') && this.#brokerUp;
    Object.defineProperty(net, 'up', {
      get: up,
      set: (wanted: boolean) => {
        this.#linkWanted = wanted;
      },
    });
  }

  begin(fault: Fault): void {
    this.#on.add(fault);
    this.#parts.mail.begin(fault);
    const { kind } = fault;
    if (kind === 'cut') this.#device?.cutLink();
    if (kind === 'device killed') void this.#device?.node.cutPower('killed');
    this.#apply();
  }

  end(fault: Fault): void {
    this.#on.delete(fault);
    this.#parts.mail.end(fault);
    const { kind } = fault;
    if (kind === 'device killed' && !this.#any('device killed'))
      void this.#device?.node.reboot('the power is back');
    // What it measured is gone with its power: somebody has to.
    if (kind === 'TPM reset') void this.#device?.node.reboot('the TPM was reset');
    this.#apply();
  }

  /** Resolves when the world stands as the faults have it. */
  settled(): Promise<void> {
    return this.#turn;
  }

  #any(kind: FaultKind): boolean {
    return [...this.#on].some((fault) => fault.kind === kind);
  }

  /** How much of a kind there is: the sum, or the most. */
  #much(kind: FaultKind, how: 'sum' | 'most' = 'most'): number {
    const amounts = [...this.#on].filter((fault) => fault.kind === kind).map(({ ms }) => ms);
    return how === 'most' ? Math.max(0, ...amounts) : amounts.reduce((sum, ms) => sum + ms, 0);
  }

  #apply(): void {
    const { mail, store, disk } = this.#parts;
    mail.deviceClock.offset = this.#much('device clock', 'sum') + this.#much('certificate expired', 'sum');
    mail.evcClock.offset = this.#much('EVC clock', 'sum');
    disk.full = this.#any('device disk full');
    disk.slow = this.#much('device disk slow');
    store.full = this.#any('store full');
    store.away = this.#any('store gone');
    store.slow = this.#much('store slow');
    if (this.#any('EVC killed')) store.dead = true;
    this.#turn = this.#turn.then(() => this.#evcAndBroker());
  }

  async #evcAndBroker(): Promise<void> {
    const { world, store, mail } = this.#parts;
    const wantEvc = () => !this.#any('EVC killed');
    const wantBroker = () => wantEvc() && !this.#any('broker restarted');
    if (this.#brokerUp && !wantBroker()) {
      this.#brokerUp = false;
      mail.brokerUp = false;
      await world.broker.close();
    }
    if (this.#evcUp && !wantEvc()) {
      this.#evcUp = false;
      await world.evc.close();
    }
    while (!this.#evcUp && wantEvc()) {
      store.dead = false;
      try {
        await world.startEvc();
        this.#evcUp = true;
        if (wantBroker()) {
          this.#brokerUp = true;
          mail.brokerUp = true;
        } else await world.broker.close();
      } catch {
        // Its store does not answer.
        await world.broker.close();
        await world.clock.sleepUntil(world.clock.now() + restartPause);
      }
    }
    if (!this.#brokerUp && wantBroker()) {
      await world.startBroker();
      this.#brokerUp = true;
      mail.brokerUp = true;
    }
  }

  async #command(
    command: Uint8Array,
    send: (command: Uint8Array) => Promise<Uint8Array>,
  ): Promise<Uint8Array> {
    const { tpm, seed } = this.#parts;
    const nth = this.#commands++;
    for (const fault of this.#on) {
      if (fault.kind === 'TPM reset' && !this.#reset.has(fault)) {
        this.#reset.add(fault);
        await loseCharge(tpm.chip);
        throw new TransportError('io', 'the TPM lost its power');
      }
      if (fault.kind !== 'TPM silent' || chance(seed, 'silent', nth) >= fault.share) continue;
      // It may have heard the command.
      if (chance(seed, 'heard', nth) < 0.5) await send(command);
      throw new TransportError('timeout', 'no response');
    }
    return send(command);
  }

  readonly #reset = new Set<Fault>();
}

async function loseCharge(chip: PoweredTpm): Promise<void> {
  await chip.powerOff();
  await chip.powerOn();
}
