// TPM manager: the keys, the attestation certificate, quotes. One sequence of commands at a time; what comes meanwhile
// waits. An error is an error: there is no such thing as an empty quote.
import { assign, type SnapshotFrom, setup } from 'xstate';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil } from './port.ts';
import { retry, second, type Waiting, type Why } from './waiting.ts';

export type TpmManagerEvent = Stamp &
  (
    | { type: 'quote.requested'; nonce: string; qualifyingData: string }
    | { type: 'challenge.received'; id: string; credentialBlob: string; encryptedSecret: string }
  );

/** EdgeNodeCert: what EVC has to know of our keys; names and TPMT_PUBLICs in hex. */
export interface EdgeNodeCert {
  /** Name of the attestation key. */
  name: string;
  /** TPMT_PUBLIC. */
  akPublic: string;
  /** Signed by the device key, PEM. */
  akCertificate: string;
  ekPublic: string;
  /** The vendor's, PEM, and what the TPM has of its chain; empty where it has none. */
  ekCertificate: string;
  /** Of the key that opens what is encrypted for this TPM. */
  ecdhPublic: string;
  ecdhCertificate: string;
}

/** AttestQuote; fields in hex. */
export interface MadeQuote {
  nonce: string;
  attest: string;
  signature: string;
  /** SHA-256 bank, by index. */
  pcrs: Record<string, string>;
}

export interface QuoteRequest {
  nonce: string;
  qualifyingData: string;
}

export interface CredentialChallenge {
  id: string;
  credentialBlob: string;
  encryptedSecret: string;
}

export interface TpmManagerContext {
  cert: EdgeNodeCert | null;
  quote: MadeQuote | { nonce: string; error: Why } | null;
  activation: { challenge: string; proof: string } | { challenge: string; error: Why } | null;
  /** Newest request of each kind. */
  quoteRequest: QuoteRequest | null;
  challenge: CredentialChallenge | null;
  /** What the TPM is busy with; a newer request does not change it. */
  quoting: QuoteRequest | null;
  activating: CredentialChallenge | null;
  attempt: number;
  waiting: Waiting | null;
  error: Why | null;
}

const tpmBackoff = { base: 2 * second, cap: 60 * second };

