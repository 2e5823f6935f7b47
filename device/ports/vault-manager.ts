import type { vaultManager } from '../../machines/vault-manager.ts';
import type { PortsOf } from '../component.ts';
import type { Node } from '../node.ts';

const tokenName = 'itoken';

export function vaultManagerPorts({ vault, tokens }: Node): PortsOf<typeof vaultManager> {
  return {
    probeVault: () => vault.probe(),
    async createVault() {
      await vault.create();
      return null;
    },
    async sealKey() {
      await vault.seal();
      return null;
    },
    async unsealKey() {
      await vault.unseal();
      return null;
    },
    unlockVault() {
      vault.unlock();
      return null;
    },
    exportKey: () => vault.export(),
    async openKey({ keyId, encryptedKey }) {
      await vault.open(keyId, encryptedKey);
      return null;
    },
    storeToken({ tokenHash }) {
      vault.backend.put(tokenName, tokens.read(tokenHash));
      return null;
    },
    rotateKey: () => vault.rotate(),
    finishRotation() {
      vault.finishRotation();
      return null;
    },
    dropOldSeals() {
      vault.dropOldSeals();
      return null;
    },
    lockVault() {
      vault.lock();
      return null;
    },
  };
}
