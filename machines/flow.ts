// The one way for data: boot log → evidence → verdict → token (and key) → config.
// Five values, in this order. Each stage takes the value before it and nothing else. What is unchecked and what is
// checked are different types: only a replay against quoted PCRs gives events, only `verify` gives a verdict.

/** What the boot left behind. The device chose these bytes; nothing in them is believed until replay. */
export interface BootLog {
  /** TCG logs as the kernel or the boot loader wrote them, in the order in which they extended. */
  logs: LogPart[];
}

export interface LogPart {
  kind: 'bios' | 'config';
  /** SHA-256 of `bytes`, hex. */
  sha256: string;
  bytes: Uint8Array;
}

/** Where a device says that it is. */
export interface Location {
  latitude: number;
  longitude: number;
  /** Radius of the circle that holds the true place, metres. */
  accuracy: number;
  /** When the fix was taken, ms since the epoch. */
  at: number;
}

export interface Versions {
  /** EVE's version of the running image. */
  image: string;
  /** BIOS vendor-version-date; empty where the board has none. */
  firmware: string;
}

/** What the quote vouches for besides PCRs: its qualifying data is SHA-256(nonce ‖ claims as sent). */
export interface Claims {
  location: Location | null;
  versions: Versions;
  /** SHA-256 of the integrity token that the device proposes for this boot, hex. */
  tokenHash: string;
}

/** All that a device sends to be judged. Unchecked. */
export interface Evidence {
  /** Raw TPMS_ATTEST. */
  attest: Uint8Array;
  /** Raw TPMT_SIGNATURE. */
  signature: Uint8Array;
  /** PCR values that the sender states, SHA-256 bank. */
  pcrs: Map<number, Uint8Array>;
  boot: BootLog;
  /** The bytes that the qualifying data covers; null where the quote carries the nonce alone (stock EVE). */
  claims: Uint8Array | null;
}

/** One thing that is wrong, or worth knowing. `evidence.*` says it is not real, `policy.*` that we do not want it. */
export interface Finding {
  code: string;
  text: string;
  pcr?: number;
  /** Index of the event in its log. */
  event?: number;
  /** What the device shows. */
  seen?: string;
  /** What would have been right. */
  allowed?: string;
  remedy?: string;
}

/** Why a device is trusted. `allowed`: it differs from its baseline in what allow rules cover, and in nothing else. */
export type Grounds = 'first-boot' | 'baseline' | 'allowed' | 'upgrade' | 'fallback' | 'acceptance';

/** Made by `verify` alone. */
export interface Verdict {
  /** Is it real: a fresh quote of this device's TPM over these PCRs, explained by this log. */
  genuine: boolean;
  /** Do we want it: known software in the right place. False whenever `genuine` is. */
  accepted: boolean;
  grounds: Grounds | null;
  findings: Finding[];
  /** PCR values in hex by index, of the quote; empty when it is not genuine. */
  pcrs: Record<string, string>;
  /** SHA-256 of each log part, in order. */
  logs: string[];
  versions: Versions | null;
  location: { fix: Location | null; vouched: boolean; moved: boolean };
  /** Facts of the TPM's clock; null when the quote is not genuine. */
  clock: { resetCount: number; restartCount: number; clock: string; safe: boolean; firmware: string } | null;
}

/** A confirmed integrity token, as both sides remember it: never the token itself. */
export interface Token {
  /** SHA-256, hex. */
  hash: string;
  /** ms since the epoch. */
  until: number;
}

/** What EVC wants of a device. `partial` holds the base OS alone and is all that an untrusted device gets. */
export interface Config {
  version: number;
  partial: boolean;
  baseOs: BaseOsConfig | null;
  /** Applications and settings; empty in a partial configuration. */
  settings: Record<string, string>;
}

export interface BaseOsConfig {
  /** Version to run. */
  version: string;
  url: string;
  /** Of the image file, hex. */
  sha256: string;
  /** Bytes. */
  size: number;
  /** EVC's signature over the image's manifest, base64. */
  signature: string;
  /** ms that the new image has to prove itself. */
  testWindow: number;
  /** Raised by EVC to try a version again that failed. */
  retryCounter: number;
}
