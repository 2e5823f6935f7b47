// `eve doctor`: what this machine can and cannot do as a device, and what to do about it. It looks and changes nothing that
// lasts.
import { X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { access, constants, readFile, statfs } from 'node:fs/promises';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { parseLog } from '../../formats/eventlog/parse.ts';
import { earliest } from '../../machines/clock.ts';
import { SlotStore } from '../baseos/slots.ts';
import type { BoardKind } from '../board.ts';
import { missingLog } from '../board-real.ts';
import { biosLogPath, configLogPath, readLogFile } from '../boot/log.ts';
import { machineVersions } from '../boot/versions.ts';
import { dialTls, readServer } from '../link/dial.ts';
import { AddonMissing, nativeAddon } from '../native/addon.ts';
import { rootCertificateFile } from '../node.ts';
import { type FolderOptions, foldersOf } from '../options.ts';
import { openPersist } from '../persist.ts';
import { Platform, requiredPrograms } from '../platform.ts';
import type { Folders } from '../state.ts';
import type { TpmInfo } from '../tpm/info.ts';
import { keysToMake } from '../tpm/keys.ts';
import { vaultBackend } from '../vault/backend.ts';
import { fileBackend, vaultHeader } from '../vault/data-key.ts';
import { probeFscrypt } from '../vault/fscrypt.ts';
import { boardKindOf, machineTpms } from './board.ts';
import { explain } from './failure.ts';
import { discoverTpm, tpmText } from './open-tpm.ts';
import { plainText } from './print.ts';
import { foundTpm, tpmInfo } from './tpm-info.ts';

/**
 * - `good`: as a device needs it.
 * - `limited`: a device runs, with less than it could have; the text says what it lacks.
 * - `bad`: no device runs like this.
 */
export type Verdict = 'good' | 'limited' | 'bad';

export interface Finding {
  /** What was looked at. */
  check: string;
  verdict: Verdict;
  text: string;
  /** The next thing to do; empty when there is nothing. */
  next: string;
}

export interface DoctorOptions extends FolderOptions {
  tpm?: string;
  board?: string;
  platform?: string;
}

type Check = (folders: Folders, options: DoctorOptions) => Promise<Omit<Finding, 'check'>[]>;

const checks: Record<string, Check> = {
  machine,
  addon,
  TPM: tpm,
  'boot log': bootLog,
  clock,
  state,
  vault,
  configuration,
  'base OS': baseOs,
  EVC: controller,
};

/** Every finding, in a fixed order. Rejects for wrong usage alone: what fails is a finding. */
export async function examine(options: DoctorOptions): Promise<Finding[]> {
  const folders = foldersOf(options);
  if (options.tpm !== undefined) foundTpm(options.tpm, folders);
  const findings: Finding[] = [];
  for (const [check, look] of Object.entries(checks)) {
    for (const finding of await look(folders, options)) findings.push({ check, ...finding });
  }
  return findings;
}

export function healthy(findings: readonly Finding[]): boolean {
  return findings.every(({ verdict }) => verdict !== 'bad');
}

const marks: Record<Verdict, string> = { good: '✓', limited: '!', bad: '✗' };

export function findingsText(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ check, verdict, text, next }) => [
    `${marks[verdict]} ${check.padEnd(14)} ${plainText(text)}`,
    ...(next === '' ? [] : [`${' '.repeat(17)}→ ${plainText(next)}`]),
  ]);
  const count = (verdict: Verdict) => findings.filter((finding) => finding.verdict === verdict).length;
  return [...lines, `${count('good')} good, ${count('limited')} limited, ${count('bad')} bad`].join('\n');
}

const good = (text: string) => ({ verdict: 'good' as const, text, next: '' });
const limited = (text: string, next: string) => ({ verdict: 'limited' as const, text, next });
const bad = (text: string, next: string) => ({ verdict: 'bad' as const, text, next });

async function machine() {
  const what = `${process.platform} ${release()} on ${process.arch}, Node ${process.versions.node}`;
  if (process.platform === 'linux') return [good(what)];
  return [limited(`${what}: neither a TPM of the machine nor fscrypt`, 'use Linux for a real device')];
}

async function addon() {
  try {
    const problem = nativeAddon().tctiProblem();
    if (problem === null) return [good('is built, and the TCG software stack is there')];
    return [
      limited(
        `is built, and reaches no TPM: ${problem}`,
        'apt-get install libtss2-tctildr0 libtss2-tcti-device0, or use --tpm file:/dev/tpmrm0',
      ),
    ];
  } catch (error) {
    if (!(error instanceof AddonMissing)) throw error;
    return [limited(`${error.message}: no time-outs for a TPM of the machine, and no fscrypt`, error.hint)];
  }
}

