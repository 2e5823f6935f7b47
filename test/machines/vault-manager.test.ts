import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { vaultManager, vaultManagerPublications } from '../../machines/vault-manager.ts';
import { ChartRun } from '../kit/chart.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('vault-manager');
const coverage = new Coverage(vaultManager);
const exported = { keyId: 'k1', encryptedKey: 'AAAA', rotating: false };
const rotated = { keyId: 'k2', encryptedKey: 'BBBB', rotating: true };

type Run = ChartRun<typeof vaultManager>;
const received = { type: 'key.received', keyId: 'k1', version: 1, encryptedKey: 'AAAA' } as const;
const status = (run: Run) => vaultManagerPublications(run.snapshot).VaultStatus as Record<string, unknown>;

async function probed(vault: 'absent' | 'incomplete' | 'present'): Promise<Run> {
  const run = await ChartRun.start(vaultManager, { coverage });
  await run.answer('probeVault', { vault, backend: 'file' });
  return run;
}

async function locked(): Promise<Run> {
  const run = await probed('present');
  await run.fail('unsealKey', 'vault.pcr-mismatch', { details: { pcrs: [4, 9] } });
  return run;
}

async function open(): Promise<Run> {
  const run = await probed('present');
  await run.answer('unsealKey', null);
  await run.answer('unlockVault', null);
  await run.answer('exportKey', exported);
  return run;
}

test('no vault, or one that was never finished: made, sealed, open', async () => {
  for (const vault of ['absent', 'incomplete'] as const) {
    const run = await probed(vault);
    await run.answer('createVault', null);
    await run.answer('sealKey', null);
    assert.is(status(run).unlockedBy, 'created');
    await run.answer('exportKey', exported);
    assert.equal(vaultManagerPublications(run.snapshot).EncryptedVaultKeyFromDevice, {
      keyId: 'k1',
      encryptedKey: 'AAAA',
    });
    run.stop();
  }
});

test('the same boot: open by the TPM alone, without EVC', async () => {
  const run = await open();
  assert.is(status(run).status, 'unlocked');
  assert.is(status(run).unlockedBy, 'tpm');
  run.stop();
});

test('another boot: locked with the PCRs that differ, nothing published, open again with EVC’s key', async () => {
  const run = await locked();
  assert.is(status(run).status, 'locked');
  assert.equal(status(run).mismatchingPcrs, [4, 9]);
  assert.is(vaultManagerPublications(run.snapshot).EncryptedVaultKeyFromDevice, null);
  await run.send(received);
  assert.equal(run.inputOf('openKey'), { keyId: 'k1', encryptedKey: 'AAAA' });
  await run.answer('openKey', null);
  await run.answer('unlockVault', null);
  assert.equal(run.ports, ['sealKey'], 'sealed after it was opened');
  await run.fail('sealKey', 'tpm.error');
  assert.is(status(run).status, 'unlocked', 'a seal that fails keeps nothing shut');
  assert.is(status(run).unlockedBy, 'controller');
  run.stop();
});

test('a key that came before the TPM refused is used at once', async () => {
  const run = await probed('present');
  await run.send(received);
  await run.fail('unsealKey', 'vault.seal-unusable');
  assert.equal(run.ports, ['openKey']);
  run.stop();
});

test('a key that did not open the vault is tried again, since EVC sends it once, and the next one at once', async () => {
  const run = await locked();
  await run.send(received);
  await run.fail('openKey', 'tpm.error');
  assert.is(run.state, 'locked.keyBackingOff');
  await run.elapse();
  assert.equal(run.ports, ['unsealKey'], 'the TPM is asked again');
  await run.fail('unsealKey', 'vault.pcr-mismatch', { details: { pcrs: [4, 9] } });
  assert.equal(run.inputOf('openKey'), { keyId: 'k1', encryptedKey: 'AAAA' });
  await run.answer('openKey', null);
  await run.fail('unlockVault', 'vault.wrong-key');
  assert.is(run.state, 'locked.keyBackingOff');
  await run.send({ ...received, keyId: 'k2' });
  assert.equal(run.inputOf('openKey'), { keyId: 'k2', encryptedKey: 'AAAA' });
  run.stop();
});

test('without a key the TPM is asked again from time to time', async () => {
  const run = await locked();
  await run.elapse();
  assert.equal(run.ports, ['unsealKey']);
  run.stop();
});

test('a TPM or disk that fails is tried again', async () => {
  const run = await ChartRun.start(vaultManager, { coverage });
  await run.fail('probeVault', 'disk.failed');
  assert.is(status(run).status, 'error');
  await run.elapse();
  assert.equal(run.ports, ['probeVault']);
  run.stop();
});

test('the token is stored once, and a copy that fails is not tried for ever', async () => {
  const run = await open();
  await run.send({ type: 'token.confirmed', tokenHash: 't1', rotate: false });
  assert.equal(run.inputOf('storeToken'), { tokenHash: 't1' });
  await run.answer('storeToken', null);
  assert.is(status(run).storedToken, 't1');
  await run.send({ type: 'token.confirmed', tokenHash: 't1', rotate: false });
  assert.is(run.state, 'unlocked.idle');
  await run.send({ type: 'token.confirmed', tokenHash: 't2', rotate: false });
  await run.fail('storeToken', 'disk.full');
  assert.is(run.state, 'unlocked.idle');
  assert.is(run.context.error?.code, 'disk.full');
  run.stop();
});

