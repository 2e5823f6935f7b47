// Two slots of the base OS on disk, with EVE's partition states, and the boot loader's choice between them.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { type Slot, type Slots, trialFactor } from '../../machines/base-os.ts';
import type { Why } from '../../machines/waiting.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';

type Label = Slot['label'];

interface Table {
  /** The slot that booted last. */
  booted: Label;
  /** Of a machine: the boot that this was noted for. */
  bootId?: string;
  slots: Record<Label, { version: string; state: Slot['state'] }>;
  trial: { until: number; window: number; retryCounter: number } | null;
  failed: Slots['failed'];
}

const file = 'slots/slots.json';

export class SlotStore {
  readonly #state: StateFolder;
  /** A boot that there was no room to note. */
  #noted: Table | null = null;

  constructor(state: StateFolder) {
    this.#state = state;
  }

  get installed(): boolean {
    return this.#noted !== null || this.#state.has(file);
  }

  directory(label: Label): string {
    return this.#state.file(`slots/${label}`);
  }

  /** The factory's image, in the first slot. */
  install(version: string): void {
    this.#save({
      booted: 'IMGA',
      slots: { IMGA: { version, state: 'active' }, IMGB: { version: '', state: 'unused' } },
      trial: null,
      failed: null,
    });
  }

  read(): Slots {
    const { booted, slots, trial, failed } = this.#load();
    const slot = (label: Label): Slot => ({ label, ...slots[label] });
    return {
      current: slot(booted),
      other: slot(otherThan(booted)),
      trial:
        trial && slots[booted].state === 'inprogress' ? { until: trial.until, window: trial.window } : null,
      failed,
    };
  }

  /**
   * The boot loader: an updated slot is tried once, a slot in progress that was not committed is given up, and else the
   * active one boots.
   */
  chooseForBoot(now: number): { label: Label; trying: boolean } {
    const table = this.#load();
    for (const label of ['IMGA', 'IMGB'] as const) {
      const slot = table.slots[label];
      if (slot.state === 'inprogress') {
        const why = {
          code: 'baseos.not-committed',
          text: 'the image was tried once and never proved itself',
        };
        table.failed ??= { version: slot.version, retryCounter: table.trial?.retryCounter ?? 0, why };
        slot.state = 'unused';
        table.trial = null;
      }
    }
    const updated = (['IMGA', 'IMGB'] as const).find((label) => table.slots[label].state === 'updating');
    if (updated) {
      table.slots[updated].state = 'inprogress';
      // Counted from here on whatever EVC answers, so that a device never hangs between two images.
      if (table.trial) table.trial.until = now + table.trial.window * trialFactor;
    }
    const label =
      updated ?? (['IMGA', 'IMGB'] as const).find((candidate) => table.slots[candidate].state === 'active');
    if (!label) throw new Refusal('baseos.no-slot', 'no slot of this device can be booted');
    table.booted = label;
    this.#save(table);
    return { label, trying: updated !== undefined };
  }

  /**
   * What the boot loader of a machine chose. An updated slot that boots is on trial; one that does not, or no longer, was given
   * up by the boot loader, and never committed.
   */
  noteBoot(label: Label, version: string, bootId: string, now: number): void {
    const unused = () => ({ version: '', state: 'unused' as const });
    const table: Table = this.installed
      ? this.#load()
      : { booted: label, slots: { IMGA: unused(), IMGB: unused() }, trial: null, failed: null };
    // The agent started anew, and not the machine.
    if (table.bootId === bootId && table.booted === label) return;
    const slot = table.slots[label];
    const other = table.slots[otherThan(label)];
    const onTrial = ['updating', 'inprogress'];
    const settled = ![slot, other].some(({ state }) => onTrial.includes(state));
    if (onTrial.includes(slot.state)) {
      slot.state = 'inprogress';
      // A boot loader tries once. It took it again, so it was told to commit, and we were not there to write that down.
      if (table.trial) table.trial.until = now + table.trial.window * trialFactor;
    } else {
      if (onTrial.includes(other.state)) {
        const why =
          other.state === 'updating'
            ? { code: 'baseos.not-booted', text: 'the boot loader did not start the image' }
            : { code: 'baseos.not-committed', text: 'the image was tried once and never proved itself' };
        table.failed = { version: other.version, retryCounter: table.trial?.retryCounter ?? 0, why };
        table.trial = null;
      }
      slot.state = 'active';
      if (other.state !== 'unused') other.state = 'unused';
    }
    slot.version = version;
    const noted = { ...table, booted: label, bootId };
    try {
      this.#save(noted);
    } catch (error) {
      // A note of what the next boot finds out again: a disk that fails must not keep the device from EVC, which may heal it.
      if (!settled) throw error;
      this.#noted = noted;
    }
  }

  /** The slot whose content is about to be replaced. Throws Refusal baseos.not-committed. */
  beginReplace(): Label {
    const table = this.#committed();
    const label = otherThan(table.booted);
    // Named last: a slot that was cut short on the way must not pass for a whole one.
    table.slots[label] = { version: '', state: 'unused' };
    this.#save(table);
    return label;
  }

  /** What the other slot holds now. Throws Refusal baseos.not-committed. */
  written(version: string): void {
    const table = this.#committed();
    table.slots[otherThan(table.booted)] = { version, state: 'unused' };
    this.#save(table);
  }

  /** An empty folder that becomes the other slot with `fill`. */
  beginWrite(): string {
    const folder = this.#state.file('slots/incoming');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /** What was written becomes the content of the slot that does not run. Throws Refusal baseos.not-committed. */
  finishWrite(version: string): void {
    const label = this.beginReplace();
    rmSync(this.directory(label), { recursive: true, force: true });
    renameSync(this.#state.file('slots/incoming'), this.directory(label));
    this.written(version);
  }

  /** The other slot is tried at the next boot, once. Throws Refusal baseos.image-missing, baseos.not-committed. */
  stage(version: string, window: number, retryCounter: number): Slots {
    const table = this.#committed();
    const slot = table.slots[otherThan(table.booted)];
    if (slot.version !== version)
      throw new Refusal('baseos.image-missing', `slot holds ${slot.version}, not ${version}`);
    slot.state = 'updating';
    table.trial = { until: 0, window, retryCounter };
    table.failed = null;
    this.#save(table);
    return this.read();
  }

  commit(): Slots {
    const table = this.#load();
    table.slots[table.booted].state = 'active';
    table.slots[otherThan(table.booted)].state = 'unused';
    table.trial = null;
    this.#save(table);
    return this.read();
  }

  abandon(why: Why): Slots {
    const table = this.#load();
    const { version, state } = table.slots[table.booted];
    if (state === 'inprogress') {
      table.slots[table.booted].state = 'unused';
      table.failed = { version, retryCounter: table.trial?.retryCounter ?? 0, why };
      table.trial = null;
      this.#save(table);
    }
    return this.read();
  }

  /** While an image is on trial the other slot is what the device falls back to: nobody touches it. */
  #committed(): Table {
    const table = this.#load();
    if (table.slots[table.booted].state === 'inprogress') {
      throw new Refusal('baseos.not-committed', 'the image that runs is still on trial');
    }
    return table;
  }

  #load(): Table {
    const table = this.#noted ? structuredClone(this.#noted) : this.#state.restore<Table>(file);
    if (!table) throw new Refusal('baseos.no-slot', 'no base OS is installed on this device');
    return table;
  }

  #save(table: Table): void {
    this.#state.checkpoint(file, table);
    this.#noted = null;
  }
}

function otherThan(label: Label): Label {
  return label === 'IMGA' ? 'IMGB' : 'IMGA';
}
