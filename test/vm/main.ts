// `npm run test:vm`: the sequences S1 to S4 on a machine that boots by UEFI under Secure Boot, with a TPM that measures, the
// kernel's encryption, and an EVC across the network. What each part is stands in README.md.
import * as assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectRoot } from '../kit/root.ts';
import { Disk } from './disk.ts';
import { type DeviceView, EvcOnHost } from './evc.ts';
import { accelerator, Machine } from './machine.ts';
import { debianParts, type Parts } from './parts.ts';
import { baseArchive, makeSystem, packSystem, type System, suiteFile } from './system.ts';

const began = performance.now();
const cache = join(fileURLToPath(projectRoot), '.eve-attest/vm');
const folder = join(cache, 'run');
const grubScript = join(fileURLToPath(projectRoot), 'device/platform/grub/grub.cfg');
/** ms. */
const bootTime = 120_000;
const attestTime = 120_000;
const installTime = 240_000;

function say(text: string): void {
  console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)}s  ${text}`);
}

async function play(): Promise<void> {
  const parts = await debianParts(cache);
  if (!parts) return;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const { name, why } = accelerator();
  say(
    `Debian's kernel ${parts.release}, shim, GRUB and OVMF are here; QEMU runs with ${name}${why ? ` (${why})` : ''}`,
  );

  const base = baseArchive(parts);
  const first = makeSystem(parts, base, folder, { version: '1.0.0' });
  const second = makeSystem(parts, base, folder, { version: '1.1.0', cmdline: 'audit=1' });
  say(`images 1.0.0 and 1.1.0 are made: kernel, and an initramfs of ${Math.round(base.length / 1e6)} MB`);

  const evc = new EvcOnHost(join(folder, 'evc'));
  let machine: Machine | null = null;
  try {
    await evc.start();
    const config = join(folder, 'config');
    await evc.ask('key', 'add', '--out', config, '--serial', 'vm-1');
    const disk = Disk.make(join(folder, 'disk.img'), parts, first, config);
    machine = new Machine({ folder, parts, disk, accelerator: name });
    await evc.ask('ek-root', 'add', ...machine.authority);
    say('EVC serves; a disk and a TPM are made in the factory, and EVC knows who vouches for the TPM');
    await story(machine, disk, evc, parts, { first, second });
    say('✓ S1 to S4 are as they must be');
  } catch (error) {
    if (machine) console.log(`${machine.lines.slice(-25).join('\n')}\n`);
    throw error;
  } finally {
    await machine?.powerOff();
    await evc.stop();
  }
}

interface Images {
  first: System;
  second: System;
}

