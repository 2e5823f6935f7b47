// Vault manager: the vault and its master key. The key itself never enters this chart: it stays in the vault that the
// ports work on, and what the chart carries of it is its id and a copy that only this device's TPM can open.
import { assign, type SnapshotFrom, setup } from 'xstate';
import { elapsed, failureOf, type Publications, port, type Stamp, sleepUntil, stampOf } from './port.ts';
import { deadline, minute, retry, type Waiting, type Why } from './waiting.ts';

export type VaultManagerEvent = Stamp &
  /** EVC's approval: a token for this boot, and the wish for a new master key. */
  (
    | { type: 'token.confirmed'; tokenHash: string; rotate: boolean }
    /** The escrowed key, encrypted for our TPM, base64. */
    | { type: 'key.received'; keyId: string; version: number; encryptedKey: string }
    | { type: 'escrow.recorded'; keyId: string; version: number }
    /** The base OS manager has committed the running image: the seal of the old one may go. */
    | { type: 'upgrade.committed' }
    | { type: 'lock' }
  );

export interface Probe {
  vault: 'absent' | 'incomplete' | 'present';
  backend: string;
}

/** A master key as others may know it. */
export interface KeyExport {
  keyId: string;
  /** Encrypted so that only this device's TPM opens it, base64. */
  encryptedKey: string;
  /** Another key opens the vault as well: a rotation is under way, or was cut short. */
  rotating: boolean;
}

export type UnlockedBy = 'tpm' | 'controller' | 'created';

export interface VaultManagerContext {
  backend: string;
  unlockedBy: UnlockedBy | null;
  /** PCRs whose values differ from those the key is sealed to. */
  mismatchingPcrs: number[];
  exported: KeyExport | null;
  received: { keyId: string; version: number; encryptedKey: string } | null;
  tokenHash: string | null;
  storedToken: string | null;
  rotate: boolean;
  /** The last token for which a rotation was done: one approval rotates once. */
  rotatedFor: string | null;
  /** The running image was committed, and older seals are still there. */
  committed: boolean;
  attempt: number;
  waiting: Waiting | null;
  error: Why | null;
}

const escrowDeadline = 10 * minute;
const keyDeadline = 5 * minute;

