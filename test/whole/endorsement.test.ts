// deadline: 300 s
// Whose TPM is it? Devices with TPMs that a vendor certified, that nobody did, and that another device has.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Account } from '../../machines/device-record.ts';
import { certifiedTpm, manufacturedSwtpm } from '../kit/certified-tpm.ts';
import { needDebian } from '../kit/debian.ts';
import { authority } from '../kit/ek-certificates.ts';
import { configOf, contextOf, inWorld, manufacturing, type World, type WorldDevice } from '../kit/world.ts';

const minute = 60_000;
const strict: Account = { ...manufacturing, id: 'strict', requireEkCertificate: true };

/** The reason why the attest task does not go on. */
function errorOf(device: WorldDevice): string | undefined {
  return contextOf<{ error: { code: string } | null }>(device, 'attest-task').error?.code;
}

/** A vendor whose certificates are good at the time of this world. */
function vendorOf(world: World) {
  const now = world.clock.now();
  const root = authority('Root', { now });
  return { root, issuer: authority('EK CA', { now, by: root }) };
}

test('a TPM whose vendor is known: trusted as such, with its name and its chain', () =>
  inWorld(
    async (world) => {
      const { root, issuer } = vendorOf(world);
      await world.evc.endorsers.add(root.certificate, 'tester');
      await world.evc.endorsers.add(issuer.certificate, 'tester');
      const tpm = await certifiedTpm(issuer, () => world.clock.now());
      const device = await world.addDevice({ tpm, account: 'strict' });
      await world.attested(device);
      const { ekTrust, trust, tpm: view } = await world.view(device);
      assert.equal([ekTrust, trust], ['vendor', 'trusted']);
      assert.is(view?.certificate?.vendor, 'Nuvoton');
      assert.equal(view?.certificate?.chain, ['O=Test vendor, CN=EK CA', 'O=Test vendor, CN=Root']);
      assert.ok(configOf(device));

      // Over a reboot it is the same TPM, and the same key.
      await device.node.reboot('test');
      await world.attested(device);
      assert.is((await world.view(device)).tpm?.ekName, view?.ekName);
      assert.is((await world.view(device)).refusedEnrolment, null);
    },
    [manufacturing, strict],
  ));

test('an account that insists on vendors takes no TPM that none vouches for: enrol.ek-required', () =>
  inWorld(
    async (world) => {
      const device = await world.addDevice({ account: 'strict' });
      await world.until(
        'the enrolment is refused',
        async () => (await world.view(device)).refusedEnrolment !== null,
        10 * minute,
      );
      await world.run(minute);
      const { refusedEnrolment, tpm, trust } = await world.view(device);
      assert.is(refusedEnrolment?.code, 'enrol.ek-required');
      assert.equal([tpm, trust], [null, 'unattested']);
      assert.is(errorOf(device), 'enrol.ek-required', 'the device knows why');
      assert.is(configOf(device), null);
      // In another account it may come in, and that heals by itself.
      await world.evc.operator.moveDevice(device.id, 'factory');
      await world.attested(device);
      assert.is((await world.view(device)).ekTrust, 'first-use');
      // Back in the strict one, what it was trusted for is over, until it is moved again.
      await world.evc.operator.moveDevice(device.id, 'strict');
      await world.until(
        'its trust is over',
        async () => (await world.trust(device)) !== 'trusted' && errorOf(device) === 'enrol.ek-required',
        10 * minute,
      );
    },
    [manufacturing, strict],
  ));

test('a vendor that is not known yet: refused by name, and in as soon as an operator believes him', () =>
  inWorld(
    async (world) => {
      const { root, issuer } = vendorOf(world);
      await world.evc.endorsers.add(issuer.certificate, 'tester');
      const tpm = await certifiedTpm(issuer, () => world.clock.now());
      const device = await world.addDevice({ tpm, account: 'strict' });
      await world.until(
        'the enrolment is refused',
        async () => (await world.view(device)).refusedEnrolment !== null,
        10 * minute,
      );
      assert.match(
        (await world.view(device)).refusedEnrolment?.text ?? '',
        'no certificate of “O=Test vendor, CN=Root”',
      );
      await world.evc.endorsers.add(root.certificate, 'tester');
      await world.attested(device);
      const { ekTrust, refusedEnrolment } = await world.view(device);
      assert.equal([ekTrust, refusedEnrolment], ['vendor', null]);

      // And out as soon as he is not believed any more.
      const { roots } = world.evc.endorsers.list();
      await world.evc.endorsers.remove(roots.find(({ kind }) => kind === 'root')?.id ?? '', 'tester');
      await world.until(
        'its trust is over',
        async () => (await world.trust(device)) !== 'trusted',
        10 * minute,
      );
      assert.is((await world.view(device)).ekTrust, 'unknown-vendor');
    },
    [manufacturing, strict],
  ));

test('a board that gets another TPM refuses it itself, and EVC keeps the one that it knows', () =>
  inWorld(async (world) => {
    const first = await world.addDevice();
    await world.attested(first);
    const before = (await world.view(first)).tpm?.ekName;
    // Its own software finds out first, and gives nothing to the stranger.
    const swapped = await world.swapTpm(first);
    await world.run(5 * minute);
    const { error } = contextOf<{ error: { code: string } | null }>(swapped, 'tpm-manager');
    assert.is(error?.code, 'tpm.other');
    assert.is((await world.view(swapped)).tpm?.ekName, before);
  }));

test('a real swtpm, certified by swtpm_localca, whose root the operator added', async () => {
  if (!(await needDebian(['swtpm', 'swtpm-tools'], ['swtpm', 'swtpm_setup', 'swtpm_localca']))) return;
  const swtpm = await manufacturedSwtpm();
  try {
    await inWorld(
      async (world) => {
        for (const certificate of swtpm.authority) await world.evc.endorsers.add(certificate, 'tester');
        const device = await world.addDevice({ tpm: swtpm.tpm, account: 'strict' });
        await world.attested(device);
        const { ekTrust, trust, tpm } = await world.view(device);
        assert.equal([ekTrust, trust], ['vendor', 'trusted']);
        assert.is(tpm?.certificate?.model, 'swtpm');
        assert.equal(tpm?.certificate?.chain, ['CN=swtpm-localca', 'CN=swtpm-localca-rootca']);
      },
      [manufacturing, strict],
    );
  } finally {
    await swtpm.close();
  }
});

test.run();
