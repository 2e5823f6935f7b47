// Does it run what we want it to run?
import type { Attempt, DeviceRecordContext, Identity } from './events.ts';
import { staleNonce, tokenWhy, unendorsedWhy } from './judgement.ts';
import { nonceLife, trustLife } from './lives.ts';
import {
  answer,
  approval,
  fullConfig,
  ok,
  partialConfig,
  refusal,
  refusalOfSilence,
  refuse,
  unknown,
} from './replies.ts';
import { record } from './setup.ts';

/** What a TPM was trusted for ends when its account does not take it any more. */
const distrusts = [
  'takeTokenBack',
  'dropAttempt',
  { type: 'clearTimer', params: { timer: 'nonce' } },
  { type: 'clearTimer', params: { timer: 'trust' } },
  { type: 'push', params: { what: 'attest' } },
] as const;

/** The TPM that is enrolled, as one that is refused. */
function unendorsed({ identity }: DeviceRecordContext) {
  const { ekName, akName } = identity as Identity;
  return { ...unendorsedWhy(identity as Identity), ekName, akName };
}

export const integrity = record.createStateConfig({
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
      // The device sends its certificate again, and hears why.
      {
        guard: 'knownUnendorsed',
        actions: {
          type: 'reply',
          params: ({ context, event }) =>
            answer(event.attempt.request, 'noCertFound', unendorsedWhy(context.identity as Identity)),
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
    'proof.received': { guard: 'provenOther', target: '.unattested' },
    'account.changed': {
      guard: 'losesEndorsement',
      target: '.unattested',
      actions: [...distrusts, { type: 'noteRefusal', params: ({ context }) => unendorsed(context) }],
    },
    'endorsement.judged': {
      guard: 'losesEndorsement',
      target: '.unattested',
      actions: [...distrusts, { type: 'noteRefusal', params: ({ context }) => unendorsed(context) }],
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
        'quote.received': {
          guard: 'freshAndKnown',
          target: 'verifying',
          actions: [
            'takeAttempt',
            'seen',
            { type: 'clearTimer', params: { timer: 'nonce' } },
            { type: 'verify', params: ({ event }) => ({ attempt: event.attempt }) },
          ],
        },
        'timer.due': [
          {
            guard: { type: 'timerIs', params: { timer: 'nonce' } },
            target: 'settling',
            actions: 'dropNonce',
          },
          {
            guard: { type: 'timerIs', params: { timer: 'trust' } },
            actions: 'takeTokenBack',
          },
        ],
      },
    },
    settling: {
      description: 'The nonce was not used; the verdict before it stands.',
      always: [
        { guard: 'lastTrusted', target: 'trusted' },
        { guard: 'lastExpired', target: 'stale' },
        { guard: 'lastRefused', target: 'uud' },
        { target: 'unattested' },
      ],
    },
    verifying: {
      description: 'The evidence is being judged.',
      on: {
        // The verdict to come decides.
        'timer.due': {
          guard: { type: 'timerIs', params: { timer: 'trust' } },
          actions: 'takeTokenBack',
        },
        'verdict.given': [
          {
            guard: 'outdated',
            actions: {
              type: 'verify',
              params: ({ context }) => ({ attempt: context.attempt as Attempt }),
            },
          },
          {
            guard: 'silentlyAway',
            target: 'uud',
            actions: [
              { type: 'reply', params: refusalOfSilence },
              'takeTokenBack',
              'takeVerdict',
              'refuseVerdict',
              { type: 'clearTimer', params: { timer: 'trust' } },
            ],
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
      description: 'Unknown update detected: the last quote shows something that EVC did not push or accept.',
    },
    stale: {
      description: 'Trust has run out without a new attestation.',
    },
  },
});
