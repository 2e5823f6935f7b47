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
  /** How much the endorsement key is worth. */
  ekTrust: 'vendor' | 'first-use';
  ecdhPublic: string;
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
        challenge: { id: string; credentialBlob: string; encryptedSecret: string };
        /** SHA-256 of the right proof, hex. */
        proofHash: string;
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
