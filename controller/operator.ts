// What people do at EVC: accounts, onboarding keys, images, upgrades, and the decisions that only a person may take. The
// API and the command line are two faces of this. Whoever decides says why, and it is kept.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../machines/clock.ts';
import type {
  Account,
  DeviceRecordSnapshot,
  EkCertificate,
  Identity,
  RefusedEnrolment,
} from '../machines/device-record.ts';
import type { EkRoots, UnusableFile, VendorCertificate } from './enrol/ek-roots.ts';
import { judgedAgain } from './enrol/identity.ts';
import { addOnboardingKey } from './enrol/onboarding.ts';
import type { Catalogue } from './images/catalogue.ts';
import { type RecordRunner, trustOf } from './record/runner.ts';
import type { JournalEntry, RecordSummary, Store } from './store/store.ts';

/** Something that cannot be done as asked; `status` is HTTP's. */
export class OperatorError extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, status: number, message: string) {
    super(message);
    this.name = 'OperatorError';
    this.code = code;
    this.status = status;
  }
}

export interface OperatorOptions {
  store: Store;
  clock: Clock;
  runner: RecordRunner;
  catalogue: Catalogue;
  ekRoots: EkRoots;
  imageBase(): string;
}

/** A device for people: what it is, whether it is trusted, and why not. */
export interface DeviceView extends RecordSummary {
  device: string;
  states: unknown;
  verdict: DeviceRecordSnapshot['context']['verdict'];
  baseline: {
    versions: { image: string; firmware: string };
    at: number;
    grounds: string;
    pcrs: Record<string, string>;
  } | null;
  upgrade: { from: string; to: string; until: number } | null;
  upgraded: DeviceRecordSnapshot['context']['upgraded'];
  place: DeviceRecordSnapshot['context']['place'];
  escrow: DeviceRecordSnapshot['context']['escrow'];
  ekTrust: string;
  /** The TPM that is enrolled, and what its certificate says. */
  tpm: {
    ekName: string;
    akName: string;
    certificate: Omit<EkCertificate, 'sent'> | null;
  } | null;
  refusedEnrolment: RefusedEnrolment | null;
  /** How it booted and which logs it lacks, in its own words: unchecked. Null before it said so. */
  boot: Record<string, unknown> | null;
  config: number;
  online: boolean;
}

/** A certificate of a TPM vendor, for people. */
export interface EkRootView {
  id: string;
  file: string;
  kind: 'root' | 'intermediate';
  subject: string;
  issuer: string;
  notBefore: number;
  notAfter: number;
}

export interface UpgradeWish {
  version: string;
  /** ms that the window stays open. */
  window: number;
  /** ms that the new image has to hold. */
  testWindow: number;
}

const name = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const longestReason = 500;

export class Operator {
  readonly #options: OperatorOptions;

  constructor(options: OperatorOptions) {
    this.#options = options;
  }

  async addAccount(account: Account): Promise<Account> {
    if (!name.test(account.id))
      throw new OperatorError(
        'account.name',
        422,
        'an account is named with 1 to 64 letters, digits, ., _ and -',
      );
    if (await this.#options.store.get('account', account.id)) {
      throw new OperatorError('account.exists', 409, `there is an account ${account.id} already`);
    }
    await this.#options.store.put('account', account.id, account);
    return account;
  }

