// One device, whole and in one process: board, bus, link and the eight charts, from power on to power off.
import { Bus, type BusServer, startBus } from '../broker/bus.ts';
import type { Clock } from '../machines/clock.ts';
import type { Component } from '../machines/device-steps.ts';
import type { Location } from '../machines/flow.ts';
import { minute } from '../machines/waiting.ts';
import { type Assembly, assemble } from './assembly.ts';
import { selfTestOf } from './baseos/image-folders.ts';
import { type Board, publishBoot } from './board.ts';
import type { ComponentEvent, RunningComponent } from './component.ts';
import {
  type ComponentName,
  catchUp,
  deliver,
  startDeviceComponent,
  startDeviceSteps,
} from './components.ts';
import type { Dialled } from './link/uplink.ts';
import type { Boot, Node } from './node.ts';
import { openPersist } from './persist.ts';
import type { DeviceRecorder } from './recorder.ts';
import { reasonOf } from './refusal.ts';
import { beginBoot } from './run-folder.ts';
import { type Folders, StateFolder } from './state.ts';
import type { Tpm } from './tpm/tpm.ts';
import type { VaultChoice } from './vault/backend.ts';

export interface EdgeNodeOptions {
  folders: Folders;
  clock: Clock;
  board: Board;
  /** Whether what it writes outlives a cut of this machine's power. Default: it does. */
  durable?: boolean;
  /** What keeps the data of a new vault. Default: file. */
  vault?: VaultChoice;
  /** A stream to EVC's broker. */
  dial(): Promise<Dialled>;
  locate?(): Promise<Location | null>;
  /** Where other processes of the device reach the bus. */
  busSocket?: string;
  watch?(event: NodeEvent): void;
  recorder?: DeviceRecorder;
}

export type NodeEvent =
  | ComponentEvent
  | { kind: 'boot'; at: number; boot: { id: string; image: string; slot: string } }
  | { kind: 'power'; at: number; on: boolean; reason: string }
  | { kind: 'message'; at: number; direction: 'up' | 'down'; topic: string; bytes: Uint8Array }
  | { kind: 'link'; at: number; up: boolean; why: string | null };

/** An image that hangs starts no component; the board's watchdog resets it after this time, ms. */
export const watchdog = 2 * minute;

export class EdgeNode {
  readonly #options: EdgeNodeOptions;
  readonly #config: StateFolder;
  readonly #persist: StateFolder;
  readonly #components = new Map<ComponentName, RunningComponent>();
  #life = new AbortController();
  #assembly: Assembly | null = null;
  #busServer: BusServer | null = null;
  #turning: Promise<void> = Promise.resolve();
  #off = false;

  constructor(options: EdgeNodeOptions) {
    const { recorder, watch } = options;
    this.#options = recorder
      ? {
          ...options,
          watch: (event) => {
            recorder.event(event);
            watch?.(event);
          },
        }
      : options;
    const { folders, durable = true } = options;
    this.#config = new StateFolder(folders.config, { durable });
    this.#persist = openPersist(folders.persist, { durable });
  }

  /** The running node; null while the power is off. */
  get node(): Node | null {
    return this.#assembly?.node ?? null;
  }

  component(name: ComponentName): RunningComponent | undefined {
    return this.#components.get(name);
  }

  powerOn(reason = 'power on'): Promise<void> {
    return this.#inTurn(() => this.#boot(reason));
  }

  /** Has the board reboot; that of a machine ends this process. Throws Refusal platform.*. */
  async requestReboot(reason: string, orderly = false): Promise<void> {
    if (await this.#options.board.reboot(reason, this.#life.signal)) await this.reboot(reason, orderly);
  }

  /** As if the plug were pulled, and put back; an orderly reboot tells the TPM first. */
  reboot(reason: string, orderly = false): Promise<void> {
    return this.#inTurn(async () => {
      await this.#halt(reason, orderly);
      if (this.#off) return;
      try {
        await this.#boot(reason);
      } catch (error) {
        // Nobody is there to tell but the watchdog: a slot on trial that does not boot is not tried again.
        const { code, text } = reasonOf(error);
        const at = this.#options.clock.now();
        this.#options.watch?.({ kind: 'failed', component: 'board', at, text: `${code}: ${text}` });
        this.#afterWatchdog();
      }
    });
  }

