// `eve fleet N`: many devices in this process, until somebody ends it or its scenario is over.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { getHeapStatistics } from 'node:v8';
import { createImage, type Image, readImage } from '../boot/image.ts';
import { systemClock } from '../clock.ts';
import { DeviceFleet, type FleetMember } from '../fleet.ts';
import { dialTls, readServer } from '../link/dial.ts';
import { slowed } from '../link/slow.ts';
import { rootCertificate } from '../node.ts';
import { StateFolder } from '../state.ts';
import { exitCodes, Failure } from './failure.ts';
import { untilEnded } from './run.ts';

export interface FleetCommandOptions {
  config: string;
  state?: string;
  image?: string;
  scenario: string;
  atOnce: string;
  tampered: string;
  slow?: string;
  json?: boolean;
  withParent?: boolean;
}

export const scenarios = ['steady', 'storm'] as const;
const most = 100_000;
const progressEvery = { terminal: 1000, file: 10_000 };

/** How a phase went. */
interface PhaseReport {
  phase: string;
  devices: number;
  trusted: number;
  refused: number;
  /** From the first power to the last verdict. */
  seconds: number;
  /** From the power of a device to its verdict: median, 99 of 100, the slowest. */
  medianSeconds: number;
  p99Seconds: number;
  slowestSeconds: number;
  /** CPU of this process in the phase, and its memory at the end and at its most. */
  cpuSeconds: number;
  memoryMb: number;
  mostMemoryMb: number;
  reasons: Record<string, number>;
}

/** Of the JavaScript heap, for each device and for everything else, bytes: a device takes half of it. */
const heap = { device: 1e6, rest: 500e6 };

/**
 * The heap of a process cannot grow past a limit that is given when it starts: a large fleet runs in a process of its own, with
 * one that is large enough. Resolves with its exit code; null where this process will do.
 */
export async function runInLargerHeap(countText: string): Promise<number | null> {
  const wanted = Number(countText) * heap.device + heap.rest;
  if (!(wanted > getHeapStatistics().heap_size_limit) || wanted > most * heap.device) return null;
  const limit = `--max-old-space-size=${Math.ceil(wanted / 1e6)}`;
  const child = spawn(process.execPath, [limit, ...process.execArgv, ...process.argv.slice(1)], {
    stdio: 'inherit',
  });
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  // A terminal tells the child as well, and who is told twice ends at once.
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? exitCodes.failed));
  });
}

