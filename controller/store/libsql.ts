// The store in one SQLite file: write-ahead log, every commit on the disk before it counts.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'libsql';
import { storeError } from './libsql-error.ts';
import { schema, upgrades, version } from './libsql-schema.ts';
import {
  type AttemptLines,
  type AttemptRow,
  type AuditEntry,
  type AuditQuery,
  attemptBytes,
  attemptRow,
  attemptsKept,
  auditRow,
  auditValues,
  countRow,
  type DeviceRow,
  type Document,
  type DocumentKind,
  deviceColumns,
  deviceRow,
  type Effect,
  type EscrowRow,
  effectRow,
  healthQuery,
  healthRow,
  type JournalEntry,
  journalRow,
  type RecordRow,
  type Step,
  StepConflict,
  type Store,
  StoreError,
  type StoreHealth,
  type TimerRow,
  TimerTaken,
  timerRow,
} from './store.ts';

/** Attempts whose evidence is kept, per device. */
const evidenceKept = 20;
/** Steps whose journal is kept, per device; it is cut each hundred steps. */
const journalKept = 5000;
const journalCut = 100;

type Row = Record<string, unknown>;

export class LibsqlStore implements Store {
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();

  readonly #path: string;
  #closed = false;

  private constructor(db: Database.Database, path: string) {
    this.#db = db;
    this.#path = path;
  }

  /** Opens the file, or makes it; `:memory:` for tests. Throws StoreError version, broken, taken. */
  static open(path: string): LibsqlStore {
    try {
      if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const db = new Database(path);
      db.exec('pragma journal_mode = wal');
      db.exec('pragma synchronous = full');
      db.exec('pragma busy_timeout = 5000');
      const found = Number((db.prepare('pragma user_version').get() as Row).user_version);
      if (found > version) {
        throw new StoreError(
          'version',
          `${path} was written by a newer EVC (store ${found}, this one knows ${version}); run that one`,
        );
      }
      if (found < version) {
        const missing = Array.from({ length: version - found }, (_, i) => upgrades[found + 1 + i] ?? '');
        const parts = found === 0 ? [schema, ...missing] : missing;
        db.exec(`begin immediate; ${parts.join('')} pragma user_version = ${version}; commit`);
      }
      return new LibsqlStore(db, path);
    } catch (error) {
      throw storeError(path, error);
    }
  }

  async load(device: string): Promise<RecordRow | null> {
    const row = this.#get('select version, snapshot from records where device = ?', device);
    return row
      ? { device, version: Number(row.version), snapshot: JSON.parse(String(row.snapshot)) as object }
      : null;
  }

