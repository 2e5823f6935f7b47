// `eve run`: a device in this process, until somebody ends it.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SlotStore } from '../baseos/slots.ts';
import { systemClock } from '../clock.ts';
import { EdgeNode, type NodeEvent } from '../edge-node.ts';
import { dialTls, readServer } from '../link/dial.ts';
import type { Dialled } from '../link/uplink.ts';
import { rootCertificate, rootCertificateFile } from '../node.ts';
import { type FolderOptions, foldersOf, locationOf, socketsOf, vaultChoiceOf } from '../options.ts';
import { Refusal } from '../refusal.ts';
import { type Folders, StateFolder } from '../state.ts';
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
}

/** Runs a whole device in one process. Resolves when it was ended in order. */
export async function runDevice(options: RunOptions): Promise<void> {
  const folders = foldersOf(options);
  const sockets = socketsOf(folders);
  const locate = locationOf(options.location);
  const vault = vaultChoiceOf(options.vault);
  const spec = await prepare(options, folders);
  const node = new EdgeNode({
    folders,
    clock: systemClock,
    board: await openBoard(spec, folders),
    vault,
    dial: dialer(folders),
    busSocket: sockets.bus,
    ...(locate ? { locate } : {}),
    watch: printer(options.json ?? false),
  });
  const ended = untilEnded(options, () => void node.requestReboot('asked for').catch(rebootFailed));
  try {
    await node.powerOn();
    await ended;
  } finally {
    await node.powerOff();
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
  if (kind === 'emulated' && !new SlotStore(new StateFolder(folders.persist)).installed) {
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