  async accounts(): Promise<Account[]> {
    return (await this.#options.store.all<Account>('account')).map(({ body }) => body);
  }

  /** Changes an account; its devices follow. */
  async changeAccount(id: string, change: Partial<Omit<Account, 'id'>>): Promise<Account> {
    const { store, runner } = this.#options;
    const account = await store.update<Account>('account', id, (found) => {
      if (!found) throw new OperatorError('account.unknown', 404, `there is no account ${id}`);
      return { ...found, ...change };
    });
    for (const { device, account: of } of await this.#all()) {
      if (of === id) await runner.send(device, { type: 'account.changed', account });
    }
    return account;
  }

  addKey(wanted: { name: string; account: string; limit: number; expires: number }) {
    const { store, clock } = this.#options;
    return addOnboardingKey(store, clock, wanted);
  }

  /** Opens the upgrade window of a device: from what it runs, to this version, until then. */
  async assignUpgrade(device: string, wish: UpgradeWish): Promise<DeviceView> {
    const { runner, catalogue, clock, imageBase } = this.#options;
    const { context } = await this.#record(device);
    const running = context.baseline?.versions.image;
    if (!running)
      throw new OperatorError(
        'device.no-baseline',
        409,
        'the device has no baseline yet; it has to attest first',
      );
    const tries = context.upgraded?.to === wish.version ? 1 : 0;
    const counter =
      (context.upgrade?.baseOs.retryCounter ?? context.config.baseOs?.retryCounter ?? 0) + tries;
    const baseOs = await catalogue.baseOs(wish.version, imageBase(), counter, wish.testWindow);
    const until = clock.now() + wish.window;
    const upgrade = { id: randomUUID(), from: running, to: wish.version, until, baseOs };
    await runner.send(device, { type: 'upgrade.assigned', upgrade });
    return this.show(device);
  }

  /** Makes what the device shows its baseline. */
  async acceptState(device: string, by: string, reason: string): Promise<DeviceView> {
    const { verdict } = (await this.#record(device)).context;
    if (!verdict?.genuine || verdict.accepted) {
      throw new OperatorError(
        'device.nothing-to-accept',
        409,
        verdict?.accepted
          ? 'the device is trusted as it is'
          : 'the last evidence of the device is not genuine, so there is nothing to accept',
      );
    }
    await this.#options.runner.send(device, {
      type: 'state.accepted',
      attempt: verdict.attempt,
      by,
      reason: checkReason(reason),
    });
    await this.#audit(by, 'state.accepted', device, reason);
    return this.show(device);
  }

  async acceptPlace(device: string, by: string, reason: string): Promise<DeviceView> {
    const snapshot = await this.#record(device);
    if (trustOf(snapshot) !== 'umd' && (snapshot.value as Record<string, string>).location !== 'umd') {
      throw new OperatorError('device.not-moved', 409, 'the device is where it was locked to');
    }
    await this.#options.runner.send(device, { type: 'place.accepted', by, reason: checkReason(reason) });
    await this.#audit(by, 'place.accepted', device, reason);
    return this.show(device);
  }

  async moveDevice(device: string, account: string): Promise<DeviceView> {
    const { store, runner } = this.#options;
    const target = await store.get<Account>('account', account);
    if (!target) throw new OperatorError('account.unknown', 404, `there is no account ${account}`);
    await this.#record(device);
    await runner.send(device, { type: 'account.changed', account: target });
    return this.show(device);
  }

  async rotateKey(device: string): Promise<DeviceView> {
    await this.#record(device);
    await this.#options.runner.send(device, { type: 'rotation.asked' });
    return this.show(device);
  }

  async changeSettings(device: string, settings: Record<string, string>): Promise<DeviceView> {
    await this.#record(device);
    await this.#options.runner.send(device, { type: 'settings.changed', settings });
    return this.show(device);
  }

  async retire(device: string, by: string, reason: string): Promise<DeviceView> {
    await this.#record(device);
    await this.#options.runner.send(device, { type: 'device.retired', by, reason: checkReason(reason) });
    await this.#audit(by, 'device.retired', device, reason);
    return this.show(device);
  }

  async allowReenrolment(device: string, by: string, reason: string): Promise<DeviceView> {
    await this.#record(device);
    await this.#options.runner.send(device, { type: 'reenrolment.allowed', by, reason: checkReason(reason) });
    await this.#audit(by, 'reenrolment.allowed', device, reason);
    return this.show(device);
  }

  ekRoots(): { roots: EkRootView[]; unusable: readonly UnusableFile[] } {
    const { certificates, unusable } = this.#options.ekRoots.read();
    return { roots: certificates.map(rootView), unusable };
  }

  /** Believes a vendor from now on; devices that are enrolled already are judged again. */
  async addEkRoots(bytes: Uint8Array, by: string): Promise<{ roots: EkRootView[]; devices: number }> {
    const added = this.#options.ekRoots.add(bytes);
    for (const { id, certificate } of added)
      await this.#audit(by, 'ek-root.added', id, certificate.subject.text);
    return { roots: added.map(rootView), devices: await this.judgeEndorsements() };
  }

  /** Believes a vendor no more: what its certificates vouched for is vouched for no more. */
  async removeEkRoot(words: string, by: string): Promise<{ roots: EkRootView[]; devices: number }> {
    const removed = this.#options.ekRoots.remove(words);
    await this.#audit(by, 'ek-root.removed', removed.id, removed.certificate.subject.text);
    return { roots: [rootView(removed)], devices: await this.judgeEndorsements() };
  }

