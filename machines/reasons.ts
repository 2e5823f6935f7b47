// One vocabulary of reasons. Why something is refused, locked, late or ill is a code; what it means and what to do about
// it is said here, once, for the charts, the wire, the commands and the page. Codes are stable: recordings name them.
import { changeReasons } from './reasons/change.ts';
import { controllerReasons } from './reasons/controller.ts';
import { deviceReasons } from './reasons/device.ts';
import { evidenceReasons } from './reasons/evidence.ts';
import { inputReasons } from './reasons/input.ts';
import { linkReasons } from './reasons/link.ts';
import { loginReasons } from './reasons/login.ts';
import { operatorReasons } from './reasons/operator.ts';
import { policyReasons } from './reasons/policy.ts';

/**
 * What a reason is about. `genuine` says that evidence is not real, `policy` that it is real and not wanted: the two
 * never mix. `change` tells what is different in a boot, and decides nothing.
 */
export type ReasonKind =
  | 'genuine'
  | 'policy'
  | 'change'
  | 'attestation'
  | 'tpm'
  | 'vault'
  | 'software'
  | 'device'
  | 'link'
  | 'message'
  | 'enrolment'
  | 'controller'
  | 'request'
  | 'internal'
  | 'unknown';

/**
 * `info`: nothing is wrong. `warning`: it goes on, or heals by itself. `error`: it does not go on before somebody acts.
 * `critical`: data are in danger, or somebody may be attacking.
 */
export type Severity = 'info' | 'warning' | 'error' | 'critical';

export interface Reason {
  readonly kind: ReasonKind;
  readonly severity: Severity;
  /** A few words, for a list. */
  readonly title: string;
  /** What it means. */
  readonly text: string;
  /** What a person does next. */
  readonly remedy: string;
}

export const reasons: Readonly<Record<string, Reason>> = {
  ...evidenceReasons,
  ...policyReasons,
  ...changeReasons,
  ...deviceReasons,
  ...linkReasons,
  ...controllerReasons,
  ...loginReasons,
  ...operatorReasons,
  ...inputReasons,
};

/** What a code means. Never fails: a code of another version gets an entry that says so. */
export function explain(code: string): Reason {
  if (Object.hasOwn(reasons, code)) return reasons[code] as Reason;
  return {
    kind: 'unknown',
    severity: 'error',
    title: 'Unknown reason',
    text: `This version does not know the reason ${JSON.stringify(code.slice(0, 100))}.`,
    remedy: 'Update this side; the other one is newer.',
  };
}
