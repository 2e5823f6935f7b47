// Devices that boot as real EVE nodes did: exactly the digests of their recorded logs, and those logs.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { recordedLogFile } from '../../device/board-emulated.ts';
import { type RecordedBoot, readRecordedBoot } from '../../device/boot/recorded.ts';
import { inWorld, stateOf, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;

async function bootAs(device: WorldDevice, name: RecordedBoot): Promise<void> {
  const slot = device.slots.read().current.label;
  writeFileSync(join(device.slots.directory(slot), recordedLogFile), await readRecordedBoot(name));
  await device.node.reboot('test');
}

async function uud(
  world: World,
  device: WorldDevice,
): Promise<{ pcrs: number[]; codes: string[]; texts: string }> {
  await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 10 * minute);
  const { findings = [], genuine } = (await world.view(device)).verdict ?? {};
  assert.is(genuine, true);
  const pcrs = findings.flatMap(({ code, pcr }) =>
    code === 'policy.pcr.unexpected' && pcr !== undefined ? [pcr] : [],
  );
  return {
    pcrs,
    codes: findings.map(({ code }) => code),
    texts: findings.map(({ text, seen }) => `${text} ${seen}`).join('\n'),
  };
}

test('an update that EVC did not push is UUD: PCRs 5, 8, 9, 13 and the new root file system', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({
      image: { version: '12.1.0' },
      recorded: await readRecordedBoot('update.before'),
    });
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
    await bootAs(device, 'update.after');
    const { pcrs, codes, texts } = await uud(world, device);
    assert.equal(pcrs, [5, 8, 9, 13]);
    assert.ok(codes.includes('log.rootfs-changed'));
    assert.match(texts, 'eaf5a707');
    assert.equal(stateOf(device, 'vault-manager'), { locked: 'waitingForKey' });
  }));

test('the same update, in the catalogue and assigned, is an approved upgrade', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({
      image: { version: '12.1.0' },
      recorded: await readRecordedBoot('update.before'),
    });
    await world.attested(device);
    await world.offerImage(
      { version: '12.2.0' },
      { [recordedLogFile]: await readRecordedBoot('update.after') },
    );
    await world.evc.operator.assignUpgrade(device.id, {
      version: '12.2.0',
      window: 60 * minute,
      testWindow: minute,
    });
    await world.until(
      'it is committed',
      async () => (await world.view(device)).upgraded?.how === 'committed',
      60 * minute,
    );
    await world.attested(device);
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.baseline?.versions.image, '12.2.0');
    assert.is(view.baseline?.grounds, 'upgrade');
  }));

test('somebody was in the BIOS setup, turned a getty on and changed two files: UUD names PCRs 1, 8 and 14', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({
      image: { version: '12.1.0' },
      recorded: await readRecordedBoot('bios-setup.before'),
    });
    await world.attested(device);
    await bootAs(device, 'bios-setup.after');
    const { pcrs, codes, texts } = await uud(world, device);
    assert.equal(pcrs, [1, 8, 14]);
    assert.ok(codes.includes('log.bios-setup-entered'));
    assert.match(texts, 'authorized_keys');
    assert.match(texts, 'getty');
  }));

test('a log with four banks, from firmware that starts from another locality, is explained as well', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({
      image: { version: '12.1.0' },
      recorded: await readRecordedBoot('four-banks'),
    });
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
    await device.node.reboot('test');
    await world.attested(device);
    assert.is((await world.view(device)).verdict?.grounds, 'baseline');
  }));

test.run();
