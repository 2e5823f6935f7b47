// What a TPM says about itself, for people who ask whether it will do.
import { X509Certificate } from 'node:crypto';
import { TPM_ALG, TPM_ECC_CURVE, TPM_HT, TPM_PT } from '../../formats/tpm2/constants.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
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
  /** What the index is for; empty where no profile says. */
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

/** [TCG TPM Vendor ID Registry, 3] */
const manufacturers: Record<string, string> = {
  AMD: 'AMD',
  ATML: 'Microchip (Atmel)',
  BRCM: 'Broadcom',
  CSCO: 'Cisco',
  GOOG: 'Google',
  HPE: 'HPE',
  IBM: 'IBM',
  IFX: 'Infineon',
  INTC: 'Intel',
  LEN: 'Lenovo',
  MSFT: 'Microsoft',
  NSM: 'National Semiconductor',
  NTC: 'Nuvoton',
  QCOM: 'Qualcomm',
  SMSC: 'Microchip (SMSC)',
  SMSN: 'Samsung',
  STM: 'STMicroelectronics',
  TXN: 'Texas Instruments',
  WEC: 'Winbond',
};

/** [TCG EK Credential Profile 2.5, 2.2.1.4 and 2.2.1.5] */
const ekKeys: Record<number, string> = {
  29360130: 'RSA 2048',
  29360138: 'ECC P-256',
  29360146: 'RSA 2048 (high range)',
  29360148: 'ECC P-256 (high range)',
  29360150: 'ECC P-384',
  29360152: 'ECC P-521',
  29360154: 'SM2 P-256',
  29360156: 'RSA 3072',
  29360158: 'RSA 4096',
};
/** Where manufacturers keep certificates [TCG Registry of Reserved TPM 2.0 Handles, 2.2]. */
const ekRange = { first: 0x01c00000, last: 0x01c07fff };
/** Far above any; a larger index is no certificate, and reading it takes long. */
const largestCertificate = 8192;

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
      name: manufacturers[capabilities.manufacturer] ?? capabilities.manufacturer,
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
    if (index < ekRange.first || index > ekRange.last) continue;
    const key = ekKeys[index] ?? '';
    const { dataSize: size } = await readNvPublic(tpm, index);
    const nothing = { index, key, size, subject: '', issuer: '', notAfter: 0 };
    try {
      if (size > largestCertificate) throw new RangeError(`${size} bytes are no certificate`);
      const { subject, subjectAltName, issuer, validTo } = new X509Certificate(await readNv(tpm, index));
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

function nameOf(table: Record<string, number>, id: number): string {
  return Object.entries(table).find(([, value]) => value === id)?.[0] ?? `0x${id.toString(16)}`;
}

function oneLine(name = ''): string {
  return name.trim().replaceAll('\n', ', ');
}
