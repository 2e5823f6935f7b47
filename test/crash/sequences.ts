// The sequences S1 to S5, each as what is done and how it has to end, whoever is killed in it. They follow each other in one
// world: a device that was killed in one of them is the one that the next begins with.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { DeviceView } from '../../controller/operator.ts';
import { configOf, manufacturing, stateOf, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
const hour = 60 * minute;

/** What a sequence has at hand. */
export interface Stage {
  world: World;
  device: WorldDevice;
  /** As `world.until`, and whoever died starts again meanwhile. */
  until(what: string, condition: () => boolean | Promise<boolean>, limit?: number): Promise<void>;
  /** Something that a person asks of EVC, and asks again when EVC died of it. */
  ask(what: () => Promise<unknown>): Promise<void>;
  /** Raised with each call: versions and images that were not there before. */
  fresh(): number;
}

export interface Sequence {
  name: string;
  /** Sets the stage, before anybody can be killed. */
  prepare?(stage: Stage): Promise<void>;
  run(stage: Stage): Promise<void>;
}

export const plant = {
  id: 'plant',
  kind: 'production' as const,
  locationLock: true,
  radius: 200,
  moved: 'report' as const,
};
export const accounts = [manufacturing, plant];

const berlin = { latitude: 52.52, longitude: 13.405, accuracy: 10 };
const paris = { latitude: 48.8566, longitude: 2.3522, accuracy: 10 };
const secret = 'precious';

/** Trusted, configured, its vault open and the key with EVC; and what was in the vault is there. */
export async function endsWell({ world, device, until }: Stage): Promise<void> {
  await until(
    'the device is attested and configured',
    () =>
      stateOf(device, 'attest-task') === 'complete' &&
      stateOf(device, 'config-task') === 'idle' &&
      stateOf(device, 'info-task') === 'idle' &&
      stateOf(device, 'base-os') === 'idle' &&
      configOf(device)?.partial === false &&
      device.node.node?.vault.unlocked === true,
  );
  let view = null as DeviceView | null;
  await until('EVC trusts it', async () => {
    view = await world.view(device);
    return ['trusted', 'umd'].includes(await world.trust(device));
  });
  const { vault } = device.node.node ?? {};
  assert.ok(vault && view);
  assert.ok(
    view.escrow.length > 0 && vault.backend.keys().includes(view.escrow[0]?.keyId ?? ''),
    'EVC’s key opens the vault',
  );
  assert.is(view.baseline?.versions.image, device.node.node?.boot.versions.image);
  assert.ok(imagesOf(device).length <= 1, `no image stays that was fetched: ${imagesOf(device)}`);
}

/** Of images that were fetched, whole or in part: the beginning of their hashes. */
function imagesOf({ folder }: WorldDevice): string[] {
  const images = join(folder, 'persist/slots/images');
  return existsSync(images) ? [...new Set(readdirSync(images).map((name) => name.slice(0, 8)))] : [];
}

/** Something in the vault that must be there for ever. */
export function entrust({ device }: Stage): void {
  device.node.node?.vault.backend.put('data', Buffer.from(secret));
}

export function stillThere({ device }: Stage): void {
  const data = device.node.node?.vault.backend.get('data');
  assert.is(Buffer.from(data ?? []).toString(), secret, 'what was in the vault is there');
}

export const sequences: readonly Sequence[] = [
  {
    name: 'S2 restart',
    run: async ({ device }) => device.node.reboot('test'),
  },
  {
    name: 'S2.7 rotation',
    // Who is offline when it is asked hears of it with its next attestation, hours later.
    prepare: ({ world, until }) => {
      const before = world.steps.length;
      const polls = () => world.steps.slice(before).some(({ event }) => event.type === 'config.requested');
      return until('the device is connected, and polls', polls);
    },
    async run({ world, device, ask, until }) {
      let before: DeviceView['escrow'][number] | undefined;
      await until('EVC says which key it has', async () => {
        [before] = (await world.view(device)).escrow;
        return true;
      });
      await ask(() => world.evc.operator.rotateKey(device.id));
      await until(
        'another key is with EVC, and opens the vault alone',
        async () => {
          const [newest] = (await world.view(device)).escrow;
          const keys = device.node.node?.vault.unlocked ? device.node.node.vault.backend.keys() : [];
          return newest?.keyId !== before?.keyId && keys.length === 1 && keys[0] === newest?.keyId;
        },
        3 * 24 * hour,
      );
    },
  },
  {
    name: 'S2b offline',
    async run({ device, until }) {
      device.net.up = false;
      await device.node.reboot('test');
      await until(
        'it runs on its own',
        () => configOf(device)?.partial === false && device.node.node?.vault.unlocked === true,
      );
      device.net.up = true;
    },
  },
  {
    name: 'S3 unknown software',
    prepare: ({ world, device, fresh }) => world.replaceImage(device, { version: `0.${fresh()}.0` }),
    async run({ world, device, ask, until }) {
      await device.node.reboot('test');
      await until(
        'it has the partial configuration',
        async () => (await world.trust(device)) === 'uud' && configOf(device)?.partial === true,
      );
      assert.not(device.node.node?.vault.unlocked, 'the vault is shut');
      await ask(() => world.evc.operator.acceptState(device.id, 'a person', 'it is right'));
      await until('EVC trusts it', async () => (await world.trust(device)) === 'trusted');
    },
  },
  {
    name: 'S4 upgrade',
    prepare: async ({ world, fresh }) => world.offerImage({ version: `1.${fresh()}.0` }),
    async run({ world, device, ask, until, fresh }) {
      const version = `1.${fresh() - 1}.0`;
      await ask(() =>
        world.evc.operator.assignUpgrade(device.id, { version, window: 2 * hour, testWindow: 2 * minute }),
      );
      await until(
        'the upgrade is over',
        async () => {
          const { upgrade, upgraded } = await world.view(device);
          return upgrade === null && upgraded?.to === version;
        },
        4 * hour,
      );
    },
  },
  {
    name: 'S5 moved',
    async run({ world, device, until }) {
      device.location.fix = receiverAt(world, paris);
      await device.node.reboot('test');
      await until('it is elsewhere', async () => (await world.trust(device)) === 'umd');
      atHome(world, device);
      await device.node.reboot('test');
      await until('it is back', async () => (await world.trust(device)) === 'trusted');
    },
  },
];

export function atHome(world: World, device: WorldDevice): void {
  device.location.fix = receiverAt(world, berlin);
}

/** What a receiver says that stands there, and says anew each time. */
function receiverAt({ clock }: World, place: typeof berlin): NonNullable<WorldDevice['location']['fix']> {
  return {
    ...place,
    get at() {
      return clock.now();
    },
  };
}
