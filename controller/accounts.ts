// Accounts, and what single devices do otherwise than their account: where they are locked to, how far, and what moving means.
import { createHash } from 'node:crypto';
import type { Clock } from '../machines/clock.ts';
import type { Account } from '../machines/device-record.ts';
import { checkName, type Decision, evcItself, OperatorError } from './decision.ts';
import type { RecordRunner } from './record/runner.ts';
import type { Store } from './store/store.ts';

/** What a device has for itself; what is absent is as its account says. */
export type DeviceLock = Partial<Pick<Account, 'locationLock' | 'radius' | 'moved'>>;

export interface AccountsOptions {
  store: Store;
  clock: Clock;
  runner: RecordRunner;
}

export const newAccount: Omit<Account, 'id'> = {
  kind: 'production',
  locationLock: false,
  radius: 100,
  moved: 'report',
  requireEkCertificate: false,
  approval: false,
};

const page = 1000;

export class Accounts {
  readonly #options: AccountsOptions;

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /** Throws OperatorError account.name, account.exists. */
  async add(account: Account, { by }: Decision = evcItself): Promise<Account> {
    const { store } = this.#options;
    checkName('account.name', 'an account', account.id);
    await store.update<Account>('account', account.id, (found) => {
      if (found) throw new OperatorError('account.exists', 409, `there is an account ${account.id} already`);
      return account;
    });
    await this.#audit(by, 'account.added', account.id, null, account);
    return account;
  }

  async list(accounts: readonly string[] | null = null): Promise<Account[]> {
    const all = (await this.#options.store.all<Account>('account')).map(({ body }) => body);
    return accounts ? all.filter(({ id }) => accounts.includes(id)) : all;
  }

  /** Throws OperatorError account.unknown. */
  async get(id: string): Promise<Account> {
    const account = await this.#options.store.get<Account>('account', id);
    if (!account) throw new OperatorError('account.unknown', 404, `there is no account ${id}`);
    return account;
  }

  /**
   * Changes an account; its devices follow. Throws OperatorError account.unknown, precondition.failed.
   * @param ifTag what `tagOf` said of the account that the change rests on
   */
  async change(
    id: string,
    change: Partial<Omit<Account, 'id'>>,
    { by }: Decision = evcItself,
    ifTag?: string,
  ): Promise<Account> {
    const { store } = this.#options;
    let before: Account | null = null;
    const account = await store.update<Account>('account', id, (found) => {
      if (!found) throw new OperatorError('account.unknown', 404, `there is no account ${id}`);
      if (ifTag !== undefined && ifTag !== tagOf(found))
        throw new OperatorError('precondition.failed', 412, 'the account is not what it was when you looked');
      before = found;
      return { ...found, ...change };
    });
    await this.#audit(by, 'account.changed', id, before, account);
    for (let after = ''; ; ) {
      const rows = await store.list(after, page, [id]);
      for (const { device } of rows) await this.#tell(device, account);
      if (rows.length < page) return account;
      after = rows.at(-1)?.device ?? '';
    }
  }

  /** The account of a device, with what the device has for itself. */
  async of(device: string, account: Account): Promise<Account> {
    const lock = await this.#options.store.get<DeviceLock>('device-lock', device);
    return lock ? { ...account, ...lock } : account;
  }

  lockOf(device: string): Promise<DeviceLock | null> {
    return this.#options.store.get<DeviceLock>('device-lock', device);
  }

  /** What a device does otherwise than its account from now on; with nothing in it, it is as its account again. */
  async lock(device: string, account: string, lock: DeviceLock, decision: Decision): Promise<void> {
    const { store, runner } = this.#options;
    const before = await this.lockOf(device);
    const target = await this.get(account);
    if (Object.keys(lock).length === 0) await store.remove('device-lock', device);
    else await store.put('device-lock', device, lock);
    try {
      const event = { type: 'account.changed', account: { ...target, ...lock } } as const;
      const { by, reason = '', ifRevision } = decision;
      const decided = {
        by,
        what: 'device.lock',
        reason,
        ...(ifRevision === undefined ? {} : { ifRevision }),
      };
      await runner.send(device, event, { decided });
    } catch (error) {
      // What the record does not know must not come true with the next change of the account.
      if (before) await store.put('device-lock', device, before);
      else await store.remove('device-lock', device);
      throw error;
    }
  }

  async #tell(device: string, account: Account): Promise<void> {
    const event = { type: 'account.changed', account: await this.of(device, account) } as const;
    await this.#options.runner.send(device, event);
  }

  async #audit(by: string, what: string, id: string, before: object | null, after: object): Promise<void> {
    const { store, clock } = this.#options;
    await store.audit({ at: clock.now(), by, what, subject: id, account: id, reason: '', before, after });
  }
}

/** Another one for each change of the account. */
export function tagOf(account: Account): string {
  const fields = Object.entries(account).sort(([one], [other]) => (one < other ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex').slice(0, 16);
}
