// Policies as lists of assertions. The digest of such a list is computed here without a TPM; `device/tpm/policy.ts` runs
// the same list in a session [TPM2 Part 1, 19.7; Part 3, 23].
import { encode, u16, u32 } from './codec.ts';
import { TPM_CC } from './constants.ts';
import { concat, digestSize, type Hash, type HashName } from './hash.ts';
import { EO, TPMA_LOCALITY, TPML_PCR_SELECTION } from './structures.ts';

/** One step of a policy. `pcrDigest` as `pcrDigest()` computes it in the hash of the policy. */
export type PolicyAssertion =
  | { policy: 'PolicyPCR'; pcrs: TPML_PCR_SELECTION; pcrDigest: Uint8Array }
  | { policy: 'PolicyOR'; digests: readonly Uint8Array[] }
  | { policy: 'PolicySecret'; entityName: Uint8Array; policyRef?: Uint8Array }
  | { policy: 'PolicySigned'; keyName: Uint8Array; policyRef?: Uint8Array }
  | { policy: 'PolicyAuthorize'; keyName: Uint8Array; policyRef?: Uint8Array }
  | { policy: 'PolicyCommandCode'; code: number }
  | { policy: 'PolicyLocality'; locality: TPMA_LOCALITY }
  | { policy: 'PolicyNV'; indexName: Uint8Array; operandB: Uint8Array; offset: number; operation: number }
  | { policy: 'PolicyAuthValue' };

const empty = new Uint8Array();

function extend(hash: Hash, algorithm: HashName, digest: Uint8Array, ...parts: Uint8Array[]): Uint8Array {
  return hash(algorithm, concat(digest, ...parts));
}

function assert(hash: Hash, algorithm: HashName, digest: Uint8Array, assertion: PolicyAssertion): Uint8Array {
  const code = encode(u32, TPM_CC[assertion.policy]);
  const start = new Uint8Array(digestSize(algorithm));
  // PolicyUpdate of Part 3, 23.2.3: the reference gets a hash of its own so that it cannot pass for part of the name.
  const update = (from: Uint8Array, name: Uint8Array, policyRef: Uint8Array = empty) =>
    extend(hash, algorithm, extend(hash, algorithm, from, code, name), policyRef);
  switch (assertion.policy) {
    case 'PolicyPCR':
      return extend(
        hash,
        algorithm,
        digest,
        code,
        encode(TPML_PCR_SELECTION, assertion.pcrs),
        assertion.pcrDigest,
      );
    case 'PolicyOR':
      if (assertion.digests.length < 2 || assertion.digests.length > 8)
        throw new TypeError('PolicyOR needs 2 to 8 branches');
      if (assertion.digests.some((branch) => branch.length !== start.length))
        throw new TypeError(`a branch of PolicyOR is no ${algorithm} digest`);
      return extend(hash, algorithm, start, code, ...assertion.digests);
    case 'PolicySecret':
      return update(digest, assertion.entityName, assertion.policyRef);
    case 'PolicySigned':
      return update(digest, assertion.keyName, assertion.policyRef);
    case 'PolicyAuthorize':
      // What was approved is checked and then forgotten: only who approved it stays.
      return update(start, assertion.keyName, assertion.policyRef);
    case 'PolicyCommandCode':
      return extend(hash, algorithm, digest, code, encode(u32, assertion.code));
    case 'PolicyLocality':
      return extend(hash, algorithm, digest, code, encode(TPMA_LOCALITY, assertion.locality));
    case 'PolicyNV': {
      const { operandB, offset, operation } = assertion;
      const args = hash(algorithm, concat(operandB, encode(u16, offset), encode(EO, operation)));
      return extend(hash, algorithm, digest, code, args, assertion.indexName);
    }
    case 'PolicyAuthValue':
      return extend(hash, algorithm, digest, code);
  }
}

/**
 * The authPolicy of an object that this policy unlocks.
 * @throws TypeError if an assertion is one that no TPM could execute.
 */
export function policyDigest(
  hash: Hash,
  algorithm: HashName,
  policy: readonly PolicyAssertion[],
): Uint8Array {
  return policy.reduce<Uint8Array>(
    (digest, assertion) => assert(hash, algorithm, digest, assertion),
    new Uint8Array(digestSize(algorithm)),
  );
}

/**
 * What the key named in PolicyAuthorize signs to approve a policy: the digest of `approvedPolicy` and `policyRef`, in the
 * hash of the signing scheme [TPM2 Part 3, 23.16].
 */
export function approvalDigest(
  hash: Hash,
  algorithm: HashName,
  approvedPolicy: Uint8Array,
  policyRef: Uint8Array = empty,
): Uint8Array {
  return hash(algorithm, concat(approvedPolicy, policyRef));
}
