// Identity: the attestation key that was enrolled for this device, and bound to its endorsement key by credential
// activation. A quote of any other key, of another TPM, or of a key that signs what its holder likes, ends here.
import { LRUCache } from 'lru-cache';
import { decode } from '../../formats/tpm2/codec.ts';
import { objectName } from '../../formats/tpm2/names.ts';
import { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import type { Finding } from '../../machines/flow.ts';
import { hash } from './hash.ts';
import { type AttestationKey, attestationKey } from './quote.ts';

/** The enrolled key; hex. */
export interface EnrolledKey {
  akName: string;
  /** TPMT_PUBLIC. */
  akPublic: string;
}

export type IdentityCheck = { ok: true; key: AttestationKey } | { ok: false; refusals: Finding[] };

/** Parsing a key costs more than a signature. */
const cache = new LRUCache<string, AttestationKey>({ max: 10_000 });

/** The key to check a quote with. Never throws. */
export function verifyIdentity(enrolled: EnrolledKey | null): IdentityCheck {
  if (!enrolled) {
    return refuse('evidence.identity.unknown', 'No attestation key of this device is proven');
  }
  const known = cache.get(enrolled.akName);
  if (known) return { ok: true, key: known };
  try {
    const publicArea = decode(TPMT_PUBLIC, Buffer.from(enrolled.akPublic, 'hex'));
    // The name is what was proven; the public area is only what it was said to stand for.
    const name = Buffer.from(objectName(hash, publicArea)).toString('hex');
    if (name !== enrolled.akName) {
      return refuse('evidence.identity.name', 'The public key on record is not the one that was proven');
    }
    const key = attestationKey(publicArea);
    cache.set(enrolled.akName, key);
    return { ok: true, key };
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unreadable';
    return refuse('evidence.identity.key', `The attestation key on record cannot vouch for anything: ${why}`);
  }
}

function refuse(code: string, text: string): IdentityCheck {
  return { ok: false, refusals: [{ code, text }] };
}