/** Resolves with whether all went as it must: with `storm`, the tampered are refused and all others trusted. */
export async function runFleet(countText: string, options: FleetCommandOptions): Promise<boolean> {
  const count = numberOf(countText, 'the number of devices', 1, most);
  const atOnce = numberOf(options.atOnce, '--at-once', 1, most);
  const tampered = Math.round((count * numberOf(options.tampered, '--tampered', 0, 100)) / 100);
  const slow = slowOf(options.slow);
  const scenario = scenarios.find((known) => known === options.scenario);
  if (!scenario)
    throw new Failure(`--scenario ${options.scenario}`, `known: ${scenarios.join(', ')}`, exitCodes.usage);
  const folder = options.state ? resolve(options.state) : mkdtempSync(join(tmpdir(), 'eve-fleet-'));
  mkdirSync(folder, { recursive: true });
  const config = installedConfig(resolve(options.config));
  const server = readServer(join(config, 'server'));
  const { pem } = rootCertificate(new StateFolder(config));
  const image = options.image
    ? await readImage(resolve(options.image))
    : await madeImage(join(folder, 'image'), '');
  const fleet = new DeviceFleet({
    count,
    folder,
    config,
    image,
    kept: options.state !== undefined,
    clock: systemClock,
    dial: async (member) => {
      const dialled = await dialTls(server, pem);
      return member <= (count * slow.percent) / 100 ? slowed(dialled, slow.latency) : dialled;
    },
    ...(options.json ? { onChange: printChange } : {}),
  });
  const progress = options.json ? null : showProgress(fleet);
  let ended = false;
  const end = untilEnded(options).then(() => {
    ended = true;
    return fleet.close();
  });
  const say = (report: PhaseReport) => {
    progress?.clear();
    process.stdout.write(
      options.json ? `${JSON.stringify({ kind: 'phase', ...report })}\n` : reportText(report),
    );
  };
  try {
    const first = await phase('power on', fleet.members, () => fleet.powerOn(fleet.members, atOnce));
    if (ended) return true;
    say(first);
    if (scenario === 'steady') {
      await end;
      return true;
    }
    // The last of them, so that the slow ones are honest.
    const changed = fleet.members.slice(count - tampered);
    await fleet.powerCut(fleet.members);
    const other = await madeImage(join(folder, 'image-tampered'), 'init=/bin/sh');
    for (const member of changed) fleet.replaceImage(member, other);
    const storm = await phase('power back', fleet.members, () => fleet.powerOn(fleet.members, atOnce));
    if (ended) return true;
    say(storm);
    const honest = fleet.members.slice(0, count - tampered);
    return (
      honest.every(({ standing }) => standing === 'trusted') &&
      changed.every(({ standing }) => standing === 'refused')
    );
  } finally {
    progress?.end();
    const left = standings(fleet);
    await fleet.close();
    if (ended) sayStopped(left, options);
    if (options.state === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

async function phase(
  name: string,
  members: readonly FleetMember[],
  work: () => Promise<void>,
): Promise<PhaseReport> {
  const start = systemClock.now();
  const cpu = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  const settled = members.filter((member) => member.settled);
  const seconds = settled
    .map(({ poweredAt, settledAt }) => (settledAt - poweredAt) / 1000)
    .sort((a, b) => a - b);
  const share = (part: number) =>
    seconds[Math.min(seconds.length - 1, Math.floor(seconds.length * part))] ?? 0;
  const reasons: Record<string, number> = {};
  for (const { why } of members) if (why !== '') reasons[why] = (reasons[why] ?? 0) + 1;
  return {
    phase: name,
    devices: members.length,
    trusted: members.filter(({ standing }) => standing === 'trusted').length,
    refused: members.filter(({ standing }) => standing === 'refused').length,
    seconds: (systemClock.now() - start) / 1000,
    medianSeconds: share(0.5),
    p99Seconds: share(0.99),
    slowestSeconds: seconds.at(-1) ?? 0,
    cpuSeconds: (user + system) / 1e6,
    memoryMb: Math.round(process.memoryUsage.rss() / 1e6),
    mostMemoryMb: Math.round(process.resourceUsage().maxRSS / 1000),
    reasons,
  };
}

function reportText(report: PhaseReport): string {
  const { phase: name, devices, trusted, refused, seconds, reasons } = report;
  const lines = [
    `${name}: ${trusted} of ${devices} trusted, ${refused} refused, in ${seconds.toFixed(1)} s (${(devices / seconds).toFixed(0)} a second)`,
    `  each: median ${report.medianSeconds.toFixed(2)} s, 99 of 100 ${report.p99Seconds.toFixed(2)} s, slowest ${report.slowestSeconds.toFixed(2)} s`,
    `  this process: ${report.cpuSeconds.toFixed(1)} s CPU, ${report.memoryMb} MB, at most ${report.mostMemoryMb} MB`,
    ...Object.entries(reasons).map(([code, many]) => `  ${many} × ${code}`),
  ];
  return `${lines.join('\n')}\n`;
}

function standings(fleet: DeviceFleet): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { standing } of fleet.members) counts[standing] = (counts[standing] ?? 0) + 1;
  return counts;
}

function countsText(counts: Record<string, number>): string {
  return Object.entries(counts)
    .map(([standing, many]) => `${many} ${standing}`)
    .join(', ');
}

/** How the devices stood when the fleet was told to stop, and whether they come back. */
function sayStopped(counts: Record<string, number>, { json, state }: FleetCommandOptions): void {
  const kept = state !== undefined;
  const text = `the fleet has stopped: ${countsText(counts)}; ${kept ? `they are kept in ${state}` : 'nothing of it is kept'}`;
  process.stdout.write(`${json ? JSON.stringify({ kind: 'stopped', ...counts, kept }) : text}\n`);
}

/** One line of how many are where: over and over on a terminal, now and then in a file. */
function showProgress(fleet: DeviceFleet): { clear(): void; end(): void } {
  const { isTTY } = process.stdout;
  const clear = () => {
    if (isTTY) process.stdout.write('\r\u001b[K');
  };
  let last = '';
  const timer = setInterval(
    () => {
      const text = countsText(standings(fleet));
      if (text === last) return;
      last = text;
      clear();
      process.stdout.write(isTTY ? text : `${text}\n`);
    },
    isTTY ? progressEvery.terminal : progressEvery.file,
  );
  return {
    clear,
    end() {
      clear();
      clearInterval(timer);
    },
  };
}

function printChange({ index, standing, why, settledAt }: FleetMember): void {
  process.stdout.write(`${JSON.stringify({ kind: 'device', index, standing, why, at: settledAt })}\n`);
}

/** Throws Failure for a folder that no device can be installed with. */
function installedConfig(config: string): string {
  for (const name of ['server', 'root-certificate.pem', 'onboard.cert.pem', 'onboard.key.pem']) {
    if (existsSync(join(config, name))) continue;
    throw new Failure(
      `there is no ${join(config, name)}`,
      'make the folder on EVC, with a key for as many devices: evc key add --out DIR --limit N',
    );
  }
  if (!existsSync(join(config, 'soft_serial'))) return config;
  throw new Failure(
    `${join(config, 'soft_serial')} gives all devices the same serial number`,
    'make the folder without --serial: then each device makes one of its own',
  );
}

async function madeImage(folder: string, cmdline: string): Promise<Image> {
  if (existsSync(folder)) return readImage(folder);
  return createImage(folder, { version: '1.0.0', ...(cmdline === '' ? {} : { cmdline }) });
}

/** `10:250`: of each hundred devices ten, 250 ms. Throws Failure. */
function slowOf(text: string | undefined): { percent: number; latency: number } {
  if (text === undefined) return { percent: 0, latency: 0 };
  const [, percent = '', latency = ''] = /^(\d+):(\d+)$/.exec(text) ?? [];
  return {
    percent: numberOf(percent, '--slow PERCENT:MS', 0, 100),
    latency: numberOf(latency, '--slow PERCENT:MS', 0, 60_000),
  };
}

function numberOf(text: string, what: string, least: number, largest: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= largest) return value;
  throw new Failure(`${what}: ${text || 'nothing'}`, `a number from ${least} to ${largest}`, exitCodes.usage);
}
