// The store in one SQLite file: write-ahead log, every commit on the disk before it counts.
import { type PreparedLines, type PreparedStep, prepared } from './prepared.ts';
import { Sqlite } from './sqlite.ts';
import {
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
  restoredEscrow,
  type Step,
  StepConflict,
  type Store,
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

export type RecordText = Omit<RecordRow, 'snapshot'> & { snapshot: string };

export class LibsqlStore implements Store {
  readonly #db: Sqlite;

  private constructor(db: Sqlite) {
    this.#db = db;
  }

  /** Opens the file, or makes it; `:memory:` for tests. Throws StoreError version, broken, taken. */
  static open(path: string): LibsqlStore {
    return new LibsqlStore(Sqlite.open(path));
  }

  async load(device: string): Promise<RecordRow | null> {
    const text = this.#record(device);
    return text && { ...text, snapshot: JSON.parse(text.snapshot) as object };
  }

  /** A record with its snapshot as JSON. */
  async recordText(device: string): Promise<RecordText | null> {
    return this.#record(device);
  }

  #record(device: string): RecordText | null {
    const row = this.#db.get('select version, snapshot from records where device = ?', device);
    return row ? { device, version: Number(row.version), snapshot: String(row.snapshot) } : null;
  }

  async version(device: string): Promise<number> {
    return Number(this.#db.get('select version from records where device = ?', device)?.version ?? 0);
  }

  commit(step: Step): Promise<void> {
    return this.write(prepared(step));
  }

  write(step: PreparedStep): Promise<void> {
    return this.#db.grouped(() => {
      const { device, from, journal, escrow, evidence } = step;
      if (this.#writeRecord(step) === 0) throw new StepConflict(device);
      if (step.timer && this.#takeTimer(step.timer) === 0) throw new TimerTaken(step.timer);
      this.#db.run(
        'insert into journal (device, at, event, body) values (?, ?, ?, ?)',
        device,
        journal.at,
        journal.event,
        journal.body,
      );
      if (from % journalCut === 0) {
        this.#db.run(
          'delete from journal where device = ? and seq <= (select seq from journal where device = ? order by seq desc limit 1 offset ?)',
          device,
          device,
          journalKept,
        );
      }
      for (const { id, type, params } of step.effects) {
        this.#db.run(
          'insert into effects (id, device, type, params) values (?, ?, ?, ?)',
          id,
          device,
          type,
          params,
        );
      }
      for (const { timer, at } of step.setTimers) {
        this.#db.run('insert or replace into timers (device, timer, at) values (?, ?, ?)', device, timer, at);
      }
      for (const timer of step.clearTimers) {
        this.#db.run('delete from timers where device = ? and timer = ?', device, timer);
      }
      if (escrow) {
        this.#db.run(
          'insert into escrow (device, version, key_id, box, at) values (?, ?, ?, ?, ?)',
          device,
          escrow.version,
          escrow.keyId,
          bufferOf(escrow.box),
          escrow.at,
        );
      }
      if (evidence) {
        this.#db.run(
          'insert into evidence (id, device, at, bytes) values (?, ?, ?, ?)',
          evidence.id,
          device,
          evidence.at,
          bufferOf(evidence.bytes),
        );
        this.#db.run(
          'delete from evidence where id in (select id from evidence where device = ? order by at desc limit -1 offset ?)',
          device,
          evidenceKept,
        );
      }
      if (step.attempt) this.#keepAttempt(device, journal.at, step.attempt);
      if (step.audit) this.#db.run(insertAudit, ...step.audit);
    });
  }

  /** How many rows changed: 0 where the record has another version. */
  #writeRecord({ device, from, snapshot, summary }: PreparedStep): number {
    if (from === 0) {
      const sql =
        'insert into records (version, snapshot, serial, uuid, account, trust, seen, facts, device) values (1, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing';
      return this.#db.run(sql, snapshot, ...summary, device);
    }
    const [serial, uuid, account, trust, seen, facts] = summary;
    // Most steps change no name, and whatever names a column of an index writes that index, with the same values as well.
    const renamed =
      this.#db.run(
        'update records set version = version + 1, snapshot = ?, trust = ?, seen = ?, facts = ? where device = ? and version = ? and serial = ? and uuid = ? and account = ?',
        ...[snapshot, trust, seen, facts, device, from, serial, uuid, account],
      ) === 0;
    if (!renamed) return 1;
    return this.#db.run(
      'update records set version = version + 1, snapshot = ?, serial = ?, uuid = ?, account = ?, trust = ?, seen = ?, facts = ? where device = ? and version = ?',
      ...[snapshot, ...summary, device, from],
    );
  }

  #keepAttempt(device: string, at: number, { begins, text, count, evidence, outcome }: PreparedLines): void {
    const last = this.#db.get(
      'select attempt, size from attempts where device = ? order by attempt desc limit 1',
      device,
    );
    // Nothing begins in the middle: lines that follow from nothing say nothing.
    if (!last && !begins) return;
    const attempt = Number(last?.attempt ?? 0) + (begins ? 1 : 0);
    const size = begins ? 0 : Number(last?.size);
    // Once there is no room, nothing more is kept: lines after a gap would not follow from those before it.
    const room = size <= attemptBytes && size + text.length <= attemptBytes;
    const sizeAfter = room ? size + text.length : attemptBytes + 1;
    const dropped = room ? 0 : count;
    if (begins) {
      this.#db.run(
        'insert into attempts (device, attempt, begun, ended, steps, size, dropped, evidence, outcome) values (?, ?, ?, ?, 1, ?, ?, ?, ?)',
        ...[device, attempt, at, at, sizeAfter, dropped, evidence ?? '', outcome ?? ''],
      );
      for (const table of ['attempts', 'attempt_lines'])
        this.#db.run(
          `delete from ${table} where device = ? and attempt <= ?`,
          device,
          attempt - attemptsKept,
        );
    } else {
      this.#db.run(
        'update attempts set ended = ?, steps = steps + 1, size = ?, dropped = dropped + ?, evidence = coalesce(?, evidence), outcome = coalesce(?, outcome) where device = ? and attempt = ?',
        ...[at, sizeAfter, dropped, evidence, outcome, device, attempt],
      );
    }
    if (room)
      this.#db.run(
        'insert into attempt_lines (device, attempt, lines) values (?, ?, ?)',
        device,
        attempt,
        text,
      );
  }

  async done(effects: readonly string[]): Promise<void> {
    const sql = 'delete from effects where id in (select value from json_each(?))';
    await this.#db.change(sql, JSON.stringify(effects));
  }

  async pending(limit: number): Promise<Effect[]> {
    const rows = this.#db.all('select id, device, type, params from effects order by seq limit ?', limit);
    return rows.map(effectRow);
  }

  async due(now: number, limit: number): Promise<TimerRow[]> {
    const rows = this.#db.all(
      'select device, timer, at from timers where at <= ? order by at limit ?',
      now,
      limit,
    );
    return rows.map(timerRow);
  }

  async nextTimer(): Promise<number | null> {
    const at = this.#db.get('select min(at) as at from timers')?.at;
    return at === null || at === undefined ? null : Number(at);
  }

  async list(after: string, limit: number, accounts?: readonly string[] | null): Promise<DeviceRow[]> {
    const of = accounts ? ' and account in (select value from json_each(?))' : '';
    const rows = this.#db.all(
      `select ${deviceColumns} from records where device > ?${of} order by device limit ?`,
      ...(accounts ? [after, JSON.stringify(accounts), limit] : [after, limit]),
    );
    return rows.map(deviceRow);
  }

  async find(words: string, limit: number, accounts?: readonly string[] | null): Promise<DeviceRow[]> {
    const id = words.toLowerCase();
    const of = accounts ? ' and account in (select value from json_each(?))' : '';
    // Ids are hex, so whatever begins with one is before it and a letter behind f.
    const rows = this.#db.all(
      `select ${deviceColumns} from records where ((device >= ? and device < ?) or uuid = ? or serial = ?)${of} order by device limit ?`,
      ...[id, `${id}g`, words, words],
      ...(accounts ? [JSON.stringify(accounts), limit] : [limit]),
    );
    return rows.map(deviceRow);
  }

  async counts(): Promise<{ account: string; trust: string; devices: number }[]> {
    const rows = this.#db.all(
      'select account, trust, count(*) as devices from records group by account, trust order by account, trust',
    );
    return rows.map(countRow);
  }

  async health(): Promise<StoreHealth> {
    return healthRow(this.#db.get(healthQuery));
  }

  async label(device: string, labels: readonly string[]): Promise<boolean> {
    const sql = 'update records set labels = ? where device = ?';
    return (await this.#db.change(sql, JSON.stringify(labels), device)) > 0;
  }

  async bySerial(serial: string): Promise<string | null> {
    const row = this.#db.get("select device from records where serial = ? and trust <> 'retired'", serial);
    return row ? String(row.device) : null;
  }

  async journal(device: string, limit: number): Promise<(JournalEntry & { seq: number })[]> {
    const rows = this.#db.all(
      'select seq, at, event, body from journal where device = ? order by seq desc limit ?',
      device,
      limit,
    );
    return rows.map(journalRow);
  }

  async journalAfter(seq: number, limit: number) {
    const rows = this.#db.all('select * from journal where seq > ? order by seq limit ?', seq, limit);
    return rows.map((row) => ({ ...journalRow(row), device: String(row.device) }));
  }

  async journalEnd(): Promise<number> {
    return Number(this.#db.get('select max(seq) as seq from journal')?.seq ?? 0);
  }

  async escrowed(device: string, wanted: number): Promise<EscrowRow | null> {
    const row = this.#db.get(
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
      this.#db.get('select max(version) as version from escrow where device = ?', device)?.version ?? 0,
    );
  }

  async restoreEscrow(
    { device, version: wanted, keyId, box, at }: EscrowRow,
    broken: Uint8Array | null,
  ): Promise<boolean> {
    const sql = `insert into escrow (device, version, key_id, box, at) values (?, ?, ?, ?, ?) ${restoredEscrow('?')}`;
    const values = [device, wanted, keyId, Buffer.from(box), at, broken && Buffer.from(broken)];
    return (await this.#db.change(sql, ...values)) > 0;
  }

  async evidence(id: string): Promise<Uint8Array | null> {
    const row = this.#db.get('select bytes from evidence where id = ?', id);
    return row ? bytesOf(row.bytes) : null;
  }

  async attempts(device: string): Promise<AttemptRow[]> {
    const rows = this.#db.all(
      'select attempt, begun, ended, steps, dropped, evidence, outcome from attempts where device = ? order by attempt desc',
      device,
    );
    return rows.map(attemptRow);
  }

  async attemptLines(device: string, attempt: number): Promise<string[] | null> {
    const rows = this.#db.all(
      'select lines from attempt_lines where device = ? and attempt = ? order by seq',
      device,
      attempt,
    );
    return rows.length === 0 ? null : rows.flatMap((row) => String(row.lines).split('\n'));
  }

  async putBlob(sha256: string, bytes: Uint8Array): Promise<void> {
    await this.#db.change(
      'insert into blobs (sha256, bytes) values (?, ?) on conflict do nothing',
      sha256,
      Buffer.from(bytes),
    );
  }

  async blob(sha256: string): Promise<Uint8Array | null> {
    const row = this.#db.get('select bytes from blobs where sha256 = ?', sha256);
    return row ? bytesOf(row.bytes) : null;
  }

  async audit(entry: AuditEntry): Promise<void> {
    await this.#db.change(insertAudit, ...auditValues(entry));
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
    return this.#db.all(`select * from audit${of} order by seq desc limit ?`, ...values, limit).map(auditRow);
  }

  async put(kind: DocumentKind, id: string, body: object): Promise<void> {
    await this.#db.change(putDocument, kind, id, JSON.stringify(body));
  }

  async remove(kind: DocumentKind, id: string): Promise<boolean> {
    return (await this.#db.change('delete from documents where kind = ? and id = ?', kind, id)) > 0;
  }

  update<Body extends object>(
    kind: DocumentKind,
    id: string,
    change: (body: Body | null) => Body,
  ): Promise<Body> {
    return this.#db.grouped(() => {
      const was = this.#text(kind, id);
      const body = change(was === null ? null : (JSON.parse(was) as Body));
      this.#db.run(putDocument, kind, id, JSON.stringify(body));
      return body;
    });
  }

  /** A document as JSON, null where there is none. */
  async text(kind: DocumentKind, id: string): Promise<string | null> {
    return this.#text(kind, id);
  }

  /** Puts a document in the place of one that is still `was`; false where it is not. */
  replace(kind: DocumentKind, id: string, was: string | null, body: string): Promise<boolean> {
    return this.#db.grouped(() => {
      const same = this.#text(kind, id) === was;
      if (same) this.#db.run(putDocument, kind, id, body);
      return same;
    });
  }

  #text(kind: DocumentKind, id: string): string | null {
    const row = this.#db.get('select body from documents where kind = ? and id = ?', kind, id);
    return row ? String(row.body) : null;
  }

  async get<Body>(kind: DocumentKind, id: string): Promise<Body | null> {
    const text = this.#text(kind, id);
    return text === null ? null : (JSON.parse(text) as Body);
  }

  async ids(kind: DocumentKind): Promise<string[]> {
    const rows = this.#db.all('select id from documents where kind = ? order by id', kind);
    return rows.map((row) => String(row.id));
  }

  async all<Body>(kind: DocumentKind): Promise<Document<Body>[]> {
    const rows = this.#db.all('select id, body from documents where kind = ? order by id', kind);
    return rows.map((row) => ({ id: String(row.id), body: JSON.parse(String(row.body)) as Body }));
  }

  /** Nothing: what is old is cut as new is stored. */
  async maintain(): Promise<void> {}

  async close(): Promise<void> {
    this.#db.close();
  }

  #takeTimer({ device, timer, at }: TimerRow): number {
    return this.#db.run('delete from timers where device = ? and timer = ? and at = ?', device, timer, at);
  }
}

const putDocument = 'insert or replace into documents (kind, id, body) values (?, ?, ?)';
const insertAudit =
  'insert into audit (at, who, what, subject, account, reason, was, became) values (?, ?, ?, ?, ?, ?, ?, ?)';

/** libsql takes no other bytes; the same ones, not a copy. */
function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function bytesOf(value: unknown): Uint8Array {
  return new Uint8Array(value as Buffer);
}
