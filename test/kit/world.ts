// EVC, its broker and devices in one process, real in every part but time and the network's wires.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { create as createTar } from 'tar';
import { Broker } from '../../broker/broker.ts';
import { Evc } from '../../controller/evc.ts';
import { writeManifest } from '../../controller/images/manifest.ts';
import { measureImage } from '../../controller/images/measure.ts';
import type { DeviceView } from '../../controller/operator.ts';
import { createPki } from '../../controller/pki.ts';
import type { RunnerEvent } from '../../controller/record/runner.ts';
import { LibsqlStore } from '../../controller/store/libsql.ts';
import { openStore } from '../../controller/store/open.ts';
import type { Store } from '../../controller/store/store.ts';
import type { KnownEntry } from '../../controller/verify/entries.ts';
import { SlotStore } from '../../device/baseos/slots.ts';
import { EmulatedBoard } from '../../device/board-emulated.ts';
import { createImage, type ImageOptions, imageFiles } from '../../device/boot/image.ts';
import { referenceBoot } from '../../device/boot/reference.ts';
import { EdgeNode, type NodeEvent } from '../../device/edge-node.ts';
import { appliedConfig } from '../../device/ports/config-task.ts';
import { DeviceRecorder } from '../../device/recorder.ts';
import { Refusal } from '../../device/refusal.ts';
import { StateFolder } from '../../device/state.ts';
import type { PoweredTpm } from '../../device/tpm/powered.ts';
import { openWasmTpm } from '../../device/tpm/transports/wasm.ts';
import type { VaultChoice } from '../../device/vault/backend.ts';
import type { Account } from '../../machines/device-record.ts';
import type { Location } from '../../machines/flow.ts';
import { Between } from './between.ts';
import { describeWorld } from './describe.ts';
import { ImageServer } from './image-server.ts';
import { emptyDatabase } from './postgres.ts';
import { WorldRecordings } from './recorded.ts';
import { throughCalls } from './store-calls.ts';
import { threadsBusy } from './threads.ts';

/** Ports that do real work for a while: simulated time waits for them. */
const realWork = new Set(['fetchImage', 'verifyImage', 'writeSlot']);
/** Long enough for two of the longest pauses: a link that is not dialled yet when the first ends costs the second. */
const attestLimit = 20 * 60_000;
const longest = 7 * 24 * 3600 * 1000;

export const manufacturing: Account = {
  id: 'factory',
  kind: 'manufacturing',
  locationLock: false,
  radius: 100,
  moved: 'report',
};

export interface WorldDevice {
  node: EdgeNode;
  slots: SlotStore;
  /** Device id; known once it has logged in. */
  id: string;
  /** Everything that happened on it, in order. */
  events: NodeEvent[];
  recorder: DeviceRecorder;
  folder: string;
  location: { fix: Location | null };
  /** Whether its link to EVC works, and the image whose boot cuts it. */
  net: { up: boolean; cutAtImage?: string };
  /** Ends its connection to the broker, where it has one. */
  cutLink(): void;
  /** Called when the other slot is staged, before the reboot. */
  onStaged?(): void;
  /** Called when the board has booted, before the first component starts. */
  onBooted?(): void;
}

/** What stands between EVC and its store, and says whether EVC is gone. */
export interface StoreKeeper {
  wrap(store: Store): Store;
  readonly dead: boolean;
}

export class World {
  readonly between: Between;
  readonly folder = mkdtempSync(join(tmpdir(), 'eve-attest-'));
  readonly devices: WorldDevice[] = [];
  /** Steps of records. */
  readonly steps: RunnerEvent[] = [];
  /** What broker or EVC refused. */
  readonly refused: string[] = [];
  readonly recordings = new WorldRecordings(this);
  onStep?: (step: RunnerEvent) => void;
  evc!: Evc;
  broker!: Broker;
  #images: ImageServer | null = null;
  #progress = 0;
  #working = 0;
  #pki!: Awaited<ReturnType<typeof createPki>>;

  /** Database of this world, where the tests run on one; a file of EVC's otherwise. */
  #database: string | null = null;
  /** Questions to it that are under way. */
  #asking = 0;

  #keeper: StoreKeeper | null = null;

  constructor(between = new Between()) {
    this.between = between;
  }

  get clock(): Between['clock'] {
    return this.between.clock;
  }

