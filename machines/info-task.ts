// Zedagent's info task: reports what changed, and backs up the encrypted master key with EVC.
import { assign, type SnapshotFrom, setup } from 'xstate';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil } from './port.ts';
import { retry, type Waiting, type Why } from './waiting.ts';

export type InfoTaskEvent = Stamp &
  /** Something to report; a newer one under the same key takes the place of the older. */
  (
    | { type: 'info.changed'; key: string; body: object }
    | { type: 'key.published'; keyId: string; encryptedKey: string }
    | { type: 'escrow.requested'; keyId: string; tokenHash: string; attempt: number }
    | { type: 'link.up' }
  );

export interface EscrowRequest {
  keyId: string;
  tokenHash: string;
  attempt: number;
}

export interface InfoTaskContext {
  /** What is not reported yet, by key; newest only. */
  pending: Record<string, object>;
  /** What is being sent. */
  sending: { key: string; body: object } | null;
  key: { keyId: string; encryptedKey: string } | null;
  request: EscrowRequest | null;
  /** The request that is with EVC; a newer one does not change it. */
  escrowing: EscrowRequest | null;
  escrowed: { keyId: string; version: number } | null;
  refused: { keyId: string; error: Why } | null;
  attempt: number;
  waiting: Waiting | null;
  error: Why | null;
}

export const infoTask = setup({
  types: { context: {} as InfoTaskContext, events: {} as InfoTaskEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    loadPending: port<{ pending: Record<string, object> }>('loadPending'),
    sendInfo: port<null, { key: string; body: object }>('sendInfo'),
    /** Sends the encrypted key; EVC answers with the version that it stored. */
    storeKey: port<
      { keyId: string; version: number },
      { keyId: string; encryptedKey: string; tokenHash: string }
    >('storeKey'),
  },
  guards: {
    somethingToReport: ({ context }) => Object.keys(context.pending).length > 0,
    escrowWanted: ({ context }) =>
      context.request !== null && context.key !== null && context.request.keyId === context.key.keyId,
    /** EVC said no: the same key with the same token will not do better. */
    refusal: (_, params: { code: string }) => params.code.startsWith('token.'),
  },
  actions: {
    ignored: () => {},
    takePending: assign(({ context }, params: { pending: Record<string, object> }) => ({
      pending: { ...params.pending, ...context.pending },
    })),
    takeInfo: assign(({ context, event }) =>
      event.type === 'info.changed' ? { pending: { ...context.pending, [event.key]: event.body } } : {},
    ),
    pickInfo: assign(({ context }) => {
      const [key, body] = Object.entries(context.pending)[0] ?? [];
      return { sending: key === undefined || body === undefined ? null : { key, body } };
    }),
    // What came under the same key while this one was on its way stays.
    infoSent: assign(({ context }) => {
      const { sending, pending } = context;
      if (!sending || pending[sending.key] !== sending.body) return { sending: null };
      const { [sending.key]: _sent, ...rest } = pending;
      return { sending: null, pending: rest };
    }),
    takeKey: assign(({ event }) =>
      event.type === 'key.published' ? { key: { keyId: event.keyId, encryptedKey: event.encryptedKey } } : {},
    ),
    takeRequest: assign(({ event }) =>
      event.type === 'escrow.requested'
        ? {
            request: { keyId: event.keyId, tokenHash: event.tokenHash, attempt: event.attempt },
            refused: null,
          }
        : {},
    ),
    pickRequest: assign(({ context }) => ({ escrowing: context.request, request: null })),
    // What failed is tried again, unless there is a newer request.
    keepRequest: assign(({ context }) => ({
      request: context.request ?? context.escrowing,
      escrowing: null,
    })),
    escrowDone: assign((_, params: { keyId: string; version: number }) => ({
      escrowed: params,
      escrowing: null,
      refused: null,
    })),
    escrowRefused: assign(({ context, event }) => {
      const { code, text } = failureOf(event);
      return {
        refused: { keyId: context.escrowing?.keyId ?? '', error: { code, text } },
        escrowing: null,
        error: { code, text },
      };
    }),
    takeFailure: assign(({ event }) => {
      const { code, text } = failureOf(event);
      return { error: { code, text } };
    }),
    backOff: assign(({ event, context }) => ({
      waiting: retry('EVC', failureOf(event), context.attempt),
      attempt: context.attempt + 1,
    })),
    proceed: assign({ attempt: 1, error: null }),
    stopWaiting: assign({ waiting: null }),
  },
}).createMachine({
  id: 'infoTask',
  description: 'Reports what changed, and backs up the encrypted master key with EVC.',
  context: {
    pending: {},
    sending: null,
    key: null,
    request: null,
    escrowing: null,
    escrowed: null,
    refused: null,
    attempt: 1,
    waiting: null,
    error: null,
  },
  initial: 'loading',
  on: {
    'info.changed': { actions: 'takeInfo' },
    'key.published': { actions: 'takeKey' },
    'escrow.requested': { actions: 'takeRequest' },
    '*': { actions: 'ignored' },
  },
  states: {
    loading: {
      description: 'Reads what could not be sent before.',
      invoke: {
        id: 'loadPending',
        src: 'loadPending',
        onDone: {
          target: 'idle',
          actions: { type: 'takePending', params: ({ event }) => event.output.value },
        },
        onError: { target: 'idle', actions: 'takeFailure' },
      },
    },
    idle: {
      description: 'Everything is reported.',
      always: [
        { guard: 'escrowWanted', target: 'escrowing' },
        { guard: 'somethingToReport', target: 'reporting' },
      ],
    },
    reporting: {
      description: 'A report is on its way.',
      entry: 'pickInfo',
      invoke: {
        id: 'sendInfo',
        src: 'sendInfo',
        input: ({ context }) => context.sending ?? { key: '', body: {} },
        onDone: { target: 'idle', actions: ['infoSent', 'proceed'] },
        onError: { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
      },
    },
    escrowing: {
      description: 'The encrypted master key is on its way to EVC.',
      entry: 'pickRequest',
      invoke: {
        id: 'storeKey',
        src: 'storeKey',
        input: ({ context }) => ({
          keyId: context.key?.keyId ?? '',
          encryptedKey: context.key?.encryptedKey ?? '',
          tokenHash: context.escrowing?.tokenHash ?? '',
        }),
        onDone: {
          target: 'idle',
          actions: [{ type: 'escrowDone', params: ({ event }) => event.output.value }, 'proceed'],
        },
        onError: [
          {
            guard: { type: 'refusal', params: ({ event }) => failureOf(event) },
            target: 'idle',
            actions: 'escrowRefused',
          },
          { target: 'backingOff', actions: ['takeFailure', 'keepRequest', 'backOff'] },
        ],
      },
    },
    backingOff: {
      description: 'EVC did not answer; keeps the newest of each and tries again.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'idle' }),
      on: {
        'link.up': { target: 'idle' },
        'escrow.requested': { target: 'idle', actions: 'takeRequest' },
      },
    },
  },
});

export type InfoTaskSnapshot = SnapshotFrom<typeof infoTask>;

export function infoTaskPublications(snapshot: InfoTaskSnapshot): Publications {
  const { context } = snapshot;
  return {
    EscrowStatus: { escrowed: context.escrowed, refused: context.refused },
    InfoStatus: {
      state: snapshot.value,
      pending: Object.keys(context.pending).length,
      waiting: context.waiting,
      error: context.error,
    },
  };
}
