// A device whose components are processes of their own. The first is device-steps: it has the board, the bus and the TPM,
// and hands the TPM out in turns. The others join it at its sockets, in any order, and as often as they are started anew.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { Bus, type BusServer, startBus } from '../../broker/bus.ts';
import { type Component, components } from '../../machines/device-steps.ts';
import type { LogPart } from '../../machines/flow.ts';
import { type Assembly, assemble } from '../assembly.ts';
import { SlotStore } from '../baseos/slots.ts';
import { bootBoard } from '../board.ts';
import { systemClock } from '../clock.ts';
import type { RunningComponent } from '../component.ts';
import { catchUp, deliver, startDeviceComponent, startDeviceSteps } from '../components.ts';
import { type NodeEvent, watchdog } from '../edge-node.ts';
import type { Boot } from '../node.ts';
import { foldersOf, locatorOf, socketsOf, vaultChoiceOf } from '../options.ts';
import { selfTestOf } from '../ports/base-os.ts';
import type { DeviceRecorder } from '../recorder.ts';
import { type Folders, StateFolder } from '../state.ts';
import type { PoweredTpm } from '../tpm/powered.ts';
import { type ServedTpm, serveTpm } from '../tpm/serve.ts';
import { Tpm } from '../tpm/tpm.ts';
import { openSocketTpm } from '../tpm/transports/socket.ts';
import { inTurnAt, serveTurns, type TurnServer } from '../tpm/turns.ts';
import { exitCodes, Failure } from './failure.ts';
import { installImage } from './image.ts';
import { boardTpmSpecOf, openBoardTpm } from './open-tpm.ts';
import {
  checkInstalled,
  dialer,
  printer,
  type RunOptions,
  rebootFailed,
  startRecording,
  untilEnded,
} from './run.ts';

const bootFile = 'boot.json';
/** How long a component waits for the device to boot, ms. */
const patience = 60_000;
const bootPoll = 200;

type Watch = (event: NodeEvent) => void;

type StoredBoot = Omit<Boot, 'logs'> & { logs: { kind: LogPart['kind']; sha256: string }[] };

/** Runs board and device-steps here. With `spawns`, the other components too, each as a process. */
export async function runDeviceSteps(options: RunOptions, spawns: boolean): Promise<void> {
  const folders = foldersOf(options);
  socketsOf(folders);
  vaultChoiceOf(options.vault);
  const tpmSpec = boardTpmSpecOf(options.tpm, folders);
  if (options.image !== undefined) await installImage(options.image, options);
  checkInstalled(folders);
  const recording = startRecording(options, folders, 'device-steps');
  const chip = await openBoardTpm(tpmSpec);
  const print = printer(options.json ?? false);
  const machine = new Machine(
    folders,
    recording ? recording.recorder.tpm(chip) : chip,
    watching(print, recording?.recorder),
    spawns ? options : null,
    recording?.recorder,
  );
  const ended = untilEnded(options, () => void machine.reboot('asked for').catch(rebootFailed));
  try {
    await machine.powerOn('power on');
    await ended;
  } finally {
    await machine.powerOff();
    await recording?.close();
  }
}

function watching(print: Watch, recorder: DeviceRecorder | undefined): Watch {
  if (!recorder) return print;
  return (event) => {
    recorder.event(event);
    print(event);
  };
}

/** One boot after another of board, bus and TPM, with the processes that belong to each. */
class Machine {
  readonly #folders: Folders;
  readonly #chip: PoweredTpm;
  readonly #watch: Watch;
  readonly #recorder: DeviceRecorder | undefined;
  readonly #options: RunOptions | null;
  readonly #persist: StateFolder;
  readonly #slots: SlotStore;
  readonly #children = new Map<Component, ChildProcess>();
  #life = new AbortController();
  #bus: { server: BusServer; client: Bus } | null = null;
  #tpm: { served: ServedTpm; turns: TurnServer } | null = null;
  #steps: RunningComponent | null = null;
  #turning: Promise<void> = Promise.resolve();
  #off = false;

  constructor(
    folders: Folders,
    chip: PoweredTpm,
    watch: Watch,
    options: RunOptions | null,
    recorder: DeviceRecorder | undefined,
  ) {
    this.#recorder = recorder;
    this.#folders = folders;
    this.#chip = chip;
    this.#watch = watch;
    this.#options = options;
    this.#persist = new StateFolder(folders.persist);
    this.#slots = new SlotStore(this.#persist);
  }

