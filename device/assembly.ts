// Puts a node together for one process: the vault, the identity, the link to EVC, all opened when somebody first needs them.
import type { Bus } from '../broker/bus.ts';
import type { Clock } from '../machines/clock.ts';
import type { Component } from '../machines/device-steps.ts';
import type { Location } from '../machines/flow.ts';
import type { OsSlots } from './baseos/os-slots.ts';
import { type DeviceIdentity, deviceIdentity } from './identity.ts';
import { storeCertificates } from './link/certificates.ts';
import { login } from './link/dial.ts';
import { Evc } from './link/evc.ts';
import { Outbox } from './link/outbox.ts';
import { type Dialled, Uplink } from './link/uplink.ts';
import { type Boot, controllerCertificates, type Node, rootCertificate } from './node.ts';
import type { StateFolder } from './state.ts';
import { Tokens } from './tokens.ts';
import { DeviceTpm } from './tpm/device-tpm.ts';
import type { Tpm } from './tpm/tpm.ts';
import { type VaultChoice, vaultBackend } from './vault/backend.ts';
import { DeviceVault } from './vault/device-vault.ts';

export interface AssemblyOptions {
  config: StateFolder;
  persist: StateFolder;
  run: StateFolder;
  clock: Clock;
  bus: Bus;
  tpm: Tpm;
  slots: OsSlots;
  boot: Boot;
  /** Tells this process from the others of the device, at EVC’s broker. */
  name: string;
  /** What keeps the data of a new vault. Default: file. */
  vault?: VaultChoice;
  /** A stream to EVC's broker. */
  dial(): Promise<Dialled>;
  locate?(): Promise<Location | null>;
  /** News that the link brings for these components. */
  tell(components: readonly Component[], event: { type: string }): void;
  onLink?(up: boolean, why: string | null): void;
  onMessage?(direction: 'up' | 'down', topic: string, bytes: Uint8Array): void;
}

export interface Assembly {
  node: Node;
  /** Closes the link and locks the vault of this process; bus and TPM are the caller's. */
  close(): Promise<void>;
}

export function assemble(options: AssemblyOptions): Assembly {
  const { config, persist, run, clock, bus, slots, boot, tell, onLink, onMessage } = options;
  const tpm = new DeviceTpm(options.tpm, persist);
  let uplink: Uplink | null = null;
  let closed = false;
  const ending = new AbortController();

  const identity = once<DeviceIdentity>(() => deviceIdentity(config, persist, tpm, clock));
  const link = once<Uplink>(async () => {
    const known = await identity();
    const opened = new Uplink({
      device: known.device,
      name: options.name,
      dial: options.dial,
      login: (channel) => login(known, channel, (payload) => tpm.sign(payload), clock),
      clock,
      onPush: (topic, frame) => {
        void evc()
          .then(async (reader) => {
            await reader.learnSigner(frame.container, ending.signal);
            const [components, event] = news[reader.readPush(topic, frame)] ?? [];
            if (components && event) tell(components, event);
          })
          .catch(() => undefined);
      },
      onLink: (up, why) => {
        onLink?.(up, why);
        if (up) tell(['client', 'info-task', 'config-task'], { type: 'link.up' });
      },
      ...(onMessage ? { watch: onMessage } : {}),
    });
    uplink = opened;
    if (closed) await opened.close();
    return opened;
  });
  const evc = once<Evc>(async () => {
    const known = await identity();
    return new Evc({
      uplink: await link(),
      clock,
      device: known.device,
      root: rootCertificate(config).certificate,
      signer: { certificate: known.certificate, sign: (payload) => tpm.sign(payload) },
      certificates: () => controllerCertificates(node),
      renewed: (certificates) => storeCertificates(persist, certificates),
    });
  });
  const vault = new DeviceVault({
    backend: () => vaultBackend(persist, options.vault ?? 'file'),
    tpm,
    state: persist,
    device: async () => (await identity()).device,
  });
  const node: Node = {
    config,
    persist,
    run,
    clock,
    bus,
    tpm,
    vault,
    slots,
    outbox: new Outbox(persist),
    tokens: new Tokens(run),
    boot,
    identity,
    uplink: link,
    evc,
    locate: options.locate ?? (() => Promise.resolve(null)),
  };
  return {
    node,
    async close() {
      closed = true;
      ending.abort(new Error('the node was closed'));
      await uplink?.close();
      vault.lock();
    },
  };
}

/** What EVC pushes, and whom it concerns. */
const news: Record<string, [components: readonly Component[], event: { type: string }]> = {
  attest: [['attest-task'], { type: 'restart' }],
  config: [['config-task'], { type: 'config.pushed' }],
  certificates: [['client'], { type: 'certificates.stale' }],
};

/** Makes a value at the first call; what failed is made anew at the next. */
function once<Value>(make: () => Promise<Value>): () => Promise<Value> {
  let made: Promise<Value> | null = null;
  return () => {
    made ??= make().catch((error) => {
      made = null;
      throw error;
    });
    return made;
  };
}
