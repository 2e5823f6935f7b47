// Many devices in one process, each with its own TPM, vault, bus and charts: for demonstrations, and to see what EVC bears.
import { cpSync, linkSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../machines/clock.ts';
import { SlotStore } from './baseos/slots.ts';
import { EmulatedBoard } from './board-emulated.ts';
import type { Image } from './boot/image.ts';
import { EdgeNode, type NodeEvent } from './edge-node.ts';
import type { Dialled } from './link/uplink.ts';
import { openPersist } from './persist.ts';
import type { Folders } from './state.ts';
import { openWasmTpm } from './tpm/transports/wasm.ts';

/** Where a device is on its way, and how the way ended. */
export type Standing = 'off' | 'starting' | 'attesting' | 'trusted' | 'refused';

export interface FleetOptions {
  count: number;
  /** Each device has a folder of its own in it. */
  folder: string;
  /** /config, which all of them were installed with; nobody writes to it. */
  config: string;
  /** What they boot first. */
  image: Image;
  /** Whether the TPMs are kept with the folders. Without it a fleet ends with its process, and nothing of it is synced. */
  kept: boolean;
  clock: Clock;
  dial(member: number): Promise<Dialled>;
  onChange?(member: FleetMember): void;
}

/** One device of a fleet, as the outside sees it. */
export class FleetMember {
  readonly index: number;
  readonly folders: Folders;
  standing: Standing = 'off';
  /** Code of the last reason for which it is not trusted; empty while there is none. */
  why = '';
  /** ms since the epoch: when it got power last, and when it was trusted or refused since then. */
  poweredAt = 0;
  settledAt = 0;
  node: EdgeNode | null = null;
  readonly #waiting = new Set<() => void>();

  constructor(index: number, { folder, config }: Pick<FleetOptions, 'folder' | 'config'>) {
    this.index = index;
    const root = join(folder, String(index).padStart(5, '0'));
    this.folders = { config, persist: join(root, 'persist'), run: join(root, 'run') };
  }

  get settled(): boolean {
    return this.standing === 'trusted' || this.standing === 'refused';
  }

  /** Resolves when it is trusted or refused. */
  async decided(): Promise<void> {
    while (!this.settled) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  change(standing: Standing, why: string, at: number): void {
    this.standing = standing;
    this.why = why;
    if (!this.settled) return;
    this.settledAt = at;
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

export class DeviceFleet {
  readonly members: readonly FleetMember[];
  readonly #options: FleetOptions;
  #stopping = false;
  #closed: Promise<void> | null = null;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.members = Array.from({ length: options.count }, (_, i) => new FleetMember(i + 1, options));
  }

  /** Gives all of them power, `atOnce` at a time: the next starts when one of them is trusted or refused. */
  async powerOn(members: readonly FleetMember[], atOnce: number): Promise<void> {
    await inTurns(members, atOnce, async (member) => {
      if (this.#stopping) return;
      const { clock } = this.#options;
      member.poweredAt = clock.now();
      this.#change(member, 'starting', '');
      member.node ??= await this.#plug(member);
      // Ended meanwhile, and nobody else knows of it.
      if (this.#stopping) return member.node.powerOff();
      await member.node.powerOn();
      await Promise.race([member.decided(), this.#stopped]);
    });
  }

  /** Cuts the power of all of them. */
  async powerCut(members: readonly FleetMember[]): Promise<void> {
    await inTurns(members, 100, async (member) => {
      await member.node?.cutPower('power cut');
      this.#change(member, 'off', '');
    });
  }

  /** Somebody with hands on the disk puts another image into the slot that boots. */
  replaceImage(member: FleetMember, image: Image): void {
    const slots = new SlotStore(openPersist(member.folders.persist, { durable: this.#options.kept }));
    linkImage(slots, image, slots.read().current.label);
  }

  /** Powers everything off, and ends whoever waits. */
  close(): Promise<void> {
    this.#stopping = true;
    this.#stop();
    this.#closed ??= inTurns(this.members, 100, async ({ node }) => node?.powerOff());
    return this.#closed;
  }

  #stop: () => void = () => {};
  readonly #stopped = new Promise<void>((resolve) => {
    this.#stop = resolve;
  });

  async #plug(member: FleetMember): Promise<EdgeNode> {
    const { kept, image, clock, dial } = this.#options;
    const { folders } = member;
    const state = openPersist(folders.persist, { durable: kept });
    const slots = new SlotStore(state);
    if (!slots.installed) {
      linkImage(slots, image, 'IMGA');
      slots.install(image.version);
    }
    const tpm = await openWasmTpm({
      startup: false,
      ...(kept ? { stateFile: join(folders.persist, 'tpm.nv') } : {}),
    });
    return new EdgeNode({
      folders,
      durable: kept,
      clock,
      board: new EmulatedBoard({ tpm, slots, config: folders.config, now: () => clock.now() }),
      dial: () => dial(member.index),
      watch: (event) => this.#saw(member, event),
    });
  }

  #saw(member: FleetMember, event: NodeEvent): void {
    if (event.kind === 'boot') this.#change(member, 'attesting', '');
    if (event.kind !== 'state' || event.component !== 'attest-task') return;
    const { error } = event.context as { error?: { code: string } | null };
    if (event.state === 'complete') {
      if (member.standing !== 'trusted') this.#change(member, 'trusted', '');
    } else if (error && isVerdict(error.code)) {
      if (member.standing !== 'refused') this.#change(member, 'refused', error.code);
    } else if (error && member.why !== error.code) this.#change(member, member.standing, error.code);
  }

  #change(member: FleetMember, standing: Standing, why: string): void {
    member.change(standing, why, this.#options.clock.now());
    this.#options.onChange?.(member);
  }
}

/** What EVC found in the evidence; anything else is a matter of the way to it, and is tried again. */
function isVerdict(code: string): boolean {
  return /^(evidence|policy|log)\./.test(code);
}

/** An image in a slot: the same files for all devices, since a slot is replaced and never written to. */
function linkImage(slots: SlotStore, { directory }: Image, label: 'IMGA' | 'IMGB'): void {
  const target = slots.directory(label);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const name of readdirSync(directory)) {
    try {
      linkSync(join(directory, name), join(target, name));
    } catch {
      // Another file system, or one without links.
      cpSync(join(directory, name), join(target, name), { recursive: true });
    }
  }
}

async function inTurns<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let item = items[next++]; item; item = items[next++]) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, lane));
}
