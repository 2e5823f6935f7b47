import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { statusText } from '../../controller/cli/devices.ts';
import { announcement } from '../../controller/webhook/announce.ts';
import { missingInOrder, portsOf } from '../kit/trace.ts';
import { configOf, contextOf, inWorld, stateOf } from '../kit/world.ts';

const minute = 60_000;

test('S2: a normal restart is approved, and the key and the token come back', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const first = await world.view(device);
    const from = device.events.length;
    await device.node.reboot('test');
    await world.attested(device);

    const ports = portsOf(device, from);
    assert.is(
      missingInOrder(ports, [
        'client loadIdentity',
        'client fetchUuid',
        'vault-manager unsealKey',
        'vault-manager unlockVault',
        'vault-manager exportKey',
        'attest-task requestNonce',
        'attest-task makeClaims',
        'tpm-manager makeQuote',
        'attest-task sendQuote',
        'vault-manager storeToken',
      ]),
      null,
    );
    // The certificates and the attestation key are known on both sides already.
    for (const port of [
      'client fetchCertificates',
      'client register',
      'attest-task sendCertificate',
      'vault-manager createVault',
    ]) {
      assert.not(ports.includes(port), port);
    }
    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.verdict?.grounds, 'baseline');
    assert.equal(view.baseline, first.baseline);
    // The same key again is no new version.
    assert.is(view.escrow.length, 1);
    assert.is(configOf(device)?.partial, false);
    const { unlockedBy } = contextOf<{ unlockedBy: string }>(device, 'vault-manager');
    assert.is(unlockedBy, 'tpm');
    const { key } = contextOf<{ key: { keyId: string; version: number } }>(device, 'attest-task');
    assert.is(key.version, 1);
  }));

test('S2.7: EVC asks for a new master key; it is escrowed before the old one is forgotten', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const before = await world.view(device);
    await world.evc.operator.rotateKey(device.id);
    await world.until(
      'a second key is escrowed',
      async () => (await world.view(device)).escrow.length === 2,
      10 * minute,
    );
    await world.until(
      'the rotation is finished',
      () => device.node.node?.vault.backend.keys().length === 1,
      10 * minute,
    );
    await world.attested(device);
    const ports = portsOf(device);
    assert.is(
      missingInOrder(ports, [
        'vault-manager rotateKey',
        'info-task storeKey',
        'vault-manager finishRotation',
      ]),
      null,
    );
    const after = await world.view(device);
    assert.is.not(after.escrow[0]?.keyId, before.escrow[0]?.keyId);
    assert.is(ports.filter((port) => port === 'vault-manager rotateKey').length, 1);
    await device.node.reboot('test');
    await world.attested(device);
    assert.equal(stateOf(device, 'vault-manager'), { unlocked: 'idle' });
  }));

test('S2b: EVC out of reach; the vault opens and the last configuration applies, and the run goes on when EVC is back', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    device.net.up = false;
    await device.node.reboot('test');
    await world.until(
      'the device runs on its own',
      () => configOf(device)?.partial === false && stateOf(device, 'client') === 'provisionedOffline',
      10 * minute,
    );
    assert.equal(stateOf(device, 'vault-manager'), { unlocked: 'idle' });
    assert.equal(stateOf(device, 'config-task'), { offline: 'backingOff' });
    assert.is(configOf(device)?.settings.account, 'factory');
    await world.run(3 * 60 * minute);
    assert.equal(stateOf(device, 'vault-manager'), { unlocked: 'idle' });

    const from = device.events.length;
    device.net.up = true;
    await world.attested(device);
    assert.is(
      missingInOrder(portsOf(device, from), [
        'attest-task requestNonce',
        'tpm-manager makeQuote',
        'attest-task sendQuote',
      ]),
      null,
    );
    assert.is(await world.trust(device), 'trusted');
    await world.until(
      'the client knows EVC again',
      () => stateOf(device, 'client') === 'provisioned',
      30 * minute,
    );
  }));

test('S2b: EVC itself is stopped, and comes back with all that it knew', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    await world.stopEvc();
    await device.node.reboot('test');
    device.net.up = false;
    await world.until('the device runs on its own', () => configOf(device)?.partial === false, 10 * minute);
    await world.startEvc();
    device.net.up = true;
    await world.attested(device);
    assert.is((await world.view(device)).verdict?.grounds, 'baseline');
  }));

test('trust has an end: the device attests again by itself before it comes', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const first = (await world.view(device)).verdict?.at ?? 0;
    await world.until(
      'a second verdict',
      async () => ((await world.view(device)).verdict?.at ?? 0) > first,
      24 * 60 * minute,
    );
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
  }));

test('a device that goes silent becomes stale, and clears itself when it comes back', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    device.net.up = false;
    await device.node.reboot('test');
    await world.until(
      'the device is stale',
      async () => (await world.trust(device)) === 'stale',
      48 * 60 * minute,
    );
    // It says so everywhere: to lists and filters, in the status, in metrics, and to whoever is told what happens.
    const { operator } = world.evc;
    const page = { after: '', limit: 10, accounts: null };
    const { devices } = await operator.list({ ...page, filter: 'stale:' });
    assert.equal(
      devices.map(({ trust, facts }) => [trust, facts.why]),
      [['stale', 'silent: its trust ran out without a new attestation']],
    );
    assert.match(statusText(devices, '', world.clock.now()), /\? stale .*silent: .*\n1 device: 1 stale$/s);
    assert.is((await world.view(device)).trust, 'stale');
    const metrics = async () => (await world.evc.metrics.text()).text;
    assert.match(await metrics(), 'evc_devices{account="factory",trust="stale"} 1');
    const told = () => {
      const step = world.steps.findLast(({ event }) => ['timer.due', 'verdict.given'].includes(event.type));
      const { payload } = (step && announcement(step, 'urn:evc:test')) ?? { payload: Buffer.from('{}') };
      return JSON.parse(Buffer.from(payload).toString()) as { type: string; data: object };
    };
    const { type, data } = told();
    assert.equal([type, pick(data)], ['eve-attest.timer.due', { trust: 'stale', timer: 'trust' }]);

    device.net.up = true;
    await world.attested(device);
    assert.is(await world.trust(device), 'trusted');
    assert.equal((await operator.list({ ...page, filter: 'stale:' })).devices, []);
    assert.equal([told().type, pick(told().data)], ['eve-attest.verdict.given', { trust: 'trusted' }]);
    assert.match(await metrics(), 'evc_devices{account="factory",trust="trusted"} 1');
  }));

function pick(data: object): object {
  const { trust, timer } = data as { trust: string; timer?: string };
  return { trust, ...(timer === undefined ? {} : { timer }) };
}

test.run();
