// deadline: 120 s
// S4 with a catalogue that no reference boot made, and differences that rules allow.
import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readImage } from '../../device/boot/image.ts';
import { measureBoot } from '../../device/boot/measure.ts';
import { defaultSettings } from '../../formats/eventlog/eve-boot.ts';
import { inWorld, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
const wish = { version: '2.0.0', window: 60 * minute, testWindow: 10 * minute };

async function committed(world: World, device: WorldDevice): Promise<void> {
  await world.until(
    'the upgrade is committed',
    async () => (await world.view(device)).upgraded?.how === 'committed',
    60 * minute,
  );
  await world.attested(device);
}

async function uud(world: World, device: WorldDevice) {
  await world.until('the device is UUD', async () => (await world.trust(device)) === 'uud', 30 * minute);
  return (await world.view(device)).verdict?.findings ?? [];
}

test('an image that was measured from its files alone: upgraded, committed, and trusted after it', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.offerImage({ version: '2.0.0' }, {}, { measured: true });
    assert.equal((await world.evc.curator.image('2.0.0')).source, { kind: 'files' });
    await world.evc.operator.assignUpgrade(device.id, wish);
    await committed(world, device);
    const view = await world.view(device);
    assert.equal(
      [view.trust, view.baseline?.versions.image, view.baseline?.grounds],
      ['trusted', '2.0.0', 'upgrade'],
    );
    // And back into the first slot, from the same kind of knowledge.
    await world.offerImage({ version: '3.0.0' }, {}, { measured: true });
    await world.evc.operator.assignUpgrade(device.id, { ...wish, version: '3.0.0' });
    await world.until(
      'the third version is the baseline',
      async () => (await world.view(device)).baseline?.versions.image === '3.0.0',
      60 * minute,
    );
    assert.is(await world.trust(device), 'trusted');
  }));

async function trusted(world: World, device: WorldDevice): Promise<void> {
  await world.until(
    'the device is trusted',
    async () => (await world.trust(device)) === 'trusted',
    30 * minute,
  );
  await world.attested(device);
}

const other = (seed: string) =>
  createHash('shake256', { outputLength: 24 * 1024 })
    .update(seed)
    .digest();
const files: [file: string, content: Uint8Array, pcr: number, words: RegExp][] = [
  ['kernel', other('rootkit'), 9, /kernel/],
  ['initrd', other('implant'), 9, /initrd/],
  [
    'grub.cfg',
    Buffer.from('set timeout=5\nset default=1\n'),
    8,
    /set default=1.*allowed would have been: .*set default=0/,
  ],
];

for (const [file, content, pcr, words] of files)
  test(`the same, and ${file} is another one: UUD, by the event, with what would have been allowed`, () =>
    inWorld(async (world) => {
      const device = await world.addDevice();
      await world.attested(device);
      await world.offerImage({ version: '2.0.0' }, {}, { measured: true });
      await world.offerImage({ version: '2.0.0' }, { [file]: content }, { keepEntries: true });
      await world.evc.operator.assignUpgrade(device.id, wish);
      const findings = await uud(world, device);
      const unknown = findings.filter(({ code }) => code === 'policy.entry.unknown');
      assert.ok(unknown.length > 0, JSON.stringify(findings[0]));
      const named = unknown.find((one) => one.pcr === pcr && words.test(one.text));
      assert.ok(named, unknown.map(({ text }) => text).join('\n'));
      const known = new Set(
        (await world.evc.curator.image('2.0.0')).entries.map(({ digests }) => digests.sha256),
      );
      for (const one of (named?.allowed ?? 'none').split(' ')) assert.ok(known.has(one), one);
      assert.ok((named?.remedy ?? '').length > 0);
    }));

const rule = {
  account: 'factory',
  pcr: 1,
  match: { kind: 'event', type: 'EV_EFI_ACTION', subject: 'Entering ROM Based Setup' },
  removal: false,
  reason: 'the laboratory looks at settings',
} as const;

/** The log of a boot of this board during which somebody opened the firmware setup. */
async function visited({ slots, folder }: WorldDevice): Promise<Uint8Array> {
  const { biosLog, configLog } = await measureBoot({
    image: await readImage(slots.directory(slots.read().current.label)),
    configDirectory: `${folder}/config`,
    slot: 'IMGA',
    settings: { ...defaultSettings, enteredSetup: true },
    banks: ['sha256'],
    extend: async () => undefined,
  });
  return Buffer.concat([biosLog, configLog ?? new Uint8Array()]);
}

test('somebody visits the firmware setup: UUD, until a rule says that it is allowed', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.bootAs(device, await visited(device));
    const findings = await uud(world, device);
    assert.ok(findings.some(({ code }) => code === 'log.bios-setup-entered'));
    const { id } = await world.evc.curator.addRule(rule, 'admin');
    await trusted(world, device);
    const { verdict, baseline } = await world.view(device);
    assert.is(verdict?.grounds, 'allowed');
    assert.match(verdict?.findings[0]?.text ?? '', new RegExp(`Rule ${id} allows it: the laboratory`));
    // The baseline stays what it was: differences do not add up.
    assert.is(baseline?.grounds, 'first-boot');
    await world.evc.curator.removeRule(id, 'admin', 'the visit is over');
    await device.node.reboot('test');
    await uud(world, device);
  }));

test('a state that a person accepted holds in the next boot, with what a rule covers and no more', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.replaceImage(device, { version: '6.6.6' });
    await device.node.reboot('test');
    await uud(world, device);
    device.net.up = false;
    await device.node.reboot('test');
    await world.evc.operator.acceptState(device.id, 'admin', 'we know this image');
    await world.bootAs(device, await visited(device));
    device.net.up = true;
    await uud(world, device);
    await world.evc.curator.addRule(rule, 'admin');
    await trusted(world, device);
    const { verdict, baseline } = await world.view(device);
    assert.equal([verdict?.grounds, baseline?.grounds], ['acceptance', 'acceptance']);
    assert.ok(verdict?.findings.some(({ code }) => code === 'policy.event.allowed'));
  }));

test.run();