  /**
   * Judges the certificates of all devices again, if the folder of roots is another one than the last time. Returns how
   * many devices that changed something for.
   */
  async judgeEndorsements(): Promise<number> {
    const { store, runner, ekRoots } = this.#options;
    const known = ekRoots.read();
    const { fingerprint = '' } = (await store.get<{ fingerprint: string }>('setting', 'ek-roots')) ?? {};
    if (fingerprint === known.fingerprint) return 0;
    let changed = 0;
    for (const { device } of await this.#all()) {
      const identity = (await runner.read(device))?.context.identity;
      const judged = identity && judgedAgain(identity, known);
      if (!judged) continue;
      await runner.send(device, { type: 'endorsement.judged', ekName: identity.ekName, ...judged });
      changed++;
    }
    await store.put('setting', 'ek-roots', { fingerprint: known.fingerprint });
    return changed;
  }

  list(after = '', limit = 100): Promise<(RecordSummary & { device: string })[]> {
    return this.#options.store.list(after, limit);
  }

  async show(device: string): Promise<DeviceView> {
    const snapshot = await this.#record(device);
    const { context } = snapshot;
    const { baseline, upgrade } = context;
    return {
      device,
      serial: context.serial,
      uuid: context.uuid,
      account: context.account?.id ?? '',
      trust: trustOf(snapshot),
      seen: context.seen,
      states: snapshot.value,
      verdict: context.verdict,
      baseline: baseline && {
        versions: baseline.versions,
        at: baseline.at,
        grounds: baseline.grounds,
        pcrs: baseline.pcrs,
      },
      upgrade: upgrade && { from: upgrade.from, to: upgrade.to, until: upgrade.until },
      upgraded: context.upgraded,
      place: context.place,
      escrow: context.escrow,
      ekTrust: context.identity?.ekTrust ?? 'none',
      tpm: context.identity && tpmView(context.identity),
      refusedEnrolment: context.refusedEnrolment ?? null,
      boot: context.info.boot ?? null,
      config: context.config.version,
      online: (snapshot.value as Record<string, string>).link === 'online',
    };
  }

  async journal(device: string, limit = 50): Promise<(JournalEntry & { seq: number })[]> {
    await this.#record(device);
    return this.#options.store.journal(device, limit);
  }

  /** The device that a person means: its id, the start of it, its UUID or its serial number. */
  async find(words: string): Promise<string> {
    const found = (await this.#all()).filter(
      ({ device, uuid, serial }) =>
        device.startsWith(words.toLowerCase()) || uuid === words || serial === words,
    );
    const [first] = found;
    if (!first) throw new OperatorError('device.unknown', 404, `no device is called ${words}`);
    if (found.length > 1)
      throw new OperatorError(
        'device.ambiguous',
        409,
        `${found.length} devices are called ${words}; say more of it`,
      );
    return first.device;
  }

  async #record(device: string): Promise<DeviceRecordSnapshot> {
    const snapshot = await this.#options.runner.read(device);
    if (!snapshot) throw new OperatorError('device.unknown', 404, `no device is called ${device}`);
    return snapshot;
  }

  async #all(): Promise<(RecordSummary & { device: string })[]> {
    const page = 1000;
    const all: (RecordSummary & { device: string })[] = [];
    for (let after = ''; ; ) {
      const rows = await this.#options.store.list(after, page);
      all.push(...rows);
      if (rows.length < page) return all;
      after = (rows[rows.length - 1] as { device: string }).device;
    }
  }

  async #audit(by: string, what: string, device: string, reason: string): Promise<void> {
    const at = this.#options.clock.now();
    await this.#options.store.put('audit', `${at}-${randomUUID()}`, { at, by, what, device, reason });
  }
}

function tpmView({ ekName, akName, ekCertificate }: Identity): DeviceView['tpm'] {
  if (!ekCertificate) return { ekName, akName, certificate: null };
  const { sent: _, ...certificate } = ekCertificate;
  return { ekName, akName, certificate };
}

function rootView({ id, file, root, certificate }: VendorCertificate): EkRootView {
  const { subject, issuer, notBefore, notAfter } = certificate;
  return {
    id,
    file,
    kind: root ? 'root' : 'intermediate',
    subject: subject.text,
    issuer: issuer.text,
    notBefore,
    notAfter,
  };
}

/** A reason as it is kept. Throws OperatorError reason.missing. */
export function checkReason(reason: string): string {
  const text = reason.trim();
  if (text.length === 0 || text.length > longestReason) {
    throw new OperatorError('reason.missing', 422, `say why, in 1 to ${longestReason} characters`);
  }
  return text;
}
