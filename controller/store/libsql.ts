// The store in one SQLite file: write-ahead log, every commit on the disk before it counts.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'libsql';
import {
  type AttemptLines,
  type AttemptRow,
  attemptBytes,
  attemptRow,
  attemptsKept,
  type Document,
  type DocumentKind,
  type Effect,
  type EscrowRow,
  type JournalEntry,
  type RecordRow,
  type RecordSummary,
  type Step,
  StepConflict,
  type Store,
  StoreError,
  type TimerRow,
  TimerTaken,
} from './store.ts';

const version = 2;

const schema = `
create table records (
  device text primary key, version integer not null, snapshot text not null,
  serial text not null, uuid text not null, account text not null, trust text not null, seen integer not null);
create index records_serial on records (serial);
create table journal (
  seq integer primary key autoincrement, device text not null, at integer not null, event text not null, body text not null);
create index journal_device on journal (device, seq);
create table effects (
  seq integer primary key autoincrement, id text not null unique, device text not null, type text not null, params text not null);
create table timers (device text not null, timer text not null, at integer not null, primary key (device, timer));
create index timers_at on timers (at);
create table escrow (
  device text not null, version integer not null, key_id text not null, box blob not null, at integer not null,
  primary key (device, version));
create table evidence (id text primary key, device text not null, at integer not null, bytes blob not null);
create index evidence_device on evidence (device, at);
create table blobs (sha256 text primary key, bytes blob not null);
create table documents (kind text not null, id text not null, body text not null, primary key (kind, id));
`;

/** What each version added to the one before, by the version that it makes. */
const upgrades: Readonly<Record<number, string>> = {
  2: `
create table attempts (
  device text not null, attempt integer not null, begun integer not null, ended integer not null, steps integer not null,
  size integer not null, dropped integer not null, evidence text not null, outcome text not null,
  primary key (device, attempt));
create table attempt_lines (
  seq integer primary key autoincrement, device text not null, attempt integer not null, lines text not null);
create index attempt_lines_attempt on attempt_lines (device, attempt, seq);
`,
};

/** Attempts whose evidence is kept, per device. */
const evidenceKept = 20;
/** Steps whose journal is kept, per device; it is cut each hundred steps. */
const journalKept = 5000;
const journalCut = 100;

type Row = Record<string, unknown>;

/** A change that waits for the next commit. */
interface Waiting {
  run(): void;
  stored(): void;
  failed(error: Error): void;
}

export class LibsqlStore implements Store {
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();
  #waiting: Waiting[] = [];

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

