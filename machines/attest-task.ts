// Zedagent's attest task: proves to EVC what booted, and gets the token and the escrowed key for it.
// The eight states are EVE's (pkg/pillar/attest). The faults F1 to F8 of EVE's own machine are closed: a restart works
// from everywhere, every wait ends, an unexpected event is ignored, a stale quote is not believed, a changed key is
// escrowed again, and trust has a time to live.
import { assign, type SnapshotFrom, setup } from 'xstate';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil, stampOf } from './port.ts';
import { deadline, hour, minute, pause, retry, second, type Waiting, type Why } from './waiting.ts';

export type AttestTaskEvent = Stamp &
  (
    | { type: 'cert.published'; name: string }
    | { type: 'credential.activated'; challenge: string; proof: string }
    | { type: 'credential.failed'; challenge: string; why: Why }
    | { type: 'quote.made'; nonce: string }
    | { type: 'quote.failed'; nonce: string; why: Why }
    | { type: 'key.published'; keyId: string }
    | { type: 'escrow.recorded'; keyId: string; version: number }
    | { type: 'escrow.refused'; keyId: string; why: Why }
    /** EVC, or a person, asks for a new attestation. */
    | { type: 'restart' }
    /** A config request was answered *forbidden*; with the hash of the token it bore, null when it had none. */
    | { type: 'token.refused'; tokenHash: string | null }
  );

/** What only the TPM that holds both keys can answer (TPM2_ActivateCredential); fields in base64. */
export interface Challenge {
  id: string;
  credentialBlob: string;
  encryptedSecret: string;
}

/** EVC's answer to a quote; the codes are those of ZAttestResponseCode. */
export interface QuoteReply {
  code: 'success' | 'invalid' | 'nonceMismatch' | 'noCertFound' | 'quoteFailed';
  why: Why | null;
  /** ms. */
  retryAfter: number;
  /** When trust ends, ms since the epoch; 0 unless success. */
  until: number;
  /** The escrowed key, where EVC holds one: encrypted for our TPM, base64. */
  key: { keyId: string; version: number; encryptedKey: string } | null;
  /** EVC asks for a new master key. */
  rotate: boolean;
}

export interface AttestTaskContext {
  /** Name of the attestation key that the TPM manager published, hex. */
  cert: string | null;
  /** The name that EVC has proven to be in our TPM. */
  certified: string | null;
  challenge: Challenge | null;
  proof: string | null;
  nonce: string | null;
  qualifyingData: string | null;
  /** Hash of the token that this attempt proposes. */
  tokenHash: string | null;
  /** The token that EVC confirmed for this boot. */
  trusted: { tokenHash: string; until: number } | null;
  keyId: string | null;
  escrowed: { keyId: string; version: number } | null;
  /** A restart that came while a request was in flight. */
  restartPending: boolean;
  /** What EVC sent back with its approval, for the vault manager. */
  key: QuoteReply['key'];
  rotate: boolean;
  attempt: number;
  /** Attempts in a row that did not end in trust. */
  refusals: number;
  /** EVC's own word on when to come back, ms. */
  retryAfter: number;
  /** Of this boot. */
  quotes: number;
  waiting: Waiting | null;
  error: (Why & { at: number }) | null;
}

const certDeadline = 60 * second;
const tpmDeadline = 60 * second;
const escrowDeadline = 60 * second;
const keyDeadline = 10 * minute;
/** What trust lasts at least and at most, whatever the clocks say. EVC gives a day. */
const shortestTrust = 10 * minute;
const longestTrust = 24 * hour;
const restartBackoff = { base: 15 * second, cap: 5 * minute };

