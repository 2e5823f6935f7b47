// Which backend keeps the data: the one of the vault that is there, else the best that this machine has.
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';
import { fileBackend, vaultHeader } from './data-key.ts';
import { FileVault } from './file.ts';
import { FscryptVault, fscryptBackend, probeFscrypt } from './fscrypt.ts';
import type { VaultBackend } from './vault.ts';

export const vaultChoices = ['auto', fscryptBackend, fileBackend] as const;
export type VaultChoice = (typeof vaultChoices)[number];

/**
 * Throws Refusal vault.no-fscrypt when it is asked for and cannot be, vault.other-backend when a vault of the other one is
 * there: what protects data is never changed silently.
 */
export function vaultBackend(state: StateFolder, choice: VaultChoice): VaultBackend {
  const header = vaultHeader(state);
  const there = header?.complete ? (header.backend ?? fileBackend) : null;
  if (there !== null && choice !== 'auto' && choice !== there) {
    throw new Refusal(
      'vault.other-backend',
      `the vault of this device is kept by ${there}, and ${choice} was asked for; start without --vault`,
    );
  }
  const wanted = there ?? choice;
  if (wanted === fileBackend) return new FileVault(state);
  if (there === null) {
    const verdict = probeFscrypt(state.path);
    if (!verdict.possible) {
      if (wanted === 'auto') return new FileVault(state);
      throw new Refusal('vault.no-fscrypt', [verdict.why, verdict.next].filter(Boolean).join('; '));
    }
  }
  return new FscryptVault(state);
}