  powerOn(reason: string): Promise<void> {
    return this.#inTurn(() => this.#boot(reason));
  }

  reboot(reason: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#halt(reason);
      if (!this.#off) await this.#boot(reason);
    });
  }

  async powerOff(): Promise<void> {
    this.#off = true;
    await this.#inTurn(() => this.#halt('power off'));
    await this.#chip.close();
  }

  async #boot(reason: string): Promise<void> {
    this.#life = new AbortController();
    rmSync(this.#folders.run, { recursive: true, force: true });
    const run = new StateFolder(this.#folders.run);
    const sockets = socketsOf(this.#folders);
    this.#watch({ kind: 'power', at: systemClock.now(), on: true, reason });
    const boot = await bootBoard({
      tpm: this.#chip,
      slots: this.#slots,
      config: this.#folders.config,
      now: () => systemClock.now(),
    });
    const { label } = this.#slots.read().current;
    this.#watch({
      kind: 'boot',
      at: systemClock.now(),
      boot: { id: boot.id, image: boot.versions.image, slot: label },
    });
    if (selfTestOf(boot.image) === 'hangs') {
      systemClock
        .sleepUntil(systemClock.now() + watchdog, this.#life.signal)
        .then(() => this.reboot('watchdog'))
        .catch(() => undefined);
      return;
    }
    const tpm = new Tpm(this.#chip, { sole: true });
    this.#tpm = {
      served: await serveTpm(this.#chip, { protocol: 'swtpm', path: sockets.tpm }),
      turns: await serveTurns(sockets.turns, () => tpm.flushAll()),
    };
    const server = await startBus({ socket: sockets.bus });
    const client = await Bus.open(server.connect);
    this.#bus = { server, client };
    const { node } = this.#assemble(run, client, tpm, boot);
    // Last: whoever waits for this file finds everything there.
    storeBoot(run, boot);
    this.#steps = startDeviceSteps(
      node,
      {
        startComponents: ({ components: wanted }) => {
          for (const name of wanted) this.#spawn(name);
          return null;
        },
        reboot: ({ reason: why }) => {
          void this.reboot(why).catch(rebootFailed);
          return null;
        },
      },
      this.#watch,
      this.#recorder,
    );
    const steps = this.#steps;
    client.listen((topic, body) => {
      this.#recorder?.shown(topic, body);
      deliver(steps, topic, body);
    });
    catchUp(steps, node);
  }

  async #halt(reason: string): Promise<void> {
    this.#life.abort();
    this.#steps?.stop();
    this.#steps = null;
    const children = [...this.#children.values()];
    this.#children.clear();
    await Promise.all(
      children.map((child) => {
        const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
        // The power goes: nobody is asked.
        return child.exitCode === null && child.kill('SIGKILL') ? gone : undefined;
      }),
    );
    await this.#bus?.client.close();
    await this.#bus?.server.close();
    await this.#tpm?.turns.close();
    await this.#tpm?.served.close();
    this.#bus = null;
    this.#tpm = null;
    await this.#chip.powerOff();
    this.#watch({ kind: 'power', at: systemClock.now(), on: false, reason });
  }

  #assemble(run: StateFolder, bus: Bus, tpm: Tpm, boot: Boot): Assembly {
    return assemble({
      config: new StateFolder(this.#folders.config),
      persist: this.#persist,
      run,
      clock: systemClock,
      bus,
      tpm,
      slots: this.#slots,
      boot,
      name: 'device-steps',
      dial: dialer(this.#folders),
      tell: () => undefined,
    });
  }

  #spawn(name: Component): void {
    const options = this.#options;
    if (!options || this.#children.has(name)) return;
    const { config, persist, run } = this.#folders;
    const args = ['run', name, '--config', config, '--persist', persist, '--run', run, '--with-parent'];
    const more = [
      ...(options.json ? ['--json'] : []),
      ...(options.location === undefined ? [] : ['--location', options.location]),
      ...(options.vault === undefined ? [] : ['--vault', options.vault]),
      ...(options.record === undefined ? [] : ['--record', options.record]),
    ];
    const [, main = ''] = process.argv;
    const child = spawn(process.execPath, [...process.execArgv, main, ...args, ...more], {
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    child.stdin?.on('error', () => undefined);
    this.#children.set(name, child);
    child.once('exit', (code, signal) => {
      if (this.#children.get(name) !== child) return;
      this.#children.delete(name);
      const why = { code: 'internal.component-failed', text: `${name} ended with ${signal ?? code}` };
      this.#watch({ kind: 'failed', component: name, at: systemClock.now(), text: why.text });
      this.#steps?.send({ type: 'component.failed', component: name, why } as { type: string });
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turning.then(work);
    this.#turning = turn.catch(() => undefined);
    return turn;
  }
}

/** Runs one component, which joins a device that device-steps has booted, or boots soon. */
export async function runComponent(name: string, options: RunOptions): Promise<void> {
  if (!components.includes(name as Component)) {
    throw new Failure(
      `there is no component ${name}`,
      `known: device-steps, ${components.join(', ')}`,
      exitCodes.usage,
    );
  }
  const component = name as Component;
  const folders = foldersOf(options);
  const sockets = socketsOf(folders);
  const locate = locatorOf(options.location);
  const vault = vaultChoiceOf(options.vault);
  const recording = startRecording(options, folders, component);
  const print = watching(printer(options.json ?? false), recording?.recorder);
  const ended = untilEnded(options);
  const boot = await waitForBoot(folders);
  const bus = await Bus.openSocket(sockets.bus);
  const open = () => openSocketTpm({ path: sockets.tpm });
  const tpm = new Tpm(await open(), { reopen: open, turn: (work) => inTurnAt(sockets.turns, work) });
  const persist = new StateFolder(folders.persist);
  let running: RunningComponent | null = null;
  const { node, close } = assemble({
    config: new StateFolder(folders.config),
    persist,
    run: new StateFolder(folders.run),
    clock: systemClock,
    bus,
    tpm,
    slots: new SlotStore(persist),
    boot,
    name: component,
    vault,
    dial: dialer(folders),
    ...(locate ? { locate } : {}),
    tell: (names, event) => {
      if (names.includes(component)) running?.send(event);
    },
    onLink: (up, why) => print({ kind: 'link', at: systemClock.now(), up, why }),
    onMessage: (direction, topic, bytes) =>
      print({ kind: 'message', at: systemClock.now(), direction, topic, bytes }),
  });
  const started = startDeviceComponent(component, node, print, recording?.recorder);
  running = started;
  bus.listen((topic, body) => deliver(started, topic, body));
  catchUp(started, node);
  // With the bus, the boot that this component belongs to is over.
  await Promise.race([ended, bus.lost()]);
  started.stop();
  await close();
  await bus.close();
  await tpm.close();
  await recording?.close();
  // What still waits for the end of a boot that is over.
  process.exit(exitCodes.done);
}

function storeBoot(run: StateFolder, boot: Boot): void {
  for (const { kind, bytes } of boot.logs) run.write(`boot.${kind}.log`, bytes);
  const logs = boot.logs.map(({ kind, sha256 }) => ({ kind, sha256 }));
  run.checkpoint(bootFile, { ...boot, logs } satisfies StoredBoot);
}

/** What device-steps stored of this boot. Throws Failure when it is not what it says, or there is none. */
function loadBoot(run: StateFolder): Boot | null {
  const stored = run.restore<StoredBoot>(bootFile);
  if (!stored) return null;
  const logs = stored.logs.map(({ kind, sha256 }) => {
    const bytes = run.read(`boot.${kind}.log`) ?? new Uint8Array();
    if (createHash('sha256').update(bytes).digest('hex') !== sha256)
      throw new Failure(`the ${kind} log of this boot in ${run.path} was changed`, 'boot the device again');
    return { kind, sha256, bytes };
  });
  return { ...stored, logs };
}

async function waitForBoot(folders: Folders): Promise<Boot> {
  const until = systemClock.now() + patience;
  for (;;) {
    // Made anew each time: a boot removes the folder of the one before.
    const boot = loadBoot(new StateFolder(folders.run));
    if (boot) return boot;
    if (systemClock.now() > until) {
      throw new Failure(
        `no device boots in ${folders.run}`,
        'start device-steps first: eve run device-steps, or all at once: eve run --processes',
      );
    }
    await systemClock.sleepUntil(systemClock.now() + bootPoll);
  }
}
