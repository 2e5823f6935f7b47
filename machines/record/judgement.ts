// Questions that the record answers from what it remembers.
import type { Verdict } from '../flow.ts';
import type { Why } from '../waiting.ts';
import type {
  Account,
  Attempt,
  Baseline,
  DeviceRecordContext,
  DeviceRecordEvent,
  Identity,
  RefusedEnrolment,
  Timer,
} from './events.ts';
import { proofTries } from './lives.ts';

/** The verdict of the attempt that is being judged, made with what still holds; null otherwise. */
export function current(context: DeviceRecordContext, event: DeviceRecordEvent): Verdict | null {
  if (event.type !== 'verdict.given') return null;
  return context.attempt?.id === event.attempt && context.basis === event.basis ? event.verdict : null;
}

/** The proof for the credential that is out, in time, and not guessed. */
export function proves(context: DeviceRecordContext, event: DeviceRecordEvent): boolean {
  const { active, pending } = context;
  return (
    event.type === 'proof.received' &&
    active &&
    pending !== null &&
    pending.challenge === event.challenge &&
    pending.until > event.at &&
    pending.tries < proofTries &&
    pending.proofHash === event.proofHash
  );
}

export function samePair(one: Identity, other: Identity): boolean {
  return one.akName === other.akName && one.ekName === other.ekName;
}

/** Whether an account takes the TPM of this identity. */
export function endorsed(account: Account | null, identity: Pick<Identity, 'ekTrust'>): boolean {
  return !account?.requireEkCertificate || identity.ekTrust === 'vendor';
}

/** Whether this event ends what the TPM of the device was good for in its account. */
export function losesEndorsement(
  { account, identity }: DeviceRecordContext,
  event: DeviceRecordEvent,
): boolean {
  if (identity === null) return false;
  if (event.type === 'account.changed') return !endorsed(event.account, identity);
  return event.type === 'endorsement.judged' && event.ekName === identity.ekName && !endorsed(account, event);
}

/** The refused enrolment that still matters when this account judges this identity. */
export function standingRefusal(
  { refusedEnrolment = null }: DeviceRecordContext,
  account: Account | null,
  identity: Identity | null,
): RefusedEnrolment | null {
  const settled = refusedEnrolment?.code === 'enrol.ek-required' && identity && endorsed(account, identity);
  return settled ? null : refusedEnrolment;
}

/** Why an account does not take a TPM. */
export function unendorsedWhy({ ekTrust, ekCertificate }: Identity): Why {
  const text =
    ekTrust === 'first-use'
      ? 'the TPM has no certificate'
      : (ekCertificate?.why?.text ?? 'no known vendor vouches for the TPM');
  return { code: 'enrol.ek-required', text: `this account takes TPMs of known vendors alone, and ${text}` };
}

export function locks(account: Account | null): boolean {
  return account !== null && account.kind !== 'manufacturing' && account.locationLock;
}

export function blockedByPlace(context: DeviceRecordContext, verdict: Verdict): boolean {
  return verdict.location.moved && context.account?.moved === 'block';
}

/** Whether a quote vouches for where the device is. */
export function saysWhere({ location }: Verdict): boolean {
  return location.vouched && location.fix !== null;
}

export function tokenGood(context: DeviceRecordContext, hash: string | null, at: number): boolean {
  return context.active && hash !== null && context.token?.hash === hash && context.token.until > at;
}

/** Whether a device says that it committed what it was approved for, after the window of the upgrade had closed. */
export function commitsLate(context: DeviceRecordContext, event: DeviceRecordEvent): boolean {
  return (
    event.type === 'info.received' &&
    event.key === 'base-os' &&
    context.candidate !== null &&
    context.upgraded?.how === 'rolledBack' &&
    event.body.committed === context.upgraded.to
  );
}

/** Why a token does not open anything. */
export function tokenWhy(context: DeviceRecordContext, hash: string | null, at: number): Why {
  if (!context.active) return { code: 'enrol.unknown-device', text: 'EVC does not know this device' };
  if (hash === null) return { code: 'token.missing', text: 'the request bears no integrity token' };
  if (context.token?.hash === hash && context.token.until <= at) {
    return { code: 'token.expired', text: 'the integrity token has run out; attest again' };
  }
  if (context.formerToken === hash) {
    return { code: 'token.superseded', text: 'the integrity token belongs to an earlier attestation' };
  }
  return { code: 'token.wrong', text: 'EVC never confirmed this integrity token for this device' };
}

export function staleNonce(context: DeviceRecordContext, attempt: Attempt): Why {
  if (context.nonce === null) {
    return { code: 'evidence.nonce.none', text: 'no nonce is out for this device, or it was used already' };
  }
  if (context.nonce.hash !== attempt.nonceHash) {
    return { code: 'evidence.nonce.other', text: 'the quote bears another nonce than the one that is out' };
  }
  return { code: 'evidence.nonce.expired', text: 'the nonce ran out before the quote came' };
}

/** A timer that was set anew, or whose matter is settled, says nothing. */
export function timerStillSet(context: DeviceRecordContext, timer: Timer, at: number): boolean {
  if (timer === 'nonce') return context.nonce !== null && context.nonce.until <= at;
  if (timer === 'trust') return context.token !== null && context.token.until <= at;
  return context.upgrade !== null && context.upgrade.until <= at;
}

export function baselineOf(verdict: Verdict, attempt: string, at: number): Baseline | null {
  if (!verdict.accepted || !verdict.versions || !verdict.grounds) return null;
  const { pcrs, logs, versions, grounds } = verdict;
  return { pcrs, logs, versions, attempt, grounds, at };
}
