// Base OS manager: two slots, a test window, and the way back. Works from a partial configuration and with a locked
// vault, because a device whose software is not trusted heals through here.
import { assign, type SnapshotFrom, setup } from 'xstate';
import type { BaseOsConfig } from './flow.ts';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil, stampOf } from './port.ts';
import { deadline, minute, retry, type Waiting, type Why } from './waiting.ts';

export type BaseOsEvent = Stamp &
  (
    | { type: 'baseos.wanted'; baseOs: BaseOsConfig }
    /** EVC wants nothing any more: the upgrade was withdrawn, or its window closed. */
    | { type: 'baseos.unwanted' }
    /** EVC approved this boot and sent the full configuration. */
    | { type: 'config.full' }
  );

/** A slot, with EVE's partition states. */
export interface Slot {
  label: 'IMGA' | 'IMGB';
  version: string;
  state: 'unused' | 'updating' | 'inprogress' | 'active';
}

export interface Slots {
  current: Slot;
  other: Slot;
  /** Set while the current slot is on trial. */
  trial: {
    /** The trial ends in a fall-back at this time, whatever EVC answers; ms since the epoch. */
    until: number;
    /** How long the image must hold after EVC approved it, ms. */
    window: number;
  } | null;
  /** The version that failed last here, with the counter of the config that asked for it. */
  failed: { version: string; retryCounter: number; why: Why } | null;
}

export interface BaseOsContext {
  slots: Slots | null;
  wanted: BaseOsConfig | null;
  /** The image on its way into the other slot: what was checked is what is written, whatever is wanted meanwhile. */
  installing: BaseOsConfig | null;
  /** Why the device should reboot. */
  reboot: string | null;
  committed: string | null;
  attempt: number;
  waiting: Waiting | null;
  error: Why | null;
}

const rebootDeadline = 5 * minute;

/** Windows that a trial takes at most, whatever EVC answers. */
export const trialFactor = 3;

