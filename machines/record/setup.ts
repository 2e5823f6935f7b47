// What the regions of the record share: its guards, its changes of memory, and the effects that it asks for.
import { and, assign, setup, stateIn } from 'xstate';
import type { Grounds } from '../flow.ts';
import type { Why } from '../waiting.ts';
import type { Attempt, DeviceRecordContext, DeviceRecordEvent, Identity, Timer } from './events.ts';
import {
  baselineOf,
  blockedByPlace,
  commitsLate,
  current,
  endorsed,
  locks,
  losesEndorsement,
  proves,
  samePair,
  saysWhere,
  standingRefusal,
  timerStillSet,
  tokenGood,
} from './judgement.ts';
import { challengeLife, escrowLength, historyLength, nonceLife, trustLife } from './lives.ts';
import type { Reply } from './replies.ts';

export const record = setup({
  types: { context: {} as DeviceRecordContext, events: {} as DeviceRecordEvent },
  guards: {
    inactive: ({ context }) => !context.active,
    otherTpm: ({ context, event }) =>
      event.type === 'certificate.received' &&
      context.identity !== null &&
      !context.reenrol &&
      !samePair(context.identity, event.identity),
    tpmTaken: ({ event }) => event.type === 'certificate.received' && event.taken,
    unendorsed: ({ context, event }) =>
      event.type === 'certificate.received' && !endorsed(context.account, event.identity),
    /** A stricter account, or a root that was taken away. */
    losesEndorsement: ({ context, event }) => losesEndorsement(context, event),
    knownUnendorsed: ({ context }) =>
      context.identity !== null && !endorsed(context.account, context.identity),
    proven: ({ context, event }) => proves(context, event),
    /** A TPM takes the place of another: what the other one was trusted for is over. */
    provenOther: ({ context, event }) =>
      proves(context, event) &&
      context.identity !== null &&
      context.pending?.identity.akName !== context.identity.akName,
    noTpmKnown: ({ context }) => context.identity === null,
    freshAndKnown: ({ context, event }) =>
      event.type === 'quote.received' &&
      context.identity !== null &&
      endorsed(context.account, context.identity) &&
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
    /** Leaving out where it is does not bring it back. */
    silentlyAway: and([
      stateIn({ location: 'umd' }),
      ({ context, event }) => {
        const verdict = current(context, event);
        return verdict?.accepted === true && context.account?.moved === 'block' && !saysWhere(verdict);
      },
    ]),
    untrustworthy: ({ context, event }) => current(context, event) !== null,
    lastTrusted: ({ context }) => context.verdict?.accepted === true && context.token !== null,
    lastExpired: ({ context }) => context.verdict?.accepted === true && context.token === null,
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
    placeKnown: ({ context }) => context.place.locked !== null,
    moved: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && verdict.location.moved;
    },
    inPlace: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && !verdict.location.moved && saysWhere(verdict);
    },
    /** Rule 5: a location counts only with a trusted quote, and only if that quote vouches for it. */
    fixed: ({ context, event }) => {
      const verdict = current(context, event);
      return verdict?.accepted === true && saysWhere(verdict);
    },
    otherAccount: ({ context, event }) =>
      event.type === 'account.changed' && context.account?.id !== event.account.id,
    sameAccountLocks: ({ context, event }) =>
      event.type === 'account.changed' && context.account?.id === event.account.id && locks(event.account),
    accountUnlocks: ({ event }) => event.type === 'account.changed' && !locks(event.account),
    grounds: ({ context, event }, params: { grounds: Grounds[] }) => {
      const verdict = current(context, event);
      return (
        verdict?.accepted === true && verdict.grounds !== null && params.grounds.includes(verdict.grounds)
      );
    },
    reportsCommit: ({ context, event }) =>
      context.active &&
      event.type === 'info.received' &&
      event.key === 'base-os' &&
      event.body.committed === context.upgrade?.to &&
      context.candidate !== null,
    /** The window closed behind an image that was approved in it, and the word of its commit comes now. */
    reportsLateCommit: ({ context, event }) => context.active && commitsLate(context, event),
    /** The device runs something else that is right, so it did not commit what was approved. */
    otherThanApproved: ({ context, event }) =>
      context.candidate !== null && current(context, event)?.accepted === true,
    reportsFailure: ({ context, event }) =>
      context.active &&
      event.type === 'info.received' &&
      event.key === 'base-os' &&
      context.upgrade !== null &&
      event.body.failed === context.upgrade.to &&
      Number(event.body.retryCounter ?? 0) >= context.upgrade.baseOs.retryCounter,
    decidesUpgrade: ({ context, event }) =>
      commitsLate(context, event) ||
      (event.type === 'info.received' &&
        event.key === 'base-os' &&
        context.upgrade !== null &&
        ((event.body.committed === context.upgrade.to && context.candidate !== null) ||
          (event.body.failed === context.upgrade.to &&
            Number(event.body.retryCounter ?? 0) >= context.upgrade.baseOs.retryCounter))),
    /** Who registers again is where it is: else that would be a way to be locked anew. */
    registeringLocked: ({ context, event }) =>
      event.type === 'device.registered' && !context.active && locks(event.account),
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
    noteRefusal: assign(({ context, event }, params: Why & Pick<Identity, 'ekName' | 'akName'>) => {
      const { code, text, ekName, akName } = params;
      const { since = event.at, count = 0 } = context.refusedEnrolment ?? {};
      // One entry, however many come and whatever they name: a stranger must not fill the record.
      return { refusedEnrolment: { code, text, ekName, akName, since, at: event.at, count: count + 1 } };
    }),
    takeJudgement: assign(({ context, event }) => {
      if (event.type !== 'endorsement.judged' || context.identity?.ekName !== event.ekName) return {};
      const { ekTrust, ekCertificate } = event;
      const { ekCertificate: _, ...keys } = context.identity;
      const identity = { ...keys, ekTrust, ...(ekCertificate ? { ekCertificate } : {}) };
      return { identity, refusedEnrolment: standingRefusal(context, context.account, identity) };
    }),
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
        // That another TPM was seen is settled by a person alone, who allows it.
        refusedEnrolment:
          other || context.refusedEnrolment?.code !== 'enrol.other-tpm' ? null : context.refusedEnrolment,
        basis: context.basis + 1,
        // What another TPM counted, and what it was trusted for, says nothing about this one.
        ...(other
          ? {
              token: null,
              nonce: null,
              attempt: null,
              clock: null,
            }
          : {}),
      };
    }),
    takeNonce: assign(({ event }) =>
      event.type === 'nonce.requested'
        ? // Who asks for a nonce waits for no verdict any more.
          { nonce: { hash: event.nonceHash, until: event.at + nonceLife }, attempt: null }
        : {},
    ),
    dropNonce: assign({ nonce: null }),
    dropAttempt: assign({ nonce: null, attempt: null }),
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
        },
        clock: verdict.clock ?? context.clock,
        place: { ...context.place, seen: verdict.location.fix ?? context.place.seen },
      };
    }),
    refuseVerdict: assign(({ context }) =>
      context.verdict ? { verdict: { ...context.verdict, accepted: false } } : {},
    ),
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
    /** What was approved and came too late; the image to fetch is wanted no more. */
    commitLate: assign(({ context, event }) => ({
      baseline: context.candidate ?? context.baseline,
      history: context.baseline ? [context.baseline, ...context.history].slice(0, historyLength) : [],
      candidate: null,
      upgraded: context.upgraded && {
        ...context.upgraded,
        at: event.at,
        how: 'committed' as const,
        why: null,
      },
      basis: context.basis + 1,
    })),
    dropCandidate: assign({ candidate: null }),
    closeUpgrade: assign(({ context, event }, params: Why) => ({
      candidate: null,
      ...closed(context, event, params),
    })),
    /** The device may have committed what was approved, and not be able to say so. */
    closeApproved: assign(({ context, event }, params: Why) => closed(context, event, params)),
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
      event.type === 'account.changed'
        ? {
            account: event.account,
            refusedEnrolment: standingRefusal(context, event.account, context.identity),
            basis: context.basis + 1,
          }
        : {},
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
    allowReenrolment: assign({ reenrol: true, refusedEnrolment: null }),
    retire: assign(({ context }) => ({
      active: false,
      token: null,
      formerToken: context.token?.hash ?? context.formerToken,
      pending: null,
      nonce: null,
      attempt: null,
    })),
  },
});

function closed(context: DeviceRecordContext, event: DeviceRecordEvent, why: Why) {
  return {
    upgrade: null,
    upgraded: context.upgrade
      ? { from: context.upgrade.from, to: context.upgrade.to, at: event.at, how: 'rolledBack' as const, why }
      : null,
    // What failed is not wanted any more, or the device would fetch it again.
    config: { ...context.config, version: context.config.version + 1, baseOs: null },
    basis: context.basis + 1,
  };
}
