// The stories that `evc up` plays: what the operator and the world do to a device, and how each has to end.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pcrsOf } from '../record/facts.ts';
import { decide } from './devices.ts';
import { Failure } from './failure.ts';
import type { Fleet, FleetDevice } from './fleet.ts';

type ImagePlan = readonly [name: string, options: readonly string[]];

export interface StoryPlan {
  title: string;
  device: string;
  account?: string;
  /** Story of the same device that comes before it. */
  after?: string;
  /** Whether it needs the machine for itself. */
  alone?: boolean;
  /** Whether the onboarding itself is the story. */
  onboards?: boolean;
  image: ImagePlan;
  /** Images that it needs later, made while others are told. */
  later?: readonly ImagePlan[];
  /** Where the device stands. */
  place?: string;
  /** Resolves with how it ended, in a sentence; rejects with Failure when it did not end as it must. */
  play(fleet: Fleet, device: FleetDevice): Promise<string>;
}

const first: ImagePlan = ['1.0.0', ['--version', '1.0.0']];
const other: ImagePlan = ['other', ['--version', '1.0.0-dev']];
const good: ImagePlan = ['1.1.0', ['--version', '1.1.0']];
const bad: ImagePlan = ['1.2.0', ['--version', '1.2.0', '--selftest', 'fails']];
const recorded = (version: string, log: string): ImagePlan => [
  log,
  ['--version', version, '--recorded', log],
];
const updateBefore = recorded('eve-before', 'update.before');
const updateAfter = recorded('eve-after', 'update.after');
const biosBefore = recorded('eve-node', 'bios-setup.before');
const biosAfter = recorded('eve-node', 'bios-setup.after');
const berlin = '52.5200,13.4050,20';
const hamburg = '53.5511,9.9937,20';
/** A demonstration does not want to wait for long, and a real window is minutes, ms. */
const testWindow = 1500;
const upgradeWindow = 60_000;

export const stories: Readonly<Record<string, StoryPlan>> = {
  onboarding: {
    title: 'S1 Onboarding, the first boot',
    device: 'edge-01',
    onboards: true,
    image: first,
    async play(_, device) {
      const { baseline, escrow, trust } = await device.view();
      must(trust === 'trusted' && baseline?.grounds === 'first-boot', 'trusted by its first boot');
      must(escrow.length === 1, 'its key is escrowed');
      return 'trusted; its boot is the baseline, EVC holds its key';
    },
  },
  restart: {
    title: 'S2 Normal restart',
    device: 'edge-01',
    after: 'onboarding',
    image: first,
    async play(_, device) {
      await device.reboot();
      await device.attested();
      const { verdict, escrow } = await device.view();
      must(verdict?.grounds === 'baseline', 'trusted by its baseline');
      must(device.context('vault-manager').unlockedBy === 'tpm', 'the TPM opened the vault');
      must(escrow[0]?.version === 1, 'no new key was made');
      return 'trusted; the TPM opened the vault, nobody was asked';
    },
  },
  offline: {
    title: 'S2b Restart with EVC out of reach',
    device: 'edge-01',
    after: 'restart',
    alone: true,
    image: first,
    async play(fleet, device) {
      await fleet.stopEvc();
      await device.reboot();
      await device.until(
        'it runs on its own',
        () => device.vaultOpen && device.context('config-task').source === 'checkpoint',
      );
      must(device.state('client') === 'provisionedOffline', 'the client goes on offline');
      await fleet.startEvc();
      await device.attested();
      const { verdict } = await device.view();
      must(verdict?.grounds === 'baseline', 'trusted by its baseline');
      return 'ran without EVC, and attested when it was back';
    },
  },
  unknown: {
    title: 'S3 Unknown software, healed by acceptance',
    device: 'edge-02',
    image: first,
    later: [other],
    async play(fleet, device) {
      await device.install(await fleet.image(...other));
      await device.reboot();
      await untrusted(device);
      await device.until('it has only the base OS part', () => configError(device) !== 'config.forbidden');
      const { verdict, trust } = await device.view();
      must(trust === 'uud' && verdict?.genuine === true, 'genuine, and UUD');
      must(device.state('vault-manager').includes('locked'), 'the vault is locked');
      const findings = verdict?.findings ?? [];
      must(
        findings.some(
          ({ pcr, event, seen, allowed }) => pcr !== undefined && event !== undefined && seen && allowed,
        ),
        'a finding names PCR, event, seen and allowed',
      );
      await decide(fleet.api, device.name, 'accept', { reason: 'it is our own build' });
      await device.attested();
      must((await device.view()).verdict?.grounds === 'acceptance', 'trusted by acceptance');
      must(device.context('vault-manager').unlockedBy === 'controller', 'EVC’s key opened the vault');
      return 'was UUD and locked; accepted by a person, the vault is open again';
    },
  },
  upgrade: {
    title: 'S4 Upgrade driven by EVC',
    device: 'edge-03',
    image: first,
    later: [good],
    async play(fleet, device) {
      await offer(fleet, '1.1.0', good);
      await upgradeTo(fleet, device, '1.1.0');
      await committed(device);
      const { baseline } = await device.view();
      must(
        baseline?.versions.image === '1.1.0' && device.image === '1.1.0',
        'it runs 1.1.0, the new baseline',
      );
      return 'upgraded 1.0.0 → 1.1.0; the new state is the baseline';
    },
  },
  fallback: {
    title: 'S4.12 Upgrade that fails its test, and falls back',
    device: 'edge-04',
    image: first,
    later: [bad],
    async play(fleet, device) {
      await offer(fleet, '1.2.0', bad);
      await upgradeTo(fleet, device, '1.2.0');
      await device.until('the upgrade is rolled back', () => device.record.software === 'rolledBack');
      await device.until('it is attested again', () => device.image === '1.0.0' && device.complete);
      const { baseline, upgraded, trust } = await device.view();
      must(trust === 'trusted' && baseline?.versions.image === '1.0.0', 'trusted on 1.0.0');
      must(upgraded?.how === 'rolledBack', 'the window is closed as failed');
      must(device.context('vault-manager').unlockedBy === 'tpm', 'the old seal opened the vault');
      return `fell back to 1.0.0: ${upgraded?.why?.text ?? ''}`;
    },
  },
  moved: {
    title: 'S5 Moved device, with Location-Lock on',
    device: 'edge-05',
    account: 'locked',
    image: first,
    place: berlin,
    async play(_, device) {
      await device.until('its place is locked', () => device.record.location === 'locked');
      device.moveTo(hamburg);
      await device.reboot();
      await device.until('it is UMD', () => device.record.location === 'umd');
      await device.attested();
      const { trust, place, verdict } = await device.view();
      must(trust === 'umd' && verdict?.accepted === true, 'trusted software, and UMD');
      must(Math.abs((place.locked?.latitude ?? 0) - 52.52) < 0.01, 'still locked to where it was');
      return 'trusted software in another place: UMD, reported';
    },
  },
  'eve-update': {
    title: 'A recorded EVE update that nobody pushed (lf-edge/eve)',
    device: 'eve-06',
    image: updateBefore,
    later: [updateAfter],
    async play(fleet, device) {
      await device.install(await fleet.image(...updateAfter));
      await device.reboot();
      await untrusted(device);
      const { verdict } = await device.view();
      const pcrs = pcrsOf(verdict?.findings ?? []);
      must(pcrs.join() === '5,8,9,13', `UUD names PCRs 5, 8, 9, 13 (it names ${pcrs.join(', ')})`);
      const rootfs = verdict?.findings.find(({ code }) => code.startsWith('log.rootfs'));
      must(rootfs !== undefined, 'UUD names the root file system');
      return `UUD: PCRs ${pcrs.join(', ')}; ${rootfs?.text ?? ''}`;
    },
  },
  'eve-update-approved': {
    title: 'The same EVE update, in the catalogue and assigned',
    device: 'eve-07',
    image: updateBefore,
    later: [updateAfter],
    async play(fleet, device) {
      await offer(fleet, 'eve-after', updateAfter);
      await upgradeTo(fleet, device, 'eve-after');
      await committed(device);
      const { baseline } = await device.view();
      must(baseline?.versions.image === 'eve-after', 'the update is the baseline');
      return 'the same measurements, pushed by EVC: approved';
    },
  },
  'eve-bios': {
    title: 'A recorded visit to the firmware setup (lf-edge/eve)',
    device: 'eve-08',
    image: biosBefore,
    later: [biosAfter],
    async play(fleet, device) {
      const after = await fleet.image('bios-after', [
        '--version',
        'eve-node',
        '--recorded',
        'bios-setup.after',
      ]);
      await device.install(after);
      await device.reboot();
      await untrusted(device);
      const pcrs = pcrsOf((await device.view()).verdict?.findings ?? []);
      must(pcrs.join() === '1,8,14', `UUD names PCRs 1, 8, 14 (it names ${pcrs.join(', ')})`);
      return `UUD: PCRs ${pcrs.join(', ')}`;
    },
  },
};

