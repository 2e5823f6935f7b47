// What people do with devices: look, upgrade, and take the decisions that only a person may take. The API and the command line
// are two faces of this. Whoever decides says why, and it is kept with the step that the record made of it.
import { randomUUID } from 'node:crypto';
import { type Filter, FilterError, matches, parseFilter } from '../formats/filter/filter.ts';
import type { Clock } from '../machines/clock.ts';
import type { DeviceRecordSnapshot } from '../machines/device-record.ts';
import type { Accounts, DeviceLock } from './accounts.ts';
import { checkName, checkReason, type Decision, evcItself, OperatorError } from './decision.ts';
import { type ChangesView, changesView, type DeviceView, deviceView } from './device-view.ts';
import type { Catalogue } from './images/catalogue.ts';
import { trustOf } from './record/facts.ts';
import { type Decided, type RecordEvent, type RecordRunner, withoutSettings } from './record/runner.ts';
import type { DeviceRow, JournalEntry, Store } from './store/store.ts';

export type { ChangesView, DeviceView } from './device-view.ts';

export interface OperatorOptions {
  store: Store;
  clock: Clock;
  runner: RecordRunner;
  catalogue: Catalogue;
  accounts: Accounts;
  imageBase(): string;
}

export interface UpgradeWish {
  version: string;
  /** ms that the window stays open. */
  window: number;
  /** ms that the new image has to hold. */
  testWindow: number;
}

/** Which devices, and from where. */
export interface ListWish {
  filter?: string;
  /** Behind the device with this id. */
  after?: string;
  limit: number;
  /** Of these accounts alone; null: of all. */
  accounts?: readonly string[] | null;
}

/** A page of a list; `next` is where the one after it begins, null at the end. A page may be short, and even empty, before the end. */
export interface DevicePage {
  devices: DeviceRow[];
  next: string | null;
}

/** A device in a list of many that are accepted at once, and the evidence that was looked at. */
export interface Acceptance {
  device: string;
  attempt: string;
}

export interface Accepted extends Acceptance {
  /** Why it was not, else null. */
  refused: { code: string; detail: string } | null;
}

const page = 1000;
/** Rows that one question may look at, so that a filter which nothing fits does not take EVC's time for itself. */
const mostScanned = 20_000;
export const mostLabels = 32;

export class Operator {
  readonly #options: OperatorOptions;

  constructor(options: OperatorOptions) {
    this.#options = options;
  }

  /** Opens the upgrade window of a device: from what it runs, to this version, until then. */
  async assignUpgrade(
    device: string,
    wish: UpgradeWish,
    decision: Decision = evcItself,
  ): Promise<DeviceView> {
    const { catalogue, clock, imageBase } = this.#options;
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
    return this.#decide(device, { type: 'upgrade.assigned', upgrade }, 'upgrade.assigned', decision);
  }

  /** What the device shows, against its baseline: what an acceptance would change. */
  async changes(device: string): Promise<ChangesView> {
    const { revision, snapshot } = await this.#row(device);
    return changesView(device, revision, snapshot);
  }

  /**
   * Makes what the device shows its baseline.
   * @param attempt the evidence that was looked at; another one is not accepted
   */
  async acceptState(
    device: string,
    by: string,
    reason: string,
    { attempt, ifRevision }: { attempt?: string; ifRevision?: number } = {},
  ): Promise<DeviceView> {
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
    if (attempt !== undefined && attempt !== verdict.attempt)
      throw new OperatorError(
        'device.other-attempt',
        409,
        'the device has attested again since you looked; look at what it shows now',
      );
    const why = checkReason(reason);
    const event = { type: 'state.accepted', attempt: verdict.attempt, by, reason: why } as const;
    const decision = { by, reason: why, ...(ifRevision === undefined ? {} : { ifRevision }) };
    return this.#decide(device, event, 'state.accepted', decision);
  }

  /** One by one: each is accepted, or it is said why not. */
  async acceptMany(list: readonly Acceptance[], by: string, reason: string): Promise<Accepted[]> {
    const why = checkReason(reason);
    const results: Accepted[] = [];
    for (const { device, attempt } of list) {
      const result: Accepted = { device, attempt, refused: null };
      try {
        await this.acceptState(device, by, why, { attempt });
      } catch (error) {
        if (!(error instanceof OperatorError)) throw error;
        result.refused = { code: error.code, detail: error.message };
      }
      results.push(result);
    }
    return results;
  }

  async acceptPlace(device: string, by: string, reason: string, ifRevision?: number): Promise<DeviceView> {
    const snapshot = await this.#record(device);
    if (trustOf(snapshot) !== 'umd' && (snapshot.value as Record<string, string>).location !== 'umd') {
      throw new OperatorError('device.not-moved', 409, 'the device is where it was locked to');
    }
    return this.#reasoned(device, 'place.accepted', 'place.accepted', by, reason, ifRevision);
  }

  async moveDevice(device: string, account: string, decision: Decision = evcItself): Promise<DeviceView> {
    const { accounts } = this.#options;
    const target = await accounts.of(device, await accounts.get(account));
    await this.#record(device);
    return this.#decide(device, { type: 'account.changed', account: target }, 'device.moved', decision);
  }

