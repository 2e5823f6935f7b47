import { suite } from 'uvu';
import { vaultManager } from '../../machines/vault-manager.ts';
import { testRules } from '../kit/chart-rules.ts';
import { Coverage } from '../kit/coverage.ts';

const test = suite('vault-manager');
const coverage = new Coverage(vaultManager);
const exported = { keyId: 'k1', encryptedKey: 'AAAA', rotating: false };
const rotated = { keyId: 'k2', encryptedKey: 'BBBB', rotating: true };

testRules(test, vaultManager, {
  coverage,
  stimuli: {
    events: [
      { type: 'token.confirmed', tokenHash: 't1', rotate: false },
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
