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
  vault: string | null;
  tpm: string | null;
  failed: { component: Component; why: Why } | null;
  restarts: number;
  reason: string | null;
  waiting: Waiting | null;
  error: Why | null;
}

const clientDeadline = 2 * minute;
const vaultDeadline = 2 * minute;
const restartBackoff = { base: second, cap: minute };

export const deviceSteps = setup({
  types: { context: {} as DeviceStepsContext, events: {} as DeviceStepsEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    startComponents: port<null, { components: readonly Component[] }>('startComponents'),
    reboot: port<null, { reason: string }>('reboot'),
  },
  guards: {
    vaultAndTpmSettled: ({ context }) => context.vault !== null && context.tpm !== null,
  },
  actions: {
    ignored: () => {},
    haveStarted: assign(({ context }, params: { components: readonly Component[] }) => ({
      started: [...new Set([...context.started, ...params.components])],
    })),
    takeVault: assign(({ event }) => (event.type === 'vault.settled' ? { vault: event.status } : {})),
    takeTpm: assign(({ event }) => (event.type === 'tpm.settled' ? { tpm: event.state } : {})),
    takeReason: assign(({ event }) => (event.type === 'reboot.requested' ? { reason: event.reason } : {})),
    takeFailed: assign(({ event, context }) =>
      event.type === 'component.failed'
        ? {
            failed: { component: event.component, why: event.why },
            error: event.why,
            restarts: context.restarts + 1,
            waiting: {
              for: `the restart of ${event.component}`,
              since: event.at,
              until: event.at + pause(context.restarts + 1, event.dice, restartBackoff),
              attempt: context.restarts + 1,
              why: event.why,
            },
          }
        : {},
    ),
    takeFailure: assign(({ event, context }) => {
      const failure = failureOf(event);
      const { code, text } = failure;
      return {
        error: { code, text },
        restarts: context.restarts + 1,
        waiting: {
          for: 'the next start',
          since: failure.at,
          until: failure.at + pause(context.restarts + 1, failure.dice, restartBackoff),
          attempt: context.restarts + 1,
          why: { code, text },
        },
      };
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
    vault: null,
    tpm: null,
    failed: null,
    restarts: 0,
    reason: null,
    waiting: null,
    error: null,
  },
  initial: 'starting',
  on: {
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
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'vaultAndTpm' }),
      on: { 'client.settled': { target: 'vaultAndTpm' } },
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
    },
    rebooted: {
      description: 'The machine is going down.',
      type: 'final',
    },
  },
});

export type DeviceStepsSnapshot = SnapshotFrom<typeof deviceSteps>;

export function deviceStepsPublications(snapshot: DeviceStepsSnapshot): Publications {
  const { started, failed, restarts, reason, waiting, error } = snapshot.context;
  const state = typeof snapshot.value === 'string' ? snapshot.value : Object.keys(snapshot.value)[0];
  return { DeviceStatus: { state, started, failed, restarts, reboot: reason, waiting, error } };
}
