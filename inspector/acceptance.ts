// What stands between a person and an acceptance: whether they may, whether what they looked at is still what the device shows, and
// that a request which is sent twice is done once. Pure.
import { type Caller, type Changes, type Role, roles } from './answers.ts';

/** `software`: what it shows becomes its baseline. `place`: it is locked to where it is. */
export type AcceptanceKind = 'software' | 'place';

/** Why whoever looks may decide nothing here; empty where they may. @param needed the role that it takes */
export function mayNot(caller: Caller | null, framed: boolean, needed: Role = 'operator'): string {
  if (!caller) return 'EVC has not said yet whose token this is.';
  // Another page could lay itself over the buttons.
  if (framed) return 'This page is shown inside another one, where nothing is decided: open it by itself.';
  if (roles.indexOf(caller.role) >= roles.indexOf(needed)) return '';
  return `This is for the role ${needed}, and the token ${caller.name} is of ${caller.role}. Ask somebody with that role, or an administrator for another token.`;
}

export type Comparison =
  | 'same'
  /** It has attested again, and shows what it showed. */
  | 'again'
  | 'other';

/** Whether a decision on what was looked at may be taken on what stands there now. */
export function compareChanges(looked: Changes, now: Changes, kind: AcceptanceKind): Comparison {
  if (looked.device !== now.device || looked.trust !== now.trust) return 'other';
  if (kind === 'place') return placeOf(looked) === placeOf(now) ? 'same' : 'other';
  const [before, after] = [looked.software, now.software];
  if (!before || !after) return before === after ? 'same' : 'other';
  if (before.attempt === after.attempt) return 'same';
  const shown = ({ from, to, pcrs, findings }: typeof before) => JSON.stringify([from, to, pcrs, findings]);
  return shown(before) === shown(after) ? 'again' : 'other';
}

/** The places without when they were seen. */
function placeOf({ place }: Changes): string {
  const bare = (one: NonNullable<Changes['place']>['seen']) =>
    one && [one.latitude, one.longitude, one.accuracy];
  return JSON.stringify(place && [bare(place.locked), bare(place.seen)]);
}

/** A key for a request; the same for the same request, so that it is done once however often it is sent. */
export function keyring(make: () => string): (request: string) => string {
  let asked = '';
  let key = '';
  return (request) => {
    if (request !== asked || key === '') {
      asked = request;
      key = make();
    }
    return key;
  };
}

/**
 * Whether an answer says that nothing was done. Without an answer, or with one of an EVC that failed, it may have been: the same
 * request, sent again, is answered and not done twice.
 *
 * @param status of HTTP; 0 without an answer
 */
export function nothingDone({ status, code }: { status: number; code: string }): boolean {
  return status >= 400 && status < 500 && !code.startsWith('idempotency.');
}

export interface Decision {
  path: string;
  body: Record<string, string>;
  /** Value of If-Match. */
  tag: string;
}

/** The request that accepts what was looked at, and nothing else. */
export function decisionOf(
  { device, revision, software }: Changes,
  kind: AcceptanceKind,
  reason: string,
): Decision {
  const attempt = kind === 'software' && software ? { attempt: software.attempt } : {};
  return {
    path: `api/v1/devices/${encodeURIComponent(device)}/${kind === 'software' ? 'accept' : 'accept-place'}`,
    body: { reason, ...attempt },
    tag: `"${revision}"`,
  };
}