async function story(
  machine: Machine,
  disk: Disk,
  evc: EvcOnHost,
  parts: Parts,
  images: Images,
): Promise<void> {
  const { first, second } = images;

  await boots(machine, 'S1', () => machine.powerOn());
  let device = await judged(evc, 'S1', 'trusted', 'first-boot');
  assert.equal(device.baseline?.versions.image, first.version);
  assert.equal(device.ekTrust, 'vendor');
  await vaultIs(machine, 'S1', { status: 'unlocked', unlockedBy: 'created', backend: 'fscrypt' });
  await evidenceHolds(machine, evc, 'S1');
  // It ends with 1 when anything is bad.
  const doctor = await machine.run(
    'node /opt/eve/bin/eve.js doctor --board real --platform /etc/eve/platform',
  );
  writeFileSync(join(folder, 'S1.doctor'), doctor);
  say(`S1     eve doctor: ${doctor.trim().split('\n').at(-1)}`);

  await boots(machine, 'S2', () => machine.run('sync; (sleep 1; reboot -f) >/dev/null 2>&1 &'));
  await judged(evc, 'S2', 'trusted', 'baseline');
  await vaultIs(machine, 'S2', { status: 'unlocked', unlockedBy: 'tpm', backend: 'fscrypt' });

  await cutPower(machine);
  disk.write('slots/IMGA/grub.cfg', first.grubCfg.replace('quiet', 'quiet rdinit=/init eve.backdoor=1'));
  await boots(machine, 'S3', () => machine.powerOn());
  device = await judged(evc, 'S3', 'uud', null);
  const causes = device.verdict?.findings ?? [];
  const cause = causes.find(({ code, text }) => cmdlineChanged.test(code) && text.includes('eve.backdoor=1'));
  assert.ok(cause, causes.map(({ code, text }) => `${code}: ${text}`).join('\n'));
  say(`S3     refused, ${cause.code}: ${cause.text}`);
  await vaultIs(machine, 'S3', { status: 'locked', unlockedBy: 'none' });
  await evidenceHolds(machine, evc, 'S3');

  await cutPower(machine);
  disk.write('slots/IMGA/grub.cfg', first.grubCfg);
  await boots(machine, 'S3', () => machine.powerOn());
  await judged(evc, 'S3', 'trusted', 'baseline');
  await vaultIs(machine, 'S3', { status: 'unlocked', unlockedBy: 'tpm' });

  const manifest = await measuredFromFiles(evc, parts, second, 'IMGB');
  const file = await packSystem(second, folder);
  await evc.ask('image', 'add', second.version, '--file', file, '--measured', manifest);
  say(`S4     EVC knows what ${second.version} measures in IMGB, from its files alone`);
  const staged = machine.line(/base-os +rebooting/, installTime);
  await evc.ask('upgrade', device.device, second.version, '--test-window', '20s');
  await staged;
  say('S4     fetched, checked, written into IMGB, to be tried once');
  await boots(machine, 'S4', () => Promise.resolve());
  assert.equal(await machine.run('/etc/eve/platform/slot-current'), 'IMGB\n');
  await judged(evc, 'S4', 'trusted', 'upgrade');
  await vaultIs(machine, 'S4', { status: 'unlocked', unlockedBy: 'controller', backend: 'fscrypt' });
  device = await evc.until(
    'committed',
    ({ upgraded, baseline }) => upgraded?.how === 'committed' && baseline?.versions.image === second.version,
    attestTime,
  );
  say(`S4     ${second.version} is committed, and the baseline`);
  await boots(machine, 'S4', () => machine.run('sync; (sleep 1; reboot -f) >/dev/null 2>&1 &'));
  await judged(evc, 'S4', 'trusted', 'baseline');
  assert.equal(await machine.run('/etc/eve/platform/slot-current'), 'IMGB\n');
  await vaultIs(machine, 'S4', { status: 'unlocked', unlockedBy: 'tpm' });
  await evidenceHolds(machine, evc, 'S4');

  // Last: it extends PCRs.
  const suite = await machine.run(`cd /opt/eve; EVE_TEST_TPM=device:/dev/tpmrm0 node ${suiteFile}`, 240_000);
  const [, total, passed] = /Total: +(\d+)\n +Passed: +(\d+)/.exec(suite) ?? [];
  assert.ok(total !== undefined && Number(total) > 5 && total === passed, suite);
  say(`TPM    the suite of transports on /dev/tpmrm0: ${passed} of ${total} passed`);
}

const cmdlineChanged = /^log\.kernel-(argument-added|cmdline-changed)$/;

/** What `evc image measure` makes of shim, GRUB, kernel, initramfs and both GRUB scripts, from one slot. */
async function measuredFromFiles(
  evc: EvcOnHost,
  parts: Parts,
  { version, kernel, initrd, grubCfg }: System,
  slot: 'IMGA' | 'IMGB',
): Promise<string> {
  const script = join(folder, `${version}.cfg`);
  writeFileSync(script, grubCfg);
  const machine = join(folder, `${version}.machine.json`);
  const files = { [`/slots/${slot}/grub.cfg`]: basename(script) };
  writeFileSync(machine, JSON.stringify({ variables: { slot, boot: slot }, files }));
  const [, cmdline = ''] = /^linux (.*)$/m.exec(grubCfg.replaceAll('$boot', slot)) ?? [];
  const manifest = join(folder, `${version}.json`);
  await evc.offline(
    ...['image', 'measure', parts.shim, parts.grub, kernel, initrd, grubScript, script],
    ...[
      '--grub',
      'upstream',
      '--version',
      version,
      '--cmdline',
      cmdline,
      '--machine',
      machine,
      '-o',
      manifest,
    ],
  );
  return manifest;
}

