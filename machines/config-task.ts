// Zedagent's config task: asks EVC for the configuration with the token of this boot. What a configuration says stays
// with the ports; the chart carries its version and the base OS it names.
import { assign, type SnapshotFrom, setup } from 'xstate';
import type { BaseOsConfig } from './flow.ts';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil, stampOf } from './port.ts';
import { deadline, minute, retry, second, type Waiting, type Why, whyOf } from './waiting.ts';

export type ConfigTaskEvent = Stamp &
  (
    | { type: 'token.confirmed'; tokenHash: string }
    /** EVC says that there is something new. */
    | { type: 'config.pushed' }
    | { type: 'link.up' }
  );

/** EVC's answer, as far as the chart goes; the rest is staged by the port. */
export interface ConfigReply {
  kind: 'full' | 'partial' | 'unchanged';
  version: number;
  baseOs: BaseOsConfig | null;
  /** Why it is only partial. */
  why: Why | null;
}

export interface ConfigTaskContext {
  tokenHash: string | null;
  /** The token that the last request bore. */
  asked: string | null;
  /** EVC said that there is something new, after the last request was made. */
  pushed: boolean;
  /** Of the full configuration that is applied; 0 before the first. */
  version: number;
  source: 'none' | 'checkpoint' | 'evc';
  baseOs: BaseOsConfig | null;
  /** Full configurations applied in this boot. */
  full: number;
  /** Answers *forbidden*, and the token that they were for. */
  forbidden: { count: number; tokenHash: string | null };
  reply: ConfigReply | null;
  attempt: number;
  waiting: Waiting | null;
  error: Why | null;
}

/** EVC pushes what is new; the poll is for pushes that were lost. */
const pollInterval = 10 * minute;
const forbiddenBackoff = { base: 5 * second, cap: 2 * minute };