async function tpm(folders: Folders, options: DoctorOptions) {
  const found = options.tpm === undefined ? discoverTpm(folders) : foundTpm(options.tpm, folders);
  if (!found) {
    if (existsSync('/dev/tpm0'))
      return [
        bad('/dev/tpm0 without /dev/tpmrm0', 'use a kernel from 4.12 on, which has a resource manager'),
      ];
    return [
      bad(
        'there is none',
        'turn it on in the firmware setup (fTPM, PTT, Security Device); to try without: --tpm wasm:FILE',
      ),
    ];
  }
  const { spec, why } = found;
  const name = `${tpmText(spec)}, ${why}`;
  try {
    const info = await tpmInfo({ ...options, tpm: tpmText(spec) });
    const { manufacturer, vendor, firmware } = info;
    const unreal = spec.kind === 'wasm' || spec.kind === 'swtpm' || spec.kind === 'mssim';
    const what = `${name}: ${manufacturer.name} ${vendor}, firmware ${firmware}`;
    return [
      unreal
        ? limited(`${what}; it is emulated, so nothing but file permissions protects its keys`, hardware())
        : good(what),
      ...tpmFindings(info),
    ];
  } catch (error) {
    const { text, hint } = explain(error);
    return [bad(`${name}: ${text}`, hint)];
  }
}

function hardware(): string {
  return existsSync('/dev/tpmrm0') ? 'this machine has a TPM of its own: /dev/tpmrm0' : '';
}

function tpmFindings({ banks, lockout, authorized, disabled, free, persistent, certificates }: TpmInfo) {
  const found: Omit<Finding, 'check'>[] = [];
  if (!banks.sha256) found.push(bad('no SHA-256 bank of PCRs', 'turn it on in the firmware setup'));
  const needed = ['owner', 'endorsement'];
  for (const name of needed.filter((hierarchy) => disabled.includes(hierarchy)))
    found.push(bad(`the ${name} hierarchy is disabled`, 'turn it on in the firmware setup'));
  for (const name of needed.filter((hierarchy) => authorized.includes(hierarchy)))
    found.push(
      bad(
        `the ${name} hierarchy has an authorization value, and EVE works without`,
        `remove it with tpm2_changeauth -c ${name}, or clear the TPM if nobody needs its keys`,
      ),
    );
  if (lockout.locked)
    found.push(
      limited(
        'locked out after too many wrong authorizations',
        `wait ${lockout.interval} s; keys of EVE are not concerned, those of others may be`,
      ),
    );
  const missing = keysToMake(persistent);
  if (free.persistent < missing)
    found.push(
      bad(
        `room for ${free.persistent} persistent keys, and ${missing} are to be made`,
        'remove what nobody needs with tpm2_evictcontrol',
      ),
    );
  if (!certificates.some(({ problem }) => problem === ''))
    found.push(limited('no endorsement certificate: EVC can only trust this TPM on first use', ''));
  return found;
}

async function bootLog(folders: Folders, options: DoctorOptions) {
  if (boardOf(folders, options) === 'emulated') return [good('the emulated board keeps its own')];
  const config = await readLogFile(configLogPath);
  return [
    ...(await firmwareLog()),
    config.kind === 'present'
      ? good(`${configLogPath}, ${config.bytes.length} bytes`)
      : limited(
          missingLog('config', configLogPath, config)[0]?.why.text ?? '',
          'PCR 14 covers /config where EVE OS measures it, or eve run --measure-config does',
        ),
  ];
}

/** A machine without any TPM is looked at as one that should have one. */
function boardOf(folders: Folders, options: DoctorOptions): BoardKind {
  if (options.board !== undefined) return boardKindOf(options.board) ?? 'real';
  const found = options.tpm === undefined ? discoverTpm(folders) : foundTpm(options.tpm, folders);
  return found === null || machineTpms.includes(found.spec.kind) ? 'real' : 'emulated';
}

async function firmwareLog() {
  const path = biosLogPath();
  const log = await readLogFile(path);
  switch (log.kind) {
    case 'present':
      try {
        return [good(`${parseLog(log.bytes).events.length} events, ${log.bytes.length} bytes`)];
      } catch (error) {
        return [bad(`${path} is no event log: ${(error as Error).message}`, 'update the firmware')];
      }
    case 'absent':
      return [
        bad(
          `there is no ${path}`,
          'boot by UEFI with the TPM on; GRUB before 2.12 passes no log on without Secure Boot; mount securityfs',
        ),
      ];
    case 'unreadable':
      return [bad(`${path}: ${log.reason}`, 'run as root: the kernel shows its log to nobody else')];
    case 'oversized':
      return [bad(`${path} has over ${log.limit} bytes, and EVC takes no more`, 'update the firmware')];
  }
}

const synchronized = ['/run/systemd/timesync/synchronized', '/run/chrony/chronyd.pid', '/run/ntpd.pid'];

async function clock() {
  const now = new Date().toISOString();
  const next = 'apt-get install systemd-timesyncd, or chrony';
  if (Date.now() < earliest)
    return [bad(`it is not ${now}: certificates would not be valid yet`, `set it; ${next}`)];
  if (synchronized.some((path) => existsSync(path))) return [good(`${now}, kept in time`)];
  return [limited(`${now}; nothing here says that it is kept in time`, next)];
}

