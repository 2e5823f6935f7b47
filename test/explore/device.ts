// What a device is besides its charts: the disk, the vault, the slots, what is in its memory until the next boot. And its
// ports, performed on that. The slots are the device's own code; the vault is its rules (device/vault) without the bytes.
import { SlotStore } from '../../device/baseos/slots.ts';
import type { StateFolder } from '../../device/state.ts';
import type { Slots } from '../../machines/base-os.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { minute } from '../../machines/waiting.ts';
import { freshName } from './names.ts';
import { now } from './time.ts';

/** A version that runs; `foreign` is one that EVC never offered, and nobody knows. */
export type Software = string;
export const foreign = '6.6.6';

interface Seal {
  key: string;
  /** The PCR policy. */
  software: Software;
}

export interface Device {
  software: Software;
  /** The table of `SlotStore`. */
  slots: object;
  vault: {
    present: 'absent' | 'incomplete' | 'present';
    /** Master keys that open it. */
    admits: string[];
    current: Seal | null;
    previous: Seal | null;
    /** In memory, until the power goes. */
    open: string | null;
  };
  checkpoint: { version: number; baseOs: BaseOsConfig | null } | null;
  /** What EVC sent, and what is in force in this boot. */
  staged: { version: number; partial: boolean; baseOs: BaseOsConfig | null } | null;
  applied: 'nothing' | 'checkpoint' | 'partial' | 'full';
  /** Name of the attestation key that EVC has proven. */
  certified: string | null;
  registered: boolean;
  /** The report that EVC was sent last in this boot, as JSON. */
  reported: string;
  /** Reports that could not be sent. */
  outbox: Record<string, object>;
  /** Whether the link to EVC stands. */
  link: boolean;
}

export const firstImage = '1.0.0';
/** What EVC offers: one that measures what EVC knows of it, and one that measures something else. */
export const newImage = '2.0.0';
export const oddImage = '3.0.0';

/** As it leaves the factory. */
export function newDevice(): Device {
  const device: Device = {
    software: firstImage,
    slots: {},
    vault: { present: 'absent', admits: [], current: null, previous: null, open: null },
    checkpoint: null,
    staged: null,
    applied: 'nothing',
    certified: null,
    registered: false,
    reported: '',
    outbox: {},
    link: true,
  };
  slotsOf(device).install(firstImage);
  return device;
}

/** The device's own slots, whose table is in the state of the exploration. */
export function slotsOf(device: Device): SlotStore {
  const state: Pick<StateFolder, 'has' | 'file' | 'restore' | 'checkpoint'> = {
    has: () => true,
    file: (name) => name,
    restore: <Value>() => structuredClone(device.slots) as Value,
    checkpoint: (_, value) => {
      device.slots = structuredClone(value) as object;
    },
  };
  return new SlotStore(state as StateFolder);
}

/** Power comes back: the boot loader chooses, and what was in memory is gone. */
export function boot(device: Device): void {
  slotsOf(device).chooseForBoot(now);
  const { current } = slotsOf(device).read();
  device.software = current.version;
  device.vault.open = null;
  device.staged = null;
  device.applied = 'nothing';
  device.reported = '';
  device.link = true;
}

export class PortFailure extends Error {
  readonly code: string;
  constructor(code: string, text = `${code} in the exploration`) {
    super(text);
    this.name = 'PortFailure';
    this.code = code;
  }
}

type Input = Record<string, unknown>;
/** Names that are in use, as text. */
type InUse = () => readonly string[];
type Perform = (device: Device, input: Input, inUse: InUse) => unknown;

