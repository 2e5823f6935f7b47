// What reaches the record of a device, and what it remembers.
import type { BaseOsConfig, Finding, Grounds, Location, Token, Verdict, Versions } from '../flow.ts';
import type { Stamp } from '../port.ts';
import type { Why } from '../waiting.ts';

/** Where an answer goes: the topic's endpoint and request id. */
export interface RequestRef {
  endpoint: 'register' | 'uuid' | 'attest' | 'config' | 'info';
  id: string;
}

export interface Account {
  id: string;
  kind: 'manufacturing' | 'production';
  locationLock: boolean;
  /** Metres. */
  radius: number;
  /** What a moved device may still do. */
  moved: 'report' | 'block';
  /** Only TPMs that a known vendor vouches for. Off unless it is said. */
  requireEkCertificate?: boolean;
  /** A person lets each new device in. Off unless it is said. */
  approval?: boolean;
}

/** The accepted state of a device: what rule 1 of the baseline froze. */
export interface Baseline {
  /** SHA-256 bank, hex by index. */
  pcrs: Record<string, string>;
  /** SHA-256 of the logs that explain them, in order. */
  logs: string[];
  versions: Versions;
  /** Attempt that made it. */
  attempt: string;
  grounds: Grounds;
  at: number;
}

/** Keys of the device, as EVC has proven them. Hex. */
export interface Identity {
  akName: string;
  akPublic: string;
  ekName: string;
  /** Absent in records that were made before it was kept. */
  ekPublic?: string;
  /**
   * How much the endorsement key is worth: `vendor`, a vendor of TPMs vouches for it; `unknown-vendor`, somebody does whom
   * EVC does not know; `first-use`, nobody does. Without a vendor, a program may pose as the TPM.
   */
  ekTrust: 'vendor' | 'unknown-vendor' | 'first-use';
  /** What the certificate says, where there is one. */
  ekCertificate?: EkCertificate;
  ecdhPublic: string;
}

/** The certificate of an endorsement key. */
export interface EkCertificate {
  /** Of the TPM; empty where the certificate does not say. */
  vendor: string;
  model: string;
  version: string;
  /** Hex. */
  serial: string;
  issuer: string;
  /** Names of the authorities above it, to the root, or as far as they are known. */
  chain: string[];
  /** ms since the epoch. A certificate that ran out still says who made the TPM. */
  notAfter: number;
  /** Of its DER, hex. */
  sha256: string;
  /** The certificates that the device sent, as far as they count, its own first; DER in base64. */
  sent: string[];
  /** Why no vendor vouches for the key, where none does. */
  why?: Why;
}

/** An enrolment that was refused: which TPM was seen, when, and why. Only the last is kept, and how many there were. */
export interface RefusedEnrolment extends Why {
  ekName: string;
  akName: string;
  /** ms since the epoch, of the first and of the last. */
  since: number;
  at: number;
  count: number;
}

export interface Upgrade {
  id: string;
  from: string;
  to: string;
  /** ms since the epoch. */
  until: number;
  baseOs: BaseOsConfig;
}

export interface EscrowedKey {
  keyId: string;
  version: number;
  at: number;
}

/** A reference to evidence that waits for its verdict. */
export interface Attempt {
  id: string;
  nonceHash: string;
  tokenHash: string;
  request: RequestRef;
  at: number;
}

