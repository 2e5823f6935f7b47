// The machines of `evc up`: EVC and devices as processes of their own, what happens on them in order, and waiting for it.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DeviceHappening, type RecordHappening, Story, type StoryStep } from '../../machines/story.ts';
import type { DeviceView } from '../operator.ts';
import { DataFolder, portOf } from '../options.ts';
import { Child, runCommand } from './children.ts';
import { ApiClient } from './client.ts';
import { showDevice } from './devices.ts';
import { Failure } from './failure.ts';
import { install } from './install.ts';

/** Processes report through pipes: what they say is put in order by their common clock after this time, ms. */
const settling = 50;
/** How long anything may take that a story waits for, ms. */
const patience = 25_000;

/** What `evc serve` is told; its own, where nothing is. */
export interface Engines {
  store?: string;
  broker?: string;
  httpsPort?: string;
}

interface Happening {
  at: number;
  order: number;
  take(): void;
}

export class Fleet {
  readonly folder: string;
  readonly evcFolder: string;
  readonly #onStep: (step: StoryStep) => void;
  readonly #onDeath: (failure: Failure) => void;
  readonly #story = new Story();
  readonly #devices = new Map<string, FleetDevice>();
  readonly #waiters = new Set<() => void>();
  readonly #children = new Set<Child>();
  readonly #images = new Map<string, Promise<string>>();
  #happenings: Happening[] = [];
  #order = 0;
  #timer: NodeJS.Timeout | null = null;
  #evc: Child | null = null;
  #api: ApiClient | null = null;
  #ports = { mqtt: 0, https: 0 };
  #stopped = false;
  readonly #engines: Engines;

  /** @param engines what `evc serve` is to use instead of its own store and broker */
  constructor(
    folder: string,
    onStep: (step: StoryStep) => void,
    onDeath: (failure: Failure) => void,
    engines: Engines = {},
  ) {
    this.folder = folder;
    this.#engines = engines;
    if (engines.httpsPort !== undefined)
      this.#ports.https = portOf(engines.httpsPort, this.#ports.https, '--https-port');
    this.evcFolder = join(folder, 'evc');
    this.#onStep = onStep;
    this.#onDeath = onDeath;
  }