export const baseOs = setup({
  types: { context: {} as BaseOsContext, events: {} as BaseOsEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    loadSlots: port<Slots>('loadSlots'),
    fetchImage: port<null, { baseOs: BaseOsConfig }>('fetchImage'),
    /** Hash, size and signature of what was fetched. */
    verifyImage: port<null, { baseOs: BaseOsConfig }>('verifyImage'),
    writeSlot: port<null, { baseOs: BaseOsConfig }>('writeSlot'),
    /** The other slot is to be tried once. */
    stageSlot: port<Slots, { baseOs: BaseOsConfig }>('stageSlot'),
    /** The image's own idea of whether it works. */
    selfTest: port<null>('selfTest'),
    commitSlot: port<Slots>('commitSlot'),
    abandonSlot: port<Slots, { why: Why }>('abandonSlot'),
  },
  guards: {
    onTrial: (_, params: Slots) => params.trial !== null,
    /** EVC changed its mind while an image was fetched, checked or written. */
    otherWanted: ({ context }) => !sameImage(context.wanted, context.installing),
    waitingVersion: ({ context }) => context.wanted !== null && isNew(context.slots, context.wanted),
    refusal: (_, params: { code: string }) => params.code.startsWith('baseos.image'),
  },
  actions: {
    ignored: () => {},
    takeSlots: assign((_, params: Slots) => ({ slots: params })),
    dropWanted: assign({ wanted: null }),
    takeWanted: assign(({ event }) => (event.type === 'baseos.wanted' ? { wanted: event.baseOs } : {})),
    install: assign(({ context }) => ({ installing: context.wanted, attempt: 1 })),
    askReboot: assign((_, params: { reason: string }) => ({ reboot: params.reason })),
    takeCommit: assign((_, params: Slots) => ({
      slots: params,
      committed: params.current.version,
      error: null,
    })),
    takeFailure: assign(({ event }) => {
      const { code, text } = failureOf(event);
      return { error: { code, text } };
    }),
    trialOver: assign({
      error: {
        code: 'baseos.trial-expired',
        text: 'EVC did not approve the new image within its test window',
      },
    }),
    backOff: assign(({ event, context }) => ({
      waiting: retry('the image', failureOf(event), context.attempt),
      attempt: context.attempt + 1,
    })),
    proceed: assign({ attempt: 1 }),
    stopWaiting: assign({ waiting: null }),
    awaitApproval: assign(({ context, event }) => {
      const { at } = stampOf(event);
      const { until = 0, window = 0 } = context.slots?.trial ?? {};
      // The clock may have been set back since the trial began: it has no more than the whole of it from now on.
      const last = at + window * trialFactor;
      return {
        waiting: { for: 'EVC to approve the new image', since: at, until: Math.min(until, last), attempt: 1 },
      };
    }),
    awaitWindow: assign(({ context, event }) => ({
      waiting: deadline('the test window', stampOf(event), context.slots?.trial?.window ?? 0),
    })),
    awaitReboot: assign(({ event }) => ({
      waiting: deadline('the reboot', stampOf(event), rebootDeadline),
    })),
  },
}).createMachine({
  id: 'baseOs',
  description: 'Keeps two slots of the base OS: fetches, tries, commits, falls back.',
  context: {
    slots: null,
    wanted: null,
    installing: null,
    reboot: null,
    committed: null,
    attempt: 1,
    waiting: null,
    error: null,
  },
  initial: 'loading',
  on: {
    'baseos.wanted': { actions: 'takeWanted' },
    'baseos.unwanted': { actions: 'dropWanted' },
    '*': { actions: 'ignored' },
  },
  states: {
    loading: {
      description: 'Reads which slot runs, and whether it is on trial.',
      invoke: {
        id: 'loadSlots',
        src: 'loadSlots',
        onDone: [
          {
            guard: { type: 'onTrial', params: ({ event }) => event.output.value },
            target: 'testing',
            actions: [{ type: 'takeSlots', params: ({ event }) => event.output.value }, 'proceed'],
          },
          {
            target: 'idle',
            actions: [{ type: 'takeSlots', params: ({ event }) => event.output.value }, 'proceed'],
          },
        ],
        onError: { target: 'loadingBackOff', actions: ['takeFailure', 'backOff'] },
      },
    },
    loadingBackOff: {
      description: 'The slots could not be read; tries again.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'loading' }),
    },
    idle: {
      description: 'The wanted version runs, or none is wanted.',
      always: { guard: 'waitingVersion', target: 'fetching', actions: 'install' },
    },
    fetching: {
      description: 'Fetches the image, from where an earlier try stopped.',
      always: { guard: 'otherWanted', target: 'idle' },
      invoke: {
        id: 'fetchImage',
        src: 'fetchImage',
        input: ({ context }) => ({ baseOs: installingOf(context) }),
        onDone: { target: 'verifying' },
        onError: [
          {
            guard: { type: 'refusal', params: ({ event }) => failureOf(event) },
            target: 'refused',
            actions: ['takeFailure', 'backOff'],
          },
          { target: 'fetchingBackOff', actions: ['takeFailure', 'backOff'] },
        ],
      },
    },
    fetchingBackOff: {
      description: 'The image could not be fetched; tries again.',
      always: { guard: 'otherWanted', target: 'idle' },
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'fetching' }),
    },
    verifying: {
      description: 'Checks size, hash and signature of the image.',
      always: { guard: 'otherWanted', target: 'idle' },
      invoke: {
        id: 'verifyImage',
        src: 'verifyImage',
        input: ({ context }) => ({ baseOs: installingOf(context) }),
        onDone: { target: 'writing' },
        onError: { target: 'refused', actions: ['takeFailure', 'backOff'] },
      },
    },
    writing: {
      description: 'Writes the image to the other slot.',
      always: { guard: 'otherWanted', target: 'idle' },
      invoke: {
        id: 'writeSlot',
        src: 'writeSlot',
        input: ({ context }) => ({ baseOs: installingOf(context) }),
        onDone: { target: 'staged' },
        onError: { target: 'refused', actions: ['takeFailure', 'backOff'] },
      },
    },
    staged: {
      description: 'Marks the other slot to be tried once.',
      invoke: {
        id: 'stageSlot',
        src: 'stageSlot',
        input: ({ context }) => ({ baseOs: installingOf(context) }),
        onDone: {
          target: 'rebooting',
          actions: [
            { type: 'takeSlots', params: ({ event }) => event.output.value },
            { type: 'askReboot', params: { reason: 'update' } },
          ],
        },
        onError: { target: 'refused', actions: ['takeFailure', 'backOff'] },
      },
    },
    refused: {
      description: 'The image is not what EVC announced, or could not be written; looks again later.',
      always: { guard: 'otherWanted', target: 'idle' },
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'fetching' }),
    },
    testing: {
      description: 'The running slot is on trial.',
      initial: 'checking',
      states: {
        checking: {
          description: 'The image tests itself.',
          invoke: {
            id: 'selfTest',
            src: 'selfTest',
            onDone: { target: 'unapproved' },
            onError: { target: '#baseOs.fallingBack', actions: 'takeFailure' },
          },
          // The approval may come while the image still tests itself.
          on: { 'config.full': { target: 'checkingApproved' } },
        },
        checkingApproved: {
          description: 'EVC approved already, and the image still tests itself.',
          invoke: {
            id: 'selfTest',
            src: 'selfTest',
            onDone: { target: 'approved' },
            onError: { target: '#baseOs.fallingBack', actions: 'takeFailure' },
          },
        },
        unapproved: {
          description: 'Waits for EVC’s approval; the end of the trial is a fall-back, whatever EVC answers.',
          entry: 'awaitApproval',
          exit: 'stopWaiting',
          invoke: elapsed({ target: '#baseOs.fallingBack', actions: 'trialOver' }),
          on: { 'config.full': { target: 'approved' } },
        },
        approved: {
          description: 'EVC approved; the image has to hold for its test window.',
          entry: 'awaitWindow',
          exit: 'stopWaiting',
          invoke: elapsed({ target: '#baseOs.committing' }),
        },
      },
    },
    committing: {
      description: 'Makes the running slot the active one.',
      invoke: {
        id: 'commitSlot',
        src: 'commitSlot',
        onDone: {
          target: 'committed',
          actions: { type: 'takeCommit', params: ({ event }) => event.output.value },
        },
        onError: { target: 'committingBackOff', actions: ['takeFailure', 'backOff'] },
      },
    },
    committingBackOff: {
      description: 'The commit could not be written; tries again.',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'committing' }),
    },
    committed: {
      description: 'The upgrade is done.',
      always: { target: 'idle' },
    },
    fallingBack: {
      description: 'Gives the trial up: the old slot boots next.',
      invoke: {
        id: 'abandonSlot',
        src: 'abandonSlot',
        input: ({ context }) => ({
          why: context.error ?? { code: 'baseos.failed', text: 'the new image failed its test' },
        }),
        onDone: {
          target: 'rebooting',
          actions: [
            { type: 'takeSlots', params: ({ event }) => event.output.value },
            { type: 'askReboot', params: { reason: 'fallback' } },
          ],
        },
        // An unwritten mark costs nothing: a slot in progress is never booted twice.
        onError: { target: 'rebooting', actions: { type: 'askReboot', params: { reason: 'fallback' } } },
      },
    },
    rebooting: {
      description: 'Asked for a reboot.',
      entry: 'awaitReboot',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'rebooting', reenter: true }),
    },
  },
});

