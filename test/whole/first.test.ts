import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configOf, stateOf, World } from '../kit/world.ts';

test('S1', async () => {
  const world = await World.start();
  try {
    const device = await world.addDevice();
    await world.until('complete', () => stateOf(device, 'attest-task') === 'complete', 600_000);
    await world.until('config', () => configOf(device)?.partial === false, 600_000);
    assert.is(await world.trust(device), 'trusted');
    console.log(world.describe());
    const t = performance.now();
    await device.node.reboot('test');
    await world.until('complete', () => stateOf(device, 'attest-task') === 'complete', 600_000);
    console.log(performance.now() - t, 'ms');
  } finally {
    await world.stop();
  }
});
test.run();
