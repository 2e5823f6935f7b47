import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { missingInOrder, portsOf, recordEvents } from '../kit/trace.ts';
import { configOf, contextOf, inWorld, stateOf, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
const wish = { version: '2.0.0', window: 60 * minute, testWindow: 2 * minute };

function boots(device: WorldDevice): string[] {
  return device.events.flatMap((event) =>
    event.kind === 'boot' ? [`${event.boot.slot} ${event.boot.image}`] : [],
  );
}

async function outcome(world: World, device: WorldDevice): Promise<string> {
  return (await world.view(device)).upgraded?.how ?? 'under way';
}

test('S4: EVC drives an upgrade; the new state is the baseline once it is committed', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    device.node.node?.vault.backend.put('data', Buffer.from('precious'));
    const before = await world.view(device);
    await world.offerImage({ version: '2.0.0' });
    const [from, steps] = [device.events.length, world.steps.length];
    await world.evc.operator.assignUpgrade(device.id, wish);
    await world.until(
      'the new image is approved',
      async () => (await world.view(device)).verdict?.grounds === 'upgrade',
      30 * minute,
    );
    await world.until('the vault is open', () => device.node.node?.vault.unlocked === true, 10 * minute);
    // Approved and not committed: the baseline is the old one, and both seals are there.
    const trial = await world.view(device);
    assert.equal(trial.baseline, before.baseline);
    assert.ok(device.node.node?.persist.has('sealed/previous'));
    assert.is((trial.states as Record<string, string>).software, 'testing');

    await world.until(
      'the upgrade is committed',
      async () => (await outcome(world, device)) === 'committed',
      30 * minute,
    );
    await world.attested(device);
    assert.is(
      missingInOrder(portsOf(device, from), [
        'config-task requestConfig',
        'base-os fetchImage',
        'base-os verifyImage',
        'base-os writeSlot',
        'base-os stageSlot',
        'device-steps reboot',
        'vault-manager unsealKey',
        'attest-task requestNonce',
        'tpm-manager makeQuote',
        'attest-task sendQuote',
        'vault-manager openKey',
        'vault-manager unlockVault',
        'vault-manager sealKey',
        'base-os commitSlot',
        'vault-manager dropOldSeals',
      ]),
      null,
    );
    assert.is(
      missingInOrder(recordEvents(world, device, steps), [
        'upgrade.assigned',
        'config.requested',
        'quote.received',
        'verdict.given',
        'info.received',
      ]),
      null,
    );
    assert.equal(boots(device), ['IMGA 1.0.0', 'IMGB 2.0.0']);
    assert.equal(
      readdirSync(join(device.folder, 'persist/slots/images')),
      [],
      'the image is in its slot alone',
    );
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.baseline?.versions.image, '2.0.0');
    assert.is.not(view.baseline?.pcrs['9'], before.baseline?.pcrs['9']);
    assert.is(view.upgrade, null);
    assert.is(Buffer.from(device.node.node?.vault.backend.get('data') ?? []).toString(), 'precious');
    await world.until(
      'one seal is left',
      () => device.node.node?.persist.has('sealed/previous') === false,
      10 * minute,
    );

    await device.node.reboot('test');
    await world.attested(device);
    // The slot is proven now, and the partition table says so: no difference but the one that the rule `slots` allows.
    const { grounds, findings = [] } = (await world.view(device)).verdict ?? {};
    assert.is(grounds, 'allowed');
    const allowed = findings.filter(({ code }) => code.startsWith('policy.'));
    assert.equal(
      allowed.map(({ code, pcr }) => [code, pcr]),
      [['policy.event.allowed', 5]],
    );
    assert.match(allowed[0]?.text ?? '', /IMGB .*booted well.*Rule slots allows it/);
    const { unlockedBy } = contextOf<{ unlockedBy: string }>(device, 'vault-manager');
    assert.is(unlockedBy, 'tpm');
  }));

test('without the rule for the slots the boot after a commit is UUD in PCR 5', () =>
  inWorld(async (world) => {
    await world.evc.curator.removeRule('slots', 'admin', 'to see what it is for');
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    await world.evc.operator.assignUpgrade(device.id, wish);
    await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 30 * minute);
    const { findings = [] } = (await world.view(device)).verdict ?? {};
    const unknown = findings.filter(({ code }) => code === 'policy.entry.unknown');
    assert.equal(
      unknown.map(({ pcr, allowed }) => [pcr, (allowed ?? '').split(' ').length]),
      [[5, 2]],
    );
    assert.match(unknown[0]?.text ?? '', /not proven.*allowed would have been: .*booted well/);
  }));

