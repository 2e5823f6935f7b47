// EVC as the exploration has it: its record is the chart itself; beside it stand the verdicts that are to be made and the timers
// that are set, which a store keeps. Requests become events and replies become answers as controller/downlink.ts and
// device/link/evc.ts make them.
import type { Attempt, DeviceRecordContext, Identity, Reply } from '../../machines/device-record.ts';
import type { Verdict } from '../../machines/flow.ts';
import type { ChartEvent } from './chart.ts';
import { attestationKey, oddImage, type Software } from './device.ts';
import { freshName } from './names.ts';
import { now } from './time.ts';

/** Evidence that waits for its verdict, with what it shows. */
export interface Judging {
  attempt: Attempt;
  software: Software;
}

export interface EvcState {
  judging: Judging[];
  /** When each ends, ms since the epoch; none of it is a time that matters here. */
  timers: Record<string, number>;
}

/** What a device asked for. */
export interface Request {
  /** Tells the request apart, where its answer comes with another step. */
  id: string;
  port: string;
  input: Record<string, unknown>;
  /** What runs where a quote was made. */
  software: Software;
}

/** What a port is told. */
export type Answer = { ok: unknown } | { fail: { code: string; text: string } };

export const identity: Identity = {
  akName: attestationKey,
  akPublic: '',
  ekName: 'e1',
  ekTrust: 'first-use',
  ecdhPublic: '',
};

export const account = {
  id: 'default',
  kind: 'manufacturing' as const,
  locationLock: false,
  radius: 100,
  moved: 'report' as const,
};

/** The event that a request is for the record. */
export function eventOf(
  request: Request,
  context: DeviceRecordContext,
  inUse: () => readonly string[],
): ChartEvent {
  const { id, port, input } = request;
  const ref = (endpoint: string) => ({ endpoint, id });
  switch (port) {
    case 'register':
      return {
        type: 'device.registered',
        request: ref('register'),
        uuid: 'u',
        serial: 's',
        account,
        settings: {},
      };
    case 'fetchUuid':
      return { type: 'uuid.requested', request: ref('uuid') };
    case 'sendCertificate': {
      const challenge = { id: freshName('challenge', inUse()), credentialBlob: '', encryptedSecret: '' };
      return {
        type: 'certificate.received',
        request: ref('attest'),
        identity,
        taken: false,
        challenge,
        proofHash: 'ff',
      };
    }
    case 'sendProof':
      return {
        type: 'proof.received',
        request: ref('attest'),
        challenge: input.challenge,
        proofHash: input.proof,
      };
    case 'requestNonce': {
      const nonce = freshName('nonce', inUse());
      return { type: 'nonce.requested', request: ref('attest'), salt: nonce, nonceHash: nonce };
    }
    case 'sendQuote': {
      const attempt = {
        id,
        nonceHash: input.nonce,
        tokenHash: input.tokenHash,
        request: ref('attest'),
        at: now,
      };
      return { type: 'quote.received', attempt };
    }
    case 'storeKey': {
      const { keyId, tokenHash } = input;
      const held = context.escrow[0]?.keyId === keyId ? context.escrow[0]?.version : 0;
      const version = held || (context.escrow[0]?.version ?? 0) + 1;
      return { type: 'key.received', request: ref('attest'), tokenHash, keyId, version };
    }
    case 'requestConfig':
      return {
        type: 'config.requested',
        request: ref('config'),
        tokenHash: input.tokenHash,
        version: input.version,
      };
    case 'sendInfo':
      return { type: 'info.received', request: ref('info'), key: input.key, body: input.body };
    default:
      throw new TypeError(`EVC has no answer to ${port}`);
  }
}

/** What the port that asked is told by a reply. */
export function answerOf(port: string, { status, body }: Reply, input: Record<string, unknown>): Answer {
  if (status === 'unchanged')
    return { ok: { kind: 'unchanged', version: input.version, baseOs: null, why: null } };
  if (!body) throw new TypeError('a reply without a body');
  switch (body.kind) {
    case 'registered':
    case 'noted':
      return { ok: null };
    case 'uuid':
      return { ok: { uuid: body.uuid } };
    case 'certificate':
      return { ok: port === 'sendProof' ? null : { challenge: body.challenge } };
    case 'nonce':
      return { ok: { nonce: body.salt } };
    case 'verdict': {
      const { code, why, retryAfter, until, key, rotate } = body;
      const sent = key && { keyId: key.keyId, version: key.version, encryptedKey: '' };
      return { ok: { code, why, retryAfter, until, key: sent, rotate } };
    }
    case 'config': {
      const { partial, version, baseOs } = body;
      return { ok: { kind: partial ? 'partial' : 'full', version, baseOs, why: null } };
    }
    case 'stored':
      return { ok: { keyId: body.keyId, version: body.version } };
    case 'notStored':
      return failed(body.why.code);
    case 'refused':
      return failed(port === 'requestConfig' && status === 'forbidden' ? 'config.forbidden' : body.why.code);
  }
}

/** What a person would read decides nothing. */
export function failed(code: string): Answer {
  return { fail: { code, text: code } };
}

/** The verdict of `controller/verify`, of whose reasons the exploration knows one: what booted, and what was wanted. */
export function judge(software: Software, context: DeviceRecordContext): Verdict {
  const { baseline, acceptance, upgrade } = context;
  const grounds = !baseline
    ? 'first-boot'
    : baseline.versions.image === software
      ? 'baseline'
      : acceptance?.pcrs['0'] === software
        ? 'acceptance'
        : upgrade?.to === software && software !== oddImage
          ? 'upgrade'
          : null;
  const finding = {
    code: 'policy.software.unknown',
    text: 'It runs software that EVC neither pushed nor a person accepted',
  };
  return {
    genuine: true,
    accepted: grounds !== null,
    grounds,
    findings: grounds === null ? [finding] : [],
    pcrs: { '0': software },
    logs: [],
    versions: { image: software, firmware: '' },
    location: { fix: null, vouched: true, moved: false },
    clock: null,
  };
}
