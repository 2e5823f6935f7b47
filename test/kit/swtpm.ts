// Debian's swtpm in a process of its own, at a Unix socket, and as a device file.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const patience = 10_000;

// The first terminal that a leader of a session opens is its own, and hangs up on it.
process.on('SIGHUP', () => undefined);

export interface Swtpm {
  process: ChildProcess;
  /** Its commands; its control channel is at this path with `.ctrl` behind it. */
  path: string;
  /** Certificates of the authority that certified it: its issuer and its root, PEM. */
  authority(): Uint8Array[];
  stop(): Promise<void>;
}

export interface SwtpmOptions {
  /** It waits for its board to turn it on; else it is past TPM2_Startup. */
  off?: boolean;
  /** With certificates of its endorsement keys, as from a factory. Needs Debian's swtpm-tools. */
  certified?: boolean;
}

export async function startSwtpm({ off = false, certified = false }: SwtpmOptions = {}): Promise<Swtpm> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-swtpm-'));
  if (certified) certify(folder);
  const path = join(folder, 'tpm');
  const process = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${folder}`],
      ...['--server', `type=unixio,path=${path}`, '--ctrl', `type=unixio,path=${path}.ctrl`],
      ...(off ? [] : ['--flags', 'not-need-init,startup-clear']),
    ],
    { stdio: 'ignore' },
  );
  const stop = async () => {
    await ended(process);
    rmSync(folder, { recursive: true, force: true });
  };
  await appears(`${path}.ctrl`, process);
  for (const socket of [path, `${path}.ctrl`]) await listens(socket, process);
  const authority = () =>
    ['ca/issuercert.pem', 'ca/swtpm-localca-rootca-cert.pem'].map((name) => readFileSync(join(folder, name)));
  return { process, path, authority, stop };
}

/** What `swtpm_setup` makes of a folder: a TPM with certificates of a local authority, which is in `ca`. */
export function certify(folder: string): void {
  const path = (name: string) => join(folder, name);
  mkdirSync(path('ca'));
  const lines = (...all: string[]) => all.join('\n');
  writeFileSync(
    path('localca.conf'),
    lines(
      `statedir = ${path('ca')}`,
      `signingkey = ${path('ca/signkey.pem')}`,
      `issuercert = ${path('ca/issuercert.pem')}`,
      `certserial = ${path('ca/certserial')}`,
    ),
  );
  writeFileSync(
    path('localca.options'),
    lines('--platform-manufacturer Test', '--platform-version 1', '--platform-model Board'),
  );
  writeFileSync(
    path('setup.conf'),
    lines(
      'create_certs_tool=swtpm_localca',
      `create_certs_tool_config=${path('localca.conf')}`,
      `create_certs_tool_options=${path('localca.options')}`,
    ),
  );
  const setup = spawnSync(
    'swtpm_setup',
    [
      ...['--tpm2', '--tpm-state', folder, '--config', path('setup.conf'), '--pcr-banks', 'sha1,sha256'],
      ...['--create-ek-cert', '--create-platform-cert', '--lock-nvram'],
    ],
    { encoding: 'utf8' },
  );
  if (setup.status !== 0) throw new Error(`swtpm_setup: ${setup.stdout}${setup.stderr}`);
}

export interface DeviceFile {
  path: string;
  stop(): Promise<void>;
}

/**
 * A terminal in raw mode whose other end is the TPM at a Unix socket: a character device that takes commands and gives
 * responses by reads and writes, as /dev/tpmrm0 does. Needs Debian's socat.
 */
export async function deviceFile(socket: string): Promise<DeviceFile> {
  const folder = mkdtempSync(join(tmpdir(), 'eve-device-'));
  const path = join(folder, 'tpmrm0');
  const socat = spawn('socat', [`PTY,link=${path},raw,echo=0`, `UNIX-CONNECT:${socket}`], {
    stdio: 'ignore',
  });
  await appears(path, socat);
  // Whoever closes it last would end it.
  const kept = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
  const stop = async () => {
    closeSync(kept);
    await ended(socat);
    rmSync(folder, { recursive: true, force: true });
  };
  return { path, stop };
}

async function appears(path: string, maker: ChildProcess): Promise<void> {
  for (const end = Date.now() + patience; !existsSync(path); await delay(2))
    if (maker.exitCode !== null || Date.now() > end) throw new Error(`${maker.spawnfile} makes no ${path}`);
}

/** A socket is there a moment before anybody listens at it. */
async function listens(path: string, maker: ChildProcess): Promise<void> {
  for (const end = Date.now() + patience; ; await delay(2)) {
    const socket = connect(path);
    const there = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (there) return;
    if (maker.exitCode !== null || Date.now() > end)
      throw new Error(`${maker.spawnfile} does not listen at ${path}`);
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill();
  await gone;
}