export const attestTask = setup({
  types: {
    context: {} as AttestTaskContext,
    events: {} as AttestTaskEvent,
    input: {} as Stamp & { certified: string | null },
  },
  actors: {
    sleepUntil,
    sendCertificate: port<{ challenge: Challenge | null }, { name: string }>('sendCertificate'),
    sendProof: port<null, { challenge: string; proof: string }>('sendProof'),
    requestNonce: port<{ nonce: string }>('requestNonce'),
    /** Makes the token of this attempt and the claims that the quote will vouch for. */
    makeClaims: port<{ tokenHash: string; qualifyingData: string }, { nonce: string }>('makeClaims'),
    sendQuote: port<QuoteReply, { nonce: string; tokenHash: string }>('sendQuote'),
  },
  guards: {
    certKnown: ({ context }) => context.cert !== null,
    certified: ({ context }) => context.cert !== null && context.cert === context.certified,
    restartPending: ({ context }) => context.restartPending,
    keyKnown: ({ context }) => context.keyId !== null,
    keyEscrowed: ({ context }) => context.keyId !== null && context.escrowed?.keyId === context.keyId,
    challenged: (_, params: { challenge: Challenge | null }) => params.challenge !== null,
    ofThisChallenge: ({ context, event }) =>
      'challenge' in event && context.challenge?.id === event.challenge,
    ofThisNonce: ({ context, event }) => 'nonce' in event && context.nonce === event.nonce,
    ofThisKey: ({ context, event }) => 'keyId' in event && context.keyId === event.keyId,
    otherKey: ({ context, event }) => 'keyId' in event && context.escrowed?.keyId !== event.keyId,
    /** Forbidden with a token that is not ours any more says nothing about the one that is. */
    ofThisToken: ({ context, event }) =>
      event.type === 'token.refused' &&
      event.tokenHash !== null &&
      context.trusted?.tokenHash === event.tokenHash,
    replyIs: (_, params: { reply: QuoteReply; code: QuoteReply['code'] }) =>
      params.reply.code === params.code,
  },
  actions: {
    ignored: () => {},
    takeCert: assign(({ event }) => (event.type === 'cert.published' ? { cert: event.name } : {})),
    takeKey: assign(({ event }) => (event.type === 'key.published' ? { keyId: event.keyId } : {})),
    takeEscrow: assign(({ event }) =>
      event.type === 'escrow.recorded' ? { escrowed: { keyId: event.keyId, version: event.version } } : {},
    ),
    takeProof: assign(({ event }) => (event.type === 'credential.activated' ? { proof: event.proof } : {})),
    takeChallenge: assign((_, params: { challenge: Challenge | null }) => params),
    takeNonce: assign((_, params: { nonce: string }) => params),
    takeClaims: assign((_, params: { tokenHash: string; qualifyingData: string }) => params),
    takeTrust: assign(({ context }, params: QuoteReply) => ({
      trusted: { tokenHash: context.tokenHash ?? '', until: params.until },
      key: params.key,
      rotate: params.rotate,
      error: null,
      refusals: 0,
    })),
    takeRefusal: assign(({ context, event }, params: QuoteReply) => ({
      trusted: null,
      key: null,
      rotate: false,
      error: params.why ? { ...params.why, at: stampOf(event).at } : context.error,
      retryAfter: params.retryAfter,
    })),
    markCertified: assign(({ context }) => ({ certified: context.cert, challenge: null, proof: null })),
    forgetCertified: assign({ certified: null }),
    pendRestart: assign({ restartPending: true }),
    begin: assign({
      restartPending: false,
      nonce: null,
      qualifyingData: null,
      tokenHash: null,
    }),
    proceed: assign({ attempt: 1 }),
    stopWaiting: assign({ waiting: null }),
    tryAgain: assign(({ context }) => ({ attempt: context.attempt + 1 })),
    forgive: assign({ refusals: 0, retryAfter: 0 }),
    countQuote: assign(({ context }) => ({ quotes: context.quotes + 1 })),
    takeWhy: assign(({ event }) => ('why' in event ? { error: { ...event.why, at: event.at } } : {})),
    takeFailure: assign(({ event }) => {
      const { code, text, at } = failureOf(event);
      return { error: { code, text, at } };
    }),
    missing: assign(({ context, event }, params: { code: string; text: string }) => ({
      attempt: context.attempt + 1,
      error: { ...params, at: stampOf(event).at },
    })),
    awaitCert: assign(({ event, context }) => ({
      waiting: deadline('the attestation certificate', stampOf(event), certDeadline, context.attempt),
    })),
    awaitActivation: assign(({ event, context }) => ({
      waiting: deadline('the TPM to open the credential', stampOf(event), tpmDeadline, context.attempt),
    })),
    awaitQuote: assign(({ event, context }) => ({
      waiting: deadline('the quote', stampOf(event), tpmDeadline, context.attempt),
    })),
    awaitEscrow: assign(({ event, context }) => ({
      waiting: deadline('EVC to store the encrypted key', stampOf(event), escrowDeadline, context.attempt),
    })),
    awaitKey: assign(({ event }) => ({
      waiting: deadline('the encrypted key of the vault', stampOf(event), keyDeadline),
    })),
    awaitExpiry: assign(({ event, context }) => {
      const stamp = stampOf(event);
      // Well before trust ends, at a moment of its own, so that a fleet that booted together spreads.
      // EVC's clock says when that is: one that is far from ours must not make us attest without a pause, or when trust is over.
      const told = (context.trusted?.until ?? 0) - stamp.at;
      const left = Math.min(longestTrust, Math.max(shortestTrust, told));
      return {
        waiting: deadline('the next attestation', stamp, Math.round(left * (0.5 + 0.4 * stamp.dice))),
      };
    }),
    backOff: assign(({ event, context }) => ({
      waiting: retry('EVC', failureOf(event), context.attempt),
    })),
    coolOff: assign(({ event, context }) => {
      const stamp = stampOf(event);
      const attempt = context.refusals + 1;
      const { code = 'attest.restarted', text = 'a new attestation was asked for' } = context.error ?? {};
      return {
        waiting: {
          for: 'the next attestation',
          since: stamp.at,
          until: stamp.at + pause(attempt, stamp.dice, restartBackoff, context.retryAfter),
          attempt,
          why: { code, text },
        },
        refusals: attempt,
        retryAfter: 0,
        restartPending: false,
      };
    }),
  },
}).createMachine({
  id: 'attestTask',
  description: 'Proves to EVC what booted, and gets the integrity token and the escrowed key for it.',
  meta: { secret: ['nonce', 'proof'] },
  context: ({ input }) => ({
    cert: null,
    certified: input?.certified ?? null,
    challenge: null,
    proof: null,
    nonce: null,
    qualifyingData: null,
    tokenHash: null,
    trusted: null,
    keyId: null,
    escrowed: null,
    restartPending: false,
    key: null,
    rotate: false,
    attempt: 1,
    refusals: 0,
    retryAfter: 0,
    quotes: 0,
    waiting: null,
    error: null,
  }),
  initial: 'none',
  on: {
    'cert.published': { actions: 'takeCert' },
    'key.published': { actions: 'takeKey' },
    'escrow.recorded': { guard: 'ofThisKey', actions: 'takeEscrow' },
    // In flight: finish the request first, its answer decides how to go on.
    restart: { actions: 'pendRestart' },
    '*': { actions: 'ignored' },
  },
  states: {
    none: {
      id: 'none',
      description: 'Not started, or about to start again; EVC has to know the attestation key first.',
      entry: 'begin',
      initial: 'starting',
      states: {
        starting: {
          description: 'Decides whether EVC still needs the attestation certificate.',
          always: [
            { guard: 'certified', target: '#nonceWait' },
            { guard: 'certKnown', target: 'certifying' },
            { target: 'waitingForCert' },
          ],
        },
        waitingForCert: {
          description: 'The TPM manager has not published the attestation certificate yet.',
          entry: 'awaitCert',
          exit: 'stopWaiting',
          invoke: elapsed({
            target: 'waitingForCert',
            reenter: true,
            actions: {
              type: 'missing',
              params: { code: 'attest.no-certificate', text: 'the TPM manager has published no certificate' },
            },
          }),
          on: { 'cert.published': { target: 'starting', actions: ['takeCert', 'proceed'] } },
        },
        certifying: {
          description: 'Sends the attestation certificate to EVC.',
          invoke: {
            id: 'sendCertificate',
            src: 'sendCertificate',
            input: ({ context }) => ({ name: context.cert ?? '' }),
            onDone: [
              {
                guard: { type: 'challenged', params: ({ event }) => event.output.value },
                target: 'activating',
                actions: { type: 'takeChallenge', params: ({ event }) => event.output.value },
              },
              { target: '#nonceWait', actions: ['markCertified', 'proceed'] },
            ],
            onError: { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        activating: {
          description: 'The TPM manager opens EVC’s credential, which only the TPM with both keys can.',
          entry: 'awaitActivation',
          exit: 'stopWaiting',
          invoke: elapsed({
            target: 'certifying',
            actions: {
              type: 'missing',
              params: { code: 'tpm.silent', text: 'the TPM manager did not open the credential in time' },
            },
          }),
          on: {
            'credential.activated': { guard: 'ofThisChallenge', target: 'proving', actions: 'takeProof' },
            'credential.failed': {
              guard: 'ofThisChallenge',
              target: '#restartWait',
              actions: ['takeWhy'],
            },
          },
        },
        proving: {
          description: 'Sends the proof that the attestation key lives in the TPM of the endorsement key.',
          invoke: {
            id: 'sendProof',
            src: 'sendProof',
            input: ({ context }) => ({ challenge: context.challenge?.id ?? '', proof: context.proof ?? '' }),
            onDone: { target: '#nonceWait', actions: ['markCertified', 'proceed'] },
            onError: { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        backingOff: {
          description: 'EVC could not be told about the certificate; tries again.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'certifying', actions: 'tryAgain' }),
          on: { restart: { target: 'certifying', actions: 'proceed' } },
        },
      },
      on: { restart: { target: 'none', reenter: true, actions: 'proceed' } },
    },
    nonceWait: {
      id: 'nonceWait',
      description: 'A nonce is asked for, or will be again.',
      initial: 'requesting',
      states: {
        requesting: {
          description: 'The request for a nonce is in flight.',
          invoke: {
            id: 'requestNonce',
            src: 'requestNonce',
            onDone: {
              target: '#internalQuoteWait',
              actions: [{ type: 'takeNonce', params: ({ event }) => event.output.value }, 'proceed'],
            },
            onError: { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        backingOff: {
          description: 'EVC gave no nonce; tries again.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'requesting', actions: 'tryAgain' }),
          on: { restart: { target: 'requesting', actions: 'proceed' } },
        },
      },
    },
    internalQuoteWait: {
      id: 'internalQuoteWait',
      description: 'The TPM manager is asked for a quote over the nonce and the claims.',
      initial: 'claiming',
      states: {
        claiming: {
          description: 'Makes the integrity token of this boot, and the claims that the quote vouches for.',
          invoke: {
            id: 'makeClaims',
            src: 'makeClaims',
            input: ({ context }) => ({ nonce: context.nonce ?? '' }),
            onDone: {
              target: 'quoting',
              actions: { type: 'takeClaims', params: ({ event }) => event.output.value },
            },
            onError: { target: '#restartWait', actions: 'takeFailure' },
          },
        },
        quoting: {
          description: 'Waits for the quote with this nonce; any other one is ignored.',
          entry: 'awaitQuote',
          exit: 'stopWaiting',
          invoke: elapsed({
            // The nonce may have gone stale with the wait, so a new one is asked for.
            target: '#restartWait',
            actions: {
              type: 'missing',
              params: { code: 'tpm.silent', text: 'the TPM manager made no quote in time' },
            },
          }),
          on: {
            'quote.made': [
              { guard: 'restartPending', target: '#restartWait' },
              { guard: 'ofThisNonce', target: '#attestWait', actions: 'proceed' },
            ],
            'quote.failed': { guard: 'ofThisNonce', target: '#restartWait', actions: ['takeWhy'] },
          },
        },
      },
    },
    attestWait: {
      id: 'attestWait',
      description: 'The quote is with EVC, or will be sent again.',
      initial: 'sending',
      states: {
        sending: {
          description: 'The quote is in flight.',
          entry: 'countQuote',
          invoke: {
            id: 'sendQuote',
            src: 'sendQuote',
            input: ({ context }) => ({ nonce: context.nonce ?? '', tokenHash: context.tokenHash ?? '' }),
            onDone: [
              {
                guard: {
                  type: 'replyIs',
                  params: ({ event }) => ({ reply: event.output.value, code: 'success' }),
                },
                target: '#attestEscrowWait',
                actions: [{ type: 'takeTrust', params: ({ event }) => event.output.value }, 'proceed'],
              },
              {
                guard: {
                  type: 'replyIs',
                  params: ({ event }) => ({ reply: event.output.value, code: 'noCertFound' }),
                },
                target: '#restartWait',
                actions: [
                  { type: 'takeRefusal', params: ({ event }) => event.output.value },
                  'forgetCertified',
                ],
              },
              // Nonce mismatch, quote failed, invalid: none is mended by the same quote (EVE's F3).
              {
                target: '#restartWait',
                actions: { type: 'takeRefusal', params: ({ event }) => event.output.value },
              },
            ],
            onError: { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        backingOff: {
          description: 'EVC did not answer; sends the same quote again.',
          always: { guard: 'restartPending', target: '#none.starting' },
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'sending', actions: 'tryAgain' }),
          on: { restart: { target: '#restartWait' } },
        },
      },
    },
    attestEscrowWait: {
      id: 'attestEscrowWait',
      description: 'Attested; the info task reports the encrypted key to EVC.',
      initial: 'deciding',
      // Only a token that stands can be refused: before, a new one is on its way.
      on: { 'token.refused': { guard: 'ofThisToken', target: 'restartWait' } },
      states: {
        deciding: {
          description: 'Is there a key, and does EVC have it already?',
          always: [
            { guard: 'keyEscrowed', target: '#complete' },
            { guard: 'keyKnown', target: 'escrowing' },
            { target: '#internalEscrowWait' },
          ],
        },
        escrowing: {
          description: 'Waits for EVC’s receipt; asks the info task again when it does not come.',
          entry: 'awaitEscrow',
          exit: 'stopWaiting',
          invoke: elapsed([
            { guard: 'restartPending', target: '#restartWait' },
            { target: 'escrowing', reenter: true, actions: 'tryAgain' },
          ]),
          on: {
            'escrow.recorded': {
              guard: 'ofThisKey',
              target: '#complete',
              actions: ['takeEscrow', 'proceed'],
            },
            'escrow.refused': { guard: 'ofThisKey', target: '#restartWait', actions: ['takeWhy'] },
            'key.published': { target: 'escrowing', reenter: true, actions: 'takeKey' },
          },
        },
      },
    },
    internalEscrowWait: {
      id: 'internalEscrowWait',
      description: 'Attested; the vault manager has not made an encrypted key yet.',
      entry: 'awaitKey',
      always: { guard: 'restartPending', target: 'restartWait' },
      exit: 'stopWaiting',
      // A vault that stays locked must not keep the rest of the device waiting.
      invoke: elapsed({
        target: 'complete',
        actions: {
          type: 'missing',
          params: { code: 'vault.no-key', text: 'the vault manager published no key to escrow' },
        },
      }),
      on: {
        'key.published': { target: 'attestEscrowWait', actions: ['takeKey', 'proceed'] },
        restart: { target: 'restartWait' },
        'token.refused': { guard: 'ofThisToken', target: 'restartWait' },
      },
    },
    restartWait: {
      id: 'restartWait',
      description: 'Cools off before a complete new attempt.',
      entry: 'coolOff',
      exit: 'stopWaiting',
      invoke: elapsed({ target: '#none', actions: 'proceed' }),
      on: {
        // EVC's own push, or a person: something changed, so there is no reason to wait.
        restart: { target: '#none', actions: ['proceed', 'forgive'] },
      },
    },
    complete: {
      id: 'complete',
      description: 'Attested, and EVC holds the key; attests again before trust ends.',
      entry: ['proceed', 'awaitExpiry'],
      always: { guard: 'restartPending', target: 'restartWait' },
      exit: 'stopWaiting',
      invoke: elapsed({ target: '#none', actions: 'proceed' }),
      on: {
        'key.published': [
          { guard: 'otherKey', target: 'attestEscrowWait', actions: ['takeKey', 'proceed'] },
          { actions: 'takeKey' },
        ],
        restart: { target: 'restartWait' },
        'token.refused': { guard: 'ofThisToken', target: 'restartWait' },
      },
    },
  },
});

export type AttestTaskSnapshot = SnapshotFrom<typeof attestTask>;

/** What the other components of the device see, under EVE's type names. */
export function attestTaskPublications(snapshot: AttestTaskSnapshot): Publications {
  const { context } = snapshot;
  const quoting = snapshot.matches({ internalQuoteWait: 'quoting' });
  const escrowing = snapshot.matches({ attestEscrowWait: 'escrowing' });
  const { trusted } = context;
  return {
    AttestNonce: quoting ? { nonce: context.nonce, qualifyingData: context.qualifyingData } : null,
    AttestChallenge: snapshot.matches({ none: 'activating' }) ? context.challenge : null,
    AttestToken: trusted ? { ...trusted, rotate: context.rotate } : null,
    EncryptedVaultKeyFromController: context.key,
    EscrowRequest:
      escrowing && trusted
        ? { keyId: context.keyId, tokenHash: trusted.tokenHash, attempt: context.attempt }
        : null,
    AttestStatus: {
      state: eveState(snapshot),
      trusted,
      quotes: context.quotes,
      waiting: context.waiting,
      error: context.error,
    },
  };
}

/** The state as EVE names it (AttestationState of info.proto). */
export function eveState(snapshot: AttestTaskSnapshot): string {
  return typeof snapshot.value === 'string' ? snapshot.value : (Object.keys(snapshot.value)[0] ?? 'none');
}
