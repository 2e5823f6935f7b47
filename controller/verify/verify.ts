// What decides trust: freshness → identity → quote → log → policy. Each step takes what the one before has checked, and
// stops at the first that refuses: behind a wrong key the answers of later steps mean nothing. Any error is a refusal.
import type { CheckedLog } from '../../formats/eventlog/replay.ts';
import type { PcrValues } from '../../formats/tpm2/pcrs.ts';
import type { Claims, Evidence, Finding, Verdict, Versions } from '../../machines/flow.ts';
import { evePolicyPcrs } from '../../machines/pcrs.ts';
import { clockNotes, clockRefusals, type LastClock } from './clock.ts';
import { verifyFreshness } from './freshness.ts';
import { type EnrolledKey, verifyIdentity } from './identity.ts';
import type { LogBytes } from './known-boots.ts';
import { verifyLog } from './log.ts';
import { judgeSoftware, movedAway, type PcrTable, type PlaceBasis, type SoftwareBasis } from './policy.ts';
import { verifyQuote } from './quote.ts';

/** All that a verdict rests on besides the evidence. */
export interface Basis {
  nonceHash: string;
  key: EnrolledKey | null;
  software: Omit<SoftwareBasis, 'baseline'> & {
    baseline: { pcrs: PcrTable; logs: readonly LogBytes[]; versions: Versions } | null;
  };
  place: PlaceBasis;
  /** Of the last genuine quote. */
  lastClock: LastClock | null;
}

export interface Presented extends Evidence {
  nonce: Uint8Array;
  /** What a quote without claims says of itself: nothing vouches for it. */
  versions: Versions;
}

/** Judges one attempt. Never throws: what goes wrong here is no reason to trust. `now` in ms since the epoch. */
export function verify(evidence: Presented, basis: Basis, now: number): Verdict {
  try {
    return judge(evidence, basis, now);
  } catch (error) {
    const name = error instanceof Error ? error.name : 'error';
    return refused([{ code: 'internal.verify', text: `EVC could not judge this evidence (${name})` }]);
  }
}

function judge(evidence: Presented, basis: Basis, now: number): Verdict {
  const fresh = verifyFreshness(evidence.nonce, basis.nonceHash, evidence.claims);
  if (!fresh.ok) return refused(fresh.refusals);

  const identity = verifyIdentity(basis.key);
  if (!identity.ok) return refused(identity.refusals);

  const quoted = verifyQuote(
    { attest: evidence.attest, signature: evidence.signature, pcrs: { sha256: evidence.pcrs } },
    { key: identity.key, qualifyingData: fresh.qualifyingData, pcrs: evePolicyPcrs, banks: ['sha256'] },
  );
  if (!quoted.ok) return refused(quoted.refusals);
  const { quote } = quoted;
  const backwards = clockRefusals(quote, basis.lastClock);
  if (backwards.length > 0) return refused(backwards);

  const pcrs = policyValues(quote.pcrs);
  const parts = evidence.boot.logs;
  const explained = verifyLog(parts, { bank: quote.bank, pcrs });
  if (!explained.ok) return refused(explained.refusals);

  const versions = fresh.claims?.versions ?? evidence.versions;
  const shown = { pcrs: tableOf(quote.pcrs), log: explained.log, versions };
  const software = judgeSoftware(now, shown, { ...basis.software, baseline: baselineOf(basis) });
  const genuine = {
    genuine: true,
    pcrs: shown.pcrs,
    logs: parts.map(({ sha256 }) => sha256),
    versions,
    clock: {
      resetCount: quote.resetCount,
      restartCount: quote.restartCount,
      clock: String(quote.clock),
      safe: quote.safe,
      firmware: String(quote.firmwareVersion),
    },
  };
  const notes = clockNotes(quote, basis.lastClock);
  // Rule 5: software that is not trusted is not believed about where it is.
  if (!software.accepted) {
    return {
      ...genuine,
      accepted: false,
      grounds: null,
      findings: [...software.refusals, ...notes],
      location: { fix: null, vouched: false, moved: false },
    };
  }
  const location = locate(fresh.claims, basis, now);
  const moved = location.moved
    ? [{ code: 'policy.location.moved', text: 'The device is in another place than it was locked to' }]
    : [];
  return {
    ...genuine,
    accepted: true,
    grounds: software.grounds,
    findings: [...moved, ...software.notes, ...notes],
    location,
  };
}

function refused(findings: Finding[]): Verdict {
  return {
    genuine: false,
    accepted: false,
    grounds: null,
    findings,
    pcrs: {},
    logs: [],
    versions: null,
    location: { fix: null, vouched: false, moved: false },
    clock: null,
  };
}

/** The baseline's own log, when something differs: what was checked once is checked again when it is used. */
function baselineOf({ software: { baseline } }: Basis): SoftwareBasis['baseline'] {
  if (!baseline) return null;
  const { pcrs, versions, logs } = baseline;
  return {
    pcrs,
    versions,
    get log(): CheckedLog {
      const values = new Map(evePolicyPcrs.map((pcr) => [pcr, Buffer.from(pcrs[pcr] ?? '', 'hex')]));
      const explained = verifyLog(logs, { bank: 'sha256', pcrs: values });
      if (!explained.ok) throw new RangeError('the log of the baseline does not lead to its values');
      return explained.log;
    },
  };
}

/** @param pcrs of a quote that covers them all */
function policyValues(pcrs: PcrValues): PcrValues {
  return new Map(evePolicyPcrs.map((pcr) => [pcr, pcrs.get(pcr) as Uint8Array]));
}

/** ms. A fix that is older was true somewhere else, and nobody has one of the future: it is as good as none. */
const longestFixAge = 60 * 60_000;

function locate(claims: Claims | null, basis: Basis, now: number): Verdict['location'] {
  const told = claims?.location;
  const fix = told && Math.abs(now - told.at) <= longestFixAge ? told : null;
  return { fix, vouched: claims !== null, moved: movedAway(fix, basis.place) };
}

function tableOf(pcrs: PcrValues): PcrTable {
  return Object.fromEntries(
    [...pcrs].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')]),
  );
}
