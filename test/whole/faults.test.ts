// A device when its own parts fail.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { contextOf, inWorld, stateOf } from '../kit/world.ts';

const minute = 60_000;

test('a component whose chart dies is started again, and the device goes on', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    // An event that no component ever gets: it is not what the chart was promised.
    device.node.component('base-os')?.send({ type: 'baseos.wanted' });
    await world.until('it failed', () => device.events.some((event) => event.kind === 'failed'), minute);
    await world.until(
      'it runs again',
      () => stateOf(device, 'base-os') === 'idle' && stateOf(device, 'device-steps') === 'running',
      10 * minute,
    );
  }));

test('a slot on trial that cannot be read is given up by the watchdog, and the old image boots', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    device.onStaged = () => rmSync(join(device.slots.directory('IMGB'), 'kernel'));
    await world.evc.operator.assignUpgrade(device.id, {
      version: '2.0.0',
      window: 60 * minute,
      testWindow: minute,
    });
    await world.until(
      'EVC knows',
      async () => (await world.view(device)).upgraded?.how === 'rolledBack',
      60 * minute,
    );
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
    assert.is(device.slots.read().current.version, '1.0.0');
  }));

test('a damaged state file: the backup is used, and without one the reason names the file', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await device.node.reboot('test');
    await world.attested(device);
    const checkpoint = join(device.folder, 'persist', 'checkpoint', 'lastconfig');
    writeFileSync(checkpoint, 'rubbish');
    device.net.up = false;
    await device.node.reboot('test');
    await world.until(
      'the backup is applied',
      () => device.node.node !== null && stateOf(device, 'config-task') !== 'loading',
      minute,
    );
    const { error } = contextOf<{ error: { code: string } | null }>(device, 'config-task');
    assert.is.not(error?.code, 'state.broken');
    writeFileSync(checkpoint, 'rubbish');
    writeFileSync(`${checkpoint}.bak`, 'rubbish');
    await device.node.reboot('test');
    const broken = () =>
      device.events.some(
        (event) => event.kind === 'port' && event.phase === 'fails' && event.code === 'state.broken',
      );
    await world.until('the reason is said', broken, 10 * minute);
    // And it heals as soon as EVC is there.
    device.net.up = true;
    await world.attested(device);
  }));

test('another TPM on the board: the device notices by itself, and entrusts nothing to it', () =>
  inWorld(async (world) => {
    const before = await world.addDevice();
    await world.attested(before);
    const device = await world.swapTpm(before);
    await world.until('it is noticed', () => stateOf(device, 'tpm-manager') === 'lost', 10 * minute);
    assert.is(contextOf<{ error: { code: string } }>(device, 'tpm-manager').error.code, 'tpm.other');
    assert.not(device.node.node?.vault.unlocked);
    await world.run(30 * minute);
    assert.not(device.node.node?.vault.unlocked);
    assert.is.not(stateOf(device, 'attest-task'), 'complete');
  }));

test.run();
