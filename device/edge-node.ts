// One device, whole: board, bus, link and the eight charts, from power on to power off.
import { rmSync } from 'node:fs';
import { Bus, type BusServer, startBus } from '../broker/bus.ts';
import { attestTask, attestTaskPublications } from '../machines/attest-task.ts';
import { baseOs, baseOsPublications } from '../machines/base-os.ts';
import { client, clientPublications } from '../machines/client.ts';
import type { Clock } from '../machines/clock.ts';
import { configTask, configTaskPublications } from '../machines/config-task.ts';
import { type Component, deviceSteps, deviceStepsPublications } from '../machines/device-steps.ts';
import type { Location } from '../machines/flow.ts';
import { infoTask, infoTaskPublications } from '../machines/info-task.ts';
import { tpmManager, tpmManagerPublications } from '../machines/tpm-manager.ts';
import { vaultManager, vaultManagerPublications } from '../machines/vault-manager.ts';
import { minute } from '../machines/waiting.ts';
import { SlotStore } from './baseos/slots.ts';
import { bootBoard } from './board.ts';
import { type ComponentEvent, type RunningComponent, startComponent } from './component.ts';
import { type DeviceIdentity, deviceIdentity } from './identity.ts';
import { login } from './link/dial.ts';
import { Evc } from './link/evc.ts';
import { Outbox } from './link/outbox.ts';
import { type Dialled, Uplink } from './link/uplink.ts';
import { type Boot, controllerCertificates, type Node, rootCertificate } from './node.ts';
import { attestTaskPorts, certifiedName } from './ports/attest-task.ts';
import { baseOsPorts, selfTestOf } from './ports/base-os.ts';
import { clientPorts } from './ports/client.ts';
import { configTaskPorts } from './ports/config-task.ts';
import { infoTaskPorts } from './ports/info-task.ts';
import { tpmManagerPorts } from './ports/tpm-manager.ts';
import { vaultManagerPorts } from './ports/vault-manager.ts';
import { type Folders, StateFolder } from './state.ts';
import { Tokens } from './tokens.ts';
import { DeviceTpm } from './tpm/device-tpm.ts';
import type { PoweredTpm } from './tpm/powered.ts';
import { Tpm } from './tpm/tpm.ts';
import { DeviceVault } from './vault/device-vault.ts';
import { FileVault } from './vault/file.ts';
import { eventOf } from './wiring.ts';

export interface EdgeNodeOptions {
  folders: Folders;
  clock: Clock;
  tpm: PoweredTpm;
  /** A stream to EVC's broker. */
  dial(): Promise<Dialled>;
  locate?(): Promise<Location | null>;
  /** Where other processes of the device reach the bus. */
  busSocket?: string;
  watch?(event: NodeEvent): void;
}

export type NodeEvent =
  | ComponentEvent
  | { kind: 'boot'; at: number; boot: { id: string; image: string; slot: string } }
  | { kind: 'power'; at: number; on: boolean; reason: string }
  | { kind: 'message'; at: number; direction: 'up' | 'down'; topic: string; bytes: Uint8Array }
  | { kind: 'link'; at: number; up: boolean; why: string | null };

/** An image that hangs starts no component; the board's watchdog resets it after this time, ms. */
const watchdog = 2 * minute;

export class EdgeNode {
  readonly #options: EdgeNodeOptions;
  readonly #config: StateFolder;
  readonly #persist: StateFolder;
  readonly #components = new Map<Component | 'device-steps', RunningComponent>();
  readonly slots: SlotStore;
  #life = new AbortController();
  #node: Node | null = null;
  #busServer: BusServer | null = null;
  #uplink: Uplink | null = null;
  #turning: Promise<void> = Promise.resolve();
  #off = false;

  constructor(options: EdgeNodeOptions) {
    this.#options = options;
    this.#config = new StateFolder(options.folders.config);
    this.#persist = new StateFolder(options.folders.persist);
    this.slots = new SlotStore(this.#persist);
  }

  /** The running node; null while the power is off. */
  get node(): Node | null {
    return this.#node;
  }

  component(name: Component | 'device-steps'): RunningComponent | undefined {
    return this.#components.get(name);
  }

  powerOn(reason = 'power on'): Promise<void> {
    return this.#inTurn(() => this.#boot(reason));
  }

  /** As if the plug were pulled, and put back. */
  reboot(reason: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#halt(reason);
      if (!this.#off) await this.#boot(reason);
    });
  }

