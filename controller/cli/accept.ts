// `evc accept` and `accept-place`: first what would change, then a reason, then the decision, on exactly what was shown.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { distance } from '../../machines/distance.ts';
import type { Location } from '../../machines/flow.ts';
import type { Accepted, ChangesView, DeviceView } from '../operator.ts';
import { ApiClient } from './client.ts';
import { colourTrust, listDevices, trustWord } from './devices.ts';
import { exitCodes, Failure } from './failure.ts';
import { ageOf, findingLines, plain, short, table } from './print.ts';
import { type Common, remote, say } from './remote.ts';

interface AcceptOptions extends Common {
  reason?: string;
  yes?: boolean;
  filter?: string;
  list?: string;
}

/** Findings that are shown before somebody accepts. */
const shown = 10;
const mostAtOnce = 500;
const counted = new Set(['policy.pcr.unexpected', 'policy.software.unknown']);

export function acceptCommands(program: Command): void {
  remote(program.command('accept').argument('[device]'))
    .description('Makes what a device runs now its baseline; shows first what changed.')
    .option('--reason <text>', 'why; it is kept. Without it, what would change is shown and nothing done')
    .option('--yes', 'does not ask, on a terminal')
    .option('--filter <filter>', 'many devices; they are listed first')
    .option('--list <id>', 'the list that was shown; with --filter, only that one is accepted')
    .action((words: string | undefined, options: AcceptOptions) =>
      withApi(options, (api) =>
        words === undefined ? acceptMany(api, options) : acceptOne(api, words, options),
      ),
    );

  remote(program.command('accept-place').argument('<device>'))
    .description('Locks a device to where it is now; shows first where it was.')
    .option('--reason <text>', 'why; it is kept. Without it, the places are shown and nothing done')
    .option('--yes', 'does not ask, on a terminal')
    .action((words: string, options: AcceptOptions) =>
      withApi(options, (api) => acceptPlace(api, words, options)),
    );
}

async function withApi(options: Common, work: (api: ApiClient) => Promise<void>): Promise<void> {
  const api = ApiClient.open(options);
  try {
    await work(api);
  } finally {
    api.close();
  }
}

const pathOf = (words: string, what: string) => `/api/v1/devices/${encodeURIComponent(words)}/${what}`;
const changesOf = (api: ApiClient, words: string) => api.get<ChangesView>(pathOf(words, 'changes'));

async function acceptOne(api: ApiClient, words: string, options: AcceptOptions): Promise<void> {
  const changes = await changesOf(api, words);
  const { device, revision, software } = changes;
  if (options.reason === undefined)
    return onlyShown(changes, changesText(changes, Date.now()), `evc accept ${words}`, options);
  if (!options.json) say(changesText(changes, Date.now()));
  if (software) await confirm(`accept what ${words} shows?`, options);
  const view = await api.send<DeviceView>(
    'POST',
    pathOf(device, 'accept'),
    { reason: options.reason, ...(software ? { attempt: software.attempt } : {}) },
    { 'if-match': `"${revision}"` },
  );
  say(options.json ? JSON.stringify(view) : `${words}: accepted; it attests again now`);
}

async function acceptPlace(api: ApiClient, words: string, options: AcceptOptions): Promise<void> {
  const changes = await changesOf(api, words);
  const { device, revision, place } = changes;
  if (options.reason === undefined)
    return onlyShown(changes, placeText(changes), `evc accept-place ${words}`, options);
  if (!options.json) say(placeText(changes));
  if (place) await confirm(`lock ${words} to where it is now?`, options);
  const view = await api.send<DeviceView>(
    'POST',
    pathOf(device, 'accept-place'),
    { reason: options.reason },
    { 'if-match': `"${revision}"` },
  );
  say(options.json ? JSON.stringify(view) : `${words}: locked to its new place`);
}

function onlyShown(changes: object, text: string, command: string, { json }: AcceptOptions): void {
  say(json ? JSON.stringify(changes) : `${text}\nnothing was done; to accept it: ${command} --reason "…"`);
}

