// What an operator asks and decides about devices, over the API.
import * as v from 'valibot';
import type { FleetRow } from '../../formats/filter/row.ts';
import type { RefusedEnrolment } from '../../machines/device-record.ts';
import { explain } from '../../machines/reasons.ts';
import type { StepView } from '../api/stream.ts';
import type { DevicePage, DeviceView } from '../operator.ts';
import { uudLine } from '../record/facts.ts';
import type { DeviceRow, JournalEntry } from '../store/store.ts';
import type { ApiClient } from './client.ts';
import { ageOf, findingLines, painter, plain, type Style, short, table, wrap } from './print.ts';

export async function listDevices(api: ApiClient, filter = ''): Promise<DeviceRow[]> {
  const all: DeviceRow[] = [];
  for (let after = ''; ; ) {
    const query = new URLSearchParams({ limit: '1000', after, filter });
    const page = await api.get<DevicePage>(`/api/v1/devices?${query}`);
    all.push(...page.devices);
    if (page.next === null) return all;
    after = page.next;
  }
}

export function showDevice(api: ApiClient, words: string): Promise<DeviceView> {
  return api.get(`/api/v1/devices/${encodeURIComponent(words)}`);
}

export function decide(api: ApiClient, words: string, what: string, body?: object): Promise<DeviceView> {
  return api.send('POST', `/api/v1/devices/${encodeURIComponent(words)}/${what}`, body);
}

export async function readJournal(api: ApiClient, words: string, limit: number) {
  const path = `/api/v1/devices/${encodeURIComponent(words)}/journal?limit=${limit}`;
  const { journal } = await api.get<{ journal: (JournalEntry & { seq: number })[] }>(path);
  return journal;
}

const marks: Record<string, [mark: string, style: Style]> = {
  trusted: ['✓', 'green'],
  uud: ['✗', 'red'],
  umd: ['!', 'yellow'],
  stale: ['?', 'yellow'],
};

/** One word for a person: the trust of a device, with a sign that does not need colour. */
export function trustWord(trust: string): string {
  const [mark] = marks[trust] ?? ['·'];
  const word = trust === 'uud' || trust === 'umd' ? trust.toUpperCase() : trust;
  return `${mark} ${word}`;
}

/** The fleet, one line a device. */
export function statusTable(rows: readonly FleetRow[], now: number): string {
  const lines = rows.map(({ serial, device, trust, seen, facts }) => [
    serial || short(device),
    trustWord(trust),
    facts.image,
    facts.online ? 'online' : seen === 0 ? 'never seen' : `${ageOf(now - seen)} ago`,
    facts.why,
  ]);
  return colourTrust(table(['DEVICE', 'TRUST', 'BASELINE', 'LINK', 'WHY'], lines));
}

/** The fleet, and how many of it are what. */
export function statusText(rows: readonly FleetRow[], filter: string, now: number): string {
  if (rows.length === 0)
    return filter === '' ? 'no device is registered yet' : `no device is meant by ${filter}`;
  const counts = new Map<string, number>();
  for (const { trust } of rows) counts.set(trust, (counts.get(trust) ?? 0) + 1);
  const parts = [...counts].map(([trust, count]) => `${count} ${trustWord(trust).slice(2)}`);
  const what = rows.length === 1 ? '1 device' : `${rows.length} devices`;
  return `${statusTable(rows, now)}\n${what}: ${parts.join(', ')}`;
}

/** A step of a record, as a line. */
export function stepLine({ at, serial, device, event, before, after, ignored }: StepView): string {
  const time = new Date(at).toISOString().slice(11, 19);
  const [was, is] = [before as Record<string, string>, after as Record<string, string>];
  const moved = Object.keys(is)
    .filter((region) => was[region] !== is[region])
    .map((region) => `${region} ${was[region]} → ${is[region]}`);
  const what = ignored ? 'ignored' : moved.join(', ');
  return colourTrust(plain(`${time}  ${serial || short(device)}  ${event.type}  ${what}`.trimEnd()));
}