async function cutPower(machine: Machine): Promise<void> {
  await machine.run('sync');
  await machine.powerOff();
}

/** Starts a boot, and waits until the guest is there. */
async function boots(machine: Machine, step: string, start: () => Promise<unknown>): Promise<void> {
  const from = performance.now();
  const line = machine.line(/guest: up/, bootTime);
  await Promise.all([line, start()]);
  say(`${step.padEnd(6)} booted in ${Math.round((performance.now() - from) / 1000)} s`);
}

async function judged(
  evc: EvcOnHost,
  step: string,
  trust: string,
  grounds: string | null,
): Promise<DeviceView> {
  const asks = performance.now();
  const device = await evc.until(
    `${trust} by ${grounds}`,
    (seen) => seen.online && seen.trust === trust && (seen.verdict?.grounds ?? null) === grounds,
    attestTime,
  );
  const seconds = Math.round((performance.now() - asks) / 1000);
  say(`${step.padEnd(6)} EVC: ${trust}${grounds === null ? '' : ` (${grounds})`}, ${seconds} s later`);
  return device;
}

type Status = Record<string, Record<string, unknown> | undefined>;

/** What the components of the device publish. */
async function deviceStatus(machine: Machine): Promise<Status> {
  return JSON.parse(await machine.run('node /opt/eve/bin/eve.js status --json')) as Status;
}

async function vaultIs(machine: Machine, step: string, wanted: Record<string, string>): Promise<void> {
  const end = Date.now() + attestTime;
  for (;;) {
    const { 'vault-manager/VaultStatus': vault = {} } = await deviceStatus(machine);
    const differs = Object.entries(wanted).filter(([name, value]) => vault[name] !== value);
    if (differs.length === 0) break;
    if (Date.now() > end)
      assert.fail(`${step}: the vault is ${JSON.stringify(vault)}, not ${JSON.stringify(wanted)}`);
  }
  say(`${step.padEnd(6)} vault: ${Object.values(wanted).join(', ')}`);
}

/** The log leads to the values that the kernel shows, and explains the quote of the agent: EVC's own commands say so. */
async function evidenceHolds(machine: Machine, evc: EvcOnHost, step: string): Promise<void> {
  const file = (name: string) => join(folder, `${step}.${name}`);
  const [bios, config, pcrs, quote] = ['bios.log', 'config.log', 'pcrs', 'quote.json'].map(file) as [
    string,
    string,
    string,
    string,
  ];
  writeFileSync(bios, await machine.read('/sys/kernel/security/tpm0/binary_bios_measurements'));
  writeFileSync(config, await machine.read('/persist/status/measurefs_tpm_event_log'));
  const values =
    'for pcr in 0 1 2 3 4 5 6 7 8 9 14; do echo $pcr $(cat /sys/class/tpm/tpm0/pcr-sha256/$pcr); done';
  writeFileSync(pcrs, await machine.run(values));
  writeFileSync(file('status'), await machine.run('node /opt/eve/bin/eve.js status'));
  const status = await deviceStatus(machine);
  const { attest, signature, pcrs: quoted } = status['tpm-manager/AttestQuote'] ?? {};
  const { akPublic } = status['tpm-manager/EdgeNodeCert'] ?? {};
  writeFileSync(quote, JSON.stringify({ attest, signature, akPublic, pcrs: { sha256: quoted } }));
  await evc.offline('eventlog', 'replay', bios, config, '--pcrs', pcrs);
  const verdict = await evc.offline('quote', 'verify', quote, '--any-nonce', '--log', bios, config);
  say(`${step.padEnd(6)} evc eventlog replay --pcrs, evc quote verify --log: ${verdict.split('\n')[0]}`);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
play().then(
  () => process.exit(0),
  (error: unknown) => {
    say(`✗ ${error instanceof Error ? error.stack : String(error)}`);
    process.exit(1);
  },
);