/** The key of a chart in `performed`: ports of two charts may have one name. */
export const localPorts: Readonly<Record<string, Perform>> = {
  makeClaims(_, __, inUse) {
    const tokenHash = freshName('token', inUse());
    // What the quote vouches for; nobody compares it here.
    return { tokenHash, qualifyingData: '00' };
  },
  startTpm: () => null,
  makeKeys: () => null,
  certifyKeys: () => ({
    name: attestationKey,
    akPublic: '',
    akCertificate: '',
    ekPublic: '',
    ekCertificate: '',
    ecdhPublic: '',
    ecdhCertificate: '',
  }),
  makeQuote: (_, { nonce }) => ({ nonce, attest: '', signature: '', pcrs: {} }),
  activateCredential: (_, { id }) => ({ challenge: id, proof: 'ff' }),

  probeVault: ({ vault }) => {
    vault.open = null;
    return { vault: vault.present, backend: 'file' };
  },
  createVault({ vault }, _, inUse) {
    const key = freshName('key', inUse());
    vault.present = 'incomplete';
    vault.admits = [key];
    vault.open = key;
    return null;
  },
  sealKey(device) {
    seal(device);
    if (device.vault.present === 'incomplete') device.vault.present = 'present';
    return null;
  },
  unsealKey({ vault, software }) {
    if (!vault.current && !vault.previous) throw new PortFailure('vault.seal-unusable');
    if (vault.current?.software === software) vault.open = vault.current.key;
    else if (vault.previous?.software === software) {
      vault.current = vault.previous;
      vault.previous = null;
      vault.open = vault.current.key;
    } else throw new PortFailure('vault.pcr-mismatch');
    return null;
  },
  unlockVault({ vault }) {
    if (!vault.admits.includes(opened(vault))) throw new PortFailure('vault.wrong-key');
    return null;
  },
  exportKey: ({ vault }) => exported(vault),
  openKey({ vault }, { keyId }) {
    vault.open = String(keyId);
    return null;
  },
  storeToken: () => null,
  rotateKey(device, _, inUse) {
    const { vault } = device;
    if (vault.previous) throw new PortFailure('vault.rotation-deferred');
    opened(vault);
    const key = freshName('key', inUse());
    vault.admits = [...vault.admits, key];
    vault.open = key;
    seal(device);
    return exported(vault);
  },
  finishRotation({ vault }) {
    vault.admits = [opened(vault)];
    vault.previous = null;
    return null;
  },
  dropOldSeals({ vault }) {
    vault.previous = null;
    return null;
  },
  lockVault({ vault }) {
    vault.open = null;
    return null;
  },

  loadPending: ({ outbox }) => ({ pending: outbox }),

  loadCheckpoint: ({ checkpoint }) => checkpoint ?? { version: 0, baseOs: null },
  applyConfig(device, { version, partial }) {
    const { staged } = device;
    if (!staged || staged.version !== version || staged.partial !== partial)
      throw new PortFailure('config.gone');
    if (!partial) device.checkpoint = { version: staged.version, baseOs: staged.baseOs };
    device.applied = partial ? 'partial' : 'full';
    return null;
  },
  applyCheckpoint(device) {
    if (!device.checkpoint) throw new PortFailure('config.gone');
    device.applied = 'checkpoint';
    return null;
  },

  loadSlots: (device) => slotsOf(device).read(),
  fetchImage: () => null,
  verifyImage: () => null,
  writeSlot(device, { baseOs }) {
    const slots = slotsOf(device);
    slots.beginReplace();
    slots.written((baseOs as BaseOsConfig).version);
    return null;
  },
  stageSlot(device, { baseOs }): Slots {
    const { version, testWindow, retryCounter } = baseOs as BaseOsConfig;
    return slotsOf(device).stage(version, testWindow, retryCounter);
  },
  selfTest: () => null,
  commitSlot: (device) => slotsOf(device).commit(),
  abandonSlot: (device, { why }) => slotsOf(device).abandon(why as { code: string; text: string }),

  loadIdentity: ({ registered }) => ({
    device: 'd',
    serial: 's',
    uuid: registered ? 'u' : null,
    certificates: registered,
    registered,
  }),
};

export const attestationKey = 'a1';

function opened(vault: Device['vault']): string {
  if (vault.open === null) throw new PortFailure('vault.locked');
  return vault.open;
}

function seal({ vault, software }: Device): void {
  if (vault.current && !vault.previous) vault.previous = vault.current;
  vault.current = { key: opened(vault), software };
}

function exported(vault: Device['vault']): object {
  return { keyId: opened(vault), encryptedKey: '', rotating: vault.admits.length > 1 };
}

/** Of the images that EVC offers. */
export function imageOf(version: string, retryCounter = 0): BaseOsConfig {
  return {
    version,
    url: 'https://evc/image',
    sha256: '00',
    size: 1,
    signature: '',
    testWindow: 10 * minute,
    retryCounter,
  };
}