export const vaultManager = setup({
  types: { context: {} as VaultManagerContext, events: {} as VaultManagerEvent, input: {} as Stamp },
  actors: {
    sleepUntil,
    probeVault: port<Probe>('probeVault'),
    /** Makes the master key from the TPM's random numbers, and the vault with it. */
    createVault: port<null>('createVault'),
    /** Seals the open vault's key under the current PCR values, beside the seals that exist. */
    sealKey: port<null>('sealKey'),
    /** Takes the key out of the TPM. Fails with vault.pcr-mismatch and the PCRs that differ. */
    unsealKey: port<null>('unsealKey'),
    unlockVault: port<null>('unlockVault'),
    exportKey: port<KeyExport>('exportKey'),
    /** Opens the escrowed key with the TPM's key. */
    openKey: port<null, { keyId: string; encryptedKey: string }>('openKey'),
    storeToken: port<null, { tokenHash: string }>('storeToken'),
    /** A new master key: sealed, and able to open the vault beside the old one. */
    rotateKey: port<KeyExport>('rotateKey'),
    /** Forgets the old master key, after EVC has the new one. */
    finishRotation: port<null>('finishRotation'),
    /** Leaves only the seal for the current PCR values. */
    dropOldSeals: port<null>('dropOldSeals'),
    lockVault: port<null>('lockVault'),
  },
  guards: {
    vaultPresent: (_, params: Probe) => params.vault === 'present',
    policyRefused: (_, params: { code: string }) => params.code === 'vault.pcr-mismatch',
    noUsableSeal: (_, params: { code: string }) => params.code === 'vault.seal-unusable',
    keyReceived: ({ context }) => context.received !== null,
    rotationUnfinished: (_, params: KeyExport) => params.rotating,
    rotationWanted: ({ context }) =>
      context.rotate && context.tokenHash !== null && context.rotatedFor !== context.tokenHash,
    committed: ({ context }) => context.committed,
    tokenToStore: ({ context }) => context.tokenHash !== null && context.tokenHash !== context.storedToken,
    ofThisKey: ({ context, event }) =>
      event.type === 'escrow.recorded' && context.exported?.keyId === event.keyId,
  },
  actions: {
    ignored: () => {},
    takeProbe: assign((_, params: Probe) => ({ backend: params.backend })),
    takeMismatch: assign(({ event }) => {
      const { code, text, details } = failureOf(event);
      const pcrs = details?.pcrs;
      return {
        error: { code, text, ...(details ? { details } : {}) },
        mismatchingPcrs: Array.isArray(pcrs) ? pcrs.filter((pcr) => typeof pcr === 'number') : [],
      };
    }),
    takeFailure: assign(({ event }) => {
      const { code, text } = failureOf(event);
      return { error: { code, text } };
    }),
    backOff: assign(({ event, context }) => ({
      waiting: retry('the TPM or the disk', failureOf(event), context.attempt),
      attempt: context.attempt + 1,
    })),
    takeReceived: assign(({ event }) =>
      event.type === 'key.received'
        ? { received: { keyId: event.keyId, version: event.version, encryptedKey: event.encryptedKey } }
        : {},
    ),
    takeCommit: assign({ committed: true }),
    sealsDropped: assign({ committed: false }),
    takeToken: assign(({ event }) =>
      event.type === 'token.confirmed' ? { tokenHash: event.tokenHash, rotate: event.rotate } : {},
    ),
    tokenStored: assign(({ context }) => ({ storedToken: context.tokenHash, error: null })),
    // What could not be stored is not tried again for ever: the token is in memory, the copy is a convenience.
    tokenNotStored: assign(({ context, event }) => {
      const { code, text } = failureOf(event);
      return { storedToken: context.tokenHash, error: { code, text } };
    }),
    takeExport: assign((_, params: KeyExport) => ({ exported: params })),
    rotationDone: assign(({ context }) => ({ rotatedFor: context.tokenHash })),
    byTpm: assign({ unlockedBy: 'tpm', mismatchingPcrs: [], error: null }),
    byController: assign({ unlockedBy: 'controller', received: null, error: null }),
    byCreation: assign({ unlockedBy: 'created', error: null }),
    locked: assign({ unlockedBy: null, exported: null }),
    proceed: assign({ attempt: 1 }),
    stopWaiting: assign({ waiting: null }),
    awaitKey: assign(({ event, context }) => ({
      waiting: deadline('EVC’s approval and the escrowed key', stampOf(event), keyDeadline, context.attempt),
    })),
    awaitEscrow: assign(({ event }) => ({
      waiting: deadline('EVC to hold the new master key', stampOf(event), escrowDeadline),
    })),
  },
}).createMachine({
  id: 'vaultManager',
  description: 'Keeps the vault and its master key: sealed to the boot, escrowed with EVC.',
  context: {
    backend: '',
    unlockedBy: null,
    mismatchingPcrs: [],
    exported: null,
    received: null,
    tokenHash: null,
    storedToken: null,
    rotate: false,
    rotatedFor: null,
    committed: false,
    attempt: 1,
    waiting: null,
    error: null,
  },
  initial: 'probing',
  on: {
    'token.confirmed': { actions: 'takeToken' },
    'key.received': { actions: 'takeReceived' },
    'upgrade.committed': { actions: 'takeCommit' },
    '*': { actions: 'ignored' },
  },
  states: {
    probing: {
      description: 'Looks for a vault, and for what protects it.',
      invoke: {
        id: 'probeVault',
        src: 'probeVault',
        onDone: [
          {
            guard: { type: 'vaultPresent', params: ({ event }) => event.output.value },
            target: 'unsealing',
            actions: { type: 'takeProbe', params: ({ event }) => event.output.value },
          },
          // An incomplete one was never opened for use, so nothing is lost by starting it over.
          {
            target: 'creating',
            actions: { type: 'takeProbe', params: ({ event }) => event.output.value },
          },
        ],
        onError: { target: 'failed', actions: ['takeFailure', 'backOff'] },
      },
    },
    creating: {
      description: 'Makes the master key from the TPM’s random numbers, and the vault.',
      invoke: {
        id: 'createVault',
        src: 'createVault',
        onDone: { target: 'sealing' },
        onError: { target: 'failed', actions: ['takeFailure', 'backOff'] },
      },
    },
    sealing: {
      description: 'Seals the master key into the TPM under a policy of PCR values.',
      invoke: {
        id: 'sealKey',
        src: 'sealKey',
        onDone: { target: 'unlocked', actions: ['byCreation', 'proceed'] },
        onError: { target: 'failed', actions: ['takeFailure', 'backOff'] },
      },
    },
    unsealing: {
      description: 'Asks the TPM for the master key, which it gives for the sealed PCR values alone.',
      invoke: {
        id: 'unsealKey',
        src: 'unsealKey',
        onDone: { target: 'unlocking' },
        onError: [
          {
            guard: { type: 'policyRefused', params: ({ event }) => failureOf(event) },
            target: 'locked',
            actions: 'takeMismatch',
          },
          {
            guard: { type: 'noUsableSeal', params: ({ event }) => failureOf(event) },
            target: 'locked',
            actions: 'takeFailure',
          },
          { target: 'failed', actions: ['takeFailure', 'backOff'] },
        ],
      },
    },
    unlocking: {
      description: 'Opens the vault with the key from the TPM.',
      invoke: {
        id: 'unlockVault',
        src: 'unlockVault',
        onDone: { target: 'unlocked', actions: ['byTpm', 'proceed'] },
        onError: { target: 'failed', actions: ['takeFailure', 'backOff'] },
      },
    },
    locked: {
      description:
        'The TPM refuses the key, since something else booted; the data stay safe until EVC approves.',
      entry: 'locked',
      initial: 'waitingForKey',
      states: {
        waitingForKey: {
          description: 'Waits for EVC’s approval; from time to time asks the TPM again.',
          entry: 'awaitKey',
          always: { guard: 'keyReceived', target: 'openingKey' },
          exit: 'stopWaiting',
          invoke: elapsed({ target: '#vaultManager.unsealing' }),
          on: { 'key.received': { target: 'openingKey', actions: 'takeReceived' } },
        },
        openingKey: {
          description: 'Opens the escrowed key with the TPM’s own key.',
          invoke: {
            id: 'openKey',
            src: 'openKey',
            input: ({ context }) => ({
              keyId: context.received?.keyId ?? '',
              encryptedKey: context.received?.encryptedKey ?? '',
            }),
            onDone: { target: 'unlocking' },
            onError: { target: 'keyBackingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        unlocking: {
          description: 'Opens the vault first: a seal that fails must not keep it shut.',
          invoke: {
            id: 'unlockVault',
            src: 'unlockVault',
            onDone: { target: 'resealing', actions: 'byController' },
            onError: { target: 'keyBackingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        // EVC sends a key once for each approval, so it is kept until it has opened the vault, or another comes.
        keyBackingOff: {
          description: 'The escrowed key did not open the vault; tries again, or with the next one.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: '#vaultManager.unsealing' }),
          on: { 'key.received': { target: 'openingKey', actions: 'takeReceived' } },
        },
        resealing: {
          description: 'Seals the key to the new PCR values, and keeps the old seal for a fall-back.',
          invoke: {
            id: 'sealKey',
            src: 'sealKey',
            onDone: { target: '#vaultManager.unlocked', actions: 'proceed' },
            onError: { target: '#vaultManager.unlocked', actions: ['takeFailure', 'proceed'] },
          },
        },
      },
    },
    unlocked: {
      description: 'The vault is open.',
      initial: 'exporting',
      on: { lock: { target: 'locking' } },
      states: {
        exporting: {
          description: 'Encrypts the master key for this TPM, so that EVC can keep a copy.',
          invoke: {
            id: 'exportKey',
            src: 'exportKey',
            onDone: [
              {
                guard: { type: 'rotationUnfinished', params: ({ event }) => event.output.value },
                target: 'rotating.escrowing',
                actions: { type: 'takeExport', params: ({ event }) => event.output.value },
              },
              {
                target: 'idle',
                actions: { type: 'takeExport', params: ({ event }) => event.output.value },
              },
            ],
            onError: { target: 'exportBackingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        exportBackingOff: {
          description: 'The TPM did not encrypt the key; tries again.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'exporting' }),
        },
        idle: {
          description: 'Open and escrowable; waits for the token, a rotation, or a commit.',
          always: [
            { guard: 'tokenToStore', target: 'storingToken' },
            { guard: 'committed', target: 'resealing' },
            { guard: 'rotationWanted', target: 'rotating' },
          ],
        },
        storingToken: {
          description: 'Copies the confirmed token to vault/itoken.',
          invoke: {
            id: 'storeToken',
            src: 'storeToken',
            input: ({ context }) => ({ tokenHash: context.tokenHash ?? '' }),
            onDone: { target: 'idle', actions: 'tokenStored' },
            onError: { target: 'idle', actions: 'tokenNotStored' },
          },
        },
        rotating: {
          description: 'Changes the master key; the old one opens the vault until EVC holds the new one.',
          initial: 'making',
          states: {
            making: {
              description: 'Makes and seals the new master key.',
              invoke: {
                id: 'rotateKey',
                src: 'rotateKey',
                onDone: {
                  target: 'escrowing',
                  actions: { type: 'takeExport', params: ({ event }) => event.output.value },
                },
                onError: { target: '#vaultManager.unlocked.idle', actions: ['takeFailure', 'rotationDone'] },
              },
            },
            escrowing: {
              description: 'Waits until EVC holds the new master key; until then the old one stays good.',
              entry: 'awaitEscrow',
              exit: 'stopWaiting',
              invoke: elapsed({ target: 'escrowing', reenter: true }),
              on: { 'escrow.recorded': { guard: 'ofThisKey', target: 'finishing' } },
            },
            finishing: {
              description: 'Forgets the old master key.',
              invoke: {
                id: 'finishRotation',
                src: 'finishRotation',
                onDone: { target: '#vaultManager.unlocked.idle', actions: 'rotationDone' },
                onError: { target: 'finishingBackingOff', actions: ['takeFailure', 'backOff'] },
              },
            },
            finishingBackingOff: {
              description: 'The old master key still opens the vault; forgets it later.',
              exit: 'stopWaiting',
              invoke: elapsed({ target: 'finishing' }),
            },
          },
        },
        resealing: {
          description: 'The upgrade is committed: only the seal for the running software stays.',
          invoke: {
            id: 'dropOldSeals',
            src: 'dropOldSeals',
            onDone: { target: 'idle', actions: 'sealsDropped' },
            onError: { target: 'resealingBackingOff', actions: ['takeFailure', 'backOff'] },
          },
        },
        resealingBackingOff: {
          description: 'The seal for the former software is still there; drops it later.',
          exit: 'stopWaiting',
          invoke: elapsed({ target: 'resealing' }),
        },
      },
    },
    locking: {
      description: 'Closes the vault and forgets the key.',
      invoke: {
        id: 'lockVault',
        src: 'lockVault',
        onDone: { target: 'locked' },
        onError: { target: 'failed', actions: ['takeFailure', 'backOff'] },
      },
    },
    failed: {
      description: 'The TPM or the disk does not do what it should; looks again later.',
      entry: 'locked',
      exit: 'stopWaiting',
      invoke: elapsed({ target: 'probing' }),
    },
  },
});

export type VaultManagerSnapshot = SnapshotFrom<typeof vaultManager>;

export function vaultManagerPublications(snapshot: VaultManagerSnapshot): Publications {
  const { context } = snapshot;
  const unlocked = snapshot.matches('unlocked');
  const status = unlocked
    ? 'unlocked'
    : snapshot.matches('locked')
      ? 'locked'
      : snapshot.matches('failed')
        ? 'error'
        : 'unknown';
  return {
    VaultStatus: {
      status,
      unlockedBy: context.unlockedBy ?? 'none',
      backend: context.backend,
      mismatchingPcrs: context.mismatchingPcrs,
      storedToken: context.storedToken ?? '',
      waiting: context.waiting,
      error: context.error,
    },
    EncryptedVaultKeyFromDevice:
      unlocked && context.exported
        ? { keyId: context.exported.keyId, encryptedKey: context.exported.encryptedKey }
        : null,
  };
}
