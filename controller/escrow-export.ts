// Keys in escrow for safe-keeping: sealed once more, for a key that only a person has, and put back where the store lost one. A page
// of devices is a JWE, a line of the file; each says which page it follows, so that one that is missing is missed.
import * as v from 'valibot';
import type { Clock } from '../machines/clock.ts';
import { checkReason, OperatorError } from './decision.ts';
import { isBox } from './escrow.ts';
import { decryptJwe, encryptJwe, JweError, recipientOf } from './jwe.ts';
import type { ListWish, Operator } from './operator.ts';
import type { RecordRunner } from './record/runner.ts';
import type { DeviceRow, EscrowRow, Store } from './store/store.ts';

export interface EscrowExportOptions {
  store: Store;
  clock: Clock;
  operator: Pick<Operator, 'list'>;
  runner: Pick<RecordRunner, 'read'>;
}

/** A key in escrow as it is kept away from EVC; `box` in base64. */
export interface KeptKey extends Omit<EscrowRow, 'box'> {
  box: string;
}

export interface ExportedPage {
  /** JWE. */
  sealed: string;
  devices: number;
  keys: number;
  /** That the records list, and that the store has not, or not as a sealed key. */
  lost: number;
  next: string | null;
}

/** `there`: nothing is missing. `unlisted`: no record lists it. `unreadable`: it is no sealed key. */
export type Restored = 'there' | 'missing' | 'restored' | 'unlisted' | 'unreadable';

export type RestoredKey = Pick<KeptKey, 'device' | 'version'> & { outcome: Restored };

const format = 'evc-escrow';
const largestBox = 4096;
const base64 = /^[A-Za-z0-9+/]+={0,2}$/;
const short = v.pipe(v.string(), v.maxLength(200));
const whole = v.pipe(v.number(), v.integer(), v.minValue(0));

const Page = v.object({
  format: v.literal(format),
  version: v.literal(1),
  made: whole,
  filter: v.pipe(v.string(), v.maxLength(500)),
  after: short,
  next: v.nullable(short),
  keys: v.array(
    v.object({
      device: short,
      version: whole,
      keyId: short,
      at: whole,
      box: v.pipe(v.string(), v.maxLength(2 * largestBox), v.regex(base64)),
    }),
  ),
});

export class EscrowExport {
  readonly #options: EscrowExportOptions;

  constructor(options: EscrowExportOptions) {
    this.#options = options;
  }

  /** Throws OperatorError export.key, and those of lists. @param to PEM of a public key */
  async page(to: string, wish: ListWish): Promise<ExportedPage> {
    const recipient = asRequest(() => recipientOf(to));
    const { store, clock, operator } = this.#options;
    const { devices, next } = await operator.list(wish);
    const keys: KeptKey[] = [];
    let lost = 0;
    for (const { device } of devices)
      for (const { version } of await this.#listed(device)) {
        const row = await store.escrowed(device, version);
        if (row && isBox(row.box)) keys.push({ ...row, box: Buffer.from(row.box).toString('base64') });
        else lost++;
      }
    const { filter = '', after = '' } = wish;
    const page = { format, version: 1, made: clock.now(), filter, after, next, keys };
    const sealed = encryptJwe(recipient, Buffer.from(JSON.stringify(page)));
    return { sealed, devices: devices.length, keys: keys.length, lost, next };
  }

  /**
   * Puts keys back that the records list and the store has not; what it has is never written over, unless it is no key.
   * Throws OperatorError reason.missing.
   * @param reason undefined: looks alone
   */
  async restore(
    keys: readonly KeptKey[],
    { by, reason, accounts = null }: { by: string; reason?: string; accounts?: readonly string[] | null },
  ): Promise<RestoredKey[]> {
    const why = reason === undefined ? null : checkReason(reason);
    const results: RestoredKey[] = [];
    for (const { box, ...key } of keys) {
      const row: EscrowRow = { ...key, box: Buffer.from(box, 'base64') };
      const outcome = await this.#look(row, accounts);
      const { device, version } = key;
      if (outcome !== 'missing' || why === null) results.push({ device, version, outcome });
      else results.push({ device, version, outcome: await this.#putBack(row, by, why) });
    }
    return results;
  }

  async #look(row: EscrowRow, accounts: readonly string[] | null): Promise<Restored> {
    const found = await this.#deviceOf(row.device, accounts);
    const listed = found ? await this.#listed(row.device) : [];
    if (!listed.some(({ version, keyId }) => version === row.version && keyId === row.keyId))
      return 'unlisted';
    if (!isBox(row.box)) return 'unreadable';
    const kept = await this.#options.store.escrowed(row.device, row.version);
    return kept && isBox(kept.box) ? 'there' : 'missing';
  }

  async #putBack(row: EscrowRow, by: string, reason: string): Promise<Restored> {
    const { store, clock } = this.#options;
    const { device, version, keyId } = row;
    const broken = await store.escrowed(device, version);
    if (!(await store.restoreEscrow(row, broken?.box ?? null))) return 'there';
    const account = (await this.#deviceOf(device, null))?.account ?? '';
    const change = { before: null, after: { version, keyId } };
    const what = 'escrow.restored';
    await store.audit({ at: clock.now(), by, what, subject: device, account, reason, ...change });
    return 'restored';
  }

  async #deviceOf(device: string, accounts: readonly string[] | null): Promise<DeviceRow | undefined> {
    const [row] = await this.#options.store.find(device, 1, accounts);
    return row?.device === device ? row : undefined;
  }

  async #listed(device: string) {
    return (await this.#options.runner.read(device))?.context.escrow ?? [];
  }
}

function asRequest<Value>(work: () => Value): Value {
  try {
    return work();
  } catch (error) {
    if (error instanceof JweError) throw new OperatorError('export.key', 422, `the key: ${error.message}`);
    throw error;
  }
}

/** What a file holds, read from its first page to its last. */
export class ExportReader {
  readonly #key: Parameters<typeof decryptJwe>[0];
  #next: string | null = '';

  /** @param key as `openerOf` gives it */
  constructor(key: Parameters<typeof decryptJwe>[0]) {
    this.#key = key;
  }

  /** The keys of the next line. Throws ExportError. */
  page(line: string): KeptKey[] {
    const page = v.safeParse(Page, this.#json(line));
    if (!page.success) throw new ExportError('export.file', 'a page of it is no page of keys in escrow');
    const { after, next, keys } = page.output;
    if (after !== this.#next)
      throw new ExportError('export.incomplete', 'a page of it is missing, or is not in its place');
    this.#next = next;
    return keys;
  }

  /** Throws ExportError export.incomplete where pages are left. */
  end(): void {
    if (this.#next !== null) throw new ExportError('export.incomplete', 'its end is missing');
  }

  #json(line: string): unknown {
    try {
      return JSON.parse(decryptJwe(this.#key, line).toString('utf8'));
    } catch (cause) {
      const other = cause instanceof JweError && cause.code === 'other';
      const why = cause instanceof JweError ? cause.message : 'a page of it cannot be read';
      throw new ExportError(other ? 'export.other-key' : 'export.file', why, { cause });
    }
  }
}

/** A file that is no export, or not a whole one. */
export class ExportError extends Error {
  readonly code: 'export.file' | 'export.incomplete' | 'export.other-key';
  constructor(code: ExportError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ExportError';
    this.code = code;
  }
}
