// `evc doctor`: what may be wrong with an EVC, looked at from where it runs.
import { X509Certificate } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'libsql';
import type { ServiceView } from '../api/service.ts';
import { DataFolder } from '../options.ts';
import type { Caller } from '../tokens.ts';
import { ApiClient, type ClientOptions } from './client.ts';
import { listDevices } from './devices.ts';
import { checkAll, lost } from './escrow.ts';
import { exitCodes, explain } from './failure.ts';
import { ageOf, painter, plain, wrap } from './print.ts';

export interface Finding {
  what: string;
  state: 'good' | 'warning' | 'bad';
  text: string;
  /** What to do; empty where nothing is. */
  hint: string;
}

const day = 86_400_000;
const soon = 30 * day;
const megabyte = 1024 * 1024;
const enough = 1024 * megabyte;
const marks = { good: ['✓', 'green'], warning: ['!', 'yellow'], bad: ['✗', 'red'] } as const;

const good = (what: string, text: string): Finding => ({ what, state: 'good', text, hint: '' });
const warning = (what: string, text: string, hint: string): Finding => ({
  what,
  state: 'warning',
  text,
  hint,
});
const bad = (what: string, text: string, hint: string): Finding => ({ what, state: 'bad', text, hint });

/** Everything that can be seen, in the order in which it matters. Never rejects: what fails is a finding. */
export async function examine(options: ClientOptions, now: number): Promise<Finding[]> {
  const data = new DataFolder(options.data);
  if (!data.complete)
    return [bad('data folder', `${data.path} is no data folder of EVC`, `evc init --data ${data.path}`)];
  return [
    attempt('data folder', () => folder(data)),
    ...certificates(data, now),
    attempt('store', () => store(data)),
    attempt('disk', () => disk(data)),
    ...(await names(data)),
    ...(await service(options, now)),
  ];
}

function attempt(what: string, look: () => Finding): Finding {
  try {
    return look();
  } catch (error) {
    const { text, hint } = explain(error);
    return bad(what, text, hint);
  }
}

function folder(data: DataFolder): Finding {
  const pki = data.file('pki');
  const secret = readdirSync(pki).filter((name) => /\.key\.pem$|^secret$/.test(name));
  const open = secret.filter((name) => (statSync(join(pki, name)).mode & 0o077) !== 0);
  if (open.length > 0)
    return bad(
      'data folder',
      `others may read ${open.map((name) => join(pki, name)).join(', ')}`,
      `chmod 600 ${pki}/*.key.pem ${pki}/secret`,
    );
  return good('data folder', `${data.path}, its keys for its owner alone`);
}

function certificates(data: DataFolder, now: number): Finding[] {
  return ['root', 'signing', 'exchange', 'server'].map((name) =>
    attempt(`${name} certificate`, () => {
      const what = `${name} certificate`;
      const { validTo } = new X509Certificate(readFileSync(data.file(`pki/${name}.cert.pem`)));
      const left = Date.parse(validTo) - now;
      if (left < 0)
        return bad(
          what,
          `ran out ${ageOf(-left)} ago`,
          'devices and people are turned away: evc certificates renew',
        );
      const text = `good for ${ageOf(left)}`;
      return left < soon ? warning(what, text, hintOf(name)) : good(what, text);
    }),
  );
}

/** A running EVC renews by itself, where it has the root's key. */
function hintOf(name: string): string {
  return name === 'root'
    ? 'devices are installed with it: make a new EVC with evc init, and install them with its root'
    : 'evc certificates renew, with pki/root.key.pem in its place; EVC does so by itself where it runs';
}

function store(data: DataFolder): Finding {
  const path = data.file('evc.db');
  const db = new Database(path, { readonly: true, fileMustExist: true } as Database.Options);
  try {
    const [check] = db.prepare('pragma quick_check').all([]) as { quick_check: string }[];
    if (check?.quick_check !== 'ok')
      return bad('store', `${path}: ${check?.quick_check}`, 'restore a backup: evc restore FILE');
    return good('store', `in order, ${(statSync(path).size / megabyte).toFixed(1)} MiB`);
  } finally {
    db.close();
  }
}