  /** @param keeper makes what stands between EVC and its store, which is in the folder that it is given */
  static async start(
    accounts: Account[] = [manufacturing],
    keeper?: (folder: string) => StoreKeeper,
    between?: Between,
  ): Promise<World> {
    const world = new World(between);
    world.#keeper = keeper?.(join(world.folder, 'evc')) ?? null;
    const engine = process.env.EVE_ATTEST_TEST_STORE;
    if (engine) world.#database = await emptyDatabase(engine);
    // Certificates are checked by TLS against the time outside.
    world.#pki = await createPki(join(world.folder, 'evc', 'pki'), ['localhost'], Date.now());
    world.clock.advanceTo(Date.now());
    await world.startEvc();
    for (const account of accounts) await world.evc.accounts.add(account);
    return world;
  }

  async startBroker(): Promise<void> {
    const { between } = this;
    this.broker = await Broker.start({
      // Of a login that is bound to its channel nobody asks the time: here that of the device stands for it.
      now: () => between.deviceClock.now(),
      onMessage: (topic, payload) =>
        between.up(topic, payload, (delivered) => {
          this.#progress++;
          this.evc.receive(topic, delivered);
        }),
      onLink: (device, online) => this.evc.link(device, online),
      onRefused: (what, reason) => this.refused.push(`${reason} ${what}`),
    });
  }

  async startEvc(): Promise<void> {
    const { between } = this;
    await this.startBroker();
    this.evc = await Evc.open({
      data: join(this.folder, 'evc'),
      ...(this.#database || this.#keeper ? { store: await this.#openStore() } : {}),
      clock: between.evcClock,
      publish: (topic, bytes) =>
        between.down(topic, bytes, async (delivered) => {
          if (this.#keeper?.dead) throw new Error('EVC is gone');
          await this.broker.publish(topic, delivered);
        }),
      imageBase: () => `https://localhost:${this.#images?.port ?? 0}`,
      watch: (step) => {
        this.#progress++;
        this.steps.push(step);
        this.onStep?.(step);
      },
      onRefused: (_, code) => this.refused.push(code),
    });
  }

  async #openStore(): Promise<Store> {
    const store = this.#database
      ? this.#watched(await openStore(this.#database))
      : LibsqlStore.open(join(this.folder, 'evc', 'evc.db'));
    return this.#keeper?.wrap(store) ?? store;
  }

  /** Simulated time waits for a database. */
  #watched(store: Store): Store {
    return throughCalls(store, async (_, call) => {
      this.#asking++;
      try {
        return await call();
      } finally {
        this.#asking--;
        this.#progress++;
      }
    });
  }

  async stopEvc(): Promise<void> {
    await this.broker.close();
    await this.evc.close();
  }

  /** A board from the factory: image in its first slot, /config with the onboarding key and EVC's root. */
  async addDevice(
    options: {
      account?: string;
      image?: ImageOptions;
      recorded?: Uint8Array;
      serial?: string;
      limit?: number;
      /** The TPM on its board, powered off; a new one in this process otherwise. */
      tpm?: PoweredTpm;
      /** What keeps its vault; files of its own otherwise. */
      vault?: VaultChoice;
      /** Called before its first power on, which it then need not survive. */
      onPlugged?(device: WorldDevice): void;
    } = {},
  ): Promise<WorldDevice> {
    const folder = join(this.folder, `device-${this.devices.length + 1}`);
    const folders = {
      config: join(folder, 'config'),
      persist: join(folder, 'persist'),
      run: join(folder, 'run'),
    };
    for (const path of Object.values(folders)) mkdirSync(path, { recursive: true });
    const key = await this.evc.keys.add({
      name: 'test',
      account: options.account ?? 'factory',
      limit: options.limit ?? 1,
      expires: this.clock.now() + longest,
    });
    const serial = options.serial ?? `serial-${this.devices.length + 1}`;
    writeFileSync(join(folders.config, 'onboard.cert.pem'), key.certificate);
    writeFileSync(join(folders.config, 'onboard.key.pem'), key.key);
    writeFileSync(join(folders.config, 'root-certificate.pem'), this.#pki.root.toString());
    writeFileSync(join(folders.config, 'soft_serial'), serial);
    const slots = new SlotStore(new StateFolder(folders.persist));
    const image = options.image ?? { version: '1.0.0' };
    await createImage(slots.directory('IMGA'), image);
    if (options.recorded) writeFileSync(join(slots.directory('IMGA'), 'recorded.bin'), options.recorded);
    slots.install(image.version);
    const { tpm, vault, onPlugged } = options;
    const device = await this.#plug(folder, true, {
      ...(tpm ? { tpm: this.#awaited(tpm) } : {}),
      ...(vault ? { vault } : {}),
      ...(onPlugged ? { onPlugged } : {}),
    });
    this.devices.push(device);
    return device;
  }

  /** Runs until a device is attested, its key escrowed and its full configuration applied. */
  attested(device: WorldDevice): Promise<void> {
    const done = () =>
      stateOf(device, 'attest-task') === 'complete' &&
      stateOf(device, 'config-task') === 'idle' &&
      stateOf(device, 'info-task') === 'idle';
    return this.until('the device is attested and configured', done, attestLimit);
  }

  /** Runs simulated time until something is so; fails with the state of everything when it never is. */
  async until(what: string, condition: () => boolean | Promise<boolean>, limit = longest): Promise<void> {
    const end = this.clock.now() + limit;
    for (;;) {
      await this.quiet();
      if (await condition()) return;
      const next = this.clock.next();
      if (next === null || next > end) throw new Error(`never: ${what}\n${describeWorld(this)}`);
      this.clock.advanceTo(next);
    }
  }

  /** Runs for a while, whatever happens. */
  async run(ms: number): Promise<void> {
    const end = this.clock.now() + ms;
    for (;;) {
      await this.quiet();
      const next = this.clock.next();
      if (next === null || next > end) {
        this.clock.advanceTo(end);
        await this.quiet();
        return;
      }
      this.clock.advanceTo(next);
    }
  }

  /** Resolves when nothing moves any more without time going on. */
  async quiet(): Promise<void> {
    for (let still = 0; still < 15; ) {
      const before = this.#progress;
      await setImmediate();
      still = this.#progress === before && !this.#busy() ? still + 1 : 0;
    }
  }

  /** Whether something is under way that does not wait for simulated time. */
  #busy(): boolean {
    return this.#working > 0 || this.#asking > 0 || threadsBusy();
  }

