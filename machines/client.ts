// client.go, the provisioning client: EVC's certificates, the registration, the UUID.
import { assign, type SnapshotFrom, setup } from 'xstate';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil } from './port.ts';
import { minute, retry, type Waiting, type Why } from './waiting.ts';

export type ClientEvent = Stamp &
  (
    | { type: 'link.up' }
    /** The certificates that EVC signs with have changed. */
    | { type: 'certificates.stale' }
  );

/** What a device knows of itself and of EVC, from its state folder. */
export interface Identity {
  /** SHA-256 of the device certificate, hex. */
  device: string;
  serial: string;
  uuid: string | null;
  /** EVC's certificates are here and were checked against the root. */
  certificates: boolean;
  registered: boolean;
}

export interface ClientContext extends Identity {
  attempt: number;
  waiting: Waiting | null;
  error: Why | null;
}

/** A refusal is a decision of EVC, so it is asked again seldom; a person may change it meanwhile. */
const refusedBackoff = { base: minute, cap: 10 * minute };

export const client = setup({
  types: { context: {} as ClientContext, events: {} as ClientEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    loadIdentity: port<Identity>('loadIdentity'),
    /** Fetches EVC's certificates and checks them against the root the device was installed with. */
    fetchCertificates: port<null>('fetchCertificates'),
    register: port<null>('register'),
    fetchUuid: port<{ uuid: string }>('fetchUuid'),
  },
  guards: {
    /** Everything a device needs to go on without EVC is here. */
    provisionedBefore: ({ context }) => context.certificates && context.registered && context.uuid !== null,
    certificatesMissing: ({ context }) => !context.certificates,
    registrationMissing: ({ context }) => !context.registered,
    /** EVC has answered, and said no. */
    refusal: (_, params: { code: string }) => params.code.startsWith('enrol.'),
    unknownDevice: (_, params: { code: string }) => params.code === 'enrol.unknown-device',
    /** EVC signs with another key than it used to, or somebody else does. */
    signedByAnother: (_, params: { code: string }) => params.code === 'wire.signature',
    untrustedCertificates: (_, params: { code: string }) => params.code.startsWith('certs.'),
  },
  actions: {
    ignored: () => {},
    takeIdentity: assign((_, params: Identity) => params),
    haveCertificates: assign({ certificates: true }),
    haveRegistration: assign({ registered: true }),
    loseCertificates: assign({ certificates: false }),
    loseRegistration: assign({ registered: false }),
    takeUuid: assign((_, params: { uuid: string }) => ({ uuid: params.uuid })),
    proceed: assign({ attempt: 1, error: null }),
    tryAgain: assign(({ context }) => ({ attempt: context.attempt + 1 })),
    stopWaiting: assign({ waiting: null }),
    takeFailure: assign(({ event }) => {
      const { code, text } = failureOf(event);
      return { error: { code, text } };
    }),
    backOff: assign(({ event, context }) => ({
      waiting: retry('EVC', failureOf(event), context.attempt),
    })),
    backOffLong: assign(({ event, context }) => ({
      waiting: retry('EVC to change its mind', failureOf(event), context.attempt, refusedBackoff),
    })),
  },
}).createMachine({
  id: 'client',
  description: 'Provisions the device: EVC’s certificates, the registration, the UUID.',
  context: {
    device: '',
    serial: '',
    uuid: null,
    certificates: false,
    registered: false,
    attempt: 1,
    waiting: null,
    error: null,
  },
  initial: 'loadingIdentity',
  on: { '*': { actions: 'ignored' } },
  states: {
    loadingIdentity: {
      description: 'Reads certificate, serial and what EVC said before from the state folder.',
      invoke: {
        id: 'loadIdentity',
        src: 'loadIdentity',
        onDone: {
          target: 'fetchingCertificates',
          actions: [{ type: 'takeIdentity', params: ({ event }) => event.output.value }, 'proceed'],
        },
        onError: { target: 'refused', actions: ['takeFailure', 'backOffLong'] },
      },
    },
    fetchingCertificates: {
      description: 'Fetches EVC’s certificates, unless they are here, and checks them against the root.',
      initial: 'deciding',
      states: {
        deciding: {
          description: 'Are they here?',
          always: [{ guard: 'certificatesMissing', target: 'requesting' }, { target: '#registering' }],
        },
        requesting: {
          description: 'The request for the certificates is in flight.',
          invoke: {
            id: 'fetchCertificates',
            src: 'fetchCertificates',
            onDone: { target: '#registering', actions: ['haveCertificates', 'proceed'] },
            onError: [
              {
                guard: { type: 'untrustedCertificates', params: ({ event }) => failureOf(event) },
                target: '#refused',
                actions: ['takeFailure', 'backOffLong'],
              },
              { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
            ],
          },
        },
        backingOff: {
          description: 'EVC did not answer; tries again.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'requesting', actions: 'tryAgain' }),
          on: { 'link.up': { target: 'requesting', actions: 'tryAgain' } },
        },
      },
    },
    registering: {
      id: 'registering',
      description: 'Registers the device certificate, signed with the onboarding key.',
      initial: 'deciding',
      states: {
        deciding: {
          description: 'Was it registered before?',
          always: [{ guard: 'registrationMissing', target: 'requesting' }, { target: '#fetchingUuid' }],
        },
        requesting: {
          description: 'The registration is in flight.',
          invoke: {
            id: 'register',
            src: 'register',
            onDone: { target: '#fetchingUuid', actions: ['haveRegistration', 'proceed'] },
            onError: [
              {
                guard: { type: 'refusal', params: ({ event }) => failureOf(event) },
                target: '#refused',
                actions: ['takeFailure', 'backOffLong'],
              },
              { target: 'backingOff', actions: ['takeFailure', 'backOff'] },
            ],
          },
        },
        backingOff: {
          description: 'EVC did not answer; tries again.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'requesting', actions: 'tryAgain' }),
          on: { 'link.up': { target: 'requesting', actions: 'tryAgain' } },
        },
      },
    },
    fetchingUuid: {
      id: 'fetchingUuid',
      description: 'Asks EVC for the UUID of this device.',
      invoke: {
        id: 'fetchUuid',
        src: 'fetchUuid',
        onDone: {
          target: 'provisioned',
          actions: [{ type: 'takeUuid', params: ({ event }) => event.output.value }, 'proceed'],
        },
        onError: [
          {
            guard: { type: 'unknownDevice', params: ({ event }) => failureOf(event) },
            target: 'refused',
            actions: ['takeFailure', 'loseRegistration', 'backOffLong'],
          },
          {
            guard: { type: 'signedByAnother', params: ({ event }) => failureOf(event) },
            target: 'fetchingCertificates.backingOff',
            actions: ['takeFailure', 'loseCertificates', 'backOffLong'],
          },
          {
            guard: 'provisionedBefore',
            target: 'provisionedOffline',
            actions: ['takeFailure', 'backOff'],
          },
          { target: 'uuidBackingOff', actions: ['takeFailure', 'backOff'] },
        ],
      },
    },
    uuidBackingOff: {
      description: 'EVC gave no UUID; tries again.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'fetchingUuid', actions: 'tryAgain' }),
      on: { 'link.up': { target: 'fetchingUuid', actions: 'tryAgain' } },
    },
    provisioned: {
      description: 'EVC knows this device, and this device knows EVC.',
      on: { 'certificates.stale': { target: 'fetchingCertificates', actions: 'loseCertificates' } },
    },
    provisionedOffline: {
      description: 'Goes on with what it has, since EVC is out of reach; asks again later.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'fetchingUuid', actions: 'tryAgain' }),
      on: {
        'link.up': { target: 'fetchingUuid', actions: 'tryAgain' },
        'certificates.stale': { target: 'fetchingCertificates', actions: 'loseCertificates' },
      },
    },
    refused: {
      id: 'refused',
      description: 'EVC will not have this device as it is: the reason says what a person has to do.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'loadingIdentity', actions: 'tryAgain' }),
    },
  },
});

export type ClientSnapshot = SnapshotFrom<typeof client>;

export function clientPublications(snapshot: ClientSnapshot): Publications {
  const { device, serial, uuid, waiting, error } = snapshot.context;
  const state = typeof snapshot.value === 'string' ? snapshot.value : Object.keys(snapshot.value)[0];
  return {
    OnboardingStatus: { state, device, serial, uuid: uuid ?? '', waiting, error },
  };
}