  async powerOff(): Promise<void> {
    this.#off = true;
    await this.#inTurn(() => this.#halt('power off'));
    await this.#options.tpm.close();
  }

  async #boot(reason: string): Promise<void> {
    const { clock, tpm: chip, folders, watch } = this.#options;
    this.#life = new AbortController();
    // A reboot forgets what is not persistent: tokens, staged configurations, snapshots.
    rmSync(folders.run, { recursive: true, force: true });
    const run = new StateFolder(folders.run);
    watch?.({ kind: 'power', at: clock.now(), on: true, reason });
    const boot = await bootBoard({
      tpm: chip,
      slots: this.slots,
      config: folders.config,
      now: () => clock.now(),
    });
    const { current } = this.slots.read();
    watch?.({
      kind: 'boot',
      at: clock.now(),
      boot: { id: boot.id, image: boot.versions.image, slot: current.label },
    });
    if (selfTestOf(boot.image) === 'hangs') {
      this.#afterWatchdog();
      return;
    }
    this.#busServer = await startBus(this.#options.busSocket ? { socket: this.#options.busSocket } : {});
    const bus = await Bus.open(this.#busServer.connect);
    const node = this.#makeNode(run, bus, boot);
    this.#node = node;
    bus.listen((topic, body) => {
      for (const component of this.#components.values()) this.#deliver(component, topic, body);
    });
    this.#start('device-steps', node);
  }

  async #halt(reason: string): Promise<void> {
    const { clock, watch } = this.#options;
    this.#life.abort();
    for (const component of this.#components.values()) component.stop();
    this.#components.clear();
    await this.#uplink?.close();
    this.#uplink = null;
    this.#node?.vault.lock();
    await this.#node?.bus.close();
    await this.#busServer?.close();
    this.#node = null;
    this.#busServer = null;
    await this.#options.tpm.powerOff();
    watch?.({ kind: 'power', at: clock.now(), on: false, reason });
  }

  #afterWatchdog(): void {
    const { clock } = this.#options;
    clock
      .sleepUntil(clock.now() + watchdog, this.#life.signal)
      .then(() => this.reboot('watchdog'))
      .catch(() => undefined);
  }

  #makeNode(run: StateFolder, bus: Bus, boot: Boot): Node {
    const { clock, tpm: chip } = this.#options;
    const tpm = new DeviceTpm(new Tpm(chip, { sole: true }), this.#persist);
    let device = '';
    let identity: Promise<DeviceIdentity> | null = null;
    let link: Promise<Uplink> | null = null;
    let evc: Promise<Evc> | null = null;
    const once = <Value>(value: Promise<Value>, forget: () => void) =>
      value.catch((error) => {
        forget();
        throw error;
      });
    const vault = new DeviceVault({
      backend: new FileVault(this.#persist),
      tpm,
      state: this.#persist,
      device: () => device,
    });
    const node: Node = {
      config: this.#config,
      persist: this.#persist,
      run,
      clock,
      bus,
      tpm,
      vault,
      slots: this.slots,
      outbox: new Outbox(this.#persist),
      tokens: new Tokens(run),
      boot,
      identity: () => {
        identity ??= once(
          deviceIdentity(this.#config, this.#persist, tpm, clock).then((found) => {
            device = found.device;
            return found;
          }),
          () => {
            identity = null;
          },
        );
        return identity;
      },
      uplink: () => {
        link ??= once(this.#openLink(node), () => {
          link = null;
        });
        return link;
      },
      evc: () => {
        evc ??= once(this.#openEvc(node), () => {
          evc = null;
        });
        return evc;
      },
      locate: this.#options.locate ?? (() => Promise.resolve(null)),
    };
    return node;
  }

