// `eve run`: a device in this process, until somebody ends it.
import { closeSync, existsSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ServiceManager } from '../../broker/service-manager.ts';
import { openSpans } from '../../telemetry/otlp.ts';
import { SlotStore } from '../baseos/slots.ts';
import { systemClock } from '../clock.ts';
import { EdgeNode, type NodeEvent } from '../edge-node.ts';
import { inspectPortOf, serveInspector } from '../inspect.ts';
import { dialTls, readServer } from '../link/dial.ts';
import { Outbox } from '../link/outbox.ts';
import type { Dialled } from '../link/uplink.ts';
import { rootCertificate, rootCertificateFile } from '../node.ts';
import { type FolderOptions, foldersOf, locationOf, socketsOf, vaultChoiceOf } from '../options.ts';
import { openPersist } from '../persist.ts';
import { DeviceRecorder } from '../recorder.ts';
import { AttemptRing, RecordingFile } from '../recording-file.ts';
import { Refusal } from '../refusal.ts';
import { type Folders, StateFolder } from '../state.ts';
import { DeviceSpans } from '../tracing.ts';
import { type BoardOptions, type BoardSpec, boardSpecOf, openBoard } from './board.ts';
import { exitCodes, Failure } from './failure.ts';
import { installImage } from './image.ts';
import { jsonLine, textLine } from './print.ts';

export interface RunOptions extends FolderOptions, BoardOptions {
  vault?: string;
  location?: string;
  /** Folder of an image to install first. */
  image?: string;
  json?: boolean;
  withParent?: boolean;
  /** File for a recording of everything. */
  record?: string;
  /** How many recordings of attempts are kept. */
  attempts?: string;
  /** Port of the inspector's page on this machine. */
  inspect?: string;
}

const attemptsKept = 5;
const mostLives = 1000;

