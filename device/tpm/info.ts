// What a TPM says about itself, for people who ask whether it will do.
import { X509Certificate } from 'node:crypto';
import { TPM_ALG, TPM_ECC_CURVE, TPM_HT, TPM_PT } from '../../formats/tpm2/constants.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import {
  type EndorsementTemplate,
  endorsementChainIndices,
  endorsementIndices,
} from '../../formats/tpm2/templates.ts';
import { tpmVendors } from '../../formats/x509/endorsement.ts';
import { largestCertificate } from '../../formats/x509/parse.ts';
import { readNv, readNvPublic } from './nv.ts';
import type { Tpm } from './tpm.ts';

export interface TpmInfo {
  manufacturer: { id: string; name: string };
  vendor: string;
  /** As manufacturers write it: four numbers of 16 bits. */
  firmware: string;
  /** Revision of the specification: 1.38, 1.59, … */
  revision: string;
  algorithms: string[];
  curves: string[];
  banks: Partial<Record<HashName, readonly number[]>>;
  certificates: EkCertificate[];
  /** Handles of persistent objects, whoever made them. */
  persistent: number[];
  /** What it has room for now. */
  free: { transient: number; sessions: number; persistent: number; counters: number };
  lockout: {
    locked: boolean;
    /** Failed authorizations that count now, and how many lock it. */
    failures: number;
    limit: number;
    /** Until one failure is forgotten, s. */
    interval: number;
    /** Until the lockout hierarchy may be tried again after a failure, s. */
    recovery: number;
  };
  /** Hierarchies that need an authorization value; EVE uses those of owner and endorsement with none. */
  authorized: string[];
  disabled: string[];
  clock: { ms: number; resets: number; restarts: number; safe: boolean };
}

export interface EkCertificate {
  index: number;
  /** The key that it is for; `chain` for one of those between a key's own and the root. */
  key: string;
  /** Bytes in the index. */
  size: number;
  subject: string;
  issuer: string;
  /** ms since the epoch; 0 when it is not readable. */
  notAfter: number;
  /** Why it cannot be read; empty when it can. */
  problem: string;
}

const keyTexts: Record<EndorsementTemplate, string> = {
  'L-1': 'RSA 2048',
  'L-2': 'ECC P-256',
  'H-1': 'RSA 2048 (H-1)',
  'H-2': 'ECC P-256 (H-2)',
  'H-3': 'ECC P-384',
  'H-4': 'ECC P-521',
  'H-6': 'RSA 3072',
  'H-7': 'RSA 4096',
};

// TPMA_PERMANENT and TPMA_STARTUP_CLEAR [TPM2 Part 2, 8.6 and 8.7].
const inLockout = 9;
const authSet = ['owner', 'endorsement', 'lockout'];
const enabled = ['platform', 'owner', 'endorsement'];

/** Asks; changes nothing in the TPM. */
export async function readTpmInfo(tpm: Tpm): Promise<TpmInfo> {
  const capabilities = await tpm.capabilities();
  const properties = await tpm.properties();
  const { algorithms, curves } = await tpm.algorithms();
  const { clockInfo } = await tpm.readClock();
  const of = (property: number) => properties.get(property) ?? 0;
  const bit = (property: number, n: number) => ((of(property) >>> n) & 1) === 1;
  return {
    manufacturer: {
      id: capabilities.manufacturer,
      name: tpmVendors[capabilities.manufacturer] ?? capabilities.manufacturer,
    },
    vendor: capabilities.vendor,
    firmware: [48n, 32n, 16n, 0n].map((shift) => (capabilities.firmwareVersion >> shift) & 0xffffn).join('.'),
    revision: (capabilities.revision / 100).toFixed(2),
    algorithms: algorithms.map((id) => nameOf(TPM_ALG, id)),
    curves: curves.map((id) => nameOf(TPM_ECC_CURVE, id)),
    banks: Object.fromEntries(capabilities.banks),
    certificates: await certificates(tpm),
    persistent: await tpm.handles(TPM_HT.PERSISTENT),
    free: {
      transient: of(TPM_PT.HR_TRANSIENT_AVAIL),
      sessions: of(TPM_PT.HR_LOADED_AVAIL),
      persistent: of(TPM_PT.HR_PERSISTENT_AVAIL),
      counters: of(TPM_PT.NV_COUNTERS_AVAIL),
    },
    lockout: {
      locked: bit(TPM_PT.PERMANENT, inLockout),
      failures: of(TPM_PT.LOCKOUT_COUNTER),
      limit: of(TPM_PT.MAX_AUTH_FAIL),
      interval: of(TPM_PT.LOCKOUT_INTERVAL),
      recovery: of(TPM_PT.LOCKOUT_RECOVERY),
    },
    authorized: authSet.filter((_, n) => bit(TPM_PT.PERMANENT, n)),
    disabled: enabled.filter((_, n) => !bit(TPM_PT.STARTUP_CLEAR, n)),
    clock: {
      ms: Number(clockInfo.clock),
      resets: clockInfo.resetCount,
      restarts: clockInfo.restartCount,
      safe: clockInfo.safe,
    },
  };
}

async function certificates(tpm: Tpm): Promise<EkCertificate[]> {
  const found: EkCertificate[] = [];
  for (const index of await tpm.handles(TPM_HT.NV_INDEX)) {
    const key = keyOf(index);
    if (key === undefined) continue;
    const { dataSize: size } = await readNvPublic(tpm, index);
    const nothing = { index, key, size, subject: '', issuer: '', notAfter: 0 };
    try {
      const bytes = await readNv(tpm, index, undefined, largestCertificate);
      const { subject, subjectAltName, issuer, validTo } = new X509Certificate(bytes);
      found.push({
        ...nothing,
        // The profile leaves the subject empty and names the TPM in the alternative name.
        subject: oneLine(subject || subjectAltName),
        issuer: oneLine(issuer),
        notAfter: Date.parse(validTo),
        problem: '',
      });
    } catch (error) {
      found.push({ ...nothing, problem: (error as Error).message });
    }
  }
  return found;
}

/** What an index is for, undefined when it is for no certificate. */
function keyOf(index: number): string | undefined {
  const { first, last } = endorsementChainIndices;
  if (index >= first && index <= last) return 'chain';
  const found = Object.entries(endorsementIndices).find(([, { certificate }]) => certificate === index);
  return found && keyTexts[found[0] as EndorsementTemplate];
}

function nameOf(table: Record<string, number>, id: number): string {
  return Object.entries(table).find(([, value]) => value === id)?.[0] ?? `0x${id.toString(16)}`;
}

function oneLine(name = ''): string {
  return name.trim().replaceAll('\n', ', ');
}
