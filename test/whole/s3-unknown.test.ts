import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createImage } from '../../device/boot/image.ts';
import { missingInOrder, portsOf } from '../kit/trace.ts';
import { configOf, contextOf, inWorld, stateOf, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;

/** Somebody with hands on the disk puts another kernel into the running slot. */
async function tamper(device: WorldDevice): Promise<void> {
  const slot = device.slots.read().current.label;
  const other = join(device.folder, 'other');
  await createImage(other, { version: '6.6.6' });
  cpSync(join(other, 'kernel'), join(device.slots.directory(slot), 'kernel'));
  rmSync(other, { recursive: true });
}

async function untrusted(world: World, device: WorldDevice): Promise<void> {
  await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 10 * minute);
  await world.until(
    'the partial configuration is there',
    () => configOf(device)?.partial === true,
    10 * minute,
  );
}

test('S3: unknown software is UUD with PCR, event, seen and allowed; the vault stays locked and only the base OS is configured', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await tamper(device);
    const from = device.events.length;
    await device.node.reboot('test');
    await untrusted(world, device);

    assert.is(
      missingInOrder(portsOf(device, from), [
        'vault-manager unsealKey',
        'attest-task requestNonce',
        'tpm-manager makeQuote',
        'attest-task sendQuote',
        'config-task applyConfig',
      ]),
      null,
    );
    // The config task has told the attest task, which keeps trying.
    const quotes = () => portsOf(device, from).filter((port) => port === 'attest-task sendQuote').length;
    await world.until('the device attests again', () => quotes() > 2, 30 * minute);
    assert.equal(stateOf(device, 'vault-manager'), { locked: 'waitingForKey' });
    const vault = contextOf<{ mismatchingPcrs: number[] }>(device, 'vault-manager');
    assert.equal(vault.mismatchingPcrs, [9]);
    const view = await world.view(device);
    assert.is(view.verdict?.genuine, true);
    assert.is(view.verdict?.accepted, false);
    const findings = view.verdict?.findings ?? [];
    assert.is(findings[0]?.code, 'policy.software.unknown');
    const pcr = findings.find(({ code }) => code === 'policy.pcr.unexpected');
    assert.is(pcr?.pcr, 9);
    assert.is(pcr?.allowed, view.baseline?.pcrs['9']);
    const kernel = findings.find(({ code }) => code === 'log.kernel-changed');
    assert.is(kernel?.pcr, 9);
    assert.type(kernel?.event, 'number');
    assert.ok(kernel?.seen && kernel.allowed);
    // What the device is told is what EVC knows.
    const { error } = contextOf<{ error: { code: string } }>(device, 'attest-task');
    assert.is(error.code, 'policy.software.unknown');
    assert.equal(configOf(device)?.settings, {});
    const { key } = contextOf<{ key: unknown }>(device, 'attest-task');
    assert.is(key, null);
  }));

test('S3.5: untrusted software is not believed about where it is', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    device.location.fix = { latitude: 52, longitude: 13, accuracy: 10, at: world.clock.now() };
    await tamper(device);
    await device.node.reboot('test');
    await untrusted(world, device);
    assert.is((await world.view(device)).place.seen, null);
  }));

test('S3.9: healed by acceptance; the new state is the baseline, the escrowed key opens the vault', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    device.node.node?.vault.backend.put('data', Buffer.from('precious'));
    const before = await world.view(device);
    await tamper(device);
    await device.node.reboot('test');
    await untrusted(world, device);
    const from = device.events.length;
    await world.evc.operator.acceptState(device.id, 'tester', 'the kernel is ours');
    await world.attested(device);
    await world.until('the vault is open', () => device.node.node?.vault.unlocked === true, 10 * minute);

    assert.is(
      missingInOrder(portsOf(device, from), [
        'attest-task requestNonce',
        'attest-task sendQuote',
        'vault-manager openKey',
        'vault-manager unlockVault',
        'vault-manager sealKey',
        'vault-manager storeToken',
      ]),
      null,
    );
    assert.is(Buffer.from(device.node.node?.vault.backend.get('data') ?? []).toString(), 'precious');
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.verdict?.grounds, 'acceptance');
    assert.is.not(view.baseline?.pcrs['9'], before.baseline?.pcrs['9']);
    assert.is(configOf(device)?.partial, false);
    // Sealed to the new state: the next boot needs nobody.
    await device.node.reboot('test');
    await world.attested(device);
    const { unlockedBy } = contextOf<{ unlockedBy: string }>(device, 'vault-manager');
    assert.is(unlockedBy, 'tpm');
    assert.is((await world.view(device)).verdict?.grounds, 'baseline');
  }));

test('S3.9: healed by a good image that EVC pushes, with the vault locked', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await tamper(device);
    await device.node.reboot('test');
    await untrusted(world, device);
    await world.offerImage({ version: '1.0.1' });
    await world.evc.operator.assignUpgrade(device.id, {
      version: '1.0.1',
      window: 60 * minute,
      testWindow: minute,
    });
    await world.until(
      'the upgrade is committed',
      async () => (await world.view(device)).upgraded?.how === 'committed',
      60 * minute,
    );
    await world.attested(device);
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.baseline?.versions.image, '1.0.1');
    assert.equal(stateOf(device, 'vault-manager'), { unlocked: 'idle' });
  }));

test('a file of /config is changed: UUD names PCR 14 and the file', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    writeFileSync(join(device.folder, 'config', 'authorized_keys'), 'ssh-ed25519 AAAA');
    await device.node.reboot('test');
    await untrusted(world, device);
    const finding = (await world.view(device)).verdict?.findings.find(
      ({ code }) => code === 'log.config-file-added',
    );
    assert.is(finding?.pcr, 14);
    assert.match(finding?.text ?? '', '/config/authorized_keys');
  }));

test('the old software boots again: UUD clears itself', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const config = join(device.folder, 'config', 'authorized_keys');
    writeFileSync(config, 'ssh-ed25519 AAAA');
    await device.node.reboot('test');
    await untrusted(world, device);
    rmSync(config);
    await device.node.reboot('test');
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
    assert.is((await world.view(device)).verdict?.grounds, 'baseline');
  }));

test.run();