test('S4.12: an image that fails its own test falls back without EVC, and the vault opens with the old seal', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' }, { 'selftest.json': '{"result":"fails"}' });
    await world.evc.operator.assignUpgrade(device.id, wish);
    device.net.cutAtImage = '2.0.0';
    await world.until('the old image boots again', () => boots(device).length === 3, 60 * minute);
    await world.until('the vault is open', () => device.node.node?.vault.unlocked === true, 10 * minute);
    assert.equal(boots(device), ['IMGA 1.0.0', 'IMGB 2.0.0', 'IMGA 1.0.0']);
    const { unlockedBy } = contextOf<{ unlockedBy: string }>(device, 'vault-manager');
    assert.is(unlockedBy, 'tpm');
    device.net.up = true;
    await world.until('EVC knows', async () => (await outcome(world, device)) === 'rolledBack', 60 * minute);
    await world.attested(device);
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.upgraded?.why?.code, 'baseos.self-test');
    assert.is(view.baseline?.versions.image, '1.0.0');
    // What failed is not fetched again.
    await world.run(30 * minute);
    assert.is(boots(device).length, 3);
  }));

test('S4.12: an image that never reports comes back by the watchdog', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' }, { 'selftest.json': '{"result":"hangs"}' });
    await world.evc.operator.assignUpgrade(device.id, wish);
    await world.until('EVC knows', async () => (await outcome(world, device)) === 'rolledBack', 60 * minute);
    await world.attested(device);
    assert.equal(boots(device), ['IMGA 1.0.0', 'IMGB 2.0.0', 'IMGA 1.0.0']);
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.upgraded?.why?.code, 'baseos.not-committed');
  }));

test('S4.12: EVC is silent in the test window: the trial ends on the device, and the old image runs', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    await world.evc.operator.assignUpgrade(device.id, wish);
    device.net.cutAtImage = '2.0.0';
    await world.until('the old image boots again', () => boots(device).length === 3, 60 * minute);
    await world.until('the vault is open', () => device.node.node?.vault.unlocked === true, 10 * minute);
    device.net.up = true;
    await world.attested(device);
    await world.until('EVC knows', async () => (await outcome(world, device)) === 'rolledBack', 60 * minute);
    const view = await world.view(device);
    assert.is(view.upgraded?.why?.code, 'baseos.trial-expired');
    assert.is(view.trust, 'trusted');
  }));

test('S4.8: the image measures something that is not its own: UUD, and a fall-back when the trial ends', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    // Somebody changes the kernel of the image after its reference boot, and signs it again: EVC's own file server is theirs.
    await world.offerImage(
      { version: '2.0.0', cmdline: 'console=tty0 init=/bin/sh' },
      {},
      { keepEntries: true },
    );
    await world.evc.operator.assignUpgrade(device.id, wish);
    await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 30 * minute);
    const { findings = [] } = (await world.view(device)).verdict ?? {};
    assert.is(findings[0]?.code, 'policy.upgrade.unknown-entries');
    const entry = findings.find(({ code }) => code === 'policy.entry.unknown');
    assert.is(entry?.pcr, 8);
    assert.equal(stateOf(device, 'vault-manager'), { locked: 'waitingForKey' });
    await world.until('the old image boots again', () => boots(device).length === 3, 60 * minute);
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
    assert.is(configOf(device)?.partial, false);
  }));

test('an image that was changed on its way is refused by hash, and another signature by name', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    const { signature } = (await world.evc.catalogue.get('2.0.0')) ?? { signature: '' };
    const image = await world.evc.catalogue.get('2.0.0');
    assert.ok(image);
    await world.evc.store.put('image', '2.0.0', {
      ...image,
      signature: signature.replace(/^.{8}/, 'AAAAAAAA'),
    });
    await world.evc.operator.assignUpgrade(device.id, wish);
    await world.until('the image is refused', () => stateOf(device, 'base-os') === 'refused', 30 * minute);
    const { error } = contextOf<{ error: { code: string } }>(device, 'base-os');
    assert.is(error.code, 'baseos.image-signature');
    assert.equal(boots(device), ['IMGA 1.0.0']);
  }));

test('the window has an end: an upgrade that the device never takes up is closed', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' });
    device.net.up = false;
    await device.node.reboot('test');
    await world.evc.operator.assignUpgrade(device.id, wish);
    await world.until(
      'the window is closed',
      async () => (await outcome(world, device)) === 'rolledBack',
      120 * minute,
    );
    assert.is((await world.view(device)).upgraded?.why?.code, 'policy.upgrade.window-closed');
  }));

test.run();
