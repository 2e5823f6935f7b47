// Signatures with the device key.
import { Sign } from '../../formats/tpm2/commands.ts';
import { TPM_ALG, TPM_RH, TPM_ST } from '../../formats/tpm2/constants.ts';
import { concat } from '../../formats/tpm2/hash.ts';
import { coordinateSize, fixedWidth } from '../../formats/tpm2/spki.ts';
import type { Key } from './keys.ts';
import type { Tpm } from './tpm.ts';

/**
 * Signs a digest with an unrestricted ECDSA key.
 * @param digest as long as the hash of the key's scheme: 32 bytes for the device key.
 * @returns r and s, each as wide as the curve: 64 bytes for P-256. That is ES256 [RFC 7518, 3.4] and what node:crypto
 * calls `ieee-p1363`.
 */
export async function signDigest(tpm: Tpm, key: Key, digest: Uint8Array): Promise<Uint8Array> {
  const size = key.public.type === TPM_ALG.ECC ? coordinateSize(key.public.parameters.curveID) : undefined;
  if (size === undefined) throw new TypeError('signs with a key on a NIST curve only');
  const { signature } = await tpm.execute(Sign, {
    keyHandle: key,
    digest,
    inScheme: { scheme: TPM_ALG.NULL },
    // An unrestricted key signs what it is given: no ticket needed [TPM2 Part 3, 20.2].
    validation: { tag: TPM_ST.HASHCHECK, hierarchy: TPM_RH.NULL, digest: new Uint8Array() },
  });
  if (signature.sigAlg !== TPM_ALG.ECDSA) throw new RangeError('TPM2_Sign did not answer with ECDSA');
  const { signatureR, signatureS } = signature.signature;
  return concat(fixedWidth(signatureR, size), fixedWidth(signatureS, size));
}
