// Endorsement certificates, as the manufacturer left them in the TPM [TCG EK Credential Profile 2.5, 2.2]. What is read here
// only chooses a key and is sent along; EVC is who checks it, so it may come over the bus in the clear.
import { FormatError } from '../../formats/format-error.ts';
import { decode } from '../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_HT } from '../../formats/tpm2/constants.ts';
import { publicJwk, sameJwk } from '../../formats/tpm2/spki.ts';
import { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import {
  type EndorsementTemplate,
  endorsementChainIndices,
  endorsementIndices,
  endorsementKey,
  endorsementPolicyOf,
} from '../../formats/tpm2/templates.ts';
import {
  type Certificate,
  certificateLength,
  largestCertificate,
  parseCertificate,
} from '../../formats/x509/parse.ts';
import { TpmError } from './execute.ts';
import { readNv } from './nv.ts';
import type { Tpm } from './tpm.ts';

/** An endorsement key that its manufacturer certified, and how to make it. */
export interface CertifiedTemplate {
  template: EndorsementTemplate;
  certificate: Certificate;
  /** What CreatePrimary is asked for. */
  inPublic: TPMT_PUBLIC;
  /** The persistent handle that is reserved for it. */
  handle: number;
}

/** Certificates between an endorsement key's own and its root. */
const longestChain = 7;

/** The certified endorsement keys of this TPM, the one to use first. What cannot be read is no certificate. */
export async function certifiedTemplates(tpm: Tpm): Promise<CertifiedTemplate[]> {
  const indices = new Set(await tpm.handles(TPM_HT.NV_INDEX));
  const found: CertifiedTemplate[] = [];
  for (const [name, at] of Object.entries(endorsementIndices)) {
    const bytes = await readIfThere(tpm, indices, at.certificate);
    const certificate = bytes && certificateOf(bytes);
    if (!certificate) continue;
    const template = name as EndorsementTemplate;
    const inPublic = await templateOf(tpm, indices, template);
    found.push({ template, certificate, inPublic, handle: at.handle });
  }
  return found;
}

/**
 * The certificates of an endorsement key in DER, its own first, then those that NV has of its chain. Empty when none of
 * the TPM's certificates is for this key.
 */
export async function endorsementCertificates(tpm: Tpm, ek: TPMT_PUBLIC): Promise<Uint8Array[]> {
  const indices = new Set(await tpm.handles(TPM_HT.NV_INDEX));
  for (const { certificate } of Object.values(endorsementIndices)) {
    const bytes = await readIfThere(tpm, indices, certificate);
    const own = bytes && certificateOf(bytes);
    if (own && certifies(own, ek)) return [own.bytes, ...(await chain(tpm, indices))];
  }
  return [];
}

/** Whether a certificate is for the key of this public area. */
export function certifies({ key }: Certificate, area: TPMT_PUBLIC): boolean {
  try {
    return key !== null && sameJwk(key, publicJwk(area));
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** The standard template, or the one that the manufacturer wrote down because his key was made from another. */
async function templateOf(tpm: Tpm, indices: Set<number>, name: EndorsementTemplate): Promise<TPMT_PUBLIC> {
  const standard: TPMT_PUBLIC = endorsementKey[name];
  const { template, nonce } = endorsementIndices[name];
  const written = await readIfThere(tpm, indices, template);
  if (written) {
    try {
      const area = decode(TPMT_PUBLIC, written);
      if (endorsementPolicyOf(area)) return area;
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
  }
  const unique = nonce === undefined ? null : await readIfThere(tpm, indices, nonce);
  if (!unique) return standard;
  // In the first bytes of the unique field, zeros after it [2.2.1.4].
  const filled = (size: number) => {
    const bytes = new Uint8Array(size);
    bytes.set(unique.subarray(0, size));
    return bytes;
  };
  if (standard.type === TPM_ALG.RSA) return { ...standard, unique: filled(standard.unique.length) };
  if (standard.type !== TPM_ALG.ECC) return standard;
  return { ...standard, unique: { ...standard.unique, x: filled(standard.unique.x.length) } };
}

/** One after the other in as many indices as it takes; a certificate may cross from one into the next [2.2.1.5]. */
async function chain(tpm: Tpm, indices: Set<number>): Promise<Uint8Array[]> {
  const { first, last } = endorsementChainIndices;
  const parts: Uint8Array[] = [];
  let size = 0;
  for (const index of [...indices].filter((at) => at >= first && at <= last).sort((a, b) => a - b)) {
    const part = await readIfThere(tpm, indices, index);
    if (!part || size + part.length > longestChain * largestCertificate) break;
    parts.push(part);
    size += part.length;
  }
  const bytes = Buffer.concat(parts);
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length && found.length < longestChain; ) {
    const one = certificateOf(bytes.subarray(at));
    if (!one) break;
    found.push(one.bytes);
    at += certificateLength(bytes.subarray(at));
  }
  return found;
}

/** Null where there is nothing, nothing that we may read, or more than belongs there. */
async function readIfThere(tpm: Tpm, indices: Set<number>, index: number): Promise<Uint8Array | null> {
  if (!indices.has(index)) return null;
  try {
    return await readNv(tpm, index, undefined, largestCertificate);
  } catch (error) {
    if (error instanceof RangeError || (error instanceof TpmError && !error.retry)) return null;
    throw error;
  }
}

function certificateOf(bytes: Uint8Array): Certificate | null {
  try {
    return parseCertificate(bytes);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
