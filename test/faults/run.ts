// One seed: a world, a sequence in it, and what goes wrong; then the world is left alone, and has to heal.
import { createHash } from 'node:crypto';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import { seededEntropy } from '../../wasm/seeded.ts';
import {
  accounts,
  atHome,
  endsWell,
  entrust,
  type Stage,
  sequences,
  stillThere,
} from '../crash/sequences.ts';
import { describeWorld } from '../kit/describe.ts';
import { FaultyTpm } from '../kit/tpm-faults.ts';
import { World, type WorldDevice } from '../kit/world.ts';
import { Disk } from './disk.ts';
import { Hazards } from './hazards.ts';
import { Mail } from './mail.ts';
import { drawPlan, type Fault, inWords, type Plan } from './plan.ts';
import { keptPromises } from './promises.ts';
import { FaultyStore } from './store.ts';
import { SeededClock } from './time.ts';
import { traceOf } from './trace.ts';

const hour = 3_600_000;
/** How long a device may take to get over everything, ms. */
const patience = 1.5 * hour;
/** A place that EVC looked at by a wrong clock is looked at again with the next attestation, ms. */
const tillAttested = 24 * hour;

export interface Played {
  plan: Plan;
  /** null where every promise was kept. */
  broken: string | null;
  /** Of a run that broke a promise: lines of JSON. */
  recording: string | null;
  /** SHA-256 of what happened, and when. */
  trace: string;
  /** The same in words. */
  lines: string[];
  /** Faults that began. */
  faults: number;
  /** Between device and EVC. */
  messages: number;
  /** Simulated, ms. */
  time: number;
}

/** Never rejects for what the seed brings about. */
export async function playSeed(seed: number, { promised = keptPromises } = {}): Promise<Played> {
  const run = await Run.begin(drawPlan(seed), promised);
  return run.play();
}

class Run {
  readonly #plan: Plan;
  readonly #world: World;
  readonly #mail: Mail;
  readonly #disk: Disk;
  readonly #hazards: Hazards;
  readonly #tpm: FaultyTpm;
  readonly #clock: SeededClock;
  readonly #waiting: Set<Fault>;
  readonly #under = new Set<Promise<void>>();
  #messages = 0;
  #began = 0;
  #numbers = 0;
  #stray: unknown = null;
  #promised = keptPromises;

  static async begin(plan: Plan, promised: typeof keptPromises): Promise<Run> {
    // A minute ahead of the time outside, which a world begins with: it would be another one each time.
    const clock = new SeededClock(plan.seed, Date.now() + 60_000);
    const mail = new Mail(plan.seed, clock);
    const store = new FaultyStore(clock);
    const world = await World.start(accounts, () => store, mail);
    const entropy = seededEntropy('faults');
    const tpm = new FaultyTpm(await openWasmTpm({ startup: false, now: () => clock.now(), entropy }));
    const run = new Run(plan, world, mail, store, tpm);
    run.#promised = promised;
    return run;
  }

  private constructor(plan: Plan, world: World, mail: Mail, store: FaultyStore, tpm: FaultyTpm) {
    this.#plan = plan;
    this.#world = world;
    this.#mail = mail;
    this.#tpm = tpm;
    this.#clock = mail.clock;
    this.#disk = new Disk((ms) => this.#clock.pass(ms));
    this.#hazards = new Hazards({ world, mail, store, disk: this.#disk, tpm, seed: plan.seed });
    this.#waiting = new Set(plan.faults);
  }