  /** The power is gone, until `powerOn`. */
  cutPower(reason: string): Promise<void> {
    return this.#inTurn(() => this.#halt(reason));
  }

  async powerOff(): Promise<void> {
    this.#off = true;
    await this.#inTurn(() => this.#halt('power off'));
    await this.#options.board.close();
  }

  async #boot(reason: string): Promise<void> {
    const { clock, board, folders, watch } = this.#options;
    this.#life = new AbortController();
    watch?.({ kind: 'power', at: clock.now(), on: true, reason });
    const boot = await board.boot();
    const run = beginBoot(folders.run, boot.id);
    watch?.({
      kind: 'boot',
      at: clock.now(),
      boot: { id: boot.id, image: boot.versions.image, slot: boot.slot },
    });
    if (boot.image !== null && selfTestOf(boot.image) === 'hangs') {
      this.#afterWatchdog();
      return;
    }
    this.#busServer = await startBus(this.#options.busSocket ? { socket: this.#options.busSocket } : {});
    const bus = await Bus.open(this.#busServer.connect);
    this.#assembly = this.#assemble(run, bus, boot, await board.openTpm());
    bus.listen((topic, body, size) => {
      this.#options.recorder?.shown(topic, body, size);
      for (const component of this.#components.values()) deliver(component, topic, body);
    });
    this.#startSteps(this.#assembly.node);
    publishBoot(bus, boot);
  }

  async #halt(reason: string, orderly = false): Promise<void> {
    const { clock, watch } = this.#options;
    this.#life.abort();
    for (const component of this.#components.values()) component.stop();
    this.#components.clear();
    await this.#assembly?.close();
    await this.#assembly?.node.bus.close();
    await this.#busServer?.close();
    this.#assembly = null;
    this.#busServer = null;
    await this.#options.board.powerOff(orderly);
    watch?.({ kind: 'power', at: clock.now(), on: false, reason });
  }

  #afterWatchdog(): void {
    const { clock } = this.#options;
    clock
      .sleepUntil(clock.now() + watchdog, this.#life.signal)
      .then(() => this.reboot('watchdog'))
      .catch(() => undefined);
  }

  #assemble(run: StateFolder, bus: Bus, boot: Boot, tpm: Tpm): Assembly {
    const { clock, board, vault, dial, locate, watch } = this.#options;
    return assemble({
      config: this.#config,
      persist: this.#persist,
      run,
      clock,
      bus,
      tpm,
      slots: board.slots,
      boot,
      name: 'eve',
      ...(vault ? { vault } : {}),
      dial,
      ...(locate ? { locate } : {}),
      tell: (components, event) => {
        for (const name of components) this.#components.get(name)?.send(event);
      },
      onLink: (up, why) => watch?.({ kind: 'link', at: clock.now(), up, why }),
      ...(watch
        ? {
            onMessage: (direction: 'up' | 'down', topic: string, bytes: Uint8Array) =>
              watch({ kind: 'message', at: clock.now(), direction, topic, bytes }),
          }
        : {}),
    });
  }

  #startSteps(node: Node): void {
    this.#add(
      node,
      startDeviceSteps(
        node,
        {
          startComponents: ({ components }) => {
            for (const name of components) this.#start(name, node);
            return null;
          },
          reboot: async ({ reason }, signal) => {
            // Not awaited: this very chart goes down with the machine.
            if (await this.#options.board.reboot(reason, signal)) void this.reboot(reason, true);
            return null;
          },
        },
        this.#options.watch,
        this.#options.recorder,
      ),
    );
  }

  #start(name: Component, node: Node): void {
    if (this.#components.has(name)) return;
    this.#add(
      node,
      startDeviceComponent(name, node, (event) => this.#saw(name, event), this.#options.recorder),
    );
  }

  /** A chart that failed is gone; device-steps decides when it starts again. */
  #saw(name: Component, event: ComponentEvent): void {
    this.#options.watch?.(event);
    if (event.kind !== 'failed') return;
    this.#components.delete(name);
    const why = { code: 'internal.component-failed', text: event.text };
    this.#components
      .get('device-steps')
      ?.send({ type: 'component.failed', component: name, why } as { type: string });
  }

  #add(node: Node, component: RunningComponent): void {
    this.#components.set(component.name as ComponentName, component);
    catchUp(component, node);
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turning.then(work);
    this.#turning = turn.catch(() => undefined);
    return turn;
  }
}