const leastFree = 256 * 1024 * 1024;

async function state({ persist, run }: Folders) {
  const found: Omit<Finding, 'check'>[] = [];
  for (const path of [persist, run]) {
    const there = existing(path);
    try {
      await access(there, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      found.push(
        bad(`${there} cannot be written: ${code}`, 'run as root, or choose another folder: --state DIR'),
      );
      continue;
    }
    const { bavail, bsize } = await statfs(there);
    const free = bavail * bsize;
    const text = `${path}: ${Math.floor(free / 1024 / 1024)} MB free${there === path ? '' : ', made when the device runs'}`;
    found.push(
      free < leastFree && path === persist ? limited(text, 'free some space: images need it') : good(text),
    );
  }
  return found;
}

/** The folder, or the first above it that exists. */
function existing(path: string): string {
  return existsSync(path) || path === dirname(path) ? path : existing(dirname(path));
}

async function vault({ persist }: Folders) {
  const folder = existing(persist);
  try {
    const header = folder === persist ? vaultHeader(openPersist(persist)) : null;
    if (header?.complete) {
      const backend = vaultBackend(openPersist(persist), 'auto');
      // What files of our own are open to is known to their process alone.
      const status = backend.name === fileBackend ? '' : `, ${backend.status()}`;
      return [good(`there is one, kept by ${backend.name}${status}`)];
    }
    const verdict = probeFscrypt(folder);
    if (verdict.possible) return [good('none yet; the kernel can encrypt it here (fscrypt)')];
    return [
      limited(
        `none yet; one of files of its own is made, since fscrypt cannot: ${verdict.why}`,
        verdict.next,
      ),
    ];
  } catch (error) {
    const { text, hint } = explain(error);
    return [bad(text, hint)];
  }
}

async function configuration({ config }: Folders) {
  const next = 'make one on EVC with evc key add --out DIR, and copy it there';
  const absent = [rootCertificateFile, 'server'].filter((name) => !existsSync(join(config, name)));
  if (absent.length > 0) return [bad(`${config} lacks ${absent.join(' and ')}`, next)];
  try {
    const root = new X509Certificate(await readFile(join(config, rootCertificateFile)));
    const { host, port } = readServer(join(config, 'server'));
    if (Date.parse(root.validTo) < Date.now())
      return [bad(`the root certificate ended on ${root.validTo}`, next)];
    return [
      good(`${host}:${port}, root certificate until ${new Date(root.validTo).toISOString().slice(0, 10)}`),
    ];
  } catch (error) {
    return [bad(`${config}: ${explain(error).text}`, next)];
  }
}

async function baseOs(folders: Folders, options: DoctorOptions) {
  const found = options.tpm === undefined ? discoverTpm(folders) : foundTpm(options.tpm, folders);
  const asked = options.board === 'real' || options.platform !== undefined;
  return asked || (found && boardOf(folders, options) === 'real') ? machineOs(options) : installedOs(folders);
}

async function machineOs({ platform: directory }: DoctorOptions) {
  const { image, firmware } = await machineVersions();
  const os = `${image}, firmware ${firmware === '' ? 'unnamed' : firmware}`;
  const found = [
    image === ''
      ? bad('the operating system does not say its version', 'write IMAGE_VERSION into /etc/os-release')
      : good(os),
  ];
  if (directory === undefined)
    return [
      ...found,
      limited(
        'no platform was named: such a device is not upgraded, and does not reboot by itself',
        'use --platform DIR, here and with eve run',
      ),
    ];
  const platform = new Platform(directory);
  const missing = requiredPrograms.filter((program) => !platform.has(program));
  if (missing.length > 0)
    return [
      ...found,
      bad(`${directory} has no ${missing.join(', ')} that can be run`, 'see device/platform/README.md'),
    ];
  try {
    return [...found, good(`runs from ${await platform.run('slot-current')}, as ${directory} says`)];
  } catch (error) {
    return [...found, bad(`${directory}: ${explain(error).text}`, 'see device/platform/README.md')];
  }
}

async function installedOs({ persist }: Folders) {
  const next = 'install an image with eve install --image DIR';
  if (!existsSync(join(persist, 'slots'))) return [bad('none is installed', next)];
  try {
    const slots = new SlotStore(openPersist(persist));
    if (!slots.installed) return [bad('none is installed', next)];
    const { label, version } = slots.read().current;
    return [good(`${version} in ${label}`)];
  } catch (error) {
    return [bad(explain(error).text, next)];
  }
}

async function controller({ config }: Folders) {
  let server: ReturnType<typeof readServer>;
  let root: string;
  try {
    server = readServer(join(config, 'server'));
    root = await readFile(join(config, rootCertificateFile), 'utf8');
  } catch {
    return [limited('not known: the configuration is missing', '')];
  }
  try {
    const { stream } = await dialTls(server, root);
    stream.destroy();
    return [good(`answers at ${server.host}:${server.port}`)];
  } catch (error) {
    return [limited(explain(error).text, 'start evc serve there; a device waits for it and tries again')];
  }
}