export function colourTrust(text: string): string {
  const paint = painter();
  return text.replace(/[✓✗!?] (trusted|UUD|UMD|stale)\b/g, (found, word: string) =>
    paint(marks[word.toLowerCase()]?.[1] ?? 'dim', found),
  );
}

export function deviceText(view: DeviceView, now: number): string {
  const { baseline, upgrade, upgraded, verdict, place, escrow } = view;
  const states = view.states as Record<string, unknown>;
  const at = (time: number) => `${new Date(time).toISOString()} (${ageOf(now - time)} ago)`;
  const lines: [string, string][] = [
    ['device', view.device],
    ['serial', view.serial],
    ['UUID', view.uuid],
    ['account', view.account],
    ['labels', view.labels.join(', ')],
    ['trust', trustWord(view.trust)],
    ['link', view.online ? 'online' : 'offline'],
    ['seen', view.seen === 0 ? 'never' : at(view.seen)],
    [
      'states',
      Object.entries(states)
        .map(([region, state]) => `${region} ${String(state)}`)
        .join(', '),
    ],
    ...tpmLines(view, now),
    ['boot', bootLine(view.boot)],
    [
      'baseline',
      baseline ? `${baseline.versions.image}, by ${baseline.grounds}, ${at(baseline.at)}` : 'none',
    ],
    [
      'verdict',
      verdict ? `${verdict.accepted ? `accepted (${verdict.grounds})` : uudLine(verdict.findings)}` : 'none',
    ],
    [
      'upgrade',
      upgrade ? `${upgrade.from} → ${upgrade.to}, window until ${new Date(upgrade.until).toISOString()}` : '',
    ],
    [
      'upgraded',
      upgraded
        ? `${upgraded.from} → ${upgraded.to}: ${upgraded.how}${upgraded.why ? `, ${upgraded.why.text}` : ''}`
        : '',
    ],
    ['lock', view.lock.locationLock ? `on, ${view.lock.radius} m, moved: ${view.lock.moved}` : 'off'],
    ['place', place.locked ? `locked to ${place.locked.latitude}, ${place.locked.longitude}` : 'not locked'],
    ['escrow', escrow[0] ? `key ${escrow[0].keyId}, version ${escrow[0].version}` : 'none'],
  ];
  return colourTrust(
    lines
      .filter(([, text]) => text !== '')
      .map(([name, text]) => `${name.padEnd(10)}${plain(text)}`)
      .join('\n'),
  );
}

/** What the TPM is, who says so, and what was seen in its place. */
/** A device may say anything of itself; what is not as expected is left out. */
function bootLine(boot: DeviceView['boot']): string {
  const report = v.safeParse(bootReport, boot);
  if (!report.success) return '';
  const { board, image, firmware, logs } = report.output;
  const missing = logs.flatMap(({ why }) => (why ? [`; ${why.text}`] : []));
  return `says ${board} board, image ${image || 'unnamed'}, firmware ${firmware || 'unnamed'}${missing.join('')}`;
}

const bootReport = v.object({
  board: v.string(),
  image: v.string(),
  firmware: v.string(),
  logs: v.array(v.object({ why: v.optional(v.object({ text: v.string() })) })),
});

function tpmLines({ ekTrust, tpm, refusedEnrolment }: DeviceView, now: number): [string, string][] {
  const { certificate = null, ekName = '' } = tpm ?? {};
  const model = certificate && [certificate.vendor, certificate.model, certificate.version];
  const over = certificate && certificate.notAfter < now ? `, ran out ${dayOf(certificate.notAfter)}` : '';
  return [
    [
      'TPM',
      tpm ? [model?.filter(Boolean).join(' '), trustWords[ekTrust]].filter(Boolean).join('; ') : 'not proven',
    ],
    ['EK', ekName],
    ['issuer', certificate ? [certificate.issuer, ...certificate.chain.slice(1)].join(' ← ') : ''],
    ['EK serial', certificate ? `${certificate.serial}${over}` : ''],
    ['', certificate?.why ? `${certificate.why.text}  [${certificate.why.code}]` : ''],
    ['refused', refusedEnrolment ? refusedLine(refusedEnrolment, now) : ''],
  ];
}

