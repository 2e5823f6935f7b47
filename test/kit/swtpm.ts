// Debian's swtpm in a process of its own, at a Unix socket, and as a device file.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
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
  stop(): Promise<void>;
}

export interface SwtpmOptions {
  /** It waits for its board to turn it on; else it is past TPM2_Startup. */
  off?: boolean;
  /** With endorsement keys and their certificates, as from a factory. Needs Debian's swtpm-tools. */
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
  return { process, path, stop };
}

/** A factory with an authority of its own, in the same folder. */
function certify(folder: string): void {
  const authority = [
    'statedir=.',
    'signingkey=signkey.pem',
    'issuercert=issuercert.pem',
    'certserial=certserial',
  ];
  writeFileSync(join(folder, 'authority.conf'), authority.join('\n').replaceAll('=', `=${folder}/`));
  writeFileSync(
    join(folder, 'setup.conf'),
    [
      'create_certs_tool=/usr/bin/swtpm_localca',
      `create_certs_tool_config=${folder}/authority.conf`,
      'create_certs_tool_options=/etc/swtpm-localca.options',
    ].join('\n'),
  );
  const made = spawnSync(
    'swtpm_setup',
    [
      ...['--tpm2', '--tpmstate', folder, '--config', join(folder, 'setup.conf')],
      ...['--createek', '--create-ek-cert', '--pcr-banks', 'sha1,sha256,sha384'],
    ],
    { encoding: 'utf8' },
  );
  if (made.status !== 0) throw new Error(`swtpm_setup: ${made.stdout}${made.stderr}`);
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
