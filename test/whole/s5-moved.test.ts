import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Account } from '../../machines/device-record.ts';
import {
  configOf,
  contextOf,
  inWorld,
  manufacturing,
  stateOf,
  type World,
  type WorldDevice,
} from '../kit/world.ts';

const minute = 60_000;
const plant: Account = { id: 'plant', kind: 'production', locationLock: true, radius: 200, moved: 'report' };
const strict: Account = { ...plant, id: 'strict', moved: 'block' };
const open: Account = { ...plant, id: 'open', locationLock: false };
const accounts = [manufacturing, plant, strict, open];

const berlin = { latitude: 52.52, longitude: 13.405, accuracy: 10 };
const paris = { latitude: 48.8566, longitude: 2.3522, accuracy: 10 };

function move(world: World, device: WorldDevice, place: typeof berlin | null): void {
  device.location.fix = place && { ...place, at: world.clock.now() };
}

async function reboot(world: World, device: WorldDevice): Promise<void> {
  await device.node.reboot('test');
  await world.attested(device);
}

async function place(world: World, device: WorldDevice): Promise<string> {
  return ((await world.view(device)).states as Record<string, string>).location ?? '';
}

test('S5: with Location-Lock the first trusted place is frozen, and another one is UMD; going back clears it', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({ account: 'plant' });
    move(world, device, berlin);
    await reboot(world, device);
    assert.is(await place(world, device), 'locked');
    assert.is((await world.view(device)).place.locked?.latitude, berlin.latitude);

    move(world, device, paris);
    await reboot(world, device);
    assert.is(await place(world, device), 'umd');
    const view = await world.view(device);
    assert.is(view.trust, 'umd');
    assert.ok(view.verdict?.findings.some(({ code }) => code === 'policy.location.moved'));
    // Report only: the device works.
    assert.is(configOf(device)?.partial, false);
    assert.equal(stateOf(device, 'vault-manager'), { unlocked: 'idle' });

    move(world, device, berlin);
    await reboot(world, device);
    assert.is(await place(world, device), 'locked');
    assert.is(await world.trust(device), 'trusted');
  }, accounts));

test('S5: an account that blocks gives a moved device no configuration and no key until a person accepts the place', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({ account: 'strict' });
    move(world, device, berlin);
    await reboot(world, device);
    move(world, device, paris);
    await device.node.reboot('test');
    await world.until(
      'the partial configuration is there',
      () => configOf(device)?.partial === true,
      10 * minute,
    );
    const { error, key } = contextOf<{ error: { code: string }; key: unknown }>(device, 'attest-task');
    assert.is(error.code, 'policy.location.moved');
    assert.is(key, null);
    await world.evc.operator.acceptPlace(device.id, 'tester', 'it was sold to Paris');
    await world.attested(device);
    assert.is(configOf(device)?.partial, false);
    assert.is((await world.view(device)).place.locked?.latitude, paris.latitude);
    assert.is(await world.trust(device), 'trusted');
  }, accounts));

test('without Location-Lock, and in a manufacturing account, the place does not matter', () =>
  inWorld(async (world) => {
    for (const account of ['open', 'factory']) {
      const device = await world.addDevice({ account });
      move(world, device, berlin);
      await reboot(world, device);
      move(world, device, paris);
      await reboot(world, device);
      assert.is(await place(world, device), 'notLocked');
      assert.is(await world.trust(device), 'trusted');
    }
  }, accounts));

test('rule 6: a device that moves from manufacturing to another account keeps its PCR baseline, and its place is frozen there', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    move(world, device, berlin);
    await reboot(world, device);
    const before = await world.view(device);
    await world.evc.operator.moveDevice(device.id, 'plant');
    assert.is(await place(world, device), 'baselinePending');
    move(world, device, paris);
    await reboot(world, device);
    const view = await world.view(device);
    assert.equal(view.baseline, before.baseline);
    assert.is(await place(world, device), 'locked');
    assert.is(view.place.locked?.latitude, paris.latitude);
  }, accounts));

test('Location-Lock is turned off again: a mobile gateway moves freely', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({ account: 'plant' });
    move(world, device, berlin);
    await reboot(world, device);
    await world.evc.accounts.change('plant', { locationLock: false });
    move(world, device, paris);
    await reboot(world, device);
    assert.is(await place(world, device), 'notLocked');
    assert.is(await world.trust(device), 'trusted');
  }, accounts));

test('no fix is no movement', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({ account: 'plant' });
    move(world, device, berlin);
    await reboot(world, device);
    move(world, device, null);
    await reboot(world, device);
    assert.is(await place(world, device), 'locked');
    assert.is(await world.trust(device), 'trusted');
  }, accounts));

test.run();
