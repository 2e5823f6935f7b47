// EVC's data folder: what is in it, how it is made, and how the command line finds a running EVC through it.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { earliest } from '../machines/clock.ts';
import type { Account } from '../machines/device-record.ts';
import { makeToken } from './api/token.ts';
import { exitCodes, Failure } from './cli/failure.ts';
import { createPki, loadPki, type Pki, pkiExists } from './pki.ts';
import { LibsqlStore } from './store/libsql.ts';
import type { Store } from './store/store.ts';

export const defaultPorts = { mqtt: 8883, https: 8443 } as const;

/** The first account: nothing is locked, and movement is only reported. */
const firstAccount: Account = {
  id: 'default',
  kind: 'production',
  locationLock: false,
  radius: 100,
  moved: 'report',
};

/** The store, with an account where it has none by that name. */
export async function withFirstAccount(store: Store): Promise<Store> {
  if (!(await store.get('account', firstAccount.id)))
    await store.put('account', firstAccount.id, firstAccount);
  return store;
}

/** Where a running EVC is, written by `evc serve` for the command line. */
export interface ServiceFile {
  pid: number;
  mqttPort: number;
  httpsPort: number;
  host: string;
}

export class DataFolder {
  readonly path: string;

  constructor(path: string | undefined) {
    this.path = resolve(path ?? process.env.EVC_DATA ?? 'evc-data');
  }

  file(name: string): string {
    return join(this.path, name);
  }

  get complete(): boolean {
    return (
      pkiExists(this.file('pki')) &&
      existsSync(this.file('token.hash')) &&
      existsSync(this.file('hosts.json'))
    );
  }

  /** Makes what is missing; what is there stays. Returns the administrator's token if it was made now. Throws Failure clock.unset. */
  async init(
    hosts: readonly string[],
    now: number,
  ): Promise<{ token: string | null; hosts: readonly string[] }> {
    this.checkClock(now);
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
    if (!pkiExists(this.file('pki'))) {
      await createPki(this.file('pki'), hosts, now);
      this.#write('hosts.json', `${JSON.stringify(hosts)}\n`);
    } else if (!existsSync(this.file('hosts.json'))) {
      // Set-up was cut short between the two.
      this.#write('hosts.json', `${JSON.stringify(hosts)}\n`);
    }
    const store = LibsqlStore.open(this.file('evc.db'));
    try {
      await withFirstAccount(store);
    } finally {
      await store.close();
    }
    if (existsSync(this.file('token.hash'))) return { token: null, hosts: this.hosts() };
    const { token, hash } = makeToken();
    this.#write('token', `${token}\n`);
    this.#write('token.hash', `${hash}\n`);
    return { token, hosts: this.hosts() };
  }

  /** Throws Failure when the folder is not set up, or is damaged. */
  check(): void {
    if (this.complete) return;
    throw new Failure(`${this.path} is no data folder of EVC`, {
      hint: `set one up with: evc init --data ${this.path}`,
      code: 'data.missing',
    });
  }

  pki(): Pki {
    this.check();
    try {
      return loadPki(this.file('pki'));
    } catch (cause) {
      throw new Failure(`the keys in ${this.file('pki')} cannot be read`, {
        hint: 'put a backup of that folder back: with new keys, every device would have to be installed again',
        code: 'data.keys-broken',
        cause,
      });
    }
  }

  /**
   * Throws Failure clock.unset where the clock of this machine stands before all that EVC does: what is made by it would have run out
   * when it is set, and what has run out, such as a key, a token or trust, would be good again until then.
   */
  checkClock(now: number): void {
    const root = pkiExists(this.file('pki')) ? Date.parse(this.pki().root.validFrom) : earliest;
    const least = Math.max(root, earliest);
    if (now >= least) return;
    const since = root > earliest ? 'its own root was made' : 'this program was made';
    throw new Failure(
      `the clock of this machine says ${new Date(now).toISOString()}, and ${since} after that, on ${new Date(least).toISOString().slice(0, 10)}`,
      { hint: 'set it, and keep it set: apt-get install systemd-timesyncd, or chrony', code: 'clock.unset' },
    );
  }

  /** Names and addresses under which devices reach this EVC; the first is in what they are told. */
  hosts(): readonly string[] {
    return this.#json<string[]>('hosts.json');
  }

  tokenHash(): string {
    const hash = readFileSync(this.file('token.hash'), 'utf8').trim();
    if (/^[0-9a-f]{64}$/.test(hash)) return hash;
    throw new Failure(`${this.file('token.hash')} is damaged`, {
      hint: `remove it, and make a new token with: evc init --data ${this.path}`,
      code: 'data.token-broken',
    });
  }

  /** The administrator's token, as set-up left it here; null when somebody took it away. */
  token(): string | null {
    const path = this.file('token');
    return existsSync(path) ? readFileSync(path, 'utf8').trim() : null;
  }

  service(): ServiceFile | null {
    return existsSync(this.file('service.json')) ? this.#json<ServiceFile>('service.json') : null;
  }

  /** Shared by controllers and brokers that are not EVC's own; made when it is first asked for. */
  brokerSecret(): string {
    if (!existsSync(this.file('broker.secret'))) this.#write('broker.secret', `${makeToken().token}\n`);
    return readFileSync(this.file('broker.secret'), 'utf8').trim();
  }

  announce(service: ServiceFile): void {
    this.#write('service.json', `${JSON.stringify(service)}\n`);
  }

  withdraw(): void {
    if (this.service()?.pid === process.pid) rmSync(this.file('service.json'), { force: true });
  }

  #json<Value>(name: string): Value {
    const path = this.file(name);
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as Value;
    } catch (cause) {
      throw new Failure(`${path} cannot be read`, {
        hint: 'put a backup of it back',
        code: 'data.broken',
        cause,
      });
    }
  }

  #write(name: string, text: string): void {
    const path = this.file(name);
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

/** A port of the command line; 0 takes a free one. */
export function portOf(text: string | undefined, usual: number, option: string): number {
  const port = text === undefined ? usual : Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port;
  throw new Failure(`${option} ${text} is no port`, {
    hint: 'any from 0 (a free one) to 65535',
    exitCode: exitCodes.usage,
  });
}

const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `10m`, `2h`, `7d` in ms. */
export function durationOf(text: string, option: string): number {
  const [, count = '', unit = ''] = /^(\d{1,7})(ms|s|m|h|d)$/.exec(text) ?? [];
  const ms = Number(count) * (units[unit] ?? 0);
  if (ms > 0) return ms;
  throw new Failure(`${option} ${text} is no length of time`, {
    hint: 'write it as 90s, 10m, 2h or 7d',
    exitCode: exitCodes.usage,
  });
}
