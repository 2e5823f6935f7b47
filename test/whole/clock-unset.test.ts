// deadline: 240 s
// A device whose clock stands at 1970 when it boots, as one without a battery does until the time comes from the network; and one
// whose clock is never quite right. The machine sets the clock, and not its agent: what is seen here is that the agent says what it
// waits for, goes on by itself when that comes, and keeps nothing of the wrong time.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hour, minute } from '../../machines/waiting.ts';
import { SettableClock } from '../faults/time.ts';
import { Between } from '../kit/between.ts';
import { configOf, contextOf, manufacturing, stateOf, World, type WorldDevice } from '../kit/world.ts';

/** Devices whose clock is their own. */
class Apart extends Between {
  readonly #device = new SettableClock(this.clock);

  override get deviceClock(): SettableClock {
    return this.#device;
  }
}

async function apart(work: (world: World, clock: SettableClock) => Promise<void>): Promise<void> {
  const between = new Apart();
  const world = await World.start([manufacturing], undefined, between);
  try {
    await work(world, between.deviceClock);
    await world.quiet();
    world.recordings.check();
  } finally {
    await world.stop();
  }
}

const failuresOf = ({ events }: WorldDevice, port: string) => [
  ...new Set(
    events.flatMap((event) =>
      event.kind === 'port' && event.phase === 'fails' && event.port === port ? [event.code] : [],
    ),
  ),
];

const errorOf = (device: WorldDevice) =>
  contextOf<{ error: { code: string; text: string } | null }>(device, 'client').error;

/** Runs until all is well again, and says how long that took, ms. */
async function healing(world: World, device: WorldDevice): Promise<number> {
  const set = world.clock.now();
  await world.attested(device);
  assert.is(await world.trust(device), 'trusted');
  assert.is(configOf(device)?.partial, false);
  return world.clock.now() - set;
}

test('a new device at 1970 says so, onboards when its clock is set, and keeps no certificate of 1970', () =>
  apart(async (world, clock) => {
    clock.offset = -world.clock.now();
    const device = await world.addDevice();
    await world.run(2 * hour);
    assert.is(new Date(clock.now()).getUTCFullYear(), 1970);
    assert.is(await world.evc.store.load(device.id), null);
    assert.is(configOf(device), null);
    assert.is(errorOf(device)?.code, 'certs.expired');
    assert.match(errorOf(device)?.text ?? '', /the clock of this device says 1970-01-01T/);

    clock.offset = 0;
    assert.ok((await healing(world, device)) < 15 * minute);
    assert.is(errorOf(device), null);
    const own = new X509Certificate(readFileSync(join(device.folder, 'persist/certs/device.cert.pem')));
    for (const at of [clock.now(), clock.now() + 15 * 365 * 24 * hour])
      assert.ok(
        Date.parse(own.validFrom) <= at && at <= Date.parse(own.validTo),
        `${own.validFrom}, ${own.validTo}`,
      );
    // What it waits for from now on is counted by the time that is.
    await device.node.reboot('test');
    await healing(world, device);
  }));

test('a known device that boots at 1970 attests again when its clock is set', () =>
  apart(async (world, clock) => {
    const device = await world.addDevice();
    await world.attested(device);
    const escrowed = (await world.view(device)).escrow;
    device.events.length = 0;
    clock.offset = -world.clock.now();
    await device.node.reboot('test');
    await world.run(2 * hour);
    assert.is.not(stateOf(device, 'attest-task'), 'complete');
    assert.equal(failuresOf(device, 'fetchCertificates'), ['certs.expired']);

    clock.offset = 0;
    assert.ok((await healing(world, device)) < 15 * minute);
    assert.equal((await world.view(device)).escrow, escrowed);
  }));

for (const [what, offset] of [
  ['30 seconds behind', -minute / 2],
  ['an hour behind', -hour],
  ['an hour ahead', hour],
] as const)
  test(`a device whose clock is ${what} is answered, and attests at once`, () =>
    apart(async (world, clock) => {
      clock.offset = offset;
      const device = await world.addDevice();
      assert.ok((await healing(world, device)) < minute);
      assert.equal(failuresOf(device, 'fetchCertificates'), []);
    }));

test.run();
