// What the record answers; controller/replies.ts puts it into EVE's messages.
import type { BaseOsConfig, Finding } from '../flow.ts';
import type { Why } from '../waiting.ts';
import type { Attempt, DeviceRecordContext, DeviceRecordEvent, EscrowedKey, RequestRef } from './events.ts';
import { blockedByPlace } from './judgement.ts';
import { refusedRetryAfter, trustLife } from './lives.ts';

/** What became of a request; formats/wire knows the number. */
export type Status = 'ok' | 'unchanged' | 'unknown' | 'forbidden' | 'conflict';

export type VerdictCode = 'success' | 'invalid' | 'nonceMismatch' | 'noCertFound' | 'quoteFailed';

export type ReplyBody =
  | { kind: 'registered' }
  | { kind: 'uuid'; uuid: string }
  | { kind: 'certificate'; challenge: { id: string; credentialBlob: string; encryptedSecret: string } | null }
  | { kind: 'nonce'; salt: string }
  | {
      kind: 'verdict';
      code: VerdictCode;
      why: Why | null;
      findings: Finding[];
      /** ms. */
      retryAfter: number;
      /** When trust ends, ms since the epoch; 0 unless success. */
      until: number;
      /** The escrowed key to send along. */
      key: EscrowedKey | null;
      rotate: boolean;
    }
  | {
      kind: 'config';
      partial: boolean;
      version: number;
      baseOs: BaseOsConfig | null;
      settings: Record<string, string>;
      why: Why | null;
    }
  | { kind: 'stored'; keyId: string; version: number }
  | { kind: 'notStored'; keyId: string; why: Why }
  | { kind: 'noted' }
  | { kind: 'refused'; why: Why };

export interface Reply {
  request: RequestRef;
  status: Status;
  /** null where the status says it all. */
  body: ReplyBody | null;
}

type Args<Type extends DeviceRecordEvent['type']> = {
  context: DeviceRecordContext;
  event: Extract<DeviceRecordEvent, { type: Type }>;
};

export function ok(request: RequestRef, body: ReplyBody): Reply {
  return { request, status: 'ok', body };
}

export function refuse(request: RequestRef, status: Status, why: Why): Reply {
  return { request, status, body: { kind: 'refused', why } };
}

export function unknown(request: RequestRef): Reply {
  return refuse(request, 'unknown', {
    code: 'enrol.unknown-device',
    text: 'EVC does not know this device; it has to register first',
  });
}

export function registeredAgain({ event }: Args<'device.registered'>): Reply {
  return ok(event.request, { kind: 'registered' });
}

export function answer(request: RequestRef, code: VerdictCode, why: Why, findings: Finding[] = []): Reply {
  const retryAfter = code === 'quoteFailed' ? refusedRetryAfter : 0;
  return ok(request, {
    kind: 'verdict',
    code,
    why,
    findings,
    retryAfter,
    until: 0,
    key: null,
    rotate: false,
  });
}

export function approval({ context, event }: Args<'verdict.given'>): Reply {
  return ok((context.attempt as Attempt).request, {
    kind: 'verdict',
    code: 'success',
    why: null,
    findings: event.verdict.findings,
    retryAfter: 0,
    until: event.at + trustLife,
    // Released here and nowhere else.
    key: context.escrow[0] ?? null,
    rotate: context.rotate,
  });
}

export function refusalOfSilence({ context, event }: Args<'verdict.given'>): Reply {
  const why = {
    code: 'policy.location.blocked',
    text: 'the device was in another place than it was locked to, and does not say where it is now',
  };
  const { request } = context.attempt as Attempt;
  return answer(request, 'quoteFailed', why, [...event.verdict.findings, why]);
}

export function refusal({ context, event }: Args<'verdict.given'>): Reply {
  const { verdict } = event;
  const findings =
    verdict.accepted && blockedByPlace(context, verdict)
      ? [
          ...verdict.findings,
          { code: 'policy.location.blocked', text: 'the device is in another place than it was locked to' },
        ]
      : verdict.findings;
  const first = findings[0] ?? { code: 'internal.error', text: 'refused without a finding' };
  return answer(
    (context.attempt as Attempt).request,
    'quoteFailed',
    { code: first.code, text: first.text },
    findings,
  );
}

export function fullConfig({ context, event }: Args<'config.requested'>): Reply {
  const { version, settings, baseOs } = context.config;
  return ok(event.request, { kind: 'config', partial: false, version, baseOs, settings, why: null });
}

/** The base OS alone, and the news that attestation failed: the way out for a device that is not trusted. */
export function partialConfig({ context, event }: Args<'config.requested'>): Reply {
  const { version, baseOs } = context.config;
  const finding = context.verdict?.findings[0];
  const why = finding
    ? { code: finding.code, text: finding.text }
    : { code: 'policy.refused', text: 'the last attestation was refused' };
  return ok(event.request, { kind: 'config', partial: true, version, baseOs, settings: {}, why });
}

export function stored({ event }: Args<'key.received'>): Reply {
  return ok(event.request, { kind: 'stored', keyId: event.keyId, version: event.version });
}

export function noted({ event }: Args<'info.received'>): Reply {
  return ok(event.request, { kind: 'noted' });
}

export function reportedFailure({ event }: Args<'info.received'>): Why {
  const { why } = event.body as { why?: Partial<Why> };
  return {
    code: typeof why?.code === 'string' ? why.code : 'baseos.failed',
    text: typeof why?.text === 'string' ? why.text : 'the device reports that the image failed',
  };
}

export function windowClosed(): Why {
  return {
    code: 'policy.upgrade.window-closed',
    text: 'the new image did not prove itself before its deadline',
  };
}
