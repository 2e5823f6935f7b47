// Slots of a machine: our table says what we know and want, the programs of its platform do it.
import type { Slots } from '../../machines/base-os.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import type { Why } from '../../machines/waiting.ts';
import type { Platform } from '../platform.ts';
import { Refusal } from '../refusal.ts';
import type { OsSlots } from './os-slots.ts';
import type { SlotStore } from './slots.ts';

const labels = ['IMGA', 'IMGB'] as const;
type Label = (typeof labels)[number];

export class PlatformSlots implements OsSlots {
  readonly #slots: SlotStore;
  readonly #platform: Platform | null;

  /** Without a platform the machine has one slot, and stays with the image that it has. */
  constructor(slots: SlotStore, platform: Platform | null) {
    this.#slots = slots;
    this.#platform = platform;
  }

  /** Which slot the boot loader took, and what that says of an image on trial. Throws Refusal baseos.no-slot, platform.*. */
  async begin(version: string, bootId: string, now: number): Promise<Label> {
    const label = await this.#current();
    this.#slots.noteBoot(label, version, bootId, now);
    return label;
  }

  read(): Slots {
    return this.#slots.read();
  }

  async write(file: string, { version }: BaseOsConfig): Promise<void> {
    const platform = this.#required();
    const label = this.#slots.beginReplace();
    await platform.run('slot-write', label, file, version);
    this.#slots.written(version);
  }

  /** The table first: a boot loader that tries what we know nothing of would run it for good. */
  async stage({ version, testWindow, retryCounter }: BaseOsConfig): Promise<Slots> {
    const platform = this.#required();
    const slots = this.#slots.stage(version, testWindow, retryCounter);
    await platform.run('slot-activate', slots.other.label);
    return slots;
  }

  async selfTest(): Promise<void> {
    if (!this.#platform?.has('self-test')) return;
    try {
      await this.#platform.run('self-test');
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw new Refusal('baseos.self-test', `the new image fails its own test: ${error.message}`);
    }
  }

  /** The boot loader first: cut short in between, the image boots again and is committed then. */
  async commit(): Promise<Slots> {
    const platform = this.#required();
    await platform.run('slot-commit', this.#slots.read().current.label);
    return this.#slots.commit();
  }

  abandon(why: Why): Slots {
    return this.#slots.abandon(why);
  }

  /** Resolves when the machine is about to go down. Throws Refusal platform.*. */
  async reboot(reason: string): Promise<void> {
    await this.#required().run('reboot', reason);
  }

  async #current(): Promise<Label> {
    if (!this.#platform) return 'IMGA';
    const said = await this.#platform.run('slot-current');
    const label = labels.find((known) => known === said);
    if (label) return label;
    throw new Refusal('platform.failed', `slot-current says ${said || 'nothing'}, and knows IMGA and IMGB`);
  }

  #required(): Platform {
    if (this.#platform) return this.#platform;
    throw new Refusal(
      'platform.missing',
      'nobody said how this machine changes slots and reboots: run eve with --platform DIR',
    );
  }
}