/** Runs a whole device in one process. Resolves when it was ended in order. */
export async function runDevice(options: RunOptions): Promise<void> {
  const folders = foldersOf(options);
  const sockets = socketsOf(folders);
  const locate = locationOf(options.location);
  const vault = vaultChoiceOf(options.vault);
  const spec = await prepare(options, folders);
  const inspectPort = options.inspect === undefined ? null : inspectPortOf(options.inspect);
  const recording = startRecording(options, folders);
  const inspector =
    recording && inspectPort !== null
      ? await serveInspector(recording.recorder, inspectPort, () => systemClock.now())
      : null;
  if (inspector)
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ kind: 'inspector', url: inspector.url })}\n`
        : `the charts of this device: ${inspector.url}\n`,
    );
  const spans = await openSpans('eve', process.env);
  const traced = spans && new DeviceSpans(spans);
  const print = printer(options.json ?? false);
  const node = new EdgeNode({
    folders,
    clock: systemClock,
    board: await openBoard(spec, folders, recording?.recorder),
    vault,
    dial: dialer(folders),
    busSocket: sockets.bus,
    ...(locate ? { locate } : {}),
    watch: (event) => {
      traced?.event(event);
      print(event);
    },
    ...(recording ? { recorder: recording.recorder } : {}),
  });
  const ended = untilEnded(options, () => void node.requestReboot('asked for').catch(rebootFailed));
  const manager = new ServiceManager();
  try {
    await node.powerOn();
    manager.ready('runs');
    await ended;
    manager.stopping('ends in order');
  } finally {
    await node.powerOff();
    manager.close();
    await inspector?.close();
    await recording?.close();
    await spans?.close();
    sayLeft(folders, options.json ?? false);
  }
}

/** What the next start has to do, said at an end in order. */
export function sayLeft(folders: Folders, json: boolean): void {
  const persist = openPersist(folders.persist);
  const reports = Object.keys(new Outbox(persist).load()).length;
  const slots = new SlotStore(persist);
  const trial = slots.installed && slots.read().trial !== null;
  const left = [
    ...(reports === 0 ? [] : [`${reports === 1 ? '1 report waits' : `${reports} reports wait`} for EVC`]),
    ...(trial ? ['the image that runs is on trial'] : []),
  ];
  const text = left.length === 0 ? 'nothing is left to do' : `${left.join(', ')}; the next start goes on`;
  const line = json
    ? JSON.stringify({ kind: 'stopped', at: systemClock.now(), reports, trial })
    : `the agent has stopped; ${text}`;
  process.stdout.write(`${line}\n`);
}

/**
 * The recorder of this process: into `--record FILE`, and into the last attempts below PERSIST/recordings. null where neither is
 * wanted. Throws Failure.
 */
export function startRecording(
  options: Pick<RunOptions, 'record' | 'attempts' | 'inspect'>,
  folders: Folders,
  component?: string,
): { recorder: DeviceRecorder; close(): Promise<void> } | null {
  const keep = options.attempts === undefined ? attemptsKept : Number(options.attempts);
  if (!Number.isInteger(keep) || keep < 0 || keep > 1000) {
    const hint = 'how many recordings of attempts to keep: a number from 0 to 1000';
    throw new Failure(`--attempts ${options.attempts}`, hint, exitCodes.usage);
  }
  const inspected = options.inspect !== undefined && component === undefined;
  if (options.record === undefined && keep === 0 && !inspected) return null;
  const recorder = new DeviceRecorder({ clock: systemClock });
  const closing: (() => Promise<void>)[] = [];
  if (options.record !== undefined) {
    const path = recordingPath(options.record, component);
    checkWritable(path);
    const file = new RecordingFile(path, {
      onError: ({ message }) => process.stderr.write(`eve: the recording ends here: ${message}\n`),
    });
    const detach = recorder.attach(file, component);
    closing.push(async () => {
      detach();
      await file.close();
    });
  }
  if (keep > 0) {
    // Components that are processes of their own have a folder each, and those that join a boot begin with it.
    const folder = join(folders.persist, 'recordings', component ?? '');
    const now = component !== undefined && component !== 'device-steps';
    const ring = new AttemptRing(recorder, { folder, keep, now });
    closing.push(() => ring.close());
  }
  if (closing.length === 0 && !inspected) return null;
  return {
    recorder,
    async close() {
      for (const close of closing) await close();
    },
  };
}

/**
 * Each process of a device has a file of its own: `boot.jsonl` and `boot.attest-task.jsonl`; the second life of a component,
 * after a reboot or a crash, has `boot.attest-task.2.jsonl`.
 */
export function recordingPath(path: string, component: string | undefined): string {
  if (component === undefined || component === 'device-steps') return resolve(path);
  const [, stem = path, ending = ''] = /^(.*?)(\.jsonl(?:\.gz)?)?$/.exec(path) ?? [];
  for (let life = 1; ; life++) {
    const name = resolve(`${stem}.${component}${life === 1 ? '' : `.${life}`}${ending}`);
    if (!existsSync(name) || life === mostLives) return name;
  }
}

function checkWritable(path: string): void {
  try {
    closeSync(openSync(path, 'w', 0o600));
  } catch (error) {
    const { message } = error as Error;
    throw new Failure(`${path} cannot be written: ${message}`, 'give another file with --record FILE');
  }
}

/** Reads which board it is, and sees that a device is installed on it. Throws Failure. */
export async function prepare(options: RunOptions, folders: Folders): Promise<BoardSpec> {
  const spec = boardSpecOf(options, folders);
  if (options.image !== undefined) {
    if (spec.kind === 'real')
      throw new Failure(
        '--image is for an emulated board: a machine runs what it has booted',
        'leave it out',
        exitCodes.usage,
      );
    await installImage(options.image, options);
  }
  checkInstalled(folders, spec);
  return spec;
}

/** Throws Failure for a device that is not installed: what is missing, and how it gets there. */
function checkInstalled(folders: Folders, { kind }: BoardSpec): void {
  const config = new StateFolder(folders.config);
  try {
    rootCertificate(config);
    readServer(config.file('server'));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    throw new Failure(
      error.message,
      `copy ${rootCertificateFile}, server, onboard.cert.pem and onboard.key.pem there; on EVC: evc key add --out DIR`,
    );
  }
  if (kind === 'emulated' && !new SlotStore(openPersist(folders.persist)).installed) {
    throw new Failure(
      `no base OS is installed in ${join(folders.persist, 'slots')}`,
      'install one with: eve install --image DIR',
    );
  }
}

/** Dials the broker that /config/server names. */
export function dialer({ config }: Pick<Folders, 'config'>): () => Promise<Dialled> {
  return () => {
    const folder = new StateFolder(config);
    return dialTls(readServer(folder.file('server')), rootCertificate(folder).pem);
  };
}

export function printer(json: boolean): (event: NodeEvent) => void {
  return (event) => {
    const line = json ? jsonLine(event) : textLine(event);
    if (line !== null) process.stdout.write(`${line}\n`);
  };
}

/**
 * Resolves on SIGTERM, SIGINT, or, with a parent, when that is gone: its end of our standard input closes with it,
 * whatever killed it. SIGHUP asks for a reboot.
 */
export function untilEnded(
  { withParent }: Pick<RunOptions, 'withParent'>,
  reboot?: () => void,
): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      // Else it would keep this process from ending.
      process.stdin.pause();
      resolve();
    };
    let asked = false;
    const ask = () => {
      // Whoever asks twice does not want to wait.
      if (asked) process.exit(130);
      asked = true;
      end();
    };
    process.on('SIGTERM', ask);
    process.on('SIGINT', ask);
    process.on('SIGHUP', () => reboot?.());
    if (withParent) {
      process.stdin.resume();
      process.stdin.once('end', end);
      process.stdin.once('error', end);
    }
  });
}

export function rebootFailed(error: unknown): void {
  const text = error instanceof Error ? error.message : 'unknown';
  process.stderr.write(`eve: the device does not boot: ${text}\n`);
}

/** Whether something runs here; a socket file alone may be left from a crash. */
export function hasBus(folders: Folders): boolean {
  return existsSync(socketsOf(folders).bus);
}