export type DeviceRecordEvent = Stamp &
  (
    | {
        type: 'device.registered';
        request: RequestRef;
        uuid: string;
        serial: string;
        account: Account;
        settings: Record<string, string>;
      }
    | { type: 'uuid.requested'; request: RequestRef }
    | {
        type: 'certificate.received';
        request: RequestRef;
        identity: Identity;
        /** Another device is enrolled with this TPM. */
        taken: boolean;
        challenge: { id: string; credentialBlob: string; encryptedSecret: string };
        /** SHA-256 of the right proof, hex. */
        proofHash: string;
      }
    /** The keys that a device presents are none that it can be enrolled with. */
    | {
        type: 'certificate.refused';
        request: RequestRef;
        status: 'forbidden' | 'conflict';
        ekName: string;
        akName: string;
        why: Why;
      }
    /** The roots of vendors changed, and with them what the certificate of this key is worth. */
    | {
        type: 'endorsement.judged';
        ekName: string;
        ekTrust: Identity['ekTrust'];
        ekCertificate?: EkCertificate | undefined;
      }
    | { type: 'proof.received'; request: RequestRef; challenge: string; proofHash: string }
    /** The nonce is derived from the salt with a key of EVC, so that it stands nowhere before its use. */
    | { type: 'nonce.requested'; request: RequestRef; salt: string; nonceHash: string }
    | { type: 'quote.received'; attempt: Attempt }
    | {
        type: 'verdict.given';
        attempt: string;
        verdict: Verdict;
        /** Revision of the decision basis that the verdict was made with. */
        basis: number;
        rotate: boolean;
      }
    | {
        type: 'config.requested';
        request: RequestRef;
        tokenHash: string | null;
        version: number;
      }
    | {
        type: 'key.received';
        request: RequestRef;
        tokenHash: string;
        keyId: string;
        /** Version under which the effects have stored it. */
        version: number;
      }
    | { type: 'info.received'; request: RequestRef; key: string; body: Record<string, unknown> }
    | { type: 'link.changed'; online: boolean }
    | { type: 'timer.due'; timer: Timer }
    | { type: 'upgrade.assigned'; upgrade: Upgrade }
    | { type: 'state.accepted'; attempt: string; by: string; reason: string }
    | { type: 'place.accepted'; by: string; reason: string }
    | { type: 'account.changed'; account: Account }
    | { type: 'settings.changed'; settings: Record<string, string> }
    | { type: 'rotation.asked' }
    | { type: 'device.retired'; by: string; reason: string }
    | { type: 'reenrolment.allowed'; by: string; reason: string }
  );

export type Timer = 'nonce' | 'trust' | 'upgrade';

export interface DeviceRecordContext {
  /** Registered and not retired. */
  active: boolean;
  uuid: string;
  serial: string;
  account: Account | null;
  identity: Identity | null;
  /** A certificate that waits for its proof. */
  pending: { identity: Identity; challenge: string; proofHash: string; until: number; tries: number } | null;
  reenrol: boolean;
  /** Absent in records that were made before it was kept. */
  refusedEnrolment?: RefusedEnrolment | null;
  nonce: { hash: string; until: number } | null;
  attempt: Attempt | null;
  token: Token | null;
  /** Of the approval before, to tell a stale token from a wrong one. */
  formerToken: string | null;
  baseline: Baseline | null;
  /** Newest first. */
  history: Baseline[];
  /** An upgrade that EVC approved and the device has not committed. */
  candidate: Baseline | null;
  /** The state that a person accepted, until the device shows it. */
  acceptance: {
    attempt: string;
    pcrs: Record<string, string>;
    by: string;
    reason: string;
    at: number;
  } | null;
  verdict: {
    attempt: string;
    at: number;
    accepted: boolean;
    genuine: boolean;
    grounds: Grounds | null;
    findings: Finding[];
    pcrs: Record<string, string>;
    versions: Versions | null;
  } | null;
  /** The TPM's counters in the last genuine quote: a forgery in between does not make them forgotten. */
  clock: NonNullable<Verdict['clock']> | null;
  place: { locked: Location | null; seen: Location | null };
  /** Newest first. */
  escrow: EscrowedKey[];
  rotate: boolean;
  upgrade: Upgrade | null;
  upgraded: { from: string; to: string; at: number; how: 'committed' | 'rolledBack'; why: Why | null } | null;
  config: { version: number; settings: Record<string, string>; baseOs: BaseOsConfig | null };
  /** Latest report of each kind. */
  info: Record<string, Record<string, unknown>>;
  /** Raised whenever something changes that a verdict rests on. */
  basis: number;
  seen: number;
}