  async #openLink(node: Node): Promise<Uplink> {
    const { clock, dial, watch } = this.#options;
    const identity = await node.identity();
    const uplink = new Uplink({
      device: identity.device,
      name: 'eve',
      dial,
      login: (channel) => login(identity, channel, (payload) => node.tpm.sign(payload), clock),
      clock,
      onPush: (topic, frame) => {
        void node.evc().then(
          (evc) => this.#pushed(evc.readPush(topic, frame)),
          () => undefined,
        );
      },
      onLink: (up, why) => {
        watch?.({ kind: 'link', at: clock.now(), up, why });
        if (up) this.#tell(['client', 'info-task', 'config-task'], { type: 'link.up' });
      },
      ...(watch
        ? {
            watch: (direction: 'up' | 'down', topic: string, bytes: Uint8Array) =>
              watch({ kind: 'message', at: clock.now(), direction, topic, bytes }),
          }
        : {}),
    });
    this.#uplink = uplink;
    return uplink;
  }

  async #openEvc(node: Node): Promise<Evc> {
    const identity = await node.identity();
    return new Evc({
      uplink: await node.uplink(),
      clock: node.clock,
      device: identity.device,
      root: rootCertificate(node.config).certificate,
      signer: { certificate: identity.certificate, sign: (payload) => node.tpm.sign(payload) },
      certificates: () => controllerCertificates(node),
    });
  }

  #pushed(what: string): void {
    if (what === 'attest') this.#tell(['attest-task'], { type: 'restart' });
    if (what === 'config') this.#tell(['config-task'], { type: 'config.pushed' });
    if (what === 'certificates') this.#tell(['client'], { type: 'certificates.stale' });
  }

  #tell(names: Component[], event: { type: string }): void {
    for (const name of names) this.#components.get(name)?.send(event);
  }

  #deliver(component: RunningComponent, topic: string, body: unknown): void {
    const event = eventOf(component.name as Component | 'device-steps', topic, body);
    if (event) component.send(event);
  }

  #start(name: Component | 'device-steps', node: Node): void {
    if (this.#components.has(name)) return;
    const { clock, watch } = this.#options;
    const shared = { bus: node.bus, clock, ...(watch ? { watch } : {}) };
    const component = this.#make(name, node, shared);
    this.#components.set(name, component);
    // What was published before this component was there is part of what it knows.
    for (const topic of node.bus.topics()) this.#deliver(component, topic, node.bus.latest(topic));
  }

  #make(
    name: Component | 'device-steps',
    node: Node,
    shared: Pick<Parameters<typeof startComponent>[0], 'bus' | 'clock' | 'watch'>,
  ): RunningComponent {
    switch (name) {
      case 'device-steps':
        return startComponent({
          ...shared,
          name,
          chart: deviceSteps,
          publications: deviceStepsPublications,
          ports: {
            startComponents: ({ components }) => {
              for (const component of components) this.#start(component, node);
              return null;
            },
            reboot: ({ reason }) => {
              // Not awaited: this very chart goes down with the machine.
              void this.reboot(reason);
              return null;
            },
          },
        });
      case 'client':
        return startComponent({
          ...shared,
          name,
          chart: client,
          ports: clientPorts(node),
          publications: clientPublications,
        });
      case 'vault-manager':
        return startComponent({
          ...shared,
          name,
          chart: vaultManager,
          ports: vaultManagerPorts(node),
          publications: vaultManagerPublications,
        });
      case 'tpm-manager':
        return startComponent({
          ...shared,
          name,
          chart: tpmManager,
          ports: tpmManagerPorts(node),
          publications: tpmManagerPublications,
        });
      case 'attest-task':
        return startComponent({
          ...shared,
          name,
          chart: attestTask,
          ports: attestTaskPorts(node),
          input: { certified: certifiedName(node) },
          publications: attestTaskPublications,
        });
      case 'info-task':
        return startComponent({
          ...shared,
          name,
          chart: infoTask,
          ports: infoTaskPorts(node),
          publications: infoTaskPublications,
        });
      case 'config-task':
        return startComponent({
          ...shared,
          name,
          chart: configTask,
          ports: configTaskPorts(node),
          publications: configTaskPublications,
        });
      case 'base-os':
        return startComponent({
          ...shared,
          name,
          chart: baseOs,
          ports: baseOsPorts(node),
          publications: baseOsPublications,
        });
    }
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turning.then(work);
    this.#turning = turn.catch(() => undefined);
    return turn;
  }
}
