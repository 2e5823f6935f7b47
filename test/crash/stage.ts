// A world in which a device or EVC can be killed at each of its writes, and starts again from what is on disk.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { CrashingFiles, CrashingStore, Killed, type StoreKill } from '../kit/crash.ts';
import { inWorld, type World, type WorldDevice } from '../kit/world.ts';
import {
  accounts,
  atHome,
  endsWell,
  entrust,
  type Sequence,
  type Stage,
  sequences,
  stillThere,
} from './sequences.ts';

const hour = 3_600_000;

export interface Counted {
  sequence: string;
  who: 'device' | 'EVC';
  /** Writes, each of which was the last of a life; with EVC, once as one that was not made, and once as one that was. */
  points: number;
  /** At which somebody was in fact killed: a later run may have fewer writes. */
  killed: number;
  seconds: number;
}

export interface CrashOptions {
  /** Every how many points one is tried; 1 for all. */
  step?: number;
  /** Of the first point, below `step`. */
  first?: number;
  who: Counted['who'];
  /** Sequences whose name begins with it; and one point of them alone. */
  sequence?: string;
  point?: number;
  onSequence?(counted: Counted): void;
}

/** Throws AssertionError with the point where something does not end well. */
export async function crashEverywhere(options: CrashOptions): Promise<Counted[]> {
  let store: CrashingStore | null = null;
  const counted: Counted[] = [];
  await inWorld(
    async (world) => {
      world.recordings.off = true;
      const run = new Run(world, store as unknown as CrashingStore, options);
      try {
        counted.push(...(await run.all()));
      } finally {
        run.end();
      }
    },
    accounts,
    (folder) => {
      store = new CrashingStore(folder);
      return store;
    },
  );
  return counted;
}

class Run {
  readonly #world: World;
  readonly #store: CrashingStore;
  readonly #options: CrashOptions;
  readonly #files: CrashingFiles;
  #device: WorldDevice | null = null;
  #numbers = 0;

  constructor(world: World, store: CrashingStore, options: CrashOptions) {
    this.#world = world;
    this.#store = store;
    this.#options = options;
    this.#files = new CrashingFiles();
  }

  end(): void {
    this.#files.end();
  }

  async all(): Promise<Counted[]> {
    // Once through everything, to see which calls write.
    await this.#onboard();
    for (const sequence of sequences) await this.#play(sequence, 0, 'before');
    this.#files.learned();
    this.#store.learned();
    const all = [
      { name: 'S1 onboarding', play: (at: number, when: StoreKill) => this.#onboard(at, when) },
      ...sequences.map((sequence) => ({
        name: sequence.name,
        play: (at: number, when: StoreKill) => this.#play(sequence, at, when),
      })),
    ];
    const counted: Counted[] = [];
    for (const { name, play } of all)
      if (name.startsWith(this.#options.sequence ?? '')) counted.push(await this.#count(name, play));
    return counted;
  }

  async #count(sequence: string, play: (at: number, when: StoreKill) => Promise<boolean>): Promise<Counted> {
    const { who, step = 1, first = 0, point, onSequence } = this.#options;
    const began = performance.now();
    await play(0, 'before');
    const points = who === 'device' ? this.#files.count : this.#store.count;
    let killed = 0;
    for (let at = 1 + (first % step); at <= points; at += step) {
      if (point !== undefined && at !== point) continue;
      for (const when of who === 'EVC' ? (['before', 'after'] as const) : (['before'] as const)) {
        try {
          if (await play(at, when)) killed++;
        } catch (error) {
          const where = who === 'EVC' ? `${when} the write` : 'at the write';
          throw new Error(
            `${sequence}: ${who} killed ${where} ${at} of ${points}: ${(error as Error).message}`,
            {
              cause: error,
            },
          );
        }
      }
    }
    const counted = { sequence, who, points, killed, seconds: (performance.now() - began) / 1000 };
    onSequence?.(counted);
    return counted;
  }

  /** A device out of the box; the one before it is put away. True where somebody was killed. */
  async #onboard(at = 0, when: StoreKill = 'before'): Promise<boolean> {
    const world = this.#world;
    if (this.#device) {
      this.#files.root = null;
      await this.#device.node.powerOff();
      world.devices.splice(world.devices.indexOf(this.#device), 1);
      rmSync(this.#device.folder, { recursive: true });
    }
    const killed = { any: false };
    this.#device = await world.addDevice({
      account: 'plant',
      serial: `serial-${++this.#numbers}`,
      onPlugged: (device) => {
        atHome(world, device);
        this.#watch(device);
        this.#begin(device, at, when, killed);
      },
    });
    const stage = this.#stage(this.#device);
    await endsWell(stage);
    await this.#revive();
    entrust(stage);
    return killed.any;
  }

  async #play(sequence: Sequence, at: number, when: StoreKill): Promise<boolean> {
    const device = this.#device as WorldDevice;
    const stage = this.#stage(device);
    atHome(this.#world, device);
    await sequence.prepare?.(stage);
    const killed = { any: false };
    this.#begin(device, at, when, killed);
    await sequence.run(stage);
    await endsWell(stage);
    await this.#revive();
    stillThere(stage);
    return killed.any;
  }

  #begin(device: WorldDevice, at: number, when: StoreKill, killed: { any: boolean }): void {
    const ofDevice = this.#options.who === 'device';
    this.#files.begin({
      at: ofDevice ? at : 0,
      onKill: () => {
        killed.any = true;
        void device.node.reboot('killed');
      },
    });
    this.#store.begin({
      at: ofDevice ? 0 : at,
      when,
      onKill: () => {
        killed.any = true;
      },
    });
  }

  /** Whoever died at its very end starts again, too. */
  async #revive(): Promise<void> {
    await this.#restartEvc();
    this.#files.revive();
    this.#store.revive();
  }

  async #restartEvc(): Promise<void> {
    if (!this.#store.dead) return;
    await this.#world.stopEvc();
    this.#store.revive();
    await this.#world.startEvc();
    // Nobody sleeps yet, and the world takes that for an end.
    await this.#world.quiet();
  }

  /** When the power is off the process is gone, and the disk is the next one's. */
  #watch(device: WorldDevice): void {
    this.#files.root = join(device.folder, 'persist');
    device.recorder.onEvent((event) => {
      if (event.kind === 'power' && !event.on && this.#files.dead) this.#files.revive();
    });
  }

  #stage(device: WorldDevice): Stage {
    const world = this.#world;
    return {
      world,
      device,
      until: (what, condition, limit = 2 * hour) =>
        world.until(
          what,
          async () => {
            await this.#restartEvc();
            if (this.#files.dead || device.node.node === null) return false;
            try {
              return await condition();
            } catch (error) {
              // EVC died while it was asked.
              if (error instanceof Killed) return false;
              throw error;
            }
          },
          limit,
        ),
      ask: async (what) => {
        try {
          await what();
        } catch (error) {
          if (!(error instanceof Killed)) throw error;
          await this.#restartEvc();
          await what();
        }
      },
      fresh: () => ++this.#numbers,
    };
  }
}
