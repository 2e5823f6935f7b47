// The store in PostgreSQL: for several controllers, which share it and nothing else. A step is one statement, so it is one
// round trip and one transaction; statements have no names and sessions keep no state, so poolers may sit in between.
import pg from 'pg';
import { maintainJournal, migrate } from './postgres-schema.ts';
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
  restoredEscrow,
  type Step,
  StepConflict,
  type Store,
  StoreError,
  type StoreHealth,
  type TimerRow,
  TimerTaken,
  timerRow,
} from './store.ts';
import { inTransaction } from './transaction.ts';

export interface PostgresOptions {
  /** `postgres://user@host/database`, or a folder of a Unix socket in `?host=`. */
  url: string;
  /** Connections of this controller. */
  connections?: number;
  /** ms that an effect is left to the controller that stored it, before another one takes it over. */
  lease?: number;
}

/** Attempts whose evidence is kept, per device. */
const evidenceKept = 20;
/** Days that the journal is kept. */
const journalKept = 90;
const connections = 10;
const lease = 30_000;

type Row = Record<string, unknown>;

export class PostgresStore implements Store {
  readonly #pool: pg.Pool;
  readonly #lease: number;
  readonly #where: string;
  #closed = false;

  private constructor(pool: pg.Pool, where: string, leaseMs: number) {
    this.#pool = pool;
    this.#where = where;
    this.#lease = leaseMs;
  }

  /** Connects, and makes or upgrades the tables. Rejects with StoreError version, unreachable, broken. */
  static async open(options: PostgresOptions): Promise<PostgresStore> {
    const where = nameOf(options.url);
    const pool = new pg.Pool({
      connectionString: options.url,
      max: options.connections ?? connections,
      connectionTimeoutMillis: 10_000,
      application_name: 'evc',
    });
    // An idle connection that breaks is replaced when the next query asks for one.
    pool.on('error', () => undefined);
    try {
      await migrate(pool, where);
      return new PostgresStore(pool, where, options.lease ?? lease);
    } catch (error) {
      await pool.end();
      throw storeError(where, error);
    }
  }

  async load(device: string): Promise<RecordRow | null> {
    const [row] = await this.#rows('select version, snapshot from records where device = $1', [device]);
    return row
      ? { device, version: Number(row.version), snapshot: JSON.parse(String(row.snapshot)) as object }
      : null;
  }

  async version(device: string): Promise<number> {
    const [row] = await this.#rows('select version from records where device = $1', [device]);
    return Number(row?.version ?? 0);
  }

  async commit(step: Step): Promise<void> {
    const { device, timer } = step;
    const [row] = await this.#rows(commitStatement, this.#values(step));
    if (Number(row?.stepped) === 1) return;
    // Under the version that the step was made from, a timer that is not there was taken or set anew.
    if (timer && Number(row?.version) === step.from) throw new TimerTaken(timer);
    throw new StepConflict(device);
  }