test('rotation: the old key is forgotten only after EVC holds the new one, and one approval rotates once', async () => {
  const run = await open();
  await run.send({ type: 'token.confirmed', tokenHash: 't1', rotate: true });
  await run.answer('storeToken', null);
  await run.answer('rotateKey', rotated);
  assert.is(run.state, 'unlocked.rotating.escrowing');
  assert.equal(vaultManagerPublications(run.snapshot).EncryptedVaultKeyFromDevice, {
    keyId: 'k2',
    encryptedKey: 'BBBB',
  });
  await run.send({ type: 'escrow.recorded', keyId: 'k1', version: 1 });
  await run.elapse();
  assert.is(run.state, 'unlocked.rotating.escrowing', 'not for the old key, and not for time that passes');
  await run.send({ type: 'escrow.recorded', keyId: 'k2', version: 2 });
  await run.answer('finishRotation', null);
  assert.is(run.state, 'unlocked.idle');
  await run.send({ type: 'token.confirmed', tokenHash: 't1', rotate: true });
  assert.is(run.state, 'unlocked.idle');
  run.stop();
});

test('a rotation that was cut short by a power loss goes on where it was', async () => {
  const run = await probed('present');
  await run.answer('unsealKey', null);
  await run.answer('unlockVault', null);
  await run.answer('exportKey', rotated);
  assert.is(run.state, 'unlocked.rotating.escrowing');
  run.stop();
});

test('a commit drops the old seals, whatever the vault was busy with when it came', async () => {
  const busy = await open();
  await busy.send({ type: 'token.confirmed', tokenHash: 't1', rotate: false });
  await busy.send({ type: 'upgrade.committed' });
  await busy.answer('storeToken', null);
  assert.equal(busy.ports, ['dropOldSeals']);
  await busy.answer('dropOldSeals', null);
  assert.is(busy.state, 'unlocked.idle');
  busy.stop();

  const shut = await locked();
  await shut.send({ type: 'upgrade.committed' });
  await shut.send(received);
  await shut.answer('openKey', null);
  await shut.answer('unlockVault', null);
  await shut.answer('sealKey', null);
  await shut.answer('exportKey', exported);
  assert.equal(shut.ports, ['dropOldSeals']);
  shut.stop();
});

test('the old key, or an old seal, that could not be dropped is dropped later', async () => {
  const rotating = await probed('present');
  await rotating.answer('unsealKey', null);
  await rotating.answer('unlockVault', null);
  await rotating.answer('exportKey', rotated);
  await rotating.send({ type: 'escrow.recorded', keyId: 'k2', version: 2 });
  await rotating.fail('finishRotation', 'disk.full');
  assert.is(rotating.state, 'unlocked.rotating.finishingBackingOff');
  assert.is(rotating.context.error?.code, 'disk.full');
  await rotating.elapse();
  await rotating.answer('finishRotation', null);
  assert.is(rotating.state, 'unlocked.idle');
  rotating.stop();

  const upgraded = await open();
  await upgraded.send({ type: 'upgrade.committed' });
  await upgraded.fail('dropOldSeals', 'disk.full');
  assert.is(upgraded.state, 'unlocked.resealingBackingOff');
  await upgraded.elapse();
  await upgraded.answer('dropOldSeals', null);
  assert.is(upgraded.state, 'unlocked.idle');
  upgraded.stop();
});

test('locking forgets the key', async () => {
  const run = await open();
  await run.send({ type: 'lock' });
  await run.answer('lockVault', null);
  assert.is(status(run).status, 'locked');
  assert.is(run.context.exported, null);
  run.stop();
});

testRules(test, vaultManager, {
  coverage,
  stimuli: {
    events: [
      { type: 'token.confirmed', tokenHash: 't1', rotate: true },
      { type: 'key.received', keyId: 'k1', version: 1, encryptedKey: 'AAAA' },
      { type: 'escrow.recorded', keyId: 'k1', version: 1 },
      { type: 'escrow.recorded', keyId: 'k2', version: 2 },
      { type: 'upgrade.committed' },
      { type: 'lock' },
    ],
    answers: {
      probeVault: [
        { vault: 'absent', backend: 'file' },
        { vault: 'present', backend: 'file' },
      ],
      createVault: [null],
      sealKey: [null],
      unsealKey: [null],
      unlockVault: [null],
      exportKey: [exported, rotated],
      openKey: [null],
      storeToken: [null],
      rotateKey: [rotated],
      finishRotation: [null],
      dropOldSeals: [null],
      lockVault: [null],
    },
    failures: { unsealKey: ['vault.pcr-mismatch', 'vault.seal-unusable'] },
  },
  resting: {
    'unlocked.idle': 'the vault is open; what there is to do comes from others',
  },
});

test.run();
