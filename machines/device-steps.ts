// device-steps: starts the components of the device in the seed's order, restarts what fails, and reboots.
import { assign, type SnapshotFrom, setup } from 'xstate';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil, stampOf } from './port.ts';
import { deadline, minute, pause, second, type Waiting, type Why } from './waiting.ts';

export const components = [
  'client',
  'vault-manager',
  'tpm-manager',
  'attest-task',
  'info-task',
  'config-task',
  'base-os',
] as const;
export type Component = (typeof components)[number];

export type DeviceStepsEvent = Stamp &
  (
    | { type: 'client.settled'; state: string }
    | { type: 'vault.settled'; status: string }
    | { type: 'tpm.settled'; state: string }
    | { type: 'component.failed'; component: Component; why: Why }
    | { type: 'reboot.requested'; reason: string }
  );

export interface DeviceStepsContext {
  started: Component[];
  client: string | null;
  vault: string | null;
  tpm: string | null;
  failed: { component: Component; why: Why } | null;
  restarts: number;
  /** Failures in a row: none of them followed a steady time. */
  attempt: number;
  /** When something failed last, ms since the epoch. */
  failedAt: number | null;
  reason: string | null;
  waiting: Waiting | null;
  error: Why | null;
}

const clientDeadline = 2 * minute;
const vaultDeadline = 2 * minute;
const restartBackoff = { base: second, cap: minute };
/** Who fails after this long fails for the first time, ms. */
const steady = 10 * minute;