  get api(): ApiClient {
    if (!this.#api) throw new Failure('EVC is not up');
    return this.#api;
  }

  /** The inspector's address, with the token behind the #, where no server sees it; the page takes it away at once. */
  get page(): string {
    return `${this.api.url}/#token=${encodeURIComponent(new DataFolder(this.evcFolder).token() ?? '')}`;
  }

  get devices(): FleetDevice[] {
    return [...this.#devices.values()];
  }

  /** Sets EVC up in the folder, and starts it; later calls start it again where it was. */
  async startEvc(): Promise<void> {
    await new DataFolder(this.evcFolder).init(['localhost'], Date.now());
    const { store, broker } = this.#engines;
    const engines = { '--store': store, '--broker': broker };
    const given = Object.entries(engines).flatMap(([name, value]) => (value ? [name, value] : []));
    const args = ['serve', '--json', '--data', this.evcFolder, ...given];
    const ports = ['--mqtt-port', `${this.#ports.mqtt}`, '--https-port', `${this.#ports.https}`];
    await new Promise<void>((resolve, reject) => {
      this.#evc = this.#spawn(
        'evc',
        'evc',
        [...args, ...ports],
        (line) => {
          const { kind, ...rest } = line as { kind: string };
          if (kind === 'step') this.#recorded(rest as RecordHappening & { serial: string });
          if (kind !== 'serving') return;
          const { mqttPort, httpsPort } = rest as { mqttPort: number; httpsPort: number };
          this.#ports = { mqtt: mqttPort, https: httpsPort };
          resolve();
        },
        reject,
      );
    });
    this.#api ??= ApiClient.open({ data: this.evcFolder, url: `https://localhost:${this.#ports.https}` });
  }

  async stopEvc(): Promise<void> {
    const child = this.#evc;
    this.#evc = null;
    if (!child) return;
    this.#children.delete(child);
    await child.stop();
  }

  /** An image as a folder, packed and measured beside it; made once. Returns the folder. */
  image(name: string, options: readonly string[]): Promise<string> {
    const made = this.#images.get(name);
    if (made) return made;
    const folder = join(this.folder, 'images', name);
    mkdirSync(join(this.folder, 'images'), { recursive: true });
    const beside = ['--pack', `${folder}.tar`, '--measure', `${folder}.logs`];
    const making = runCommand('eve', ['image', 'create', folder, ...options, ...beside]).then(() => folder);
    this.#images.set(name, making);
    return making;
  }

  async device(name: string, account = 'default'): Promise<FleetDevice> {
    const folder = join(this.folder, name);
    await install(this.api, join(folder, 'config'), {
      root: join(this.evcFolder, 'pki/root.cert.pem'),
      name,
      account,
      limit: 1,
      days: 1,
      serial: name,
    });
    const device = new FleetDevice(this, name, folder);
    this.#devices.set(name, device);
    return device;
  }

  /** Resolves when something is so; rejects with Failure when it is not in time. */
  until(what: string, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (!condition()) return;
        clearTimeout(timer);
        this.#waiters.delete(check);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(check);
        reject(new Failure(`${what}: not within ${patience / 1000} s`));
      }, patience);
      this.#waiters.add(check);
      check();
    });
  }

  spawnDevice(device: FleetDevice, args: readonly string[]): Child {
    const common = ['run', '--json', '--inspect', '0', '--state', device.folder];
    return this.#spawn(device.name, 'eve', [...common, ...args], (line) => {
      const { kind, url } = line as { kind?: string; url?: string };
      if (kind === 'inspector') device.page = url ?? '';
      else
        this.#happened((line as DeviceHappening).at, () => device.take(line as DeviceHappening, this.#story));
    });
  }

  tell(steps: readonly StoryStep[]): void {
    for (const step of steps) this.#onStep(step);
  }

  /** Ends everything that was started. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#api?.close();
    await Promise.all([...this.#children].map((child) => child.stop()));
  }

  #spawn(
    name: string,
    program: 'evc' | 'eve',
    args: readonly string[],
    onLine: (line: object) => void,
    onFailure?: (failure: Failure) => void,
  ): Child {
    const child = new Child(
      name,
      program,
      args,
      (text) => {
        if (text.startsWith('{')) onLine(JSON.parse(text) as object);
      },
      (dead, code) => {
        this.#children.delete(dead);
        if (this.#stopped) return;
        const failure = new Failure(
          `${name} ended by itself with ${code}${dead.lastWords ? `:\n${dead.lastWords}` : ''}`,
        );
        onFailure?.(failure);
        this.#onDeath(failure);
      },
    );
    this.#children.add(child);
    return child;
  }

  #recorded(happening: RecordHappening & { serial: string }): void {
    const device = this.#devices.get(happening.serial);
    if (!device) return;
    this.#happened(happening.at, () => {
      device.record = happening.after as Record<string, string>;
      this.tell(this.#story.record(device.name, happening));
    });
  }

  #happened(at: number, take: () => void): void {
    this.#happenings.push({ at, order: this.#order++, take });
    this.#timer ??= setTimeout(() => this.#settle(), settling);
  }

  #settle(): void {
    this.#timer = null;
    const now = Date.now();
    const due = this.#happenings.filter(({ at }) => at <= now - settling);
    this.#happenings = this.#happenings.filter(({ at }) => at > now - settling);
    due.sort((a, b) => a.at - b.at || a.order - b.order);
    for (const { take } of due) take();
    if (due.length > 0) for (const check of [...this.#waiters]) check();
    if (this.#happenings.length > 0 && !this.#stopped)
      this.#timer = setTimeout(() => this.#settle(), settling);
  }
}

export class FleetDevice {
  readonly name: string;
  readonly folder: string;
  readonly #fleet: Fleet;
  /** Address of its own page; empty before it says so. */
  page = '';
  /** State and context of each component, of this boot. */
  readonly components = new Map<string, { state: unknown; context: Record<string, unknown> }>();
  /** Regions of its record. */
  record: Record<string, string> = {};
  boots = 0;
  /** Whether it says that it reaches EVC. */
  linked = false;
  image = '';
  #child: Child | null = null;

  constructor(fleet: Fleet, name: string, folder: string) {
    this.#fleet = fleet;
    this.name = name;
    this.folder = folder;
  }

  /** Powers it on for the first time, with the image of the factory. */
  start(image: string): void {
    this.#child = this.#fleet.spawnDevice(this, ['--image', image, '--location', `@${this.#placeFile}`]);
  }

  /** Puts another image into the slot that boots, as somebody with hands on the disk would. */
  install(image: string): Promise<void> {
    return runCommand('eve', ['install', '--image', image, '--state', this.folder]);
  }

  /** Where it stands from now on: `LATITUDE,LONGITUDE,ACCURACY`. */
  moveTo(place: string): void {
    writeFileSync(this.#placeFile, `${place}\n`);
  }

  get #placeFile(): string {
    return join(this.folder, 'place');
  }

  reboot(): Promise<void> {
    const { boots } = this;
    this.#child?.signal('SIGHUP');
    return this.until('it boots again', () => this.boots > boots);
  }

  state(component: string): string {
    const { state } = this.components.get(component) ?? {};
    return typeof state === 'string' ? state : JSON.stringify(state ?? '');
  }

  context(component: string): Record<string, unknown> {
    return this.components.get(component)?.context ?? {};
  }

  get vaultOpen(): boolean {
    return this.state('vault-manager').includes('unlocked');
  }

  /** Attested, with its vault open, its full configuration, and the key with EVC. */
  get complete(): boolean {
    return (
      this.state('attest-task') === 'complete' &&
      this.vaultOpen &&
      this.context('vault-manager').storedToken !== null &&
      this.context('config-task').source === 'evc' &&
      this.record.integrity === 'trusted'
    );
  }

  until(what: string, condition: () => boolean): Promise<void> {
    return this.#fleet.until(`${this.name}: ${what}`, condition);
  }

  attested(): Promise<void> {
    return this.until('it is attested, open and configured', () => this.complete);
  }

  view(): Promise<DeviceView> {
    return showDevice(this.#fleet.api, this.name);
  }

  take(happening: DeviceHappening, story: Story): void {
    const { kind, component = '', state, context, boot, up } = happening;
    if (kind === 'link') this.linked = up === true;
    if (kind === 'boot' && boot) {
      this.boots++;
      this.image = boot.image;
      this.components.clear();
    }
    if (kind === 'state')
      this.components.set(component, { state, context: (context ?? {}) as Record<string, unknown> });
    this.#fleet.tell(story.device(this.name, happening));
  }
}
