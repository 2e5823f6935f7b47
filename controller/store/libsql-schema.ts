// Tables in SQLite, and the way from each version to the next.
import { noFacts } from '../../formats/filter/row.ts';

export const version = 3;

export const schema = `
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
export const upgrades: Readonly<Record<number, string>> = {
  2: `
create table attempts (
  device text not null, attempt integer not null, begun integer not null, ended integer not null, steps integer not null,
  size integer not null, dropped integer not null, evidence text not null, outcome text not null,
  primary key (device, attempt));
create table attempt_lines (
  seq integer primary key autoincrement, device text not null, attempt integer not null, lines text not null);
create index attempt_lines_attempt on attempt_lines (device, attempt, seq);
`,
  3: `
alter table records add column labels text not null default '[]';
alter table records add column facts text not null default '${JSON.stringify(noFacts)}';
create index records_uuid on records (uuid);
create index records_account on records (account, device);
create table audit (
  seq integer primary key autoincrement, at integer not null, who text not null, what text not null, subject text not null,
  account text not null, reason text not null, was text, became text);
create index audit_subject on audit (subject, seq);
create index audit_account on audit (account, seq);
insert into audit (at, who, what, subject, account, reason)
  select body ->> 'at', body ->> 'by', body ->> 'what', coalesce(body ->> 'device', body ->> 'id', ''), '', body ->> 'reason'
  from documents where kind = 'audit' order by id;
delete from documents where kind = 'audit';
`,
};
