// Runs a policy, the same list whose digest `formats/tpm2/policy.ts` computes, in a session.
import * as commands from '../../formats/tpm2/commands.ts';
import { TPM_RH } from '../../formats/tpm2/constants.ts';
import { handleName } from '../../formats/tpm2/names.ts';
import type { PolicyAssertion } from '../../formats/tpm2/policy.ts';
import type { TPMT_TK } from '../../formats/tpm2/structures.ts';
import type { endorsementPolicyOf } from '../../formats/tpm2/templates.ts';
import type { Entity } from './execute.ts';
import type { Session } from './session.ts';
import type { Tpm } from './tpm.ts';

/** What a policy refers to by name and a command by handle, and what was decided elsewhere. */
export interface PolicyInputs {
  /** The entity that PolicySecret and PolicyNV authorize with. */
  authority?: Entity;
  /** The NV index of PolicyNV. */
  index?: Entity;
  /** The policy that PolicyAuthorize approves, and the ticket of its checked signature. */
  approved?: { policy: Uint8Array; ticket: TPMT_TK };
}

const none = new Uint8Array();

function needed<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new TypeError(`this policy needs ${what}`);
  return value;
}

/**
 * Executes one assertion after the other. PolicyPCR is not given the expected digest: the command that the policy is
 * for then fails, and the caller can say which PCR differs.
 */
export async function runPolicy(
  tpm: Tpm,
  session: Session,
  policy: readonly PolicyAssertion[],
  inputs: PolicyInputs = {},
): Promise<void> {
  const policySession = session.handle;
  for (const assertion of policy) {
    switch (assertion.policy) {
      case 'PolicyPCR':
        await tpm.execute(commands.PolicyPCR, { policySession, pcrDigest: none, pcrs: assertion.pcrs });
        break;
      case 'PolicyOR':
        await tpm.execute(commands.PolicyOR, { policySession, pHashList: [...assertion.digests] });
        break;
      case 'PolicySecret':
        await tpm.execute(commands.PolicySecret, {
          authHandle: needed(inputs.authority, 'an authority'),
          policySession,
          nonceTPM: none,
          cpHashA: none,
          policyRef: assertion.policyRef ?? none,
          expiration: 0,
        });
        break;
      case 'PolicyAuthorize': {
        const { policy: approvedPolicy, ticket } = needed(inputs.approved, 'an approved policy');
        await tpm.execute(commands.PolicyAuthorize, {
          policySession,
          approvedPolicy,
          policyRef: assertion.policyRef ?? none,
          keySign: assertion.keyName,
          checkTicket: ticket,
        });
        break;
      }
      case 'PolicyCommandCode':
        await tpm.execute(commands.PolicyCommandCode, { policySession, code: assertion.code });
        break;
      case 'PolicyLocality':
        await tpm.execute(commands.PolicyLocality, { policySession, locality: assertion.locality });
        break;
      case 'PolicyNV':
        await tpm.execute(commands.PolicyNV, {
          authHandle: needed(inputs.authority, 'an authority'),
          nvIndex: needed(inputs.index, 'an NV index'),
          policySession,
          operandB: assertion.operandB,
          offset: assertion.offset,
          operation: assertion.operation,
        });
        break;
      case 'PolicyAuthValue':
        await tpm.execute(commands.PolicyAuthValue, { policySession });
        session.includesAuthValue = true;
        break;
      case 'PolicySigned':
        throw new TypeError(
          'PolicySigned needs a signature over the nonce of the session: execute it yourself',
        );
    }
  }
}

/** The digest that a policy or trial session has reached. */
export async function reachedDigest(tpm: Tpm, session: Session): Promise<Uint8Array> {
  return (await tpm.execute(commands.PolicyGetDigest, { policySession: session.handle })).policyDigest;
}

/**
 * Satisfies the policy of an endorsement key, of either range, with the empty authorization of the endorsement hierarchy.
 * @param session a policy session in the hash of the key's name.
 */
export async function runEndorsementPolicy(
  tpm: Tpm,
  session: Session,
  { policy, policies }: NonNullable<ReturnType<typeof endorsementPolicyOf>>,
): Promise<void> {
  const secret: PolicyAssertion = { policy: 'PolicySecret', entityName: handleName(TPM_RH.ENDORSEMENT) };
  const either: PolicyAssertion = { policy: 'PolicyOR', digests: [policies.a, policies.c] };
  await runPolicy(tpm, session, policy === 'a' ? [secret] : [secret, either], {
    authority: { handle: TPM_RH.ENDORSEMENT },
  });
}
