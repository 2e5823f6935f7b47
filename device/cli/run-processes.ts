// A device whose components are processes of their own. The first is device-steps: it has the board, the bus and the TPM,
// and hands the TPM out in turns. The others join it at its sockets, in any order, and as often as they are started anew.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Bus, type BusServer, startBus } from '../../broker/bus.ts';
import { patienceOf, ServiceManager } from '../../broker/service-manager.ts';
import type { Clock } from '../../machines/clock.ts';
import { type Component, components } from '../../machines/device-steps.ts';
import type { LogPart } from '../../machines/flow.ts';
import { openSpans } from '../../telemetry/otlp.ts';
import { type Assembly, assemble } from '../assembly.ts';
import { selfTestOf } from '../baseos/image-folders.ts';
import { type Board, publishBoot } from '../board.ts';
import { systemClock } from '../clock.ts';
import type { RunningComponent } from '../component.ts';
import { catchUp, deliver, startDeviceComponent, startDeviceSteps } from '../components.ts';
import { type NodeEvent, watchdog } from '../edge-node.ts';
import type { Boot } from '../node.ts';
import { foldersOf, locationOf, socketsOf, vaultChoiceOf } from '../options.ts';
import { openPersist } from '../persist.ts';
import type { DeviceRecorder } from '../recorder.ts';
import { reasonOf } from '../refusal.ts';
import { beginBoot } from '../run-folder.ts';
import { type Folders, StateFolder } from '../state.ts';
import { type ServedTpm, serveTpm } from '../tpm/serve.ts';
import { Tpm } from '../tpm/tpm.ts';
import { openSocketTpm } from '../tpm/transports/socket.ts';
import { inTurnAt, serveTurns, type TurnServer } from '../tpm/turns.ts';
import { DeviceSpans, hasSpans } from '../tracing.ts';
import { boardSpecOf, openBoard, slotsOf } from './board.ts';
import { exitCodes, Failure } from './failure.ts';
import { openTransport } from './open-tpm.ts';
import {
  dialer,
  prepare,
  printer,
  type RunOptions,
  rebootFailed,
  sayLeft,
  startRecording,
  untilEnded,
} from './run.ts';

const bootFile = 'boot.json';
const nonceTopic = 'attest-task/AttestNonce';
/** How long a component waits for the device to boot, ms. */
const patience = 60_000;
const bootPoll = 200;
/** Signs of life that a component owes in the time after which it counts as hung. */
const beats = 4;

type Watch = (event: NodeEvent) => void;

type StoredBoot = Omit<Boot, 'logs'> & { logs: { kind: LogPart['kind']; sha256: string }[] };