/** Not what runs, and not what failed here unless EVC asks for another try. */
function isNew(slots: Slots | null, wanted: BaseOsConfig): boolean {
  if (!slots || slots.current.version === wanted.version) return false;
  const { failed } = slots;
  return !failed || failed.version !== wanted.version || wanted.retryCounter > failed.retryCounter;
}

/** Empty while what runs is on trial, or was given up. */
function activeVersion(slots: Slots | null): string {
  return slots?.current.state === 'active' ? slots.current.version : '';
}

function sameImage(one: BaseOsConfig | null, other: BaseOsConfig | null): boolean {
  return (
    one?.version === other?.version &&
    one?.sha256 === other?.sha256 &&
    one?.signature === other?.signature &&
    one?.url === other?.url &&
    one?.retryCounter === other?.retryCounter
  );
}

function installingOf(context: BaseOsContext): BaseOsConfig {
  if (!context.installing) throw new TypeError('no base OS is installed in this state');
  return context.installing;
}

export type BaseOsSnapshot = SnapshotFrom<typeof baseOs>;

export function baseOsPublications(snapshot: BaseOsSnapshot): Publications {
  const { slots, wanted, reboot, committed, waiting, error } = snapshot.context;
  const state = typeof snapshot.value === 'string' ? snapshot.value : Object.keys(snapshot.value)[0];
  return {
    BaseOsStatus: {
      state,
      slots,
      wanted: wanted?.version ?? '',
      // Said at each boot: the power may have gone between a commit and the word of it.
      committed: committed ?? activeVersion(slots),
      waiting,
      error,
    },
    RebootRequest: reboot ? { reason: reboot } : null,
  };
}