export const deviceSteps = setup({
  types: { context: {} as DeviceStepsContext, events: {} as DeviceStepsEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    startComponents: port<null, { components: readonly Component[] }>('startComponents'),
    reboot: port<null, { reason: string }>('reboot'),
  },
  guards: {
    clientSettled: ({ context }) => context.client !== null,
    rebootWanted: ({ context }) => context.reason !== null,
    vaultAndTpmSettled: ({ context }) => context.vault !== null && context.tpm !== null,
  },
  actions: {
    ignored: () => {},
    haveStarted: assign(({ context }, params: { components: readonly Component[] }) => ({
      started: [...new Set([...context.started, ...params.components])],
    })),
    takeClient: assign(({ event }) => (event.type === 'client.settled' ? { client: event.state } : {})),
    takeVault: assign(({ event }) => (event.type === 'vault.settled' ? { vault: event.status } : {})),
    takeTpm: assign(({ event }) => (event.type === 'tpm.settled' ? { tpm: event.state } : {})),
    takeReason: assign(({ event }) => (event.type === 'reboot.requested' ? { reason: event.reason } : {})),
    takeFailed: assign(({ event, context }) =>
      event.type === 'component.failed'
        ? {
            failed: { component: event.component, why: event.why },
            error: event.why,
            ...pauseBefore(`the restart of ${event.component}`, context, event, event.why),
          }
        : {},
    ),
    takeFailure: assign(({ event, context }) => {
      const failure = failureOf(event);
      const { code, text } = failure;
      const why = { code, text };
      return { error: why, ...pauseBefore('the next start', context, failure, why) };
    }),
    recovered: assign({ failed: null, error: null }),
    stopWaiting: assign({ waiting: null }),
    awaitClient: assign(({ event }) => ({
      waiting: deadline('the provisioning client', stampOf(event), clientDeadline),
    })),
    awaitVault: assign(({ event }) => ({
      waiting: deadline('the vault and the TPM', stampOf(event), vaultDeadline),
    })),
  },
}).createMachine({
  id: 'deviceSteps',
  description: 'Starts the components of the device in order, restarts what fails, reboots.',
  context: {
    started: [],
    client: null,
    vault: null,
    tpm: null,
    failed: null,
    restarts: 0,
    attempt: 0,
    failedAt: null,
    reason: null,
    waiting: null,
    error: null,
  },
  initial: 'starting',
  on: {
    'client.settled': { actions: 'takeClient' },
    'vault.settled': { actions: 'takeVault' },
    'tpm.settled': { actions: 'takeTpm' },
    'reboot.requested': { target: '.rebooting', actions: 'takeReason' },
    'component.failed': { target: '.degraded', actions: 'takeFailed' },
    '*': { actions: 'ignored' },
  },
  states: {
    starting: {
      description: 'Starts the provisioning client.',
      invoke: {
        id: 'startComponents',
        src: 'startComponents',
        input: { components: ['client'] },
        onDone: {
          target: 'client',
          actions: { type: 'haveStarted', params: { components: ['client'] } },
        },
        onError: { target: 'degraded', actions: 'takeFailure' },
      },
    },
    client: {
      description: 'Waits for the client to settle; goes on without it when it takes too long.',
      entry: 'awaitClient',
      always: { guard: 'clientSettled', target: 'vaultAndTpm' },
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'vaultAndTpm' }),
    },
    vaultAndTpm: {
      description: 'Starts vault manager and TPM manager.',
      initial: 'starting',
      states: {
        starting: {
          description: 'Starts both.',
          invoke: {
            id: 'startComponents',
            src: 'startComponents',
            input: { components: ['vault-manager', 'tpm-manager'] },
            onDone: {
              target: 'settling',
              actions: { type: 'haveStarted', params: { components: ['vault-manager', 'tpm-manager'] } },
            },
            onError: { target: '#deviceSteps.degraded', actions: 'takeFailure' },
          },
        },
        settling: {
          description: 'Waits until the vault is open or known to be locked, and the TPM has its keys.',
          entry: 'awaitVault',
          always: { guard: 'vaultAndTpmSettled', target: '#deviceSteps.agents' },
          exit: 'stopWaiting',
          invoke: elapsed({ target: '#deviceSteps.agents' }),
        },
      },
    },
    agents: {
      description: 'Starts the attest, info and config tasks and the base OS manager.',
      invoke: {
        id: 'startComponents',
        src: 'startComponents',
        input: { components: ['attest-task', 'info-task', 'config-task', 'base-os'] },
        onDone: {
          target: 'running',
          actions: {
            type: 'haveStarted',
            params: { components: ['attest-task', 'info-task', 'config-task', 'base-os'] },
          },
        },
        onError: { target: 'degraded', actions: 'takeFailure' },
      },
    },
    running: {
      description: 'Everything is started.',
      entry: 'recovered',
      // A reboot that did not work out is still wanted.
      always: { guard: 'rebootWanted', target: 'rebooting' },
    },
    degraded: {
      description: 'A component failed; starts what is not running again.',
      initial: 'waiting',
      states: {
        waiting: {
          description: 'Pauses before the restart.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'restarting' }),
        },
        restarting: {
          description: 'Starts every component that does not run.',
          invoke: {
            id: 'startComponents',
            src: 'startComponents',
            input: { components },
            onDone: {
              target: '#deviceSteps.running',
              actions: { type: 'haveStarted', params: { components } },
            },
            onError: { target: 'waiting', actions: 'takeFailure' },
          },
        },
      },
    },
    rebooting: {
      description: 'Reboots the device.',
      invoke: {
        id: 'reboot',
        src: 'reboot',
        input: ({ context }) => ({ reason: context.reason ?? 'unknown' }),
        onDone: { target: 'rebooted' },
        onError: { target: 'degraded', actions: 'takeFailure' },
      },
      // What fails now is going down anyway.
      on: { 'component.failed': { actions: 'ignored' }, 'reboot.requested': { actions: 'ignored' } },
    },
    rebooted: {
      description: 'The machine is going down.',
      type: 'final',
    },
  },
});

/** Each failure doubles the pause, unless everything ran for a while before it. */
function pauseBefore(
  what: string,
  { restarts, attempt, failedAt }: DeviceStepsContext,
  { at, dice }: Stamp,
  why: Why,
): Partial<DeviceStepsContext> {
  const next = failedAt !== null && at - failedAt < steady ? attempt + 1 : 1;
  const until = at + pause(next, dice, restartBackoff);
  return {
    restarts: restarts + 1,
    attempt: next,
    failedAt: at,
    waiting: { for: what, since: at, until, attempt: next, why },
  };
}

export type DeviceStepsSnapshot = SnapshotFrom<typeof deviceSteps>;

export function deviceStepsPublications(snapshot: DeviceStepsSnapshot): Publications {
  const { started, failed, restarts, reason, waiting, error } = snapshot.context;
  const state = typeof snapshot.value === 'string' ? snapshot.value : Object.keys(snapshot.value)[0];
  return { DeviceStatus: { state, started, failed, restarts, reboot: reason, waiting, error } };
}
