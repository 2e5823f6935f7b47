// What the components of one device share: its folders, TPM, vault, slots, link and boot. One object a process.
import { X509Certificate } from 'node:crypto';
import type { Bus } from '../broker/bus.ts';
import type { Clock } from '../machines/clock.ts';
import type { Location, LogPart, Versions } from '../machines/flow.ts';
import type { OsSlots } from './baseos/os-slots.ts';
import type { BoardKind, MissingLog } from './board.ts';
import type { DeviceIdentity } from './identity.ts';
import { type ControllerCertificates, loadCertificates } from './link/certificates.ts';
import type { Evc } from './link/evc.ts';
import type { Outbox } from './link/outbox.ts';
import type { Uplink } from './link/uplink.ts';
import { Refusal } from './refusal.ts';
import type { StateFolder } from './state.ts';
import type { Tokens } from './tokens.ts';
import type { DeviceTpm } from './tpm/device-tpm.ts';
import type { DeviceVault } from './vault/device-vault.ts';

/** What a boot left for the attest task. */
export interface Boot {
  /** Another one each boot. */
  id: string;
  board: BoardKind;
  slot: 'IMGA' | 'IMGB';
  versions: Versions;
  logs: LogPart[];
  /** Logs that should be there and are not. */
  missing: MissingLog[];
  /** Folder of the image that runs; null where that is the operating system. */
  image: string | null;
}

export interface Node {
  config: StateFolder;
  persist: StateFolder;
  run: StateFolder;
  clock: Clock;
  bus: Bus;
  tpm: DeviceTpm;
  vault: DeviceVault;
  slots: OsSlots;
  outbox: Outbox;
  tokens: Tokens;
  boot: Boot;
  identity(): Promise<DeviceIdentity>;
  evc(): Promise<Evc>;
  uplink(): Promise<Uplink>;
  /** Where the device is; null when there is no fix. */
  locate(): Promise<Location | null>;
}

export const rootCertificateFile = 'root-certificate.pem';

/** The root that the device was installed with. Throws Refusal config.no-root. */
export function rootCertificate(config: StateFolder): { pem: string; certificate: X509Certificate } {
  const bytes = config.read(rootCertificateFile);
  if (!bytes) {
    throw new Refusal(
      'config.no-root',
      `there is no ${config.file(rootCertificateFile)}; copy EVC’s root there`,
    );
  }
  try {
    const pem = Buffer.from(bytes).toString('utf8');
    return { pem, certificate: parsedRoot(pem) };
  } catch (cause) {
    throw new Refusal('config.no-root', `${config.file(rootCertificateFile)} is no certificate`, { cause });
  }
}

/** Every message needs it, and parsing costs more than a signature. */
let lastRoot: { pem: string; certificate: X509Certificate } | null = null;

/** Throws Error for what is no certificate. */
function parsedRoot(pem: string): X509Certificate {
  if (lastRoot?.pem !== pem) lastRoot = { pem, certificate: new X509Certificate(pem) };
  return lastRoot.certificate;
}

/** EVC's certificates as they are stored; null before they are fetched. */
export function controllerCertificates(
  node: Pick<Node, 'config' | 'persist' | 'clock'>,
): ControllerCertificates | null {
  return loadCertificates(node.persist, rootCertificate(node.config).certificate, node.clock.now());
}