  view(device: WorldDevice): Promise<DeviceView> {
    return this.evc.operator.show(device.id);
  }

  async trust(device: WorldDevice): Promise<string> {
    return (await this.evc.store.list('', 1000)).find((row) => row.device === device.id)?.trust ?? 'unknown';
  }

  /** The image as a file that EVC offers, and its measurements from a reference boot. */
  async offerImage(
    options: ImageOptions,
    extra: Record<string, string | Uint8Array> = {},
    how: { keepEntries?: boolean; measured?: boolean } = {},
  ): Promise<void> {
    this.#images ??= await ImageServer.start(this.#pki.server, (sha256) => this.evc.catalogue.file(sha256));
    const folder = join(this.folder, 'images', options.version);
    await createImage(folder, options);
    for (const [name, content] of Object.entries(extra)) writeFileSync(join(folder, name), content);
    const file = join(this.folder, `${options.version}.tar`);
    await createTar({ file, cwd: folder, portable: true }, [
      ...imageFiles,
      'image.json',
      ...Object.keys(extra),
    ]);
    const recorded = extra['recorded.bin'];
    const logsOf = async () =>
      recorded instanceof Uint8Array ? [recorded] : (await this.referenceBoot(folder)).logs;
    const before = how.keepEntries ? await this.evc.catalogue.get(options.version) : null;
    const { version } = options;
    const known = how.measured
      ? { measured: writeManifest('images', [{ version, ...(await measured(folder)) }]) }
      : { logs: await logsOf() };
    const added = await this.evc.curator.addImage({ version, ...known, file: { path: file } });
    if (before) await this.evc.store.put('image', options.version, { ...added, entries: before.entries });
  }

  /** The same board with another TPM on it. */
  async swapTpm(device: WorldDevice): Promise<WorldDevice> {
    await device.node.powerOff();
    const swapped = await this.#plug(device.folder, false);
    swapped.id = device.id;
    this.devices.splice(this.devices.indexOf(device), 1, swapped);
    return swapped;
  }

  /** Somebody with hands on the partition table makes another slot the one that boots. */
  bootSlot(device: WorldDevice, label: 'IMGA' | 'IMGB'): void {
    const persist = new StateFolder(join(device.folder, 'persist'));
    const table = persist.restore<{ slots: Record<string, { state: string }> }>('slots/slots.json');
    if (!table) throw new TypeError('no base OS is installed');
    for (const [name, slot] of Object.entries(table.slots)) slot.state = name === label ? 'active' : 'unused';
    persist.checkpoint('slots/slots.json', table);
  }

  /** From now on the running slot boots as this log has it. */
  async bootAs(device: WorldDevice, log: Uint8Array): Promise<void> {
    const { label } = device.slots.read().current;
    writeFileSync(join(device.slots.directory(label), 'recorded.bin'), log);
    await device.node.reboot('test');
  }

  /** Somebody with hands on the disk puts another image into the running slot. */
  async replaceImage(device: WorldDevice, options: ImageOptions): Promise<void> {
    await createImage(device.slots.directory(device.slots.read().current.label), options);
  }