function disk(data: DataFolder): Finding {
  const { bavail, bsize } = statfsSync(data.path);
  const free = bavail * bsize;
  const text = `${Math.floor(free / megabyte)} MiB free`;
  return free < enough
    ? warning('disk', text, 'free some space: without any, EVC stores nothing')
    : good('disk', text);
}

async function names(data: DataFolder): Promise<Finding[]> {
  return Promise.all(
    data.hosts().map((host) =>
      lookup(host).then(
        ({ address }) => good('name', `${host} is ${address}`),
        () =>
          warning(
            'name',
            `${host} is not known here`,
            'devices reach EVC under this name: see to it that they know it',
          ),
      ),
    ),
  );
}

async function service(options: ClientOptions, now: number): Promise<Finding[]> {
  let api: ApiClient | null = null;
  try {
    api = ApiClient.open(options);
    const { since } = await api.get<ServiceView>('/api/v1/status');
    const { name, role, expires } = await api.get<Caller>('/api/v1/whoami');
    const till = expires === null ? '' : `, good for ${ageOf(expires - now)}`;
    return [
      good('service', `answers at ${api.url}, for ${ageOf(now - since)}`),
      good('token', `${name}, ${role}${till}`),
      ...(await fleet(api)),
    ];
  } catch (error) {
    const { text, hint } = explain(error);
    return [bad('service', text, hint)];
  } finally {
    api?.close();
  }
}

async function fleet(api: ApiClient): Promise<Finding[]> {
  const rows = (await listDevices(api)).filter(({ trust }) => trust !== 'retired');
  const of = (trust: string) => rows.filter((row) => row.trust === trust).length;
  const uneasy = [
    [of('uud'), 'show unknown software', 'evc status trust:uud'],
    [of('umd'), 'have moved', 'evc status trust:umd'],
    [of('stale'), 'are silent', 'evc status stale:'],
  ] as const;
  const { enrolments } = await api.get<{ enrolments: { state: string }[] }>('/api/v1/enrolments');
  const waiting = enrolments.filter(({ state }) => state === 'waiting').length;
  const gone = (await checkAll(api)).filter(lost).length;
  return [
    good('devices', `${of('trusted')} of ${rows.length} are trusted`),
    ...uneasy.flatMap(([count, text, hint]) =>
      count > 0 ? [warning('devices', `${count} ${text}`, hint)] : [],
    ),
    ...(waiting > 0 ? [warning('enrolment', `${waiting} wait for a person`, 'evc key waiting')] : []),
    gone > 0
      ? bad('escrow', `${gone} keys are lost`, 'evc escrow check')
      : good('escrow', 'every key is there and readable'),
  ];
}

export function doctorText(findings: readonly Finding[]): string {
  const paint = painter();
  const width = Math.max(...findings.map(({ what }) => what.length));
  const lines = findings.flatMap(({ what, state, text, hint }) => {
    const [mark, style] = marks[state];
    const indent = ' '.repeat(width + 4);
    const [first = '', ...rest] = wrap(plain(text), indent);
    return [
      `${paint(style, mark)} ${what.padEnd(width)}  ${first.trim()}`,
      ...rest,
      ...(hint === '' ? [] : [`${indent}hint: ${hint}`]),
    ];
  });
  const wrong = findings.filter(({ state }) => state === 'bad').length;
  const uneasy = findings.filter(({ state }) => state === 'warning').length;
  return [...lines, `${wrong} wrong, ${uneasy} to look at`].join('\n');
}

/** 1 where something is wrong. */
export function exitOf(findings: readonly Finding[]): number {
  return findings.some(({ state }) => state === 'bad') ? exitCodes.failed : exitCodes.done;
}