export const tpmManager = setup({
  types: { context: {} as TpmManagerContext, events: {} as TpmManagerEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    startTpm: port<null>('startTpm'),
    makeKeys: port<null>('makeKeys'),
    certifyKeys: port<EdgeNodeCert>('certifyKeys'),
    makeQuote: port<MadeQuote, QuoteRequest>('makeQuote'),
    activateCredential: port<{ challenge: string; proof: string }, CredentialChallenge>('activateCredential'),
  },
  guards: {
    lockout: (_, params: { code: string }) => params.code === 'tpm.lockout',
    lost: (_, params: { code: string }) => params.code === 'tpm.lost',
    quoteWanted: ({ context }) => context.quoteRequest !== null,
    activationWanted: ({ context }) => context.challenge !== null,
  },
  actions: {
    ignored: () => {},
    takeCert: assign((_, params: EdgeNodeCert) => ({ cert: params })),
    takeRequest: assign(({ event }) =>
      event.type === 'quote.requested'
        ? { quoteRequest: { nonce: event.nonce, qualifyingData: event.qualifyingData } }
        : {},
    ),
    takeChallenge: assign(({ event }) =>
      event.type === 'challenge.received'
        ? {
            challenge: {
              id: event.id,
              credentialBlob: event.credentialBlob,
              encryptedSecret: event.encryptedSecret,
            },
          }
        : {},
    ),
    pickRequest: assign(({ context }) => ({ quoting: context.quoteRequest, quoteRequest: null })),
    pickChallenge: assign(({ context }) => ({ activating: context.challenge, challenge: null })),
    takeQuote: assign((_, params: MadeQuote) => ({ quote: params, quoting: null, error: null })),
    quoteFailed: assign(({ context, event }) => {
      const { code, text } = failureOf(event);
      return {
        quote: { nonce: context.quoting?.nonce ?? '', error: { code, text } },
        quoting: null,
        error: { code, text },
      };
    }),
    takeActivation: assign((_, params: { challenge: string; proof: string }) => ({
      activation: params,
      activating: null,
      error: null,
    })),
    activationFailed: assign(({ context, event }) => {
      const { code, text } = failureOf(event);
      return {
        activation: { challenge: context.activating?.id ?? '', error: { code, text } },
        activating: null,
        error: { code, text },
      };
    }),
    takeFailure: assign(({ event }) => {
      const { code, text } = failureOf(event);
      return { error: { code, text } };
    }),
    backOff: assign(({ event, context }) => ({
      waiting: retry('the TPM', failureOf(event), context.attempt, tpmBackoff),
      attempt: context.attempt + 1,
    })),
    proceed: assign({ attempt: 1, error: null }),
    stopWaiting: assign({ waiting: null }),
  },
}).createMachine({
  id: 'tpmManager',
  description: 'Makes the keys of the device in its TPM, and quotes.',
  meta: { secret: ['nonce', 'proof'] },
  context: {
    cert: null,
    quote: null,
    activation: null,
    quoteRequest: null,
    challenge: null,
    quoting: null,
    activating: null,
    attempt: 1,
    waiting: null,
    error: null,
  },
  initial: 'starting',
  on: {
    'quote.requested': { actions: 'takeRequest' },
    'challenge.received': { actions: 'takeChallenge' },
    '*': { actions: 'ignored' },
  },
  states: {
    starting: {
      description: 'Speaks to the TPM, and asks what it can do.',
      invoke: {
        id: 'startTpm',
        src: 'startTpm',
        onDone: { target: 'makingKeys' },
        onError: { target: 'lost', actions: ['takeFailure', 'backOff'] },
      },
    },
    makingKeys: {
      description: 'Makes and loads the keys, or finds them where they were.',
      invoke: {
        id: 'makeKeys',
        src: 'makeKeys',
        onDone: { target: 'certifying' },
        onError: [
          {
            guard: { type: 'lockout', params: ({ event }) => failureOf(event) },
            target: 'lockedOut',
            actions: ['takeFailure', 'backOff'],
          },
          { target: 'lost', actions: ['takeFailure', 'backOff'] },
        ],
      },
    },
    certifying: {
      description: 'Publishes the attestation certificate.',
      invoke: {
        id: 'certifyKeys',
        src: 'certifyKeys',
        onDone: {
          target: 'ready',
          actions: [{ type: 'takeCert', params: ({ event }) => event.output.value }, 'proceed'],
        },
        onError: { target: 'lost', actions: ['takeFailure', 'backOff'] },
      },
    },
    ready: {
      description: 'Keys are loaded; quotes on request.',
      initial: 'idle',
      states: {
        idle: {
          description: 'Waits for requests.',
          always: [
            { guard: 'activationWanted', target: 'activating' },
            { guard: 'quoteWanted', target: 'quoting' },
          ],
          on: {
            'quote.requested': { target: 'quoting', actions: 'takeRequest' },
            'challenge.received': { target: 'activating', actions: 'takeChallenge' },
          },
        },
        quoting: {
          description: 'Reads the PCRs and has them signed with the nonce.',
          entry: 'pickRequest',
          invoke: {
            id: 'makeQuote',
            src: 'makeQuote',
            input: ({ context }) => context.quoting ?? { nonce: '', qualifyingData: '' },
            onDone: {
              target: 'idle',
              actions: { type: 'takeQuote', params: ({ event }) => event.output.value },
            },
            onError: [
              {
                guard: { type: 'lost', params: ({ event }) => failureOf(event) },
                target: '#tpmManager.lost',
                actions: ['quoteFailed', 'backOff'],
              },
              {
                guard: { type: 'lockout', params: ({ event }) => failureOf(event) },
                target: '#tpmManager.lockedOut',
                actions: ['quoteFailed', 'backOff'],
              },
              { target: 'idle', actions: 'quoteFailed' },
            ],
          },
        },
        activating: {
          description: 'Opens EVC’s credential, to prove where the attestation key lives.',
          entry: 'pickChallenge',
          invoke: {
            id: 'activateCredential',
            src: 'activateCredential',
            input: ({ context }) => context.activating ?? { id: '', credentialBlob: '', encryptedSecret: '' },
            onDone: {
              target: 'idle',
              actions: { type: 'takeActivation', params: ({ event }) => event.output.value },
            },
            onError: [
              {
                guard: { type: 'lost', params: ({ event }) => failureOf(event) },
                target: '#tpmManager.lost',
                actions: ['activationFailed', 'backOff'],
              },
              {
                guard: { type: 'lockout', params: ({ event }) => failureOf(event) },
                target: '#tpmManager.lockedOut',
                actions: ['activationFailed', 'backOff'],
              },
              { target: 'idle', actions: 'activationFailed' },
            ],
          },
        },
      },
    },
    lockedOut: {
      description: 'The TPM refuses for a while, after too many wrong authorisations.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'starting' }),
    },
    lost: {
      description: 'The TPM does not answer; looks for it again.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'starting' }),
    },
  },
});

export type TpmManagerSnapshot = SnapshotFrom<typeof tpmManager>;

export function tpmManagerPublications(snapshot: TpmManagerSnapshot): Publications {
  const { cert, quote, activation, waiting, error } = snapshot.context;
  const state = typeof snapshot.value === 'string' ? snapshot.value : Object.keys(snapshot.value)[0];
  return {
    EdgeNodeCert: cert,
    AttestQuote: quote,
    AttestActivation: activation,
    TpmStatus: { state, waiting, error },
  };
}
