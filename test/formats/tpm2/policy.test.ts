import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hash } from '../../../device/tpm/hash.ts';
import { TPM_RH } from '../../../formats/tpm2/constants.ts';
import { handleName } from '../../../formats/tpm2/names.ts';
import { pcrDigest, pcrSelection } from '../../../formats/tpm2/pcrs.ts';
import { type PolicyAssertion, policyDigest } from '../../../formats/tpm2/policy.ts';
import { type EndorsementHash, endorsementPolicies } from '../../../formats/tpm2/templates.ts';
import { hex, toHex } from '../../kit/bytes.ts';

test('[EK Credential Profile B.6] the policies of endorsement keys', () => {
  for (const [name, { a, b, c }] of Object.entries(endorsementPolicies)) {
    const algorithm = name as EndorsementHash;
    const digest = (policy: PolicyAssertion[]) => toHex(policyDigest(hash, algorithm, policy));
    assert.is(
      digest([{ policy: 'PolicySecret', entityName: handleName(TPM_RH.ENDORSEMENT) }]),
      toHex(a),
      name,
    );
    assert.is(digest([{ policy: 'PolicyOR', digests: [a, c] }]), toHex(b), name);
  }
});

test('[TPM2 P3 23.7] PolicyPCR, as EVE computes it', () => {
  const values = new Map([0, 7].map((pcr) => [pcr, new Uint8Array(32).fill(pcr)]));
  const pcrs = [pcrSelection('sha256', [7, 0])];
  const digest = pcrDigest(hash, 'sha256', pcrs, { sha256: values });
  // SHA256(32 zeros ‖ command code ‖ TPML_PCR_SELECTION ‖ SHA256(values in ascending order)).
  const selection = hex('00000001 000b 03 810000');
  const joined = Buffer.concat([
    Buffer.alloc(32),
    hex('0000017f'),
    selection,
    hash('sha256', Buffer.concat([...values.values()])),
  ]);
  assert.equal(
    policyDigest(hash, 'sha256', [{ policy: 'PolicyPCR', pcrs, pcrDigest: digest }]),
    hash('sha256', joined),
  );
});

const policyA = endorsementPolicies.sha256.a;

test('PolicyOR needs 2 to 8 digests of its own hash', () => {
  for (const digests of [[], [policyA], Array(9).fill(policyA)])
    assert.throws(
      () => policyDigest(hash, 'sha256', [{ policy: 'PolicyOR', digests }]),
      /needs 2 to 8 branches/,
    );
  assert.throws(
    () => policyDigest(hash, 'sha256', [{ policy: 'PolicyOR', digests: [policyA, new Uint8Array(20)] }]),
    /no sha256 digest/,
  );
});

test.run();