async function acceptMany(api: ApiClient, options: AcceptOptions): Promise<void> {
  const { filter, reason, list, json } = options;
  if (filter === undefined)
    throw new Failure('accept wants a device, or --filter', {
      hint: 'evc status shows the devices',
      exitCode: exitCodes.usage,
    });
  const rows = await listDevices(api, filter);
  const all = await Promise.all(rows.slice(0, mostAtOnce).map(({ device }) => changesOf(api, device)));
  const open = all.flatMap((changes) =>
    changes.software ? [{ ...changes, software: changes.software }] : [],
  );
  if (open.length === 0)
    throw new Failure(`of ${rows.length} devices none shows anything that could be accepted`, {
      code: 'device.nothing-to-accept',
    });
  const devices = open.map(({ device, software }) => ({ device, attempt: software.attempt }));
  const id = listId(devices);
  const again = `evc accept --filter '${filter}' --list ${id} --reason "…"`;
  if (list === undefined || reason === undefined) {
    const more = rows.length > mostAtOnce ? `\nof ${rows.length}, the first ${mostAtOnce}` : '';
    const text = `${manyText(open)}${more}\n${open.length} device${open.length === 1 ? '' : 's'}, list ${id}; nothing was done; to accept these: ${again}`;
    say(json ? JSON.stringify({ list: id, devices: open }) : text);
    return;
  }
  if (list !== id)
    throw new Failure(`the list ${list} is not what stands there now: that is ${id}`, {
      code: 'precondition.failed',
      hint: `look at it again: evc accept --filter '${filter}'`,
    });
  const answer = await api.send<{ devices: Accepted[] }>('POST', '/api/v1/acceptances', { reason, devices });
  const refused = answer.devices.filter((one) => one.refused !== null);
  if (json) say(JSON.stringify(answer));
  else {
    for (const { device, refused: why } of refused) say(`${short(device)}: ${why?.detail}  [${why?.code}]`);
    say(`${answer.devices.length - refused.length} accepted, ${refused.length} refused`);
  }
  if (refused.length > 0) process.exitCode = exitCodes.refused;
}

/** Of a list as it was shown: other devices, or other evidence of them, make another one. */
export function listId(devices: readonly { device: string; attempt: string }[]): string {
  const lines = devices.map(({ device, attempt }) => `${device} ${attempt}`).sort();
  return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 8);
}

async function confirm(question: string, { yes, json }: AcceptOptions): Promise<void> {
  // Without a person at a terminal the reason says that somebody means it.
  if (yes || json || !process.stdin.isTTY || !process.stdout.isTTY) return;
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await lines.question(`${question} [y/N] `);
  lines.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure('nothing was done');
}

export function changesText({ serial, device, trust, account, software }: ChangesView, now: number): string {
  const head = `${trustWord(trust)}  ${plain(serial) || short(device)}, account ${account}`;
  if (!software) return colourTrust(`${head}\n  it shows nothing that could be accepted`);
  const { attempt, at, from, to, pcrs, findings } = software;
  const line = (name: string, before: string | undefined, after: string | undefined) =>
    `  ${name.padEnd(10)}${plain(before ?? 'none')}${before === after ? '' : ` → ${plain(after ?? 'none')}`}`;
  return colourTrust(
    [
      head,
      `  evidence  ${short(attempt)}, ${ageOf(now - at)} ago`,
      line('image', from?.image, to?.image),
      line('firmware', from?.firmware, to?.firmware),
      ...pcrs.map(({ pcr, baseline, shown: value }) =>
        line(`PCR ${pcr}`, short(baseline ?? 'none'), short(value ?? 'none')),
      ),
      // Which PCRs differ stands above; here stands what moved them.
      ...findingLines(
        findings.filter(({ code }) => !counted.has(code)),
        shown,
      ),
    ].join('\n'),
  );
}

function placeText({ serial, device, trust, place }: ChangesView): string {
  const head = `${trustWord(trust)}  ${plain(serial) || short(device)}`;
  if (!place) return colourTrust(`${head}\n  it is where it was locked to`);
  const { locked, seen } = place;
  const far = locked && seen ? `\n  apart     ${Math.round(distance(locked, seen))} m` : '';
  return colourTrust(`${head}\n  locked    ${where(locked)}\n  seen      ${where(seen)}${far}`);
}

function where(place: Location | null): string {
  return place ? `${place.latitude}, ${place.longitude} (within ${place.accuracy} m)` : 'nowhere';
}

function manyText(
  open: readonly (ChangesView & { software: NonNullable<ChangesView['software']> })[],
): string {
  return table(
    ['DEVICE', 'ACCOUNT', 'RUNS', 'SHOWS', 'PCRS', 'WHY'],
    open.map(({ serial, device, account, software: { from, to, pcrs, findings } }) => [
      serial || short(device),
      account,
      from?.image ?? 'none',
      to?.image ?? 'none',
      pcrs.map(({ pcr }) => pcr).join(' '),
      findings[0]?.code ?? '',
    ]),
  );
}