export const configTask = setup({
  types: { context: {} as ConfigTaskContext, events: {} as ConfigTaskEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    /** The last configuration that was applied, or its backup copy; version 0 when there is none. */
    loadCheckpoint: port<{ version: number; baseOs: BaseOsConfig | null }>('loadCheckpoint'),
    /** Fails with config.forbidden when the token is not good. */
    requestConfig: port<ConfigReply, { tokenHash: string | null; version: number }>('requestConfig'),
    applyConfig: port<null, { version: number; partial: boolean }>('applyConfig'),
    applyCheckpoint: port<null>('applyCheckpoint'),
  },
  guards: {
    forbidden: (_, params: { code: string }) => params.code === 'config.forbidden',
    older: ({ context }, params: ConfigReply) => params.kind === 'full' && params.version < context.version,
    replyIs: (_, params: { reply: ConfigReply; kind: ConfigReply['kind'] }) =>
      params.reply.kind === params.kind,
    checkpointNotApplied: ({ context }) => context.source === 'none' && context.version > 0,
    /** The last answer is out of date: it was for another token, or EVC has said since that there is more. */
    somethingNew: ({ context }) => context.pushed || context.tokenHash !== context.asked,
  },
  actions: {
    ignored: () => {},
    takeCheckpoint: assign((_, params: { version: number; baseOs: BaseOsConfig | null }) => params),
    takeToken: assign(({ event }) =>
      event.type === 'token.confirmed' ? { tokenHash: event.tokenHash } : {},
    ),
    takePush: assign({ pushed: true }),
    ask: assign(({ context }) => ({ asked: context.tokenHash, pushed: false })),
    takeReply: assign((_, params: ConfigReply) => ({ reply: params })),
    appliedFull: assign(({ context }) => ({
      version: context.reply?.version ?? context.version,
      baseOs: context.reply?.baseOs ?? null,
      source: 'evc' as const,
      full: context.full + 1,
      reply: null,
      error: null,
    })),
    unchanged: assign(({ context }) => ({ source: 'evc' as const, full: context.full + 1, error: null })),
    appliedPartial: assign(({ context }) => ({
      source: 'none' as const,
      baseOs: context.reply?.baseOs ?? null,
      error: context.reply?.why ?? null,
      reply: null,
    })),
    appliedCheckpoint: assign({ source: 'checkpoint' }),
    countForbidden: assign(({ context }) => ({
      forbidden: { count: context.forbidden.count + 1, tokenHash: context.asked },
    })),
    refuseOlder: assign(({ context }, params: ConfigReply) => ({
      reply: null,
      error: {
        code: 'config.older',
        text: `EVC sent version ${params.version}, and version ${context.version} was applied before`,
      },
    })),
    takeFailure: assign(({ event }) => ({ error: whyOf(failureOf(event)) })),
    backOff: assign(({ event, context }) => ({
      waiting: retry('EVC', failureOf(event), context.attempt),
      attempt: context.attempt + 1,
    })),
    awaitToken: assign(({ event, context }) => {
      const stamp = stampOf(event);
      const failure = { code: 'config.forbidden', text: 'EVC has not approved this boot', ...stamp };
      const why = context.error ?? failure;
      return {
        waiting: retry('the attestation', { ...failure, ...why }, context.attempt, forbiddenBackoff),
        attempt: context.attempt + 1,
      };
    }),
    awaitPoll: assign(({ event }) => {
      const stamp = stampOf(event);
      // As EVE: anywhere between 0.3 and 1.0 of the interval.
      return {
        waiting: deadline('the next poll', stamp, Math.round(pollInterval * (0.3 + 0.7 * stamp.dice))),
        attempt: 1,
      };
    }),
    stopWaiting: assign({ waiting: null }),
    proceed: assign({ attempt: 1 }),
  },
}).createMachine({
  id: 'configTask',
  description: 'Asks EVC for the configuration, with the token of this boot.',
  context: {
    tokenHash: null,
    asked: null,
    pushed: false,
    version: 0,
    source: 'none',
    baseOs: null,
    full: 0,
    forbidden: { count: 0, tokenHash: null },
    reply: null,
    attempt: 1,
    waiting: null,
    error: null,
  },
  initial: 'loading',
  on: {
    'token.confirmed': { actions: 'takeToken' },
    'config.pushed': { actions: 'takePush' },
    '*': { actions: 'ignored' },
  },
  states: {
    loading: {
      description: 'Reads which configuration was applied last.',
      invoke: {
        id: 'loadCheckpoint',
        src: 'loadCheckpoint',
        onDone: {
          target: 'requesting',
          actions: { type: 'takeCheckpoint', params: ({ event }) => event.output.value },
        },
        onError: { target: 'requesting', actions: 'takeFailure' },
      },
    },
    requesting: {
      description: 'A config request is in flight.',
      entry: 'ask',
      invoke: {
        id: 'requestConfig',
        src: 'requestConfig',
        // What is in force is what EVC sent in this boot: a checkpoint says nothing about how this boot was judged.
        input: ({ context }) => ({
          tokenHash: context.asked,
          version: context.source === 'evc' ? context.version : 0,
        }),
        onDone: [
          {
            guard: { type: 'older', params: ({ event }) => event.output.value },
            target: 'refused',
            actions: { type: 'refuseOlder', params: ({ event }) => event.output.value },
          },
          {
            guard: {
              type: 'replyIs',
              params: ({ event }) => ({ reply: event.output.value, kind: 'full' }),
            },
            target: 'applying.full',
            actions: { type: 'takeReply', params: ({ event }) => event.output.value },
          },
          {
            guard: {
              type: 'replyIs',
              params: ({ event }) => ({ reply: event.output.value, kind: 'partial' }),
            },
            target: 'applying.partial',
            actions: { type: 'takeReply', params: ({ event }) => event.output.value },
          },
          { target: 'idle', actions: 'unchanged' },
        ],
        onError: [
          {
            guard: { type: 'forbidden', params: ({ event }) => failureOf(event) },
            target: 'forbidden',
            actions: 'takeFailure',
          },
          { target: 'offline', actions: ['takeFailure', 'backOff'] },
        ],
      },
    },
    applying: {
      description: 'Carries out what EVC sent, and keeps a checkpoint of it.',
      initial: 'full',
      states: {
        full: {
          description: 'The full configuration: this boot is trusted.',
          invoke: {
            id: 'applyConfig',
            src: 'applyConfig',
            input: ({ context }) => ({ version: context.reply?.version ?? 0, partial: false }),
            onDone: { target: '#configTask.idle', actions: 'appliedFull' },
            onError: { target: '#configTask.refused', actions: 'takeFailure' },
          },
        },
        partial: {
          description: 'The base OS alone: attestation failed, and a good image is the way out.',
          invoke: {
            id: 'applyConfig',
            src: 'applyConfig',
            input: ({ context }) => ({ version: context.reply?.version ?? 0, partial: true }),
            onDone: { target: '#configTask.forbidden', actions: 'appliedPartial' },
            onError: { target: '#configTask.refused', actions: 'takeFailure' },
          },
        },
      },
    },
    idle: {
      description: 'The newest configuration is applied; polls from time to time, and EVC pushes.',
      entry: ['proceed', 'awaitPoll'],
      exit: 'stopWaiting',
      always: { guard: 'somethingNew', target: 'requesting' },
      invoke: elapsed({ target: 'requesting' }),
      // A push may have been lost while there was no link.
      on: { 'link.up': { target: 'requesting' } },
    },
    forbidden: {
      description:
        'EVC wants a new attestation first; the attest task is told, and a new token is waited for.',
      entry: ['countForbidden', 'awaitToken'],
      exit: 'stopWaiting',
      always: { guard: 'somethingNew', target: 'requesting', actions: 'proceed' },
      invoke: elapsed({ target: 'requesting' }),
    },
    offline: {
      description: 'EVC is out of reach; the last configuration stays in force.',
      initial: 'deciding',
      exit: 'stopWaiting',
      states: {
        deciding: {
          description: 'Has this boot applied a configuration yet?',
          always: [{ guard: 'checkpointNotApplied', target: 'applyingCheckpoint' }, { target: 'backingOff' }],
        },
        applyingCheckpoint: {
          description: 'Applies the last checkpointed configuration.',
          invoke: {
            id: 'applyCheckpoint',
            src: 'applyCheckpoint',
            onDone: { target: 'backingOff', actions: 'appliedCheckpoint' },
            onError: { target: 'backingOff', actions: 'takeFailure' },
          },
        },
        backingOff: {
          description: 'Tries EVC again.',
          always: { guard: 'somethingNew', target: '#configTask.requesting', actions: 'proceed' },
          invoke: elapsed({ target: '#configTask.requesting' }),
          on: { 'link.up': { target: '#configTask.requesting' } },
        },
      },
    },
    refused: {
      description: 'What EVC sent could not be accepted; the configuration before it stays in force.',
      entry: 'awaitPoll',
      exit: 'stopWaiting',
      always: { guard: 'somethingNew', target: 'requesting' },
      invoke: elapsed({ target: 'requesting' }),
    },
  },
});

export type ConfigTaskSnapshot = SnapshotFrom<typeof configTask>;

export function configTaskPublications(snapshot: ConfigTaskSnapshot): Publications {
  const { context } = snapshot;
  const state = typeof snapshot.value === 'string' ? snapshot.value : Object.keys(snapshot.value)[0];
  return {
    ConfigStatus: {
      state,
      version: context.version,
      source: context.source,
      full: context.full,
      forbidden: context.forbidden,
      waiting: context.waiting,
      error: context.error,
    },
    BaseOsConfig: context.baseOs,
  };
}
