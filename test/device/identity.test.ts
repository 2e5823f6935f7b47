import { createHash, X509Certificate } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { deviceIdentity, keyCertificate } from '../../device/identity.ts';
import { StateFolder } from '../../device/state.ts';
import { DeviceTpm } from '../../device/tpm/device-tpm.ts';
import { publicKeyOf } from '../../device/tpm/public-key.ts';
import { SimulatedClock } from '../kit/clock.ts';
import { inFolder } from '../kit/folders.ts';
import { withTpm } from '../kit/tpm.ts';

interface Bench {
  tpm: DeviceTpm;
  config: string;
  persist: string;
  /** The identity as a start of the device finds it, at this time. */
  identity(now?: number): ReturnType<typeof deviceIdentity>;
}

const day = 24 * 3600 * 1000;
const birth = Date.UTC(2026, 0, 1);

const withDevice = (work: (bench: Bench) => Promise<void>) =>
  inFolder((folder) =>
    withTpm(async (tpm) => {
      const [config, persist] = [join(folder, 'config'), join(folder, 'persist')];
      mkdirSync(config);
      const state = new StateFolder(persist);
      const device = new DeviceTpm(tpm, state);
      await work({
        tpm: device,
        config,
        persist,
        identity: (now = birth) =>
          deviceIdentity(new StateFolder(config), state, device, new SimulatedClock(now)),
      });
    }),
  );

test('a device is the hash of a certificate that its key in the TPM signed, made once', () =>
  withDevice(async ({ tpm, identity }) => {
    const first = await identity();
    const certificate = new X509Certificate(first.certificate);
    assert.is(first.device, createHash('sha256').update(first.certificate).digest('hex'));
    assert.ok(certificate.verify(await tpm.devicePublicKey()));
    assert.not(certificate.ca);
    assert.is(Date.parse(certificate.validFrom), birth - day);
    assert.is(Date.parse(certificate.validTo), birth + 20 * 365 * day);
    assert.is(new X509Certificate(first.certificatePem).fingerprint256, certificate.fingerprint256);
    assert.equal(await identity(birth + 1000 * day), first);
  }));

test('processes that start together are one device', () =>
  withDevice(async ({ identity }) => {
    const all = await Promise.all([identity(), identity(), identity()]);
    assert.is(new Set(all.map(({ device, serial }) => `${device} ${serial}`)).size, 1);
    assert.equal(await identity(), all[0]);
  }));

test('the serial number is the one it was installed with, or one that it makes up and keeps', () =>
  withDevice(async ({ config, identity }) => {
    const made = (await identity()).serial;
    assert.match(made, /^soft-[0-9a-f]{16}$/);
    assert.is((await identity()).serial, made);
    writeFileSync(join(config, 'soft_serial'), '  SN-0815\n');
    assert.is((await identity()).serial, 'SN-0815');
    writeFileSync(join(config, 'soft_serial'), 'x'.repeat(500));
    assert.is((await identity()).serial.length, 100);
  }));

test('keys of the TPM are certified by the device key', () =>
  withDevice(async ({ tpm }) => {
    const { ecdh } = await tpm.keys();
    const spki = publicKeyOf(ecdh.public).export({ type: 'spki', format: 'der' });
    const der = await keyCertificate(tpm, { commonName: 'EVE ECDH key', organization: 'test' }, spki, birth);
    const certificate = new X509Certificate(der);
    assert.ok(certificate.verify(await tpm.devicePublicKey()));
    assert.equal(certificate.publicKey.export({ type: 'spki', format: 'der' }), spki);
  }));

test.run();
