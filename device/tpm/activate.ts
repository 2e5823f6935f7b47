// Credential activation: this TPM proves that attestation key and endorsement key are both in it.
import { ActivateCredential } from '../../formats/tpm2/commands.ts';
import { endorsementPolicyOf } from '../../formats/tpm2/templates.ts';
import type { Key } from './keys.ts';
import { runEndorsementPolicy } from './policy.ts';
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
 * @param keys `ek` of the low or the high range, `salt` usually the SRK.
 * @throws TpmError TPM_RC_INTEGRITY or TPM_RC_VALUE if the credential is for another EK or AK.
 * @throws TypeError if `ek` is no endorsement key under one of the profile's policies.
 */
export function activateCredential(
  tpm: Tpm,
  keys: { ak: Key; ek: Key; salt: SaltKey },
  { credentialBlob, encryptedSecret }: Credential,
): Promise<Uint8Array> {
  const { ak, ek, salt } = keys;
  const policy = endorsementPolicyOf(ek.public);
  if (!policy) throw new TypeError('a credential is opened with an endorsement key');
  return withSession(tpm, { type: 'hmac', salt }, (session) =>
    // A key of the high range may be used with its own authValue as well. Its policy holds whatever that is.
    withSession(tpm, { type: 'policy', authHash: policy.hash }, async (policySession) => {
      await runEndorsementPolicy(tpm, policySession, policy);
      const { certInfo } = await tpm.execute(
        ActivateCredential,
        { activateHandle: ak, keyHandle: ek, credentialBlob, secret: encryptedSecret },
        [{ session, encrypt: true }, { session: policySession }],
      );
      return certInfo;
    }),
  );
}
