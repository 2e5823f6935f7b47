import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { missingInOrder, portsOf, recordEvents } from '../kit/trace.ts';
import { configOf, contextOf, inWorld, stateOf } from '../kit/world.ts';

test('S1: a new device is onboarded, and its boot becomes the baseline', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);

    const order = [
      'device-steps startComponents',
      'client loadIdentity',
      'client fetchCertificates',
      'client register',
      'client fetchUuid',
      'vault-manager createVault',
      'vault-manager sealKey',
      'vault-manager exportKey',
      'attest-task sendCertificate',
      'tpm-manager activateCredential',
      'attest-task sendProof',
      'attest-task requestNonce',
      'attest-task makeClaims',
      'tpm-manager makeQuote',
      'attest-task sendQuote',
      'info-task storeKey',
    ];
    assert.is(missingInOrder(portsOf(device), order), null);
    assert.is(
      missingInOrder(portsOf(device), [
        'tpm-manager makeKeys',
        'tpm-manager certifyKeys',
        'attest-task sendCertificate',
      ]),
      null,
    );
    assert.is(
      missingInOrder(recordEvents(world, device), [
        'device.registered',
        'uuid.requested',
        'certificate.received',
        'proof.received',
        'nonce.requested',
        'quote.received',
        'verdict.given',
        'key.received',
      ]),
      null,
    );

    const view = await world.view(device);
    assert.is(view.trust, 'trusted');
    assert.is(view.verdict?.grounds, 'first-boot');
    assert.is(view.baseline?.versions.image, '1.0.0');
    assert.is(view.escrow.length, 1);
    assert.equal(view.states, {
      enrolment: 'certified',
      integrity: 'trusted',
      location: 'notLocked',
      escrow: 'held',
      software: 'steady',
      link: 'online',
    });
    assert.equal(stateOf(device, 'vault-manager'), { unlocked: 'idle' });
    assert.is(stateOf(device, 'attest-task'), 'complete');
    assert.is(configOf(device)?.partial, false);
    assert.is(configOf(device)?.settings.account, 'factory');
    assert.equal(world.refused, []);
  }));

test('S1.14: config requests fail until the token is confirmed, and work with it', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const answers = device.events.flatMap((event) =>
      event.kind === 'port' &&
      event.component === 'config-task' &&
      event.port === 'requestConfig' &&
      event.phase !== 'begins'
        ? [event.phase === 'fails' ? event.code : 'answered']
        : [],
    );
    assert.is(answers[0], 'config.forbidden');
    assert.is(answers.at(-1), 'answered');
  }));

test('S1.15: the vault keeps the token that EVC confirmed, and no file shows it', () =>
  inWorld(async (world) => {
    const device = await world.addDevice();
    await world.attested(device);
    const node = device.node.node;
    assert.ok(node);
    const stored = node.vault.backend.get('itoken');
    assert.ok(stored);
    const persist = join(device.folder, 'persist');
    for (const name of readdirSync(persist, { recursive: true }) as string[]) {
      const path = join(persist, name);
      if (statSync(path).isFile()) assert.not(readFileSync(path).includes(Buffer.from(stored)), name);
    }
  }));

test('a device with no onboarding key that EVC knows is refused by name, and asks again', () =>
  inWorld(async (world) => {
    const device = await world.addDevice({ limit: 0 });
    await world.until('the client is refused', () => stateOf(device, 'client') === 'refused');
    const { error } = contextOf<{ error: { code: string } }>(device, 'client');
    assert.is(error.code, 'enrol.key-used-up');
    assert.is(await world.trust(device), 'unknown');
  }));

test('two devices with one serial number: the second is refused', () =>
  inWorld(async (world) => {
    await world.attested(await world.addDevice({ serial: 'same' }));
    const second = await world.addDevice({ serial: 'same' });
    await world.until('the client is refused', () => stateOf(second, 'client') === 'refused');
    const { error } = contextOf<{ error: { code: string } }>(second, 'client');
    assert.is(error.code, 'enrol.serial-taken');
  }));

test.run();