  async commit(step: Step): Promise<void> {
    this.#transaction(() => {
      const { device, from, summary, journal } = step;
      const { serial, uuid, account, trust, seen, facts } = summary;
      const values = [
        JSON.stringify(step.snapshot),
        serial,
        uuid,
        account,
        trust,
        seen,
        JSON.stringify(facts),
      ];
      const changed =
        from === 0
          ? this.#run(
              'insert into records (version, snapshot, serial, uuid, account, trust, seen, facts, device) values (1, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing',
              ...values,
              device,
            )
          : this.#run(
              'update records set version = version + 1, snapshot = ?, serial = ?, uuid = ?, account = ?, trust = ?, seen = ?, facts = ? where device = ? and version = ?',
              ...values,
              device,
              from,
            );
      if (changed === 0) throw new StepConflict(device);
      if (step.timer && this.#takeTimer(step.timer) === 0) throw new TimerTaken(step.timer);
      this.#run(
        'insert into journal (device, at, event, body) values (?, ?, ?, ?)',
        device,
        journal.at,
        journal.event,
        JSON.stringify(journal.body),
      );
      if (from % journalCut === 0) {
        this.#run(
          'delete from journal where device = ? and seq <= (select seq from journal where device = ? order by seq desc limit 1 offset ?)',
          device,
          device,
          journalKept,
        );
      }
      for (const effect of step.effects) {
        this.#run(
          'insert into effects (id, device, type, params) values (?, ?, ?, ?)',
          effect.id,
          device,
          effect.type,
          JSON.stringify(effect.params),
        );
      }
      for (const { timer, at } of step.setTimers) {
        this.#run('insert or replace into timers (device, timer, at) values (?, ?, ?)', device, timer, at);
      }
      for (const timer of step.clearTimers) {
        this.#run('delete from timers where device = ? and timer = ?', device, timer);
      }
      if (step.escrow) {
        const { version: escrowVersion, keyId, box, at } = step.escrow;
        this.#run(
          'insert into escrow (device, version, key_id, box, at) values (?, ?, ?, ?, ?)',
          device,
          escrowVersion,
          keyId,
          Buffer.from(box),
          at,
        );
      }
      if (step.evidence) {
        const { id, bytes, at } = step.evidence;
        this.#run(
          'insert into evidence (id, device, at, bytes) values (?, ?, ?, ?)',
          id,
          device,
          at,
          Buffer.from(bytes),
        );
        this.#run(
          'delete from evidence where device = ? and id not in (select id from evidence where device = ? order by at desc limit ?)',
          device,
          device,
          evidenceKept,
        );
      }
      if (step.attempt) this.#keepAttempt(device, journal.at, step.attempt);
      if (step.audit) this.#run(insertAudit, ...auditValues(step.audit));
    });
  }

  #keepAttempt(
    device: string,
    at: number,
    { begins, lines, standing, evidence, outcome }: AttemptLines,
  ): void {
    const last = this.#get(
      'select attempt, size from attempts where device = ? order by attempt desc limit 1',
      device,
    );
    let attempt = Number(last?.attempt ?? 0);
    let size = Number(last?.size ?? 0);
    let kept = lines;
    if (begins || !last) {
      attempt++;
      size = 0;
      kept = [standing(), ...lines];
      this.#run(
        "insert into attempts (device, attempt, begun, ended, steps, size, dropped, evidence, outcome) values (?, ?, ?, ?, 0, 0, 0, '', '')",
        device,
        attempt,
        at,
        at,
      );
      for (const table of ['attempts', 'attempt_lines'])
        this.#run(`delete from ${table} where device = ? and attempt <= ?`, device, attempt - attemptsKept);
    }
    const text = kept.join('\n');
    // Once there is no room, nothing more is kept: lines after a gap would not follow from those before it.
    const room = size <= attemptBytes && size + text.length <= attemptBytes;
    if (room)
      this.#run('insert into attempt_lines (device, attempt, lines) values (?, ?, ?)', device, attempt, text);
    this.#run(
      'update attempts set ended = ?, steps = steps + 1, size = ?, dropped = dropped + ?, evidence = coalesce(?, evidence), outcome = coalesce(?, outcome) where device = ? and attempt = ?',
      at,
      room ? size + text.length : attemptBytes + 1,
      room ? 0 : lines.length,
      evidence ?? null,
      outcome ?? null,
      device,
      attempt,
    );
  }

  async done(effect: string): Promise<void> {
    this.#change('delete from effects where id = ?', effect);
  }

  async pending(limit: number): Promise<Effect[]> {
    const rows = this.#all('select id, device, type, params from effects order by seq limit ?', limit);
    return rows.map(effectRow);
  }

  async due(now: number, limit: number): Promise<TimerRow[]> {
    const rows = this.#all(
      'select device, timer, at from timers where at <= ? order by at limit ?',
      now,
      limit,
    );
    return rows.map(timerRow);
  }

  async nextTimer(): Promise<number | null> {
    const at = this.#get('select min(at) as at from timers')?.at;
    return at === null || at === undefined ? null : Number(at);
  }

  async list(after: string, limit: number, accounts?: readonly string[] | null): Promise<DeviceRow[]> {
    const of = accounts ? ' and account in (select value from json_each(?))' : '';
    const rows = this.#all(
      `select ${deviceColumns} from records where device > ?${of} order by device limit ?`,
      ...(accounts ? [after, JSON.stringify(accounts), limit] : [after, limit]),
    );
    return rows.map(deviceRow);
  }

  async find(words: string, limit: number, accounts?: readonly string[] | null): Promise<DeviceRow[]> {
    const id = words.toLowerCase();
    const of = accounts ? ' and account in (select value from json_each(?))' : '';
    // Ids are hex, so whatever begins with one is before it and a letter behind f.
    const rows = this.#all(
      `select ${deviceColumns} from records where ((device >= ? and device < ?) or uuid = ? or serial = ?)${of} order by device limit ?`,
      ...[id, `${id}g`, words, words],
      ...(accounts ? [JSON.stringify(accounts), limit] : [limit]),
    );
    return rows.map(deviceRow);
  }

  async counts(): Promise<{ account: string; trust: string; devices: number }[]> {
    const rows = this.#all(
      'select account, trust, count(*) as devices from records group by account, trust order by account, trust',
    );
    return rows.map(countRow);
  }

  async health(): Promise<StoreHealth> {
    return healthRow(this.#get(healthQuery));
  }

  async label(device: string, labels: readonly string[]): Promise<boolean> {
    return this.#change('update records set labels = ? where device = ?', JSON.stringify(labels), device) > 0;
  }

  async bySerial(serial: string): Promise<string | null> {
    const row = this.#get("select device from records where serial = ? and trust <> 'retired'", serial);
    return row ? String(row.device) : null;
  }

  async journal(device: string, limit: number): Promise<(JournalEntry & { seq: number })[]> {
    const rows = this.#all(
      'select seq, at, event, body from journal where device = ? order by seq desc limit ?',
      device,
      limit,
    );
    return rows.map(journalRow);
  }

  async escrowed(device: string, wanted: number): Promise<EscrowRow | null> {
    const row = this.#get(
      'select key_id, box, at from escrow where device = ? and version = ?',
      device,
      wanted,
    );
    return row
      ? { device, version: wanted, keyId: String(row.key_id), box: bytesOf(row.box), at: Number(row.at) }
      : null;
  }

  async lastEscrow(device: string): Promise<number> {
    return Number(
      this.#get('select max(version) as version from escrow where device = ?', device)?.version ?? 0,
    );
  }

  async evidence(id: string): Promise<Uint8Array | null> {
    const row = this.#get('select bytes from evidence where id = ?', id);
    return row ? bytesOf(row.bytes) : null;
  }

  async attempts(device: string): Promise<AttemptRow[]> {
    const rows = this.#all(
      'select attempt, begun, ended, steps, dropped, evidence, outcome from attempts where device = ? order by attempt desc',
      device,
    );
    return rows.map(attemptRow);
  }

  async attemptLines(device: string, attempt: number): Promise<string[] | null> {
    const rows = this.#all(
      'select lines from attempt_lines where device = ? and attempt = ? order by seq',
      device,
      attempt,
    );
    return rows.length === 0 ? null : rows.flatMap((row) => String(row.lines).split('\n'));
  }

  async putBlob(sha256: string, bytes: Uint8Array): Promise<void> {
    this.#change(
      'insert into blobs (sha256, bytes) values (?, ?) on conflict do nothing',
      sha256,
      Buffer.from(bytes),
    );
  }

  async blob(sha256: string): Promise<Uint8Array | null> {
    const row = this.#get('select bytes from blobs where sha256 = ?', sha256);
    return row ? bytesOf(row.bytes) : null;
  }

  async audit(entry: AuditEntry): Promise<void> {
    this.#change(insertAudit, ...auditValues(entry));
  }

  async audits({ before, limit, subject, accounts }: AuditQuery): Promise<(AuditEntry & { seq: number })[]> {
    const where = [
      ...(before === undefined ? [] : ['seq < ?']),
      ...(subject === undefined ? [] : ['subject = ?']),
      ...(accounts ? ['account in (select value from json_each(?))'] : []),
    ];
    const values = [
      ...(before === undefined ? [] : [before]),
      ...(subject === undefined ? [] : [subject]),
      ...(accounts ? [JSON.stringify(accounts)] : []),
    ];
    const of = where.length === 0 ? '' : ` where ${where.join(' and ')}`;
    return this.#all(`select * from audit${of} order by seq desc limit ?`, ...values, limit).map(auditRow);
  }

  async put(kind: DocumentKind, id: string, body: object): Promise<void> {
    this.#change(
      'insert or replace into documents (kind, id, body) values (?, ?, ?)',
      kind,
      id,
      JSON.stringify(body),
    );
  }

  async remove(kind: DocumentKind, id: string): Promise<boolean> {
    return this.#change('delete from documents where kind = ? and id = ?', kind, id) > 0;
  }

  async update<Body extends object>(
    kind: DocumentKind,
    id: string,
    change: (body: Body | null) => Body,
  ): Promise<Body> {
    return this.#transaction(() => {
      const row = this.#get('select body from documents where kind = ? and id = ?', kind, id);
      const body = change(row ? (JSON.parse(String(row.body)) as Body) : null);
      this.#run(
        'insert or replace into documents (kind, id, body) values (?, ?, ?)',
        kind,
        id,
        JSON.stringify(body),
      );
      return body;
    });
  }

  async get<Body>(kind: DocumentKind, id: string): Promise<Body | null> {
    const row = this.#get('select body from documents where kind = ? and id = ?', kind, id);
    return row ? (JSON.parse(String(row.body)) as Body) : null;
  }

  async ids(kind: DocumentKind): Promise<string[]> {
    const rows = this.#all('select id from documents where kind = ? order by id', kind);
    return rows.map((row) => String(row.id));
  }

  async all<Body>(kind: DocumentKind): Promise<Document<Body>[]> {
    const rows = this.#all('select id, body from documents where kind = ? order by id', kind);
    return rows.map((row) => ({ id: String(row.id), body: JSON.parse(String(row.body)) as Body }));
  }

  /** Nothing: what is old is cut as new is stored. */
  async maintain(): Promise<void> {}

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#statements.clear();
    try {
      this.#db.exec('pragma wal_checkpoint(truncate)');
    } catch {
      // One file for a backup would be nice; the log beside it is as good.
    }
    this.#db.close();
  }

  #takeTimer({ device, timer, at }: TimerRow): number {
    return this.#run('delete from timers where device = ? and timer = ? and at = ?', device, timer, at);
  }

  #transaction<Result>(work: () => Result): Result {
    this.#checkOpen();
    try {
      this.#db.exec('begin immediate');
      const result = work();
      this.#db.exec('commit');
      return result;
    } catch (error) {
      if (this.#db.inTransaction) this.#db.exec('rollback');
      throw storeError(this.#path, error);
    }
  }

  #statement(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Asked anything after its end, libsql ends the process. */
  #checkOpen(): void {
    if (this.#closed) throw new StoreError('closed', `${this.#path} was closed`);
  }

  /** One change on its own: a statement that fails outside a transaction is never reset, and no commit works after it. */
  #change(sql: string, ...values: unknown[]): number {
    return this.#transaction(() => this.#run(sql, ...values));
  }

  #run(sql: string, ...values: unknown[]): number {
    return this.#mapped(() => this.#statement(sql).run(values).changes);
  }

  #get(sql: string, ...values: unknown[]): Row | undefined {
    return this.#mapped(() => this.#statement(sql).get(values) as Row | undefined);
  }

  #all(sql: string, ...values: unknown[]): Row[] {
    return this.#mapped(() => this.#statement(sql).all(values) as Row[]);
  }

  /** Values go in one array: a lone Buffer would be taken for named parameters, and end the process. */
  #mapped<Result>(query: () => Result): Result {
    this.#checkOpen();
    try {
      return query();
    } catch (error) {
      throw storeError(this.#path, error);
    }
  }
}

const insertAudit =
  'insert into audit (at, who, what, subject, account, reason, was, became) values (?, ?, ?, ?, ?, ?, ?, ?)';

function bytesOf(value: unknown): Uint8Array {
  return new Uint8Array(value as Buffer);
}