const trustWords: Record<string, string> = {
  vendor: 'its vendor vouches for it',
  'unknown-vendor': 'a vendor that EVC does not know vouches for it; trusted on first use',
  'first-use': 'no vendor vouches for it; trusted on first use',
};

function refusedLine({ code, text, ekName, at, since, count }: RefusedEnrolment, now: number): string {
  const times = count > 1 ? `, ${count} times in ${ageOf(at - since)}` : '';
  return `${ageOf(now - at)} ago${times}: ${text}  [${code}]  EK ${ekName}`;
}

function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

/** Why a device is trusted, or not, and what may be done about it. */
export function whyText(view: DeviceView, words: string, now: number): string {
  const { verdict, trust, refusedEnrolment } = view;
  const seen = refusedEnrolment ? refusedLines(refusedEnrolment, words, now) : [];
  if (!verdict) return [`${words} has not attested yet; it is ${trust}`, ...seen].join('\n');
  const head = `${trustWord(trust)}  ${plain(view.serial) || short(view.device)}, ${ageOf(now - verdict.at)} ago`;
  const genuine = verdict.genuine
    ? '  the evidence is genuine: nonce, key, quote and log hold'
    : '  the evidence is not genuine, so nothing of it is believed';
  const hints = [
    ...(trust === 'uud' && verdict.genuine
      ? [
          `hint: if this software is wanted:  evc accept ${words}`,
          `hint: to push a good image:        evc upgrade ${words} VERSION`,
        ]
      : []),
    ...((view.states as Record<string, unknown>).location === 'umd'
      ? [`hint: if this place is right:      evc accept-place ${words} --reason "…"`]
      : []),
  ];
  const [first] = verdict.findings;
  const reason = first && !verdict.accepted ? explain(first.code) : null;
  const meaning = reason ? [...wrap(reason.text, '  '), ...wrap(reason.remedy, '  ')] : [];
  const grounds = verdict.accepted ? [`  accepted: ${verdict.grounds}`] : [];
  return colourTrust(
    [head, genuine, ...grounds, ...meaning, ...findingLines(verdict.findings), ...seen, ...hints].join('\n'),
  );
}

/** An enrolment that was refused, as a finding: which TPM was seen, when, how often, and what to do. */
function refusedLines(refused: RefusedEnrolment, words: string, now: number): string[] {
  const { code, text, ekName, akName, at, since, count } = refused;
  const { title, remedy } = explain(code);
  const often = count > 1 ? `, ${count} times since ${new Date(since).toISOString()}` : '';
  return [
    `  ${code}  ${title}`,
    ...wrap(text, '    '),
    `    seen     ${new Date(at).toISOString()}, ${ageOf(now - at)} ago${often}`,
    `    EK       ${ekName}`,
    `    AK       ${akName}`,
    ...wrap(`remedy   ${remedy}`, '    '),
    ...(code === 'enrol.other-tpm'
      ? [`hint: if the board was swapped:    evc reenrol ${words} --reason "…"`]
      : []),
  ];
}

export function journalText(entries: readonly JournalEntry[]): string {
  const rows = [...entries].reverse().map(({ at, event, body }) => {
    const { by, reason, accepted, grounds, findings, why } = body as Record<string, unknown>;
    const first = Array.isArray(findings) ? (findings[0] as { code?: string } | undefined) : undefined;
    const what =
      typeof reason === 'string'
        ? `${by}: ${reason}`
        : accepted === true
          ? `accepted: ${grounds}`
          : (first?.code ?? (why as { code?: string } | undefined)?.code ?? '');
    return [new Date(at).toISOString().slice(0, 19).replace('T', ' '), event, what];
  });
  return table(['TIME', 'EVENT', 'WHAT'], rows);
}