  /** What the device does otherwise than its account. */
  async lockDevice(device: string, lock: DeviceLock, decision: Decision): Promise<DeviceView> {
    const { account } = (await this.#record(device)).context;
    if (!account) throw new OperatorError('device.unknown', 404, `${device} is not registered yet`);
    await this.#options.accounts.lock(device, account.id, lock, decision);
    return this.show(device);
  }

  /** Throws OperatorError label.name, label.too-many. */
  async labelDevice(device: string, labels: readonly string[], { by }: Decision): Promise<DeviceView> {
    const { store, clock } = this.#options;
    const { labels: before, account } = await this.#find(device);
    const wanted = [...new Set(labels)].sort();
    for (const label of wanted) checkName('label.name', 'a label', label);
    if (wanted.length > mostLabels)
      throw new OperatorError('label.too-many', 422, `a device has ${mostLabels} labels at most`);
    await store.label(device, wanted);
    const nothing = { at: clock.now(), reason: '' };
    const change = { before: { labels: before }, after: { labels: wanted } };
    await store.audit({ ...nothing, by, what: 'device.labelled', subject: device, account, ...change });
    return this.show(device);
  }

  async rotateKey(device: string, decision: Decision = evcItself): Promise<DeviceView> {
    await this.#record(device);
    return this.#decide(device, { type: 'rotation.asked' }, 'rotation.asked', decision);
  }

  /** What its configuration says, with the revision that a change of it rests on. */
  async settings(
    device: string,
  ): Promise<{ device: string; revision: number; settings: Record<string, string> }> {
    const { revision, snapshot } = await this.#row(device);
    return { device, revision, settings: snapshot.context.config.settings };
  }

  async changeSettings(
    device: string,
    settings: Record<string, string>,
    decision: Decision = evcItself,
  ): Promise<DeviceView> {
    await this.#record(device);
    return this.#decide(device, { type: 'settings.changed', settings }, 'settings.changed', decision);
  }

  async retire(device: string, by: string, reason: string, ifRevision?: number): Promise<DeviceView> {
    await this.#record(device);
    return this.#reasoned(device, 'device.retired', 'device.retired', by, reason, ifRevision);
  }

  async allowReenrolment(
    device: string,
    by: string,
    reason: string,
    ifRevision?: number,
  ): Promise<DeviceView> {
    await this.#record(device);
    return this.#reasoned(device, 'reenrolment.allowed', 'reenrolment.allowed', by, reason, ifRevision);
  }

  /** Throws OperatorError filter.invalid. */
  async list({ filter = '', after = '', limit, accounts = null }: ListWish): Promise<DevicePage> {
    const { store, clock } = this.#options;
    const wanted = filterOf(filter);
    const devices: DeviceRow[] = [];
    const now = clock.now();
    let from = after;
    for (let scanned = 0; scanned < mostScanned; scanned += page) {
      const most = wanted.length === 0 ? Math.min(page, limit - devices.length + 1) : page;
      const rows = await store.list(from, most, accounts);
      for (const row of rows) {
        if (!matches(wanted, row, now)) continue;
        if (devices.length === limit) return { devices, next: devices.at(-1)?.device ?? null };
        devices.push(row);
      }
      if (rows.length < most) return { devices, next: null };
      from = rows.at(-1)?.device ?? '';
    }
    return { devices, next: from };
  }

  async show(device: string): Promise<DeviceView> {
    const row = await this.#row(device);
    return deviceView(device, row, row.snapshot);
  }

  async journal(device: string, limit = 50): Promise<(JournalEntry & { seq: number })[]> {
    await this.#record(device);
    const entries = await this.#options.store.journal(device, limit);
    // Entries of before have the values.
    return entries.map((entry) => ({ ...entry, body: withoutSettings(entry.body) }));
  }

  /** The device that a person means: its id, the start of it, its UUID or its serial number. */
  async find(words: string, accounts: readonly string[] | null = null): Promise<string> {
    return (await this.#find(words, accounts)).device;
  }

  /** The same, with the name that people know it by; empty where it has none. */
  async named(
    words: string,
    accounts: readonly string[] | null = null,
  ): Promise<{ device: string; serial: string }> {
    const { device, serial } = await this.#find(words, accounts);
    return { device, serial };
  }

  async #find(words: string, accounts: readonly string[] | null = null): Promise<DeviceRow> {
    const found = await this.#options.store.find(words, 2, accounts);
    const [first] = found;
    if (!first) throw new OperatorError('device.unknown', 404, `no device is called ${words}`);
    if (found.length > 1)
      throw new OperatorError(
        'device.ambiguous',
        409,
        `more than one device is called ${words}; say more of it`,
      );
    return first;
  }

  /** The row first: the record may be newer than the revision that is told, and then a decision on it is refused. */
  async #row(device: string): Promise<DeviceRow & { snapshot: DeviceRecordSnapshot }> {
    const row = await this.#find(device);
    return { ...row, snapshot: await this.#record(row.device) };
  }

  async #record(device: string): Promise<DeviceRecordSnapshot> {
    const snapshot = await this.#options.runner.read(device);
    if (!snapshot) throw new OperatorError('device.unknown', 404, `no device is called ${device}`);
    return snapshot;
  }

  #reasoned(
    device: string,
    type: 'place.accepted' | 'device.retired' | 'reenrolment.allowed',
    what: string,
    by: string,
    reason: string,
    ifRevision?: number,
  ): Promise<DeviceView> {
    const why = checkReason(reason);
    const decision = { by, reason: why, ...(ifRevision === undefined ? {} : { ifRevision }) };
    return this.#decide(device, { type, by, reason: why }, what, decision);
  }

  async #decide(device: string, event: RecordEvent, what: string, decision: Decision): Promise<DeviceView> {
    const { by, reason = '', ifRevision } = decision;
    const decided: Decided = { by, what, reason, ...(ifRevision === undefined ? {} : { ifRevision }) };
    await this.#options.runner.send(device, event, { decided });
    return this.show(device);
  }
}

/** Throws OperatorError filter.invalid. */
export function filterOf(text: string): Filter {
  try {
    return parseFilter(text);
  } catch (error) {
    if (error instanceof FilterError) throw new OperatorError('filter.invalid', 422, error.message);
    throw error;
  }
}