  #values(step: Step): unknown[] {
    const { device, from, summary, journal, effects, setTimers, clearTimers, timer, escrow, evidence } = step;
    const { serial, uuid, account, trust, seen } = summary;
    // A timer that is answered and set anew is written once: a statement may not touch a row twice.
    const anew = new Set(setTimers.map(({ timer: name }) => name));
    const gone = [...clearTimers, ...(timer ? [timer.timer] : [])].filter((name) => !anew.has(name));
    const last = new Map(setTimers.map(({ timer: name, at }) => [name, at]));
    return [
      ...[device, from, JSON.stringify(step.snapshot), serial, uuid, account, trust, seen],
      ...[journal.at, journal.event, JSON.stringify(journal.body)],
      ...[timer?.timer ?? null, timer?.at ?? null],
      effects.map(({ id }) => id),
      effects.map(({ type }) => type),
      effects.map(({ params }) => JSON.stringify(params)),
      this.#lease,
      [...last.keys()],
      [...last.values()],
      gone,
      escrow ? [escrow.version] : [],
      escrow?.keyId ?? '',
      Buffer.from(escrow?.box ?? []),
      escrow?.at ?? 0,
      evidence ? [evidence.id] : [],
      evidence?.at ?? 0,
      Buffer.from(evidence?.bytes ?? []),
      evidenceKept,
      ...attemptValues(step.attempt),
      JSON.stringify(summary.facts),
      ...auditParameters(step.audit),
    ];
  }

  async done(effects: readonly string[]): Promise<void> {
    await this.#rows('delete from effects where id = any($1::text[])', [effects]);
  }

  async pending(limit: number): Promise<Effect[]> {
    const rows = await this.#rows(
      `with orphan as (
         select id from effects where leased < ${milliseconds} order by seq limit $1 for update skip locked)
       update effects set leased = ${milliseconds} + $2 from orphan where effects.id = orphan.id
       returning effects.seq, effects.id, effects.device, effects.type, effects.params`,
      [limit, this.#lease],
    );
    return rows.sort((one, other) => Number(one.seq) - Number(other.seq)).map(effectRow);
  }

  async due(now: number, limit: number): Promise<TimerRow[]> {
    const rows = await this.#rows(
      'select device, timer, at from timers where at <= $1 order by at limit $2',
      [now, limit],
    );
    return rows.map(timerRow);
  }

  async nextTimer(): Promise<number | null> {
    const [row] = await this.#rows('select min(at) as at from timers', []);
    return row?.at === null || row?.at === undefined ? null : Number(row.at);
  }

  async list(after: string, limit: number, accounts: readonly string[] | null = null): Promise<DeviceRow[]> {
    const rows = await this.#rows(
      `select ${deviceColumns} from records where device > $1 and ($3::text[] is null or account = any ($3)) order by device limit $2`,
      [after, limit, accounts],
    );
    return rows.map(deviceRow);
  }

  async find(words: string, limit: number, accounts: readonly string[] | null = null): Promise<DeviceRow[]> {
    const whole = /^[0-9a-f]{64}$/.test(words);
    // By the whole id one row of one part is read.
    const which = whole
      ? 'device = $1'
      : '(left(device, length($1)) = lower($1) or uuid = $1 or serial = $1)';
    const rows = await this.#rows(
      `select ${deviceColumns} from records where ${which} and ($3::text[] is null or account = any ($3)) order by device limit $2`,
      [words, limit, accounts],
    );
    return rows.map(deviceRow);
  }

  async counts(): Promise<{ account: string; trust: string; devices: number }[]> {
    const rows = await this.#rows(
      'select account, trust, count(*) as devices from records group by account, trust order by account, trust',
      [],
    );
    return rows.map(countRow);
  }

  async health(): Promise<StoreHealth> {
    return healthRow((await this.#rows(healthQuery, []))[0]);
  }

  async label(device: string, labels: readonly string[]): Promise<boolean> {
    const rows = await this.#rows('update records set labels = $2 where device = $1 returning 1', [
      device,
      JSON.stringify(labels),
    ]);
    return rows.length > 0;
  }

  async bySerial(serial: string): Promise<string | null> {
    const [row] = await this.#rows(
      "select device from records where serial = $1 and trust <> 'retired' limit 1",
      [serial],
    );
    return row ? String(row.device) : null;
  }

  async journal(device: string, limit: number): Promise<(JournalEntry & { seq: number })[]> {
    const rows = await this.#rows(
      'select seq, at, event, body from journal where device = $1 order by seq desc limit $2',
      [device, limit],
    );
    return rows.map(journalRow);
  }

  async journalAfter(seq: number, limit: number) {
    const rows = await this.#rows(
      'select seq, device, at, event, body from journal where seq > $1 order by seq limit $2',
      [seq, limit],
    );
    return rows.map((row) => ({ ...journalRow(row), device: String(row.device) }));
  }

  async journalEnd(): Promise<number> {
    return Number((await this.#rows('select max(seq) as seq from journal', []))[0]?.seq ?? 0);
  }

  async escrowed(device: string, wanted: number): Promise<EscrowRow | null> {
    const [row] = await this.#rows('select key_id, box, at from escrow where device = $1 and version = $2', [
      device,
      wanted,
    ]);
    return row
      ? { device, version: wanted, keyId: String(row.key_id), box: bytesOf(row.box), at: Number(row.at) }
      : null;
  }

  async lastEscrow(device: string): Promise<number> {
    const [row] = await this.#rows('select max(version) as version from escrow where device = $1', [device]);
    return Number(row?.version ?? 0);
  }

  async restoreEscrow({ device, version, keyId, box, at }: EscrowRow, broken: Uint8Array | null) {
    const sql = `insert into escrow (device, version, key_id, box, at) values ($1, $2, $3, $4, $5) ${restoredEscrow('$6::bytea')} returning 1`;
    const values = [device, version, keyId, Buffer.from(box), at, broken && Buffer.from(broken)];
    return (await this.#rows(sql, values)).length > 0;
  }

  async evidence(id: string): Promise<Uint8Array | null> {
    const [row] = await this.#rows('select bytes from evidence where id = $1', [id]);
    return row ? bytesOf(row.bytes) : null;
  }

  async attempts(device: string): Promise<AttemptRow[]> {
    const rows = await this.#rows(
      'select attempt, begun, ended, steps, dropped, evidence, outcome from attempts where device = $1 order by attempt desc',
      [device],
    );
    return rows.map(attemptRow);
  }

  async attemptLines(device: string, attempt: number): Promise<string[] | null> {
    const rows = await this.#rows(
      'select lines from attempt_lines where device = $1 and attempt = $2 order by seq',
      [device, attempt],
    );
    return rows.length === 0 ? null : rows.flatMap((row) => String(row.lines).split('\n'));
  }

  async putBlob(sha256: string, bytes: Uint8Array): Promise<void> {
    await this.#rows('insert into blobs (sha256, bytes) values ($1, $2) on conflict do nothing', [
      sha256,
      Buffer.from(bytes),
    ]);
  }

  async blob(sha256: string): Promise<Uint8Array | null> {
    const [row] = await this.#rows('select bytes from blobs where sha256 = $1', [sha256]);
    return row ? bytesOf(row.bytes) : null;
  }

  async audit(entry: AuditEntry): Promise<void> {
    await this.#rows(
      'insert into audit (at, who, what, subject, account, reason, was, became) values ($1, $2, $3, $4, $5, $6, $7, $8)',
      [...auditValues(entry)],
    );
  }

  async audits(query: AuditQuery): Promise<(AuditEntry & { seq: number })[]> {
    const { before = null, limit, subject = null, accounts = null } = query;
    const rows = await this.#rows(
      `select * from audit where ($1::bigint is null or seq < $1) and ($2::text is null or subject = $2)
         and ($3::text[] is null or account = any ($3)) order by seq desc limit $4`,
      [before, subject, accounts, limit],
    );
    return rows.map(auditRow);
  }

  async put(kind: DocumentKind, id: string, body: object): Promise<void> {
    await this.#rows(putDocument, [kind, id, JSON.stringify(body)]);
  }

  async remove(kind: DocumentKind, id: string): Promise<boolean> {
    const rows = await this.#rows('delete from documents where kind = $1 and id = $2 returning 1', [
      kind,
      id,
    ]);
    return rows.length > 0;
  }

  async update<Body extends object>(
    kind: DocumentKind,
    id: string,
    change: (body: Body | null) => Body,
  ): Promise<Body> {
    this.#checkOpen();
    try {
      return await inTransaction(this.#pool, async (client) => {
        // A row that is not there yet cannot be locked, so its name is.
        await client.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`${kind} ${id}`]);
        const { rows } = await client.query<Row>('select body from documents where kind = $1 and id = $2', [
          kind,
          id,
        ]);
        const body = change(rows[0] ? (JSON.parse(String(rows[0].body)) as Body) : null);
        await client.query(putDocument, [kind, id, JSON.stringify(body)]);
        return body;
      });
    } catch (error) {
      throw storeError(this.#where, error);
    }
  }

  async get<Body>(kind: DocumentKind, id: string): Promise<Body | null> {
    const [row] = await this.#rows('select body from documents where kind = $1 and id = $2', [kind, id]);
    return row ? (JSON.parse(String(row.body)) as Body) : null;
  }

  async ids(kind: DocumentKind): Promise<string[]> {
    const rows = await this.#rows('select id from documents where kind = $1 order by id', [kind]);
    return rows.map((row) => String(row.id));
  }

  async all<Body>(kind: DocumentKind): Promise<Document<Body>[]> {
    const rows = await this.#rows('select id, body from documents where kind = $1 order by id', [kind]);
    return rows.map((row) => ({ id: String(row.id), body: JSON.parse(String(row.body)) as Body }));
  }

  async maintain(now: number): Promise<void> {
    this.#checkOpen();
    await maintainJournal(this.#pool, now, journalKept);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#pool.end();
  }

  #checkOpen(): void {
    if (this.#closed) throw new StoreError('closed', `${this.#where} was closed`);
  }

  async #rows(sql: string, values: unknown[]): Promise<Row[]> {
    this.#checkOpen();
    try {
      return (await this.#pool.query<Row>(sql, values)).rows;
    } catch (error) {
      throw storeError(this.#where, error);
    }
  }
}

/** The database's own clock: controllers may disagree about the time, and leases must not. */
const milliseconds = '(extract(epoch from clock_timestamp()) * 1000)::bigint';

const putDocument = `insert into documents (kind, id, body) values ($1, $2, $3)
  on conflict (kind, id) do update set body = excluded.body`;

/**
 * The step, and all that hangs on it, in one statement: nothing of it happens unless the record has the version that it was
 * made from, and the timer that it answers is there. Two steps of one record meet at its row.
 */
const commitStatement = `
with stepped as (
  insert into records (device, version, snapshot, serial, uuid, account, trust, seen, facts)
    select $1::text, 1, $3::text, $4::text, $5::text, $6::text, $7::text, $8::bigint, $36::text where $2::bigint = 0
      and ($12::text is null or exists (select from timers where device = $1 and timer = $12 and at = $13::bigint))
    on conflict (device) do nothing
  returning 1),
 moved as (
  update records set version = version + 1, snapshot = $3, serial = $4, uuid = $5, account = $6, trust = $7, seen = $8, facts = $36
    where $2 > 0 and device = $1 and version = $2
      and ($12 is null or exists (select from timers where device = $1 and timer = $12 and at = $13))
  returning 1),
 step as (select * from stepped union all select * from moved),
 journalled as (
  insert into journal (device, at, event, body) select $1, $9::bigint, $10::text, $11::text from step),
 asked as (
  insert into effects (id, device, type, params, leased)
    select id, $1, type, params, ${milliseconds} + $17::bigint
    from step, unnest($14::text[], $15::text[], $16::text[]) as effect (id, type, params)),
 set_timers as (
  insert into timers (device, timer, at)
    select $1, timer, at from step, unnest($18::text[], $19::bigint[]) as wanted (timer, at)
    on conflict (device, timer) do update set at = excluded.at),
 cleared as (
  delete from timers using step where device = $1 and timer = any ($20::text[])),
 escrowed as (
  insert into escrow (device, version, key_id, box, at)
    select $1, version, $22::text, $23::bytea, $24::bigint from step, unnest($21::bigint[]) as key (version)),
 kept as (
  insert into evidence (id, device, at, bytes)
    select id, $1, $26::bigint, $27::bytea from step, unnest($25::text[]) as attempt (id)),
 forgotten as (
  delete from evidence using step where device = $1 and cardinality($25) > 0 and id in (
    select id from evidence where device = $1 order by at desc offset ($28::int - 1))),
 audited as (
  insert into audit (at, who, what, subject, account, reason, was, became)
    select at, $38::text, $39::text, $40::text, $41::text, $42::text, $43::text, $44::text
    from step, unnest($37::bigint[]) as entry (at)),
 attempt as (select max(attempt) as last from attempts where device = $1),
 begun as (
  insert into attempts (device, attempt, begun, ended, steps, size, dropped, evidence, outcome)
    select $1, coalesce(last, 0) + 1, $9, $9, 1, length($30::text), 0, '', '' from step, attempt where $29::text = 'begins'
  returning attempt),
 continued as (
  update attempts set ended = $9, steps = steps + 1,
      size = case when size + length($30) <= $34::bigint then size + length($30) else $34 + 1 end,
      dropped = dropped + case when size + length($30) <= $34 then 0 else $31::bigint end,
      evidence = coalesce($32::text, evidence), outcome = coalesce($33::text, outcome)
    from step, attempt where $29 = 'continues' and device = $1 and attempts.attempt = attempt.last
  returning attempts.attempt, attempts.size),
 recorded as (
  insert into attempt_lines (device, attempt, lines)
    select $1, attempt, $30 from begun union all select $1, attempt, $30 from continued where size <= $34),
 outlived as (
  delete from attempts using step, attempt where device = $1 and $29 = 'begins' and attempts.attempt <= last + 1 - $35::bigint),
 outlived_lines as (
  delete from attempt_lines using step, attempt
    where device = $1 and $29 = 'begins' and attempt_lines.attempt <= last + 1 - $35)
select (select count(*) from step) as stepped, (select version from records where device = $1) as version`;

/** $29 to $35: what happens to the recording of the attempt, its text, its lines, evidence and outcome, and the bounds. */
function attemptValues(attempt: AttemptLines | undefined): unknown[] {
  if (!attempt) return ['', '', 0, null, null, attemptBytes, attemptsKept];
  const { begins, lines, standing, evidence = null, outcome = null } = attempt;
  const text = (begins ? [standing(), ...lines] : lines).join('\n');
  return [begins ? 'begins' : 'continues', text, lines.length, evidence, outcome, attemptBytes, attemptsKept];
}

/** $37 to $44: none, or the one entry. */
function auditParameters(entry: AuditEntry | undefined): unknown[] {
  if (!entry) return [[], '', '', '', '', '', null, null];
  const [at, ...rest] = auditValues(entry);
  return [[at], ...rest];
}

function bytesOf(value: unknown): Uint8Array {
  return new Uint8Array(value as Buffer);
}

/** Where it is, without the password. */
function nameOf(url: string): string {
  try {
    const { hostname, pathname, searchParams } = new URL(url);
    return `the database ${pathname.slice(1) || 'postgres'} at ${searchParams.get('host') ?? (hostname || 'localhost')}`;
  } catch {
    return 'the database';
  }
}

function storeError(where: string, error: unknown): Error {
  if (error instanceof StoreError) return error;
  const { code = '', message = '' } = error as { code?: string; message?: string };
  const said = (kind: StoreError['code'], text: string) =>
    new StoreError(kind, `${where} ${text}`, { cause: error });
  // Classes of SQLSTATE: 08 connection, 28 authorization, 3D no such database, 57P shut down; 53100 disk full.
  if (code === '53100') return said('full', 'has no room left; what was stored is safe');
  if (code === '53300') return said('unreachable', 'takes no more connections; lower --store-connections');
  if (/^(28|3D)/.test(code)) return said('unreachable', `does not let EVC in: ${message}`);
  const lost =
    /^(08|57P)/.test(code) || /^E[A-Z]+$/.test(code) || /terminat|timeout|Connection/i.test(message);
  if (lost) return said('unreachable', 'is out of reach; is PostgreSQL running?');
  if (/^XX/.test(code)) return said('broken', 'is damaged; restore it from a backup');
  return error instanceof Error ? error : new Error(message);
}