/** Story names that a person may give, and what each plays. */
export function storiesCalled(name: string | undefined): string[] {
  if (name === undefined) return Object.keys(stories);
  if (name === 'eve-update') return ['eve-update', 'eve-update-approved'];
  const chosen: string[] = [];
  for (let story: string | undefined = name; story !== undefined; story = stories[story]?.after) {
    if (!stories[story]) {
      throw new Failure(`there is no story ${name}`, {
        hint: `known: ${Object.keys(stories).join(', ')}`,
        exitCode: 2,
      });
    }
    chosen.unshift(story);
  }
  return chosen;
}

/** Waits until a device is UUD, with its vault locked. */
async function untrusted(device: FleetDevice): Promise<void> {
  await device.until('it is UUD', () => device.record.integrity === 'uud');
  await device.until('its vault is locked', () => device.state('vault-manager').includes('locked'));
}

function configError(device: FleetDevice): string {
  return (
    (device.context('config-task').error as { code: string } | null | undefined)?.code ?? 'config.forbidden'
  );
}

const offers = new WeakMap<Fleet, Map<string, Promise<unknown>>>();

/** Puts an image into the catalogue, once: its file, and the logs of its reference boots. */
function offer(fleet: Fleet, version: string, image: ImagePlan): Promise<unknown> {
  const offered = offers.get(fleet) ?? new Map<string, Promise<unknown>>();
  offers.set(fleet, offered);
  const adding =
    offered.get(version) ??
    fleet.image(...image).then(async (folder) => {
      const logs = readdirSync(`${folder}.logs`).sort();
      const { upload } = await fleet.api.upload(`${folder}.tar`);
      const encoded = logs.map((name) => readFileSync(join(`${folder}.logs`, name)).toString('base64'));
      return fleet.api.send('POST', '/api/v1/images', { version, logs: encoded, upload });
    });
  offered.set(version, adding);
  return adding;
}

function upgradeTo(fleet: Fleet, device: FleetDevice, version: string) {
  return decide(fleet.api, device.name, 'upgrade', { version, window: upgradeWindow, testWindow });
}

async function committed(device: FleetDevice): Promise<void> {
  await device.until('the upgrade is committed', () => device.record.software === 'committed');
  await device.attested();
}

function must(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Failure(`it should be so: ${what}`);
}
