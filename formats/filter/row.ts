// A device as lists have it: what can be asked of a fleet without reading whole records.

/** What a record says of itself in a few words, kept beside it. */
export interface FleetFacts {
  online: boolean;
  /** Code of the first finding of the last verdict; empty where it was accepted, or there is none. */
  reason: string;
  /** Why it is trusted or not, in a few words. */
  why: string;
  /** PCRs that are not what the baseline allows, ascending. */
  pcrs: number[];
  /** Version of the image in the baseline, and of its firmware; empty where there is no baseline. */
  image: string;
  firmware: string;
  /** Version that an upgrade under way leads to; empty where there is none. */
  upgrade: string;
}

export interface FleetRow {
  /** Id, 64 hex digits. */
  device: string;
  serial: string;
  uuid: string;
  account: string;
  /** `trusted`, `uud`, `umd`, `stale`, `unattested`, `retired`. */
  trust: string;
  /** ms since the epoch; 0: never. */
  seen: number;
  labels: readonly string[];
  facts: FleetFacts;
}

export const noFacts: FleetFacts = {
  online: false,
  reason: '',
  why: '',
  pcrs: [],
  image: '',
  firmware: '',
  upgrade: '',
};