  commit(step: Step): Promise<void> {
    return this.#grouped(() => {
      const { device, from, summary, journal } = step;
      const { serial, uuid, account, trust, seen } = summary;
      const values = [JSON.stringify(step.snapshot), serial, uuid, account, trust, seen];
      const changed =
        from === 0
          ? this.#run(
              'insert into records (version, snapshot, serial, uuid, account, trust, seen, device) values (1, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing',
              ...values,
              device,
            )
          : this.#run(
              'update records set version = version + 1, snapshot = ?, serial = ?, uuid = ?, account = ?, trust = ?, seen = ? where device = ? and version = ?',
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
    await this.#change('delete from effects where id = ?', effect);
  }

  async pending(limit: number): Promise<Effect[]> {
    const rows = this.#all('select id, device, type, params from effects order by seq limit ?', limit);
    return rows.map((row) => ({
      id: String(row.id),
      device: String(row.device),
      type: String(row.type),
      params: JSON.parse(String(row.params)) as object,
    }));
  }

  async due(now: number, limit: number): Promise<TimerRow[]> {
    const rows = this.#all(
      'select device, timer, at from timers where at <= ? order by at limit ?',
      now,
      limit,
    );
    return rows.map((row) => ({ device: String(row.device), timer: String(row.timer), at: Number(row.at) }));
  }

  async nextTimer(): Promise<number | null> {
    const at = this.#get('select min(at) as at from timers')?.at;
    return at === null || at === undefined ? null : Number(at);
  }

  async list(after: string, limit: number): Promise<(RecordSummary & { device: string })[]> {
    const rows = this.#all(
      'select device, serial, uuid, account, trust, seen from records where device > ? order by device limit ?',
      after,
      limit,
    );
    return rows.map((row) => ({
      device: String(row.device),
      serial: String(row.serial),
      uuid: String(row.uuid),
      account: String(row.account),
      trust: String(row.trust),
      seen: Number(row.seen),
    }));
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
    return rows.map((row) => ({
      seq: Number(row.seq),
      at: Number(row.at),
      event: String(row.event),
      body: JSON.parse(String(row.body)) as object,
    }));
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
    await this.#change(
      'insert into blobs (sha256, bytes) values (?, ?) on conflict do nothing',
      sha256,
      Buffer.from(bytes),
    );
  }

  async blob(sha256: string): Promise<Uint8Array | null> {
    const row = this.#get('select bytes from blobs where sha256 = ?', sha256);
    return row ? bytesOf(row.bytes) : null;
  }

  async put(kind: DocumentKind, id: string, body: object): Promise<void> {
    await this.#change(
      'insert or replace into documents (kind, id, body) values (?, ?, ?)',
      kind,
      id,
      JSON.stringify(body),
    );
  }

  update<Body extends object>(
    kind: DocumentKind,
    id: string,
    change: (body: Body | null) => Body,
  ): Promise<Body> {
    return this.#grouped(() => {
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
    this.#flush();
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

  /**
   * Changes what is kept, together with all that others change in this turn of the event loop: one write to the disk serves
   * them all. Each is there whole or not at all, whatever becomes of the others. Resolves when it is on the disk.
   */
  #grouped<Result>(work: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      let result: Result;
      const run = () => {
        result = work();
      };
      this.#waiting.push({ run, stored: () => resolve(result), failed: reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const group = this.#waiting;
    if (group.length === 0) return;
    this.#waiting = [];
    try {
      for (const settle of this.#together(group)) settle();
    } catch {
      // What the engine itself refused may be the matter of one of them: each on its own finds out whose.
      for (const one of group) this.#alone(one);
    }
  }

  /** All in one transaction; returns what each is to hear. Throws what the engine throws, and then nothing is stored. */
  #together(group: readonly Waiting[]): (() => void)[] {
    return this.#transaction(() =>
      group.map((one) => {
        this.#run('savepoint one');
        try {
          one.run();
          this.#run('release one');
          return one.stored;
        } catch (error) {
          if (error instanceof StoreError || !this.#db.inTransaction) throw error;
          this.#db.exec('rollback to one; release one');
          return () => one.failed(error as Error);
        }
      }),
    );
  }

  #alone(one: Waiting): void {
    try {
      this.#transaction(one.run);
    } catch (error) {
      one.failed(error as Error);
      return;
    }
    one.stored();
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
  #change(sql: string, ...values: unknown[]): Promise<number> {
    return this.#grouped(() => this.#run(sql, ...values));
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

function bytesOf(value: unknown): Uint8Array {
  return new Uint8Array(value as Buffer);
}

function storeError(path: string, error: unknown): Error {
  if (error instanceof StoreError) return error;
  const { code = '', message = '', syscall } = error as { code?: string; message?: string; syscall?: string };
  if (code === 'SQLITE_FULL' || code === 'SQLITE_IOERR_SHMSIZE') {
    return new StoreError(
      'full',
      `the disk under ${path} is full; free some space, what was stored is safe`,
      { cause: error },
    );
  }
  if (code === 'SQLITE_NOTADB' || code.startsWith('SQLITE_CORRUPT')) {
    return new StoreError('broken', `${path} is damaged; restore it from a backup`, { cause: error });
  }
  if (code.startsWith('SQLITE_BUSY')) {
    return new StoreError('taken', `${path} is in use by another process; stop that one first`, {
      cause: error,
    });
  }
  // libsql says it in its own words when it opens, and Node when it makes the folder.
  const closed = code.startsWith('SQLITE_READONLY') || message.includes('Unable to open connection');
  if (closed || code.startsWith('SQLITE_CANTOPEN') || syscall !== undefined) {
    return new StoreError('broken', `${path} cannot be opened; check the folder and its permissions`, {
      cause: error,
    });
  }
  return error instanceof Error ? error : new Error(message);
}