  /** Boots an image on a board of the laboratory and returns its logs. */
  async referenceBoot(image: string): Promise<{ logs: Uint8Array[] }> {
    const config = join(this.folder, 'reference-config');
    mkdirSync(config, { recursive: true });
    return referenceBoot({ image, slots: ['IMGA', 'IMGB'], config });
  }

  async stop(): Promise<void> {
    for (const { node } of this.devices) await node.powerOff();
    this.#images?.close();
    await this.stopEvc();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A TPM in another process works while nothing moves here: simulated time waits for it. */
  #awaited(tpm: PoweredTpm): PoweredTpm {
    const send: PoweredTpm['send'] = async (command, options) => {
      this.#working++;
      try {
        return await tpm.send(command, options);
      } finally {
        this.#working--;
        this.#progress++;
      }
    };
    return new Proxy(tpm, {
      get(target, name) {
        if (name === 'send') return send;
        const value = Reflect.get(target, name);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  async #plug(
    folder: string,
    identified = true,
    given: { tpm?: PoweredTpm; vault?: VaultChoice; onPlugged?(device: WorldDevice): void } = {},
  ): Promise<WorldDevice> {
    const folders = {
      config: join(folder, 'config'),
      persist: join(folder, 'persist'),
      run: join(folder, 'run'),
    };
    const tpm = given.tpm ?? (await openWasmTpm({ startup: false, now: () => this.clock.now() }));
    const events: NodeEvent[] = [];
    const location = { fix: null as Location | null };
    const net: WorldDevice['net'] = { up: true };
    const clock = this.between.deviceClock;
    const recorder = new DeviceRecorder({ clock, by: 'test' });
    const slots = new SlotStore(new StateFolder(folders.persist));
    let link: Duplex | null = null;
    const cutLink = () => void link?.destroy();
    const device = { id: '', events, recorder, folder, location, net, slots, cutLink } as WorldDevice;
    const node = new EdgeNode({
      folders,
      clock,
      board: new EmulatedBoard({
        tpm: recorder.tpm(tpm),
        slots,
        config: folders.config,
        now: () => clock.now(),
      }),
      ...(given.vault ? { vault: given.vault } : {}),
      recorder,
      dial: async () => {
        if (!net.up) throw new Refusal('link.down', 'no network');
        const [near, far] = duplexPair();
        near.on('close', () => far.destroy());
        far.on('close', () => near.destroy());
        link = near;
        this.broker.accept(far);
        return { stream: near, channel: null };
      },
      locate: async () => location.fix,
      watch: (event) => {
        this.#progress++;
        events.push(event);
        if (event.kind === 'boot' && event.boot.image === net.cutAtImage) net.up = false;
        if (event.kind === 'boot') device.onBooted?.();
        if (event.kind === 'port' && event.port === 'stageSlot' && event.phase === 'ends')
          device.onStaged?.();
        if (event.kind === 'port' && realWork.has(event.port))
          this.#working += event.phase === 'begins' ? 1 : -1;
      },
    });
    device.node = node;
    this.recordings.plug(device);
    given.onPlugged?.(device);
    await node.powerOn().catch((error) => {
      if (!given.onPlugged) throw error;
    });
    if (!identified) return device;
    await this.until('the device has an identity', async () => {
      const identity = await node.node?.identity();
      device.id = identity?.device ?? '';
      return device.id !== '';
    });
    return device;
  }
}

/** What `evc image measure` finds out about a folder, without a boot. */
async function measured(folder: string): Promise<{ entries: KnownEntry[] }> {
  const { entries } = await measureImage([folder], { grub: 'eve' });
  return { entries };
}

/** Runs a test in a world of its own, and ends that world whatever happens. */
export async function inWorld(
  work: (world: World) => Promise<void>,
  accounts?: Account[],
  keeper?: (folder: string) => StoreKeeper,
): Promise<void> {
  const world = await World.start(accounts, keeper);
  try {
    await work(world);
    await world.quiet();
    world.recordings.check();
  } finally {
    await world.stop();
  }
}

export function stateOf(device: WorldDevice, component: Parameters<EdgeNode['component']>[0]): unknown {
  return device.node.component(component)?.value();
}

/** The context of a component that runs, as far as a test looks at it. */
export function contextOf<Context>(
  device: WorldDevice,
  component: Parameters<EdgeNode['component']>[0],
): Context {
  const running = device.node.component(component);
  if (!running) throw new TypeError(`${component} does not run`);
  return running.context() as Context;
}

export function configOf(device: WorldDevice) {
  const { node } = device.node;
  return node ? appliedConfig(node) : null;
}
