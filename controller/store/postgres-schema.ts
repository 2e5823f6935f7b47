// Tables in PostgreSQL, and the way from each version to the next. Records are cut by the hash of their device, so that a
// table of millions stays in pieces that vacuum and back-ups can handle; the journal by time, so that the old goes at once.
import type pg from 'pg';
import { noFacts } from '../../formats/filter/row.ts';
import { StoreError } from './store.ts';
import { inTransaction } from './transaction.ts';

export const postgresVersion = 3;
const recordParts = 16;

const first = `
create table records (
  device text primary key, version bigint not null, snapshot text not null,
  serial text not null, uuid text not null, account text not null, trust text not null, seen bigint not null)
  partition by hash (device);
${Array.from({ length: recordParts }, (_, part) => `create table records_${part} partition of records for values with (modulus ${recordParts}, remainder ${part}) with (fillfactor = 70);`).join('\n')}
create index records_serial on records (serial);

create sequence journal_seq;
create table journal (
  seq bigint not null default nextval('journal_seq'), device text not null, at bigint not null, event text not null,
  body text not null) partition by range (at);
create table journal_default partition of journal default;
create index journal_device on journal (device, seq desc);

create table effects (
  seq bigint generated always as identity, id text primary key, device text not null, type text not null,
  params text not null, leased bigint not null);
create index effects_leased on effects (leased);
create table timers (device text not null, timer text not null, at bigint not null, primary key (device, timer));
create index timers_at on timers (at);
create table escrow (
  device text not null, version bigint not null, key_id text not null, box bytea not null, at bigint not null,
  primary key (device, version));
create table evidence (id text primary key, device text not null, at bigint not null, bytes bytea not null);
create index evidence_device on evidence (device, at);
create table blobs (sha256 text primary key, bytes bytea not null);
create table documents (kind text not null, id text not null, body text not null, primary key (kind, id));
`;

const second = `
create table attempts (
  device text not null, attempt bigint not null, begun bigint not null, ended bigint not null, steps bigint not null,
  size bigint not null, dropped bigint not null, evidence text not null, outcome text not null,
  primary key (device, attempt));
create table attempt_lines (
  seq bigint generated always as identity primary key, device text not null, attempt bigint not null, lines text not null);
create index attempt_lines_attempt on attempt_lines (device, attempt, seq);
`;

const third = `
alter table records add column labels text not null default '[]';
alter table records add column facts text not null default '${JSON.stringify(noFacts)}';
create index records_uuid on records (uuid);
create index journal_order on journal (seq);
create index records_account on records (account, device);
create table audit (
  seq bigint generated always as identity primary key, at bigint not null, who text not null, what text not null,
  subject text not null, account text not null, reason text not null, was text, became text);
create index audit_subject on audit (subject, seq);
create index audit_account on audit (account, seq);
insert into audit (at, who, what, subject, account, reason)
  select (body::json ->> 'at')::bigint, body::json ->> 'by', body::json ->> 'what',
    coalesce(body::json ->> 'device', body::json ->> 'id', ''), '', body::json ->> 'reason'
  from documents where kind = 'audit' order by id;
delete from documents where kind = 'audit';
`;

/** From version n, at index n, to the next. */
export const postgresSteps: readonly string[] = [first, second, third];

/** Of the 64-bit names of advisory locks. */
const migrationLock = '7305221194027811';
const maintenanceLock = '7305221194027812';

/** Brings the tables to this version; one controller at a time does. Rejects with StoreError version. */
export async function migrate(pool: pg.Pool, where: string): Promise<void> {
  await inTransaction(pool, async (client) => {
    await client.query(`select pg_advisory_xact_lock(${migrationLock})`);
    await client.query('create table if not exists evc_store (version integer not null)');
    const { rows } = await client.query<{ version: number }>('select version from evc_store');
    const found = rows[0]?.version ?? 0;
    if (found > postgresVersion)
      throw new StoreError(
        'version',
        `${where} was written by a newer EVC (store ${found}, this one knows ${postgresVersion}); run that one`,
      );
    for (const step of postgresSteps.slice(found)) await client.query(step);
    if (found === 0) await client.query('insert into evc_store (version) values ($1)', [postgresVersion]);
    else await client.query('update evc_store set version = $1', [postgresVersion]);
  });
}

const day = 86_400_000;

/** Part of the journal: its name, the first ms of its month and of the next. */
interface Month {
  name: string;
  from: number;
  to: number;
}

function monthOf(at: number): Month {
  const date = new Date(at);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  const name = `journal_${year}_${String(month + 1).padStart(2, '0')}`;
  return { name, from: Date.UTC(year, month, 1), to: Date.UTC(year, month + 1, 1) };
}

/**
 * Makes the parts of the journal for this month and the next, and drops what is older than `keptDays`. Of controllers that do
 * it at once one does.
 */
export async function maintainJournal(pool: pg.Pool, now: number, keptDays: number): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ alone: boolean }>(
      `select pg_try_advisory_xact_lock(${maintenanceLock}) as alone`,
    );
    if (!rows[0]?.alone) return;
    const current = monthOf(now);
    for (const month of [current, monthOf(current.to)]) await makePart(client, month);
    await dropOlder(client, now - keptDays * day);
  });
}

async function makePart(client: pg.PoolClient, { name, from, to }: Month): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>(
    `select to_regclass($1) is not null or exists (select from journal_default where at >= ${from} and at < ${to}) as there`,
    [name],
  );
  // Rows of that month which are in the rest already stay there, for that month.
  if (rows[0]?.there) return;
  await client.query(`create table ${name} partition of journal for values from (${from}) to (${to})`);
}

async function dropOlder(client: pg.PoolClient, oldest: number): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'journal'::regclass and c.relname ~ '^journal_[0-9]{4}_[0-9]{2}$'`,
  );
  for (const { name } of rows) {
    const [, year = '', month = ''] = /^journal_(\d{4})_(\d{2})$/.exec(name) ?? [];
    // The month in the name counts from 1, so this is the first ms of the one after it.
    if (Date.UTC(Number(year), Number(month), 1) < oldest) await client.query(`drop table ${name}`);
  }
  await client.query('delete from journal_default where at < $1', [oldest]);
}
