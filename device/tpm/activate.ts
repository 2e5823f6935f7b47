// Credential activation: this TPM proves that attestation key and endorsement key are both in it.
import { ActivateCredential } from '../../formats/tpm2/commands.ts';
import { TPM_RH } from '../../formats/tpm2/constants.ts';
import { handleName } from '../../formats/tpm2/names.ts';
import type { Key } from './keys.ts';
import { runPolicy } from './policy.ts';
import { type SaltKey, withSession } from './session.ts';
import type { Tpm } from './tpm.ts';

/** What the controller made with the EK's public key for an AK of this name. */
export interface Credential {
  /** Contents of a TPM2B_ID_OBJECT. */
  credentialBlob: Uint8Array;
  /** Contents of a TPM2B_ENCRYPTED_SECRET. */
  encryptedSecret: Uint8Array;
}

/**
 * The secret in a credential. The answer is encrypted on the bus.
 * @param keys `ek` of the low range (policy: PolicySecret of the endorsement hierarchy), `salt` usually the SRK.
 * @throws TpmError TPM_RC_INTEGRITY or TPM_RC_VALUE if the credential is for another EK or AK.
 */
export function activateCredential(
  tpm: Tpm,
  keys: { ak: Key; ek: Key; salt: SaltKey },
  { credentialBlob, encryptedSecret }: Credential,
): Promise<Uint8Array> {
  const { ak, ek, salt } = keys;
  return withSession(tpm, { type: 'hmac', salt }, (session) =>
    withSession(tpm, { type: 'policy' }, async (policySession) => {
      const entityName = handleName(TPM_RH.ENDORSEMENT);
      const authority = { handle: TPM_RH.ENDORSEMENT };
      await runPolicy(tpm, policySession, [{ policy: 'PolicySecret', entityName }], { authority });
      const { certInfo } = await tpm.execute(
        ActivateCredential,
        { activateHandle: ak, keyHandle: ek, credentialBlob, secret: encryptedSecret },
        [{ session, encrypt: true }, { session: policySession }],
      );
      return certInfo;
    }),
  );
}
