// The device record: all that EVC knows and decides about one device. A pure transition: (snapshot, event) →
// (snapshot, effects). The runner commits both together and carries the effects out at least once; every effect bears
// the request or the attempt that it belongs to, so a repeat is harmless.
import { assign, type SnapshotFrom, setup } from 'xstate';
import type { BaseOsConfig, Finding, Grounds, Location, Token, Verdict, Versions } from './flow.ts';
import type { Stamp } from './port.ts';
import { hour, minute, second, type Why } from './waiting.ts';

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
    resetCount: number | null;
    restartCount: number | null;
    clock: string | null;
    firmware: string | null;
  } | null;
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

const nonceLife = 2 * minute;
const challengeLife = 5 * minute;
const trustLife = 24 * hour;
const proofTries = 5;
const historyLength = 20;
const escrowLength = 4;
const refusedRetryAfter = 2 * second;

export const deviceRecord = setup({
  types: { context: {} as DeviceRecordContext, events: {} as DeviceRecordEvent },
  guards: {
    inactive: ({ context }) => !context.active,
    sameTpm: ({ context, event }) =>
      event.type === 'certificate.received' &&
      (context.identity === null || context.reenrol || samePair(context.identity, event.identity)),
    proven: ({ context, event }) =>
      event.type === 'proof.received' &&
      context.pending !== null &&
      context.pending.challenge === event.challenge &&
      context.pending.until > event.at &&
      context.pending.tries < proofTries &&
      context.pending.proofHash === event.proofHash,
    noTpmKnown: ({ context }) => context.identity === null,
    freshAndKnown: ({ context, event }) =>
      event.type === 'quote.received' &&
      context.identity !== null &&
      context.nonce !== null &&
      context.nonce.hash === event.attempt.nonceHash &&
      context.nonce.until > event.at,
    /** The record changed while the evidence was judged: what the verdict rests on is not so any more. */
    outdated: ({ context, event }) =>
      event.type === 'verdict.given' &&
      context.attempt?.id === event.attempt &&
      context.basis !== event.basis,
    trustworthy: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && !blockedByPlace(context, verdict);
    },
    untrustworthy: ({ context, event }) => current(context, event) !== null,
    lastTrusted: ({ context }) => context.verdict?.accepted === true && context.token !== null,
    lastRefused: ({ context }) => context.verdict?.accepted === false,
    goodToken: ({ context, event }) =>
      event.type === 'config.requested' && tokenGood(context, event.tokenHash, event.at),
    sameConfig: ({ context, event }) =>
      event.type === 'config.requested' &&
      tokenGood(context, event.tokenHash, event.at) &&
      event.version === context.config.version,
    keyMayBeStored: ({ context, event }) =>
      event.type === 'key.received' && tokenGood(context, event.tokenHash, event.at),
    timerIs: ({ context, event }, params: { timer: Timer }) =>
      event.type === 'timer.due' &&
      event.timer === params.timer &&
      timerStillSet(context, event.timer, event.at),
    accountLocks: ({ context }) => locks(context.account),
    placeKnown: ({ context }) => context.place.locked !== null,
    moved: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && verdict.location.moved;
    },
    inPlace: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && !verdict.location.moved && verdict.location.fix !== null;
    },
    /** Rule 5: a location counts only with a trusted quote, and only if that quote vouches for it. */
    fixed: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && verdict.location.vouched && verdict.location.fix !== null;
    },
    accountUnlocks: ({ event }) => event.type === 'account.changed' && !locks(event.account),
    accountLocksNow: ({ event }) => event.type === 'account.changed' && locks(event.account),
    grounds: ({ context, event }, params: { grounds: Grounds[] }) => {
      const verdict = current(context, event);
      return (
        verdict?.accepted === true && verdict.grounds !== null && params.grounds.includes(verdict.grounds)
      );
    },
    reportsCommit: ({ context, event }) =>
      event.type === 'info.received' &&
      event.key === 'base-os' &&
      event.body.committed === context.upgrade?.to &&
      context.candidate !== null,
    reportsFailure: ({ context, event }) =>
      event.type === 'info.received' &&
      event.key === 'base-os' &&
      context.upgrade !== null &&
      event.body.failed === context.upgrade.to &&
      Number(event.body.retryCounter ?? 0) >= context.upgrade.baseOs.retryCounter,
    decidesUpgrade: ({ context, event }) =>
      event.type === 'info.received' &&
      event.key === 'base-os' &&
      context.upgrade !== null &&
      ((event.body.committed === context.upgrade.to && context.candidate !== null) ||
        (event.body.failed === context.upgrade.to &&
          Number(event.body.retryCounter ?? 0) >= context.upgrade.baseOs.retryCounter)),
    registeringLocked: ({ event }) => event.type === 'device.registered' && locks(event.account),
    actsOnPlace: ({ context }) => context.place.locked !== null && context.place.seen !== null,
    lastAttempt: ({ context, event }) =>
      event.type === 'state.accepted' &&
      context.verdict?.attempt === event.attempt &&
      context.verdict.genuine &&
      !context.verdict.accepted,
    online: ({ event }) => event.type === 'link.changed' && event.online,
    offline: ({ event }) => event.type === 'link.changed' && !event.online,
  },
  actions: {
    // Effects: the runner carries them out. They do nothing here.
    ignored: () => {},
    reply: (_, _params: Reply) => {},
    verify: (_, _params: { attempt: Attempt }) => {},
    setTimer: (_, _params: { timer: Timer; at: number }) => {},
    clearTimer: (_, _params: { timer: Timer }) => {},
    push: (_, _params: { what: 'attest' | 'config' }) => {},

    seen: assign(({ event }) => ({ seen: event.at })),
    takeRegistration: assign(({ event }) =>
      event.type === 'device.registered'
        ? {
            active: true,
            uuid: event.uuid,
            serial: event.serial,
            account: event.account,
            config: { version: 1, settings: event.settings, baseOs: null },
          }
        : {},
    ),
    takePending: assign(({ event }) =>
      event.type === 'certificate.received'
        ? {
            pending: {
              identity: event.identity,
              challenge: event.challenge.id,
              proofHash: event.proofHash,
              until: event.at + challengeLife,
              tries: 0,
            },
          }
        : {},
    ),
    countTry: assign(({ context }) => ({
      pending: context.pending ? { ...context.pending, tries: context.pending.tries + 1 } : null,
    })),
    takeIdentity: assign(({ context }) => {
      const identity = context.pending?.identity ?? context.identity;
      const other = context.identity !== null && identity?.akName !== context.identity.akName;
      return {
        identity,
        pending: null,
        reenrol: false,
        basis: context.basis + 1,
        // What another TPM counted, and what it was trusted for, says nothing about this one.
        ...(other
          ? {
              token: null,
              verdict: context.verdict && {
                ...context.verdict,
                resetCount: null,
                restartCount: null,
                clock: null,
                firmware: null,
              },
            }
          : {}),
      };
    }),
    takeNonce: assign(({ event }) =>
      event.type === 'nonce.requested'
        ? { nonce: { hash: event.nonceHash, until: event.at + nonceLife } }
        : {},
    ),
    dropNonce: assign({ nonce: null }),
    // The nonce goes with the first quote that bears it, good or bad.
    takeAttempt: assign(({ event }) =>
      event.type === 'quote.received' ? { attempt: event.attempt, nonce: null } : {},
    ),
    takeVerdict: assign(({ context, event }) => {
      if (event.type !== 'verdict.given') return {};
      const { verdict } = event;
      const blocked = verdict.accepted && blockedByPlace(context, verdict);
      return {
        attempt: null,
        verdict: {
          attempt: event.attempt,
          at: event.at,
          accepted: verdict.accepted && !blocked,
          genuine: verdict.genuine,
          grounds: verdict.grounds,
          findings: verdict.findings,
          pcrs: verdict.pcrs,
          versions: verdict.versions,
          resetCount: verdict.clock?.resetCount ?? null,
          restartCount: verdict.clock?.restartCount ?? null,
          clock: verdict.clock?.clock ?? null,
          firmware: verdict.clock?.firmware ?? null,
        },
        place: { ...context.place, seen: verdict.location.fix ?? context.place.seen },
      };
    }),
    giveToken: assign(({ context, event }) =>
      event.type === 'verdict.given' && context.attempt
        ? {
            formerToken: context.token?.hash ?? context.formerToken,
            token: { hash: context.attempt.tokenHash, until: event.at + trustLife },
          }
        : {},
    ),
    takeTokenBack: assign(({ context }) => ({
      formerToken: context.token?.hash ?? context.formerToken,
      token: null,
    })),
    takeBaseline: assign(({ context, event }) => {
      if (event.type !== 'verdict.given') return {};
      const { verdict } = event;
      const next = baselineOf(verdict, event.attempt, event.at);
      if (!next) return {};
      if (verdict.grounds === 'first-boot' || verdict.grounds === 'acceptance') {
        return {
          baseline: next,
          history: context.baseline ? [context.baseline, ...context.history].slice(0, historyLength) : [],
          acceptance: null,
          basis: context.basis + 1,
        };
      }
      return verdict.grounds === 'upgrade' ? { candidate: next } : {};
    }),
    commitUpgrade: assign(({ context, event }) => ({
      baseline: context.candidate ?? context.baseline,
      history: context.baseline ? [context.baseline, ...context.history].slice(0, historyLength) : [],
      candidate: null,
      upgrade: null,
      upgraded: context.upgrade
        ? {
            from: context.upgrade.from,
            to: context.upgrade.to,
            at: event.at,
            how: 'committed' as const,
            why: null,
          }
        : null,
      basis: context.basis + 1,
    })),
    closeUpgrade: assign(({ context, event }, params: Why) => ({
      candidate: null,
      upgrade: null,
      upgraded: context.upgrade
        ? {
            from: context.upgrade.from,
            to: context.upgrade.to,
            at: event.at,
            how: 'rolledBack' as const,
            why: params,
          }
        : null,
      // What failed is not wanted any more, or the device would fetch it again.
      config: { ...context.config, version: context.config.version + 1, baseOs: null },
      basis: context.basis + 1,
    })),
    takeUpgrade: assign(({ context, event }) =>
      event.type === 'upgrade.assigned'
        ? {
            upgrade: event.upgrade,
            candidate: null,
            config: {
              ...context.config,
              version: context.config.version + 1,
              baseOs: event.upgrade.baseOs,
            },
            basis: context.basis + 1,
          }
        : {},
    ),
    takeAcceptance: assign(({ context, event }) =>
      event.type === 'state.accepted' && context.verdict
        ? {
            acceptance: {
              attempt: event.attempt,
              pcrs: context.verdict.pcrs,
              by: event.by,
              reason: event.reason,
              at: event.at,
            },
            basis: context.basis + 1,
          }
        : {},
    ),
    lockPlace: assign(({ context, event }) =>
      event.type === 'verdict.given'
        ? { place: { ...context.place, locked: event.verdict.location.fix }, basis: context.basis + 1 }
        : {},
    ),
    acceptPlace: assign(({ context }) => ({
      place: { ...context.place, locked: context.place.seen },
      basis: context.basis + 1,
    })),
    forgetPlace: assign(({ context }) => ({
      place: { ...context.place, locked: null },
      basis: context.basis + 1,
    })),
    takeAccount: assign(({ context, event }) =>
      event.type === 'account.changed' ? { account: event.account, basis: context.basis + 1 } : {},
    ),
    takeSettings: assign(({ context, event }) =>
      event.type === 'settings.changed'
        ? {
            config: {
              ...context.config,
              version: context.config.version + 1,
              settings: event.settings,
            },
          }
        : {},
    ),
    // The key that is held already, sent again after a reboot, changes nothing.
    takeKey: assign(({ context, event }) => {
      if (event.type !== 'key.received') return {};
      const { keyId, version, at } = event;
      const held = context.escrow[0]?.version === version;
      return {
        escrow: held ? context.escrow : [{ keyId, version, at }, ...context.escrow].slice(0, escrowLength),
        // Only a new key fulfils the wish for one.
        rotate: context.rotate && held,
      };
    }),
    takeInfo: assign(({ context, event }) =>
      event.type === 'info.received' ? { info: { ...context.info, [event.key]: event.body } } : {},
    ),
    askRotation: assign({ rotate: true }),
    allowReenrolment: assign({ reenrol: true }),
    retire: assign(({ context }) => ({
      active: false,
      token: null,
      formerToken: context.token?.hash ?? context.formerToken,
      nonce: null,
      attempt: null,
    })),
  },
}).createMachine({
  id: 'deviceRecord',
  description: 'All that EVC knows and decides about one device.',
  context: {
    active: false,
    uuid: '',
    serial: '',
    account: null,
    identity: null,
    pending: null,
    reenrol: false,
    nonce: null,
    attempt: null,
    token: null,
    formerToken: null,
    baseline: null,
    history: [],
    candidate: null,
    acceptance: null,
    verdict: null,
    place: { locked: null, seen: null },
    escrow: [],
    rotate: false,
    upgrade: null,
    upgraded: null,
    config: { version: 0, settings: {}, baseOs: null },
    info: {},
    basis: 0,
    seen: 0,
  },
  type: 'parallel',
  on: { '*': { actions: 'ignored' } },
  states: {
    enrolment: {
      description: 'Who is this device, and which TPM is it?',
      initial: 'unknown',
      on: {
        'device.retired': { target: '.retired', actions: ['retire', 'seen'] },
        'uuid.requested': [
          { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
          {
            actions: {
              type: 'reply',
              params: ({ context, event }) => ok(event.request, { kind: 'uuid', uuid: context.uuid }),
            },
          },
        ],
        'certificate.received': [
          { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
          {
            guard: 'sameTpm',
            actions: [
              'takePending',
              {
                type: 'reply',
                params: ({ event }) => ok(event.request, { kind: 'certificate', challenge: event.challenge }),
              },
            ],
          },
          {
            actions: {
              type: 'reply',
              params: ({ event }) =>
                refuse(event.request, 'conflict', {
                  code: 'enrol.other-tpm',
                  text: 'this device is enrolled with another TPM; a person has to allow its re-enrolment',
                }),
            },
          },
        ],
        'proof.received': [
          {
            guard: 'proven',
            target: '.certified',
            actions: [
              'takeIdentity',
              {
                type: 'reply',
                params: ({ event }) => ok(event.request, { kind: 'certificate', challenge: null }),
              },
            ],
          },
          // The right proof and how many tries are left stay with us.
          {
            actions: [
              'countTry',
              {
                type: 'reply',
                params: ({ event }) =>
                  refuse(event.request, 'forbidden', {
                    code: 'enrol.proof-wrong',
                    text: 'the attestation key is not proven to be in the TPM of the endorsement key',
                  }),
              },
            ],
          },
        ],
        'reenrolment.allowed': { actions: 'allowReenrolment' },
      },
      states: {
        unknown: {
          description: 'No registration yet.',
          on: {
            'device.registered': {
              target: 'registered',
              actions: [
                'takeRegistration',
                'seen',
                { type: 'reply', params: ({ event }) => ok(event.request, { kind: 'registered' }) },
              ],
            },
          },
        },
        registered: {
          description: 'The device certificate is registered; its TPM is not proven yet.',
          on: { 'device.registered': { actions: { type: 'reply', params: registeredAgain } } },
        },
        certified: {
          description: 'The attestation key is proven to be in the endorsement key’s TPM.',
          on: { 'device.registered': { actions: { type: 'reply', params: registeredAgain } } },
        },
        retired: {
          description: 'Out of service, by the word of a person.',
          on: {
            'device.registered': {
              actions: {
                type: 'reply',
                params: ({ event }) =>
                  refuse(event.request, 'forbidden', {
                    code: 'enrol.retired',
                    text: 'this device was taken out of service',
                  }),
              },
            },
          },
        },
      },
    },
    integrity: {
      description: 'Does it run what we want it to run?',
      initial: 'unattested',
      on: {
        'nonce.requested': [
          { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
          {
            target: '.challenged',
            actions: [
              'takeNonce',
              'seen',
              { type: 'setTimer', params: ({ event }) => ({ timer: 'nonce', at: event.at + nonceLife }) },
              {
                type: 'reply',
                params: ({ event }) => ok(event.request, { kind: 'nonce', salt: event.salt }),
              },
            ],
          },
        ],
        // No nonce is out, or not this one, or it is too old.
        'quote.received': [
          {
            guard: 'inactive',
            actions: { type: 'reply', params: ({ event }) => unknown(event.attempt.request) },
          },
          {
            guard: 'noTpmKnown',
            actions: {
              type: 'reply',
              params: ({ event }) =>
                answer(event.attempt.request, 'noCertFound', {
                  code: 'evidence.identity.unknown',
                  text: 'EVC has not proven the attestation key of this device; send the certificate first',
                }),
            },
          },
          {
            actions: {
              type: 'reply',
              params: ({ context, event }) =>
                answer(event.attempt.request, 'nonceMismatch', staleNonce(context, event.attempt)),
            },
          },
        ],
        'config.requested': [
          { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
          {
            guard: 'sameConfig',
            actions: [
              'seen',
              {
                type: 'reply',
                params: ({ event }) => ({ request: event.request, status: 'unchanged', body: null }),
              },
            ],
          },
          {
            guard: 'goodToken',
            actions: ['seen', { type: 'reply', params: fullConfig }],
          },
          { guard: 'lastRefused', actions: ['seen', { type: 'reply', params: partialConfig }] },
          {
            actions: [
              'seen',
              {
                type: 'reply',
                params: ({ context, event }) =>
                  refuse(event.request, 'forbidden', tokenWhy(context, event.tokenHash, event.at)),
              },
            ],
          },
        ],
        'state.accepted': {
          guard: 'lastAttempt',
          actions: ['takeAcceptance', { type: 'push', params: { what: 'attest' } }],
        },
        'rotation.asked': { actions: ['askRotation', { type: 'push', params: { what: 'attest' } }] },
        'settings.changed': { actions: ['takeSettings', { type: 'push', params: { what: 'config' } }] },
        'device.retired': {
          target: '.unattested',
          actions: [
            { type: 'clearTimer', params: { timer: 'nonce' } },
            { type: 'clearTimer', params: { timer: 'trust' } },
          ],
        },
        'timer.due': {
          guard: { type: 'timerIs', params: { timer: 'trust' } },
          target: '.stale',
          actions: 'takeTokenBack',
        },
      },
      states: {
        unattested: {
          description: 'No verdict stands: nothing was proven yet, or the record was reset.',
        },
        challenged: {
          description: 'A nonce is out.',
          on: {
            'quote.received': [
              {
                guard: 'inactive',
                actions: { type: 'reply', params: ({ event }) => unknown(event.attempt.request) },
              },
              {
                guard: 'freshAndKnown',
                target: 'verifying',
                actions: [
                  'takeAttempt',
                  'seen',
                  { type: 'clearTimer', params: { timer: 'nonce' } },
                  { type: 'verify', params: ({ event }) => ({ attempt: event.attempt }) },
                ],
              },
            ],
            'timer.due': [
              {
                guard: { type: 'timerIs', params: { timer: 'nonce' } },
                target: 'settling',
                actions: 'dropNonce',
              },
              {
                guard: { type: 'timerIs', params: { timer: 'trust' } },
                target: 'stale',
                actions: 'takeTokenBack',
              },
            ],
          },
        },
        settling: {
          description: 'The nonce was not used; the verdict before it stands.',
          always: [
            { guard: 'lastTrusted', target: 'trusted' },
            { guard: 'lastRefused', target: 'uud' },
            { target: 'unattested' },
          ],
        },
        verifying: {
          description: 'The evidence is being judged.',
          on: {
            'verdict.given': [
              {
                guard: 'outdated',
                actions: {
                  type: 'verify',
                  params: ({ context }) => ({ attempt: context.attempt as Attempt }),
                },
              },
              {
                guard: 'trustworthy',
                target: 'trusted',
                actions: [
                  { type: 'reply', params: approval },
                  'giveToken',
                  'takeBaseline',
                  'takeVerdict',
                  { type: 'setTimer', params: ({ event }) => ({ timer: 'trust', at: event.at + trustLife }) },
                ],
              },
              {
                guard: 'untrustworthy',
                target: 'uud',
                actions: [
                  { type: 'reply', params: refusal },
                  'takeTokenBack',
                  'takeVerdict',
                  { type: 'clearTimer', params: { timer: 'trust' } },
                ],
              },
            ],
          },
        },
        trusted: {
          description: 'The last quote is genuine, and shows software that EVC accepts.',
        },
        uud: {
          description:
            'Unknown update detected: the last quote shows something that EVC did not push or accept.',
        },
        stale: {
          description: 'Trust has run out without a new attestation.',
        },
      },
    },
    location: {
      description: 'Is it where it was locked to?',
      initial: 'notLocked',
      on: {
        'account.changed': [
          { guard: 'accountUnlocks', target: '.notLocked', actions: ['takeAccount', 'forgetPlace'] },
          { guard: 'accountLocksNow', target: '.deciding', actions: 'takeAccount' },
          { actions: 'takeAccount' },
        ],
        'device.registered': { guard: 'registeringLocked', target: '.baselinePending' },
      },
      states: {
        notLocked: {
          description: 'Location-Lock is off, or the account is a manufacturing one.',
        },
        deciding: {
          description: 'Location-Lock was turned on, or the device came to another account.',
          always: [{ guard: 'placeKnown', target: 'locked' }, { target: 'baselinePending' }],
        },
        baselinePending: {
          description: 'The first trusted and vouched location becomes the locked one.',
          on: { 'verdict.given': { guard: 'fixed', target: 'locked', actions: 'lockPlace' } },
        },
        locked: {
          description: 'The device is where it was locked to.',
          on: { 'verdict.given': { guard: 'moved', target: 'umd' } },
        },
        umd: {
          description: 'Unknown movement detected: trusted software, in another place.',
          on: {
            'verdict.given': { guard: 'inPlace', target: 'locked' },
            'place.accepted': {
              guard: 'actsOnPlace',
              target: 'locked',
              actions: ['acceptPlace', { type: 'push', params: { what: 'attest' } }],
            },
          },
        },
      },
    },
    escrow: {
      description: 'Does EVC hold the key of the vault?',
      initial: 'none',
      on: {
        'key.received': [
          {
            guard: 'keyMayBeStored',
            target: '.held',
            actions: ['takeKey', 'seen', { type: 'reply', params: stored }],
          },
          {
            actions: {
              type: 'reply',
              params: ({ context, event }) =>
                ok(event.request, {
                  kind: 'notStored',
                  keyId: event.keyId,
                  why: tokenWhy(context, event.tokenHash, event.at),
                }),
            },
          },
        ],
      },
      states: {
        none: { description: 'No key is escrowed.' },
        held: { description: 'The newest key and the ones before it are kept.' },
      },
    },
    software: {
      description: 'Where an upgrade stands.',
      initial: 'steady',
      on: {
        'upgrade.assigned': {
          target: '.upgrading',
          actions: [
            'takeUpgrade',
            { type: 'setTimer', params: ({ event }) => ({ timer: 'upgrade', at: event.upgrade.until }) },
            { type: 'push', params: { what: 'config' } },
          ],
        },
      },
      states: {
        steady: { description: 'No upgrade is under way.' },
        upgrading: {
          description: 'The window is open; the new image has not shown itself yet.',
          on: {
            'verdict.given': {
              guard: { type: 'grounds', params: { grounds: ['upgrade'] } },
              target: 'testing',
            },
            'info.received': {
              guard: 'reportsFailure',
              target: 'rolledBack',
              actions: [
                'takeInfo',
                'seen',
                { type: 'closeUpgrade', params: reportedFailure },
                { type: 'clearTimer', params: { timer: 'upgrade' } },
                { type: 'reply', params: noted },
              ],
            },
            'timer.due': {
              guard: { type: 'timerIs', params: { timer: 'upgrade' } },
              target: 'rolledBack',
              actions: { type: 'closeUpgrade', params: windowClosed },
            },
          },
        },
        testing: {
          description: 'The new image was approved; the device has to commit it.',
          on: {
            'info.received': [
              {
                guard: 'reportsCommit',
                target: 'committed',
                actions: [
                  'takeInfo',
                  'seen',
                  'commitUpgrade',
                  { type: 'clearTimer', params: { timer: 'upgrade' } },
                  { type: 'reply', params: noted },
                ],
              },
              {
                guard: 'reportsFailure',
                target: 'rolledBack',
                actions: [
                  'takeInfo',
                  'seen',
                  { type: 'closeUpgrade', params: reportedFailure },
                  { type: 'clearTimer', params: { timer: 'upgrade' } },
                  { type: 'reply', params: noted },
                ],
              },
            ],
            'verdict.given': {
              guard: { type: 'grounds', params: { grounds: ['baseline', 'fallback'] } },
              target: 'rolledBack',
              actions: [
                {
                  type: 'closeUpgrade',
                  params: { code: 'baseos.fell-back', text: 'the device runs the old image again' },
                },
                { type: 'clearTimer', params: { timer: 'upgrade' } },
              ],
            },
            'timer.due': {
              guard: { type: 'timerIs', params: { timer: 'upgrade' } },
              target: 'rolledBack',
              actions: { type: 'closeUpgrade', params: windowClosed },
            },
          },
        },
        committed: { description: 'The new image is the baseline.' },
        rolledBack: { description: 'The upgrade did not hold; the old baseline stands.' },
      },
    },
    link: {
      description: 'Is it connected?',
      initial: 'offline',
      on: {
        // Reports that decide nothing elsewhere end here.
        'info.received': [
          { guard: 'inactive', actions: { type: 'reply', params: ({ event }) => unknown(event.request) } },
          { guard: 'decidesUpgrade' },
          { actions: ['takeInfo', 'seen', { type: 'reply', params: noted }] },
        ],
      },
      states: {
        offline: {
          description: 'Not connected.',
          on: {
            'link.changed': { guard: 'online', target: 'online', actions: 'seen' },
            // It connected before it was anybody.
            'device.registered': { target: 'online' },
          },
        },
        online: {
          description: 'Connected.',
          on: { 'link.changed': { guard: 'offline', target: 'offline', actions: 'seen' } },
        },
      },
    },
  },
});

export type DeviceRecordSnapshot = SnapshotFrom<typeof deviceRecord>;

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

function ok(request: RequestRef, body: ReplyBody): Reply {
  return { request, status: 'ok', body };
}

function refuse(request: RequestRef, status: Status, why: Why): Reply {
  return { request, status, body: { kind: 'refused', why } };
}

function unknown(request: RequestRef): Reply {
  return refuse(request, 'unknown', {
    code: 'enrol.unknown-device',
    text: 'EVC does not know this device; it has to register first',
  });
}

function registeredAgain({ event }: Args<'device.registered'>): Reply {
  return ok(event.request, { kind: 'registered' });
}

function answer(request: RequestRef, code: VerdictCode, why: Why, findings: Finding[] = []): Reply {
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

function approval({ context, event }: Args<'verdict.given'>): Reply {
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

function refusal({ context, event }: Args<'verdict.given'>): Reply {
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

function fullConfig({ context, event }: Args<'config.requested'>): Reply {
  const { version, settings, baseOs } = context.config;
  return ok(event.request, { kind: 'config', partial: false, version, baseOs, settings, why: null });
}

/** The base OS alone, and the news that attestation failed: the way out for a device that is not trusted. */
function partialConfig({ context, event }: Args<'config.requested'>): Reply {
  const { version, baseOs } = context.config;
  const finding = context.verdict?.findings[0];
  const why = finding
    ? { code: finding.code, text: finding.text }
    : { code: 'policy.refused', text: 'the last attestation was refused' };
  return ok(event.request, { kind: 'config', partial: true, version, baseOs, settings: {}, why });
}

function stored({ event }: Args<'key.received'>): Reply {
  return ok(event.request, { kind: 'stored', keyId: event.keyId, version: event.version });
}

function noted({ event }: Args<'info.received'>): Reply {
  return ok(event.request, { kind: 'noted' });
}

function reportedFailure({ event }: Args<'info.received'>): Why {
  const { why } = event.body as { why?: Partial<Why> };
  return {
    code: typeof why?.code === 'string' ? why.code : 'baseos.failed',
    text: typeof why?.text === 'string' ? why.text : 'the device reports that the image failed',
  };
}

function windowClosed(): Why {
  return {
    code: 'policy.upgrade.window-closed',
    text: 'the new image did not prove itself before its deadline',
  };
}

/** The verdict of the attempt that is being judged, made with what still holds; null otherwise. */
function current(context: DeviceRecordContext, event: DeviceRecordEvent): Verdict | null {
  if (event.type !== 'verdict.given') return null;
  return context.attempt?.id === event.attempt && context.basis === event.basis ? event.verdict : null;
}

function samePair(one: Identity, other: Identity): boolean {
  return one.akName === other.akName && one.ekName === other.ekName;
}

function locks(account: Account | null): boolean {
  return account !== null && account.kind !== 'manufacturing' && account.locationLock;
}

function blockedByPlace(context: DeviceRecordContext, verdict: Verdict): boolean {
  return verdict.location.moved && context.account?.moved === 'block';
}

function tokenGood(context: DeviceRecordContext, hash: string | null, at: number): boolean {
  return context.active && hash !== null && context.token?.hash === hash && context.token.until > at;
}

/** Why a token does not open anything. */
function tokenWhy(context: DeviceRecordContext, hash: string | null, at: number): Why {
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

function staleNonce(context: DeviceRecordContext, attempt: Attempt): Why {
  if (context.nonce === null) {
    return { code: 'evidence.nonce.none', text: 'no nonce is out for this device, or it was used already' };
  }
  if (context.nonce.hash !== attempt.nonceHash) {
    return { code: 'evidence.nonce.other', text: 'the quote bears another nonce than the one that is out' };
  }
  return { code: 'evidence.nonce.expired', text: 'the nonce ran out before the quote came' };
}

/** A timer that was set anew, or whose matter is settled, says nothing. */
function timerStillSet(context: DeviceRecordContext, timer: Timer, at: number): boolean {
  if (timer === 'nonce') return context.nonce !== null && context.nonce.until <= at;
  if (timer === 'trust') return context.token !== null && context.token.until <= at;
  return context.upgrade !== null && context.upgrade.until <= at;
}

function baselineOf(verdict: Verdict, attempt: string, at: number): Baseline | null {
  if (!verdict.accepted || !verdict.versions || !verdict.grounds) return null;
  const { pcrs, logs, versions, grounds } = verdict;
  return { pcrs, logs, versions, attempt, grounds, at };
}
