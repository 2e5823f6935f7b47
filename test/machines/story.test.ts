// deadline: 120 s
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createImage } from '../../device/boot/image.ts';
import { Story, type StoryStep } from '../../machines/story.ts';
import { stepTexts } from '../../machines/story-steps.ts';
import { missingInOrder } from '../kit/trace.ts';
import { inWorld, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;

/** The steps of a device, told while they happen. */
function follow(world: World, device: WorldDevice): StoryStep[] {
  const story = new Story();
  const told: StoryStep[] = [];
  const each = <Item>(list: Item[], take: (item: Item) => void) => {
    for (const item of list) take(item);
    const push = list.push.bind(list);
    list.push = (...items) => {
      for (const item of items) take(item);
      return push(...items);
    };
  };
  each(device.events, (event) => told.push(...story.device('d', event)));
  each(world.steps, (step) => {
    if (step.device === device.id) told.push(...story.record('d', step));
  });
  return told;
}

function numbers(steps: readonly StoryStep[], sequence: string): string[] {
  return steps.filter(({ step }) => step.split('.')[0] === sequence).map(({ step }) => step);
}

test('S1 and S2 are told step by step, each once', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const told = follow(world, device);
    await world.attested(device);
    const first = [...told];
    assert.equal(
      [...new Set(numbers(first, 'S1'))].sort(),
      Array.from({ length: 17 }, (_, i) => `S1.${i + 1}`).sort(),
    );
    assert.is(numbers(first, 'S1').length, 17);
    const order = ['S1.1', 'S1.2', 'S1.3', 'S1.4', 'S1.5', 'S1.6', 'S1.8', 'S1.9', 'S1.11', 'S1.10', 'S1.12'];
    assert.is(missingInOrder(numbers(first, 'S1'), order), null);
    for (const { from, to, what, changed } of first) {
      for (const text of [from, to, what, changed]) assert.ok(text.length > 0 && !text.includes('{'), text);
    }
    await device.node.reboot('test');
    await world.attested(device);
    const second = told.slice(first.length);
    assert.is(missingInOrder(numbers(second, 'S2'), ['S2', 'S2.1', 'S2.2', 'S2.3', 'S2.4']), null);
    for (const step of ['S2.5', 'S2.6', 'S2.7', 'S2.8'])
      assert.is(numbers(second, 'S2').filter((s) => s === step).length, 1, step);
    assert.equal(numbers(second, 'S1'), []);
  }));

test('S2b: offline is told as such', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const told = follow(world, device);
    await world.attested(device);
    const { length } = told;
    device.net.up = false;
    await device.node.reboot('test');
    await world.run(minute);
    const offline = told.slice(length);
    assert.is(missingInOrder(numbers(offline, 'S2b'), ['S2b', 'S2b.1', 'S2b.2', 'S2b.3']), null);
    device.net.up = true;
    await world.attested(device);
    const back = told.slice(length + offline.length).map(({ step }) => step);
    assert.is(missingInOrder(back, ['S1.9', 'S1.12']), null);
    assert.ok(back.includes('S2.5'));
  }));

test('S3: unknown software, told once however often the device tries again, and healed', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const told = follow(world, device);
    await world.attested(device);
    const { length } = told;
    const other = join(device.folder, 'other');
    await createImage(other, { version: '6.6.6' });
    cpSync(join(other, 'kernel'), join(device.slots.directory('IMGA'), 'kernel'));
    await device.node.reboot('test');
    await world.until('uud', async () => (await world.trust(device)) === 'uud', 10 * minute);
    await world.run(10 * minute);
    const uud = told.slice(length);
    assert.is(missingInOrder(numbers(uud, 'S3'), ['S3', 'S3.1', 'S3.2', 'S3.3']), null);
    for (const step of ['S3.4', 'S3.5', 'S3.6', 'S3.7', 'S3.8'])
      assert.is(numbers(uud, 'S3').filter((s) => s === step).length, 1, step);
    assert.is(uud.find(({ step }) => step === 'S3.6')?.changed, 'UUD: PCR 9');
    assert.is(uud.find(({ step }) => step === 'S3.2')?.what, 'refuses the key: PCR 9');
    await world.evc.operator.acceptState(device.id, 'tester', 'it is ours');
    await world.attested(device);
    const healed = told.slice(length + uud.length);
    const texts = healed.map(({ step, what }) => `${step} ${what}`);
    for (const what of [
      'accepts the new state',
      'approves what was accepted',
      'sends the encrypted key',
      'opens the escrowed key',
    ]) {
      assert.ok(texts.includes(`S3.9 ${what}`), `${what}: ${texts.join(' · ')}`);
    }
  }));

test('S4: an upgrade is told to its commit, and one that fails to its fall-back', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    const told = follow(world, device);
    await world.attested(device);
    await world.offerImage({ version: '1.1.0' });
    let { length } = told;
    await world.evc.operator.assignUpgrade(device.id, {
      version: '1.1.0',
      window: 60 * minute,
      testWindow: minute,
    });
    await world.until(
      'committed',
      async () => (await world.view(device)).upgraded?.how === 'committed',
      60 * minute,
    );
    await world.attested(device);
    const good = told.slice(length);
    assert.is(missingInOrder(numbers(good, 'S4'), ['S4.1', 'S4.2', 'S4.3', 'S4.4']), null);
    assert.is(missingInOrder(numbers(good, 'S4'), ['S4.5', 'S4.6', 'S4.7', 'S4.9']), null);
    assert.is(missingInOrder(numbers(good, 'S4'), ['S4.9', 'S4.11']), null);
    assert.not(numbers(good, 'S4').includes('S4.8'));
    assert.not(numbers(good, 'S4').includes('S4.12'));

    ({ length } = told);
    await world.offerImage({ version: '1.2.0' }, { 'selftest.json': '{"result":"fails"}' });
    await world.evc.operator.assignUpgrade(device.id, {
      version: '1.2.0',
      window: 60 * minute,
      testWindow: minute,
    });
    await world.until(
      'rolled back',
      async () => (await world.view(device)).upgraded?.how === 'rolledBack',
      60 * minute,
    );
    await world.attested(device);
    const bad = told.slice(length);
    assert.is(missingInOrder(numbers(bad, 'S4'), ['S4.1', 'S4.2', 'S4.3', 'S4.12']), null);
    const end = bad.filter(({ step }) => step === 'S4.12').map(({ what }) => what);
    for (const what of ['gives the trial up', 'unseals the master key', 'closes the window as failed'])
      assert.ok(end.includes(what), end.join());
    assert.not(numbers(bad, 'S4').includes('S4.11'));
  }));

test('every step fits a line', () => {
  for (const [key, { told }] of Object.entries(stepTexts)) {
    const [from, to, what, changed] = told;
    const bare = (text: string) => text.replace(/\{\w+\}/g, 'x.y');
    assert.ok(`${from} → ${to}`.length <= 27, key);
    assert.ok(bare(what).length <= 27, key);
    assert.ok(bare(changed).length <= 26, key);
  }
});

test.run();