/** Runs board and device-steps here. With `spawns`, the other components too, each as a process. */
export async function runDeviceSteps(options: RunOptions, spawns: boolean): Promise<void> {
  const folders = foldersOf(options);
  socketsOf(folders);
  vaultChoiceOf(options.vault);
  const spec = await prepare(options, folders);
  const recording = startRecording(options, folders, 'device-steps');
  const print = printer(options.json ?? false);
  const machine = new Machine(
    folders,
    await openBoard(spec, folders, recording?.recorder),
    watching(print, recording?.recorder),
    spawns ? options : null,
    recording?.recorder,
  );
  const ended = untilEnded(options, () => void machine.requestReboot('asked for').catch(rebootFailed));
  const manager = new ServiceManager();
  try {
    await machine.powerOn('power on');
    manager.ready('runs');
    await ended;
    manager.stopping('ends in order');
  } finally {
    await machine.powerOff();
    manager.close();
    await recording?.close();
    sayLeft(folders, options.json ?? false);
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
export class Machine {
  readonly #folders: Folders;
  readonly #board: Board;
  readonly #watch: Watch;
  readonly #recorder: DeviceRecorder | undefined;
  readonly #options: RunOptions | null;
  readonly #clock: Clock;
  readonly #persist: StateFolder;
  readonly #children = new Map<Component, ChildProcess>();
  #life = new AbortController();
  #bus: { server: BusServer; client: Bus } | null = null;
  #tpm: { served: ServedTpm; turns: TurnServer } | null = null;
  #steps: RunningComponent | null = null;
  #turning: Promise<void> = Promise.resolve();
  #off = false;

  constructor(
    folders: Folders,
    board: Board,
    watch: Watch,
    options: RunOptions | null,
    recorder: DeviceRecorder | undefined,
    clock: Clock = systemClock,
  ) {
    this.#recorder = recorder;
    this.#folders = folders;
    this.#board = board;
    this.#watch = watch;
    this.#options = options;
    this.#clock = clock;
    this.#persist = openPersist(folders.persist);
  }

  powerOn(reason: string): Promise<void> {
    return this.#inTurn(() => this.#boot(reason));
  }

  reboot(reason: string, orderly = false): Promise<void> {
    return this.#inTurn(async () => {
      await this.#halt(reason, orderly);
      if (this.#off) return;
      try {
        await this.#boot(reason);
      } catch (error) {
        // Nobody is there to tell but the watchdog: a slot on trial that does not boot is not tried again.
        const { code, text } = reasonOf(error);
        const at = this.#clock.now();
        this.#watch({ kind: 'failed', component: 'board', at, text: `${code}: ${text}` });
        this.#afterWatchdog();
      }
    });
  }

  /** Has the board reboot; that of a machine ends this process. Throws Refusal platform.*. */
  async requestReboot(reason: string): Promise<void> {
    if (await this.#board.reboot(reason, this.#life.signal)) await this.reboot(reason);
  }

  async powerOff(): Promise<void> {
    this.#off = true;
    await this.#inTurn(() => this.#halt('power off'));
    await this.#board.close();
  }

  async #boot(reason: string): Promise<void> {
    this.#life = new AbortController();
    const sockets = socketsOf(this.#folders);
    this.#watch({ kind: 'power', at: this.#clock.now(), on: true, reason });
    const boot = await this.#board.boot();
    const run = beginBoot(this.#folders.run, boot.id);
    this.#watch({
      kind: 'boot',
      at: this.#clock.now(),
      boot: { id: boot.id, image: boot.versions.image, slot: boot.slot },
    });
    if (boot.image !== null && selfTestOf(boot.image) === 'hangs') {
      this.#afterWatchdog();
      return;
    }
    const tpm = await this.#board.openTpm();
    const { chip } = this.#board;
    // The kernel hands a TPM of the machine out by itself.
    if (chip) {
      this.#tpm = {
        served: await serveTpm(chip, { protocol: 'swtpm', path: sockets.tpm }),
        turns: await serveTurns(sockets.turns, () => tpm.flushAll()),
      };
    }
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
        reboot: async ({ reason: why }, signal) => {
          if (await this.#board.reboot(why, signal)) void this.reboot(why, true).catch(rebootFailed);
          return null;
        },
      },
      this.#watch,
      this.#recorder,
    );
    const steps = this.#steps;
    client.listen((topic, body, size) => {
      this.#recorder?.shown(topic, body, size);
      deliver(steps, topic, body);
    });
    catchUp(steps, node);
    publishBoot(client, boot);
  }

  #afterWatchdog(): void {
    this.#clock
      .sleepUntil(this.#clock.now() + watchdog, this.#life.signal)
      .then(() => this.reboot('watchdog'))
      .catch(() => undefined);
  }

  async #halt(reason: string, orderly = false): Promise<void> {
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
    await this.#board.powerOff(orderly);
    this.#watch({ kind: 'power', at: this.#clock.now(), on: false, reason });
  }

  #assemble(run: StateFolder, bus: Bus, tpm: Tpm, boot: Boot): Assembly {
    return assemble({
      config: new StateFolder(this.#folders.config),
      persist: this.#persist,
      run,
      clock: this.#clock,
      bus,
      tpm,
      slots: this.#board.slots,
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
      ...(options.attempts === undefined ? [] : ['--attempts', options.attempts]),
      ...(options.board === undefined ? [] : ['--board', options.board]),
      ...(options.tpm === undefined ? [] : ['--tpm', options.tpm]),
      ...(options.platform === undefined ? [] : ['--platform', options.platform]),
    ];
    const [, main = ''] = process.argv;
    const child = spawn(process.execPath, [...process.execArgv, main, ...args, ...more], {
      stdio: ['pipe', 'inherit', 'inherit', 'ipc'],
      // It lives for this process, and not for systemd.
      env: { ...process.env, NOTIFY_SOCKET: undefined },
    });
    child.stdin?.on('error', () => undefined);
    const unwatch = killWhenSilent(child);
    child.once('exit', unwatch);
    this.#children.set(name, child);
    child.once('exit', (code, signal) => {
      if (this.#children.get(name) !== child) return;
      this.#children.delete(name);
      const why = { code: 'internal.component-failed', text: `${name} ended with ${signal ?? code}` };
      this.#watch({ kind: 'failed', component: name, at: this.#clock.now(), text: why.text });
      this.#steps?.send({ type: 'component.failed', component: name, why } as { type: string });
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turning.then(work);
    this.#turning = turn.catch(() => undefined);
    return turn;
  }
}

/**
 * A component that hangs says nothing any more: it is killed, and device-steps starts it anew. Silences are counted and not
 * measured, since a machine that sleeps makes all silent at once.
 */
function killWhenSilent(child: ChildProcess): () => void {
  let silent = 0;
  child.on('message', () => {
    silent = 0;
  });
  const timer = setInterval(() => {
    if (++silent > beats) child.kill('SIGKILL');
  }, patienceOf() / beats);
  timer.unref();
  return () => clearInterval(timer);
}

/** Tells whoever started this process that it lives; the word waits where the event loop does. */
function showLife(): () => void {
  // Else it would keep this process from ending.
  process.channel?.unref();
  const timer = setInterval(
    () => process.send?.('alive', undefined, {}, () => undefined),
    patienceOf() / (2 * beats),
  );
  timer.unref();
  return () => clearInterval(timer);
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
  const locate = locationOf(options.location);
  const vault = vaultChoiceOf(options.vault);
  const recording = startRecording(options, folders, component);
  const spans = hasSpans(component) ? await openSpans('eve', process.env) : null;
  const traced = spans && new DeviceSpans(spans);
  const shown = watching(printer(options.json ?? false), recording?.recorder);
  const print = (event: NodeEvent) => {
    traced?.event(event);
    shown(event);
  };
  const ended = untilEnded(options);
  const still = showLife();
  const manager = new ServiceManager();
  const spec = boardSpecOf(options, folders);
  const boot = await waitForBoot(folders);
  const bus = await Bus.openSocket(sockets.bus);
  const real = spec.kind === 'real';
  const open = async () => {
    if (!real) return openSocketTpm({ path: sockets.tpm });
    const transport = await openTransport(spec.tpm);
    return recording?.recorder.tpm(transport) ?? transport;
  };
  const tpm = new Tpm(await open(), {
    reopen: open,
    ...(real ? {} : { turn: (work) => inTurnAt(sockets.turns, work) }),
  });
  const persist = openPersist(folders.persist);
  let running: RunningComponent | null = null;
  const { node, close } = assemble({
    config: new StateFolder(folders.config),
    persist,
    run: new StateFolder(folders.run, { durable: false }),
    clock: systemClock,
    bus,
    tpm,
    slots: slotsOf(spec, folders),
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
  const hear = component === 'attest-task' ? undefined : traced?.heard.bind(traced);
  bus.listen((topic, body) => {
    // Before what comes of it: the work that a nonce asks for belongs to its attempt.
    hear?.(topic, body);
    deliver(started, topic, body);
  });
  hear?.(nonceTopic, bus.latest(nonceTopic));
  catchUp(started, node);
  manager.ready('runs');
  // With the bus, the boot that this component belongs to is over.
  await Promise.race([ended, bus.lost()]);
  manager.stopping('ends in order');
  started.stop();
  still();
  manager.close();
  await close();
  await bus.close();
  await tpm.close();
  await recording?.close();
  await spans?.close();
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
    const boot = loadBoot(new StateFolder(folders.run, { durable: false }));
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