  async play(): Promise<Played> {
    const world = this.#world;
    let broken: string | null = null;
    const stray = (error: unknown) => {
      this.#stray ??= error;
    };
    process.on('unhandledRejection', stray);
    try {
      await this.#sequence();
    } catch (error) {
      broken = (error as Error).message;
    }
    const time = this.#clock.elapsed;
    try {
      await this.#end();
    } catch (error) {
      broken ??= `at its end: ${(error as Error).message}`;
    }
    process.off('unhandledRejection', stray);
    if (this.#stray) broken ??= `nobody took an error: ${(this.#stray as Error).stack}`;
    const lines = traceOf(world);
    return {
      plan: this.#plan,
      broken,
      recording: broken === null ? null : (world.recordings.texts[0] ?? ''),
      trace: createHash('sha256').update(lines.join('\n')).digest('hex'),
      lines,
      faults: this.#plan.faults.length - this.#waiting.size,
      messages: this.#messages,
      time,
    };
  }

  async #sequence(): Promise<void> {
    const world = this.#world;
    const name = this.#plan.sequence;
    const onboarding = name.startsWith('S1');
    const device = await world.addDevice({
      account: 'plant',
      tpm: this.#tpm,
      onPlugged: (plugged) => {
        atHome(world, plugged);
        this.#hazards.watch(plugged);
        this.#disk.root = `${plugged.folder}/persist`;
        if (onboarding) this.#beginFaults();
      },
    });
    const stage = this.#stage(device);
    if (!onboarding) {
      await endsWell(stage);
      entrust(stage);
      const sequence = sequences.find((one) => one.name === name);
      if (!sequence) throw new TypeError(`there is no sequence ${name}`);
      await sequence.prepare?.(stage);
      this.#beginFaults();
      await sequence.run(stage);
    }
    await stage.until('all that goes wrong is over', () => {
      for (const fault of [...this.#waiting]) if ('message' in fault.begins) this.#begin(fault);
      return this.#waiting.size === 0 && this.#under.size === 0 && this.#hazards.calm;
    });
    world.recordings.note('nothing is wrong any more');
    await endsWell(stage);
    if (!onboarding) stillThere(stage);
    // EVC looks each ten seconds for what failed.
    await this.#loop(this.#clock.sleepUntil(this.#clock.now() + 30_000));
    await this.#loop(world.evc.settled());
    await this.#loop(this.#promised(world, device));
    world.recordings.check();
  }

  #beginFaults(): void {
    this.#began = this.#clock.now();
    this.#mail.onMessage = () => {
      this.#messages++;
      for (const fault of [...this.#waiting])
        if ('message' in fault.begins && fault.begins.message === this.#messages) this.#begin(fault);
    };
    for (const fault of this.#plan.faults) {
      if (!('ms' in fault.begins)) continue;
      void this.#clock.sleepUntil(this.#began + fault.begins.ms).then(() => this.#begin(fault));
    }
  }

  #begin(fault: Fault): void {
    if (!this.#waiting.delete(fault)) return;
    const { recordings } = this.#world;
    recordings.note(`begins: ${inWords(fault)}`);
    this.#hazards.begin(fault);
    const over = this.#clock.sleepUntil(this.#clock.now() + fault.lasts).then(async () => {
      recordings.note(`ends: ${inWords(fault)}`);
      this.#hazards.end(fault);
      await this.#hazards.settled();
      this.#under.delete(over);
    });
    this.#under.add(over);
  }

  #stage(device: WorldDevice): Stage {
    const world = this.#world;
    const { sequence, faults } = this.#plan;
    const wrongPlace = sequence.startsWith('S5') && faults.some(({ kind }) => kind === 'EVC clock');
    return {
      world,
      device,
      until: (what, condition, limit = wrongPlace ? tillAttested : patience) =>
        this.#until(
          what,
          async () => {
            if (!this.#hazards.evcUp || device.node.node === null) return false;
            return condition();
          },
          limit,
        ),
      ask: async (what) => {
        let done = false;
        await this.#until(
          'EVC does what a person asks',
          async () => {
            if (done) return true;
            if (!this.#hazards.evcUp) return false;
            await what();
            done = true;
            return true;
          },
          patience,
        );
      },
      fresh: () => ++this.#numbers,
    };
  }

  /** As `world.until`; the condition may need time, and may fail while something is wrong. */
  async #until(what: string, condition: () => boolean | Promise<boolean>, limit: number): Promise<void> {
    const asked = async () => {
      const calm = this.#hazards.calm;
      try {
        return await condition();
      } catch (error) {
        if (calm && this.#hazards.calm) throw error;
        return false;
      }
    };
    const end = this.#clock.now() + limit;
    for (;;) {
      await this.#world.quiet();
      if (await this.#loop(asked())) return;
      const next = this.#clock.next();
      if (next === null || next > end) throw new Error(`never: ${what}\n${describeWorld(this.#world)}`);
      this.#clock.advanceTo(next);
    }
  }

  /** Runs until something is done, whatever time it needs. */
  async #loop<Value>(work: Promise<Value> | Value): Promise<Value> {
    let over = false;
    const end = Promise.resolve(work).finally(() => {
      over = true;
    });
    end.catch(() => undefined);
    for (;;) {
      await this.#world.quiet();
      if (over) return end;
      const next = this.#clock.next();
      if (next === null) throw new Error(`it hangs\n${describeWorld(this.#world)}`);
      this.#clock.advanceTo(next);
    }
  }

  async #end(): Promise<void> {
    this.#mail.onMessage = () => undefined;
    this.#waiting.clear();
    await this.#loop(Promise.allSettled(this.#under));
    this.#disk.end();
    await this.#loop(this.#world.stop());
  }
}
