// `evc eventlog`: event logs on files, without a running EVC. A boot may have several logs: the firmware's and EVE's of
// PCR 14, written FILE+FILE where a command takes more than one boot.
import { X509Certificate } from 'node:crypto';
import { Command, InvalidArgumentError, Option } from 'commander';
import { coverOf } from '../../formats/eventlog/covers.ts';
import { describeEvent } from '../../formats/eventlog/describe.ts';
import { diffLogs } from '../../formats/eventlog/diff.ts';
import { type BootFacts, bootFacts } from '../../formats/eventlog/facts.ts';
import { type EventLog, type LogEvent, parseLog } from '../../formats/eventlog/parse.ts';
import { type CheckedLog, checkReplay, replay } from '../../formats/eventlog/replay.ts';
import { eventTypeName } from '../../formats/eventlog/types.ts';
import type { Signature } from '../../formats/eventlog/variables.ts';
import { FormatError } from '../../formats/format-error.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';
import type { PcrValues } from '../../formats/tpm2/pcrs.ts';
import { hash } from '../verify/hash.ts';
import { exitCodes } from './failure.ts';
import { nameOf, readInput, unusable } from './input.ts';
import { readPcrs } from './pcr-values.ts';
import { painter, plain, short, wrap } from './print.ts';

interface Boot {
  name: string;
  logs: EventLog[];
}

interface Options {
  json?: boolean;
  bank?: HashName;
}

const bankNames: readonly HashName[] = ['sha256', 'sha384', 'sha512', 'sha1'];
const bankOption = () =>
  new Option('--bank <bank>', 'which digests to use; the strongest that there is').choices(bankNames);

export function eventlogCommand(): Command {
  const command = new Command('eventlog')
    .description('Reads TCG event logs: what firmware, boot loader and EVE measured.')
    .addHelpText(
      'after',
      `
FILE is a log as the kernel hands it out (/sys/kernel/security/tpm0/binary_bios_measurements), EVE's of PCR 14, gzip of
either, or - for standard input. Logs of one boot are given in order, or joined: bios.bin+config.bin.

Exit codes: 0 read, or equal; 1 different; 2 unusable input.`,
    );
  command
    .command('show')
    .argument('[file...]', 'logs of one boot', ['-'])
    .description('Lists the events, and what their digests vouch for.')
    .addOption(bankOption())
    .option('--pcr <list>', 'these PCRs alone, as 0-7,14', pcrList)
    .option('--json', 'prints JSON')
    .action((files: string[], options: Options & { pcr?: ReadonlySet<number> }) =>
      show(readBoot(files), options),
    );
  command
    .command('replay')
    .argument('[file...]', 'logs of one boot', ['-'])
    .description('Computes the PCR values that the log leads to, bank by bank.')
    .option('--pcrs <file>', 'compares them with these values')
    .option('--json', 'prints JSON')
    .action((files: string[], options: Options & { pcrs?: string }) => replayed(readBoot(files), options));
  command
    .command('diff')
    .argument('<baseline>')
    .argument('<new>')
    .description('Says what changed between two boots, event by event.')
    .addOption(bankOption())
    .option('--pcrs <file>', 'PCR values of the new boot: names what its log does not explain')
    .option('--json', 'prints JSON')
    .action((baseline: string, now: string, options: Options & { pcrs?: string }) =>
      diff(readBoot(baseline.split('+')), readBoot(now.split('+')), options),
    );
  command
    .command('facts')
    .argument('[file...]', 'logs of one boot', ['-'])
    .description('Says what the boot states about itself, from vouched events alone.')
    .addOption(bankOption())
    .option('--json', 'prints JSON')
    .action((files: string[], options: Options) => facts(readBoot(files), options));
  return command;
}

/** Throws Failure evidence.log.absent, evidence.log.malformed. */
function readBoot(paths: readonly string[]): Boot {
  const name = paths.map(nameOf).join('+');
  return { name, logs: paths.map(readLog) };
}

function readLog(path: string): EventLog {
  const bytes = readInput(path);
  if (bytes.length === 0)
    throw unusable(`the event log is absent: ${nameOf(path)} has no bytes`, {
      code: 'evidence.log.absent',
      hint: 'the kernel hands out an empty file where the firmware gave it no log',
    });
  try {
    const log = parseLog(bytes);
    // Not even one event before it ends: then it is something else.
    if (log.truncated && log.events.length === 0) throw log.truncated;
    return log;
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw unusable(`${nameOf(path)} is no event log: ${cause.message}`, {
      code: 'evidence.log.malformed',
      cause,
    });
  }
}

function show({ logs }: Boot, options: Options & { pcr?: ReadonlySet<number> }): void {
  const bank = bankOf([logs], options.bank);
  let base = 0;
  const rows = logs.flatMap((log) => {
    const first = base;
    base += log.events.length;
    return log.events.map((event) => eventView(event, first, bank));
  });
  const wanted = rows.filter(({ pcr }) => options.pcr?.has(pcr) ?? true);
  if (options.json) say(JSON.stringify({ bank, ...stateOf(logs), events: wanted }));
  else {
    const paint = painter();
    say(paint('dim', `digests of ${bank}; ✓ the digest vouches for the words, ~ the words are a hint`));
    for (const { index, pcr, type, vouched, digest, text } of wanted) {
      const mark = vouched === 'data' ? paint('green', '✓') : vouched === 'digest' ? '~' : ' ';
      const place = `${String(index).padStart(4)}  ${pcr > 23 ? ' -' : String(pcr).padStart(2)} ${mark} `;
      say(`${place}${short(digest ?? '').padEnd(14)}${plain(type)}`);
      for (const line of wrap(text, ' '.repeat(24))) say(line);
    }
  }
  sayCut(logs);
}

function eventView(event: LogEvent, first: number, bank: HashName) {
  const digest = event.extends ? event.digest(bank) : undefined;
  const cover = digest && coverOf(event, digest, bank, hash);
  return {
    index: first + event.index,
    pcr: event.pcr,
    type: eventTypeName(event.type),
    ...(digest ? { digest: hex(digest) } : {}),
    vouched: cover ? 'data' : digest ? 'digest' : 'nothing',
    ...(cover ? { cover } : {}),
    size: event.data.length,
    text: describeEvent(event),
  };
}

function replayed({ logs }: Boot, options: Options & { pcrs?: string }): void {
  const banks = banksIn(logs);
  const replays = banks.map((bank) => replay(logs, bank, hash));
  const startupLocality = replays[0]?.startupLocality ?? 0;
  const different = options.pcrs === undefined ? [] : compare(logs, readPcrs(options.pcrs));
  if (options.json) {
    const values = Object.fromEntries(replays.map(({ bank, pcrs }) => [bank, table(pcrs)]));
    const { events, ...state } = stateOf(logs);
    const compared = options.pcrs === undefined ? {} : { differing: different };
    say(JSON.stringify({ banks: values, startupLocality, events, ...state, ...compared }));
  } else {
    for (const { bank, pcrs } of replays) {
      say(bank);
      for (const [pcr, value] of Object.entries(table(pcrs))) say(`  ${pcr.padStart(2)}  ${value}`);
    }
    say(`${stateOf(logs).events} events, startup locality ${startupLocality}`);
    for (const { bank, pcr, text } of different) say(`${bank} PCR ${pcr}: ${text}`);
  }
  if (different.length > 0) process.exitCode = exitCodes.failed;
  sayCut(logs);
}

const differences = {
  mismatch: 'the log leads to another value',
  'no-events': 'it was extended, and the log does not say with what',
  bank: 'the firmware did not measure into this bank',
} as const;

function compare(logs: readonly EventLog[], values: Partial<Record<HashName, PcrValues>>) {
  return bankNames.flatMap((bank) => {
    const check = checkReplay(replay(logs, bank, hash), values[bank] ?? new Map(), hash, () => logs);
    if (check.ok) return [];
    return check.differing.map(({ pcr, reason, quoted, replayed }) => ({
      bank,
      pcr,
      reason,
      text: differences[reason],
      seen: hex(quoted),
      allowed: hex(replayed),
    }));
  });
}

function diff(baseline: Boot, now: Boot, options: Options & { pcrs?: string }): void {
  const bank = bankOf([baseline.logs, now.logs], options.bank);
  const changes = diffLogs(checked(baseline.logs, bank), checked(now.logs, bank)).map((finding) => ({
    code: finding.code as string,
    pcr: finding.pcr as number | null,
    event: finding.event ?? null,
    baselineEvent: finding.baselineEvent ?? null,
    type: finding.type,
    text: finding.text,
    before: finding.before ?? null,
    after: finding.after ?? null,
    vouched: finding.vouched,
  }));
  const empty = { event: null, baselineEvent: null, type: '', before: null, after: null, vouched: true };
  const cut = now.logs.flatMap(({ truncated }) =>
    truncated
      ? [
          {
            ...empty,
            code: 'evidence.log.truncated',
            pcr: null,
            text: `The new log was cut short: ${truncated.message}`,
          },
        ]
      : [],
  );
  const unlogged =
    options.pcrs === undefined
      ? []
      : compare(now.logs, { [bank]: readPcrs(options.pcrs)[bank] ?? new Map() }).map(
          ({ pcr, reason, text, seen, allowed }) => ({
            ...empty,
            code: reason === 'mismatch' ? 'evidence.log.mismatch' : 'evidence.log.pcr-without-events',
            pcr,
            text: `PCR ${pcr}: ${text}`,
            before: allowed,
            after: seen,
          }),
        );
  const findings = [...changes, ...cut, ...unlogged];
  const pcrs = [...new Set(findings.flatMap(({ pcr }) => (pcr === null ? [] : [pcr])))].sort((a, b) => a - b);
  if (options.json) say(JSON.stringify({ bank, pcrs, findings }));
  else if (findings.length === 0) say(`no difference in the digests of ${bank}`);
  else {
    say(`different: PCR ${pcrs.join(', ')} (digests of ${bank})`);
    for (const { code, pcr, event, text, vouched } of findings) {
      const place = [pcr === null ? '' : `PCR ${pcr}`, event === null ? '' : `event ${event}`].filter(
        Boolean,
      );
      say(`  ${[code, ...place].join('  ')}${vouched ? '' : '  (the words are a hint)'}`);
      for (const line of wrap(text, '    ')) say(line);
    }
  }
  sayCut(baseline.logs);
  if (findings.length > 0 && process.exitCode === undefined) process.exitCode = exitCodes.failed;
}

function facts({ logs }: Boot, options: Options): void {
  const bank = bankOf([logs], options.bank);
  const found = bootFacts(checked(logs, bank));
  const keys = Object.fromEntries(
    Object.entries(found.secureBootKeys).map(([name, list]) => [name, list.map(keyView)]),
  );
  const authorities = found.authorities.map(({ name, signature }) => ({ name, ...keyView(signature) }));
  if (options.json) say(JSON.stringify({ bank, ...found, secureBootKeys: keys, authorities }));
  else for (const line of factLines(found, keys, authorities)) say(line);
  sayCut(logs);
}

type KeyView = { kind: string; sha256: string; subject?: string };

function keyView({ type, data }: Signature): KeyView {
  if (type !== 'x509')
    return { kind: type, sha256: type === 'sha256' ? hex(data) : hex(hash('sha256', data)) };
  const view = { kind: 'x509', sha256: hex(hash('sha256', data)) };
  try {
    const { subject } = new X509Certificate(data);
    return { ...view, subject: plain(/CN=(.*)/.exec(subject)?.[1] ?? subject) };
  } catch {
    // Firmware takes what is no certificate too; its hash says which it is.
    return view;
  }
}

function factLines(
  found: BootFacts,
  keys: Record<string, KeyView[]>,
  authorities: readonly (KeyView & { name: string })[],
): string[] {
  const nameOfKey = ({ kind, sha256, subject }: KeyView) => subject ?? `${kind} ${short(sha256)}`;
  const list = (title: string, items: readonly string[]) =>
    items.length === 0 ? [] : [title, ...items.flatMap((item) => wrap(item, '  '))];
  const shown = (name: string, of: readonly KeyView[]) => {
    const certificates = of.filter(({ kind }) => kind === 'x509').map(nameOfKey);
    const hashes = of.length - certificates.length;
    return `${name}: ${[...certificates, ...(hashes > 0 ? [`${hashes} hashes`] : [])].join('; ')}`;
  };
  return [
    `Firmware version: ${plain(found.firmwareVersion ?? '') || '(not stated)'}`,
    `Secure Boot: ${found.secureBoot}`,
    ...list(
      'Secure Boot keys:',
      Object.entries(keys).map(([name, of]) => shown(name, of)),
    ),
    ...list(
      'Programs vouched for by:',
      authorities.map((one) => `${one.name}: ${nameOfKey(one)}`),
    ),
    ...list(
      'Boot chain (digest; the name is a hint):',
      found.bootChain.map(({ pcr, digest, hint }) => `PCR ${pcr} ${short(digest)} ${hint}`),
    ),
    ...list('Kernel command line:', found.kernelCommandLines),
    ...(found.rootfsHash ? [`Root file system: SHA-256 ${found.rootfsHash}`] : []),
    ...list(
      'Files of /config:',
      found.configFiles.map(
        ({ path, exists, contentHash }) =>
          `${path} ${!exists ? 'absent' : contentHash ? short(contentHash) : 'there'}`,
      ),
    ),
  ];
}

/** A log checked against what it leads to itself: its digests are taken at their word. */
function checked(logs: readonly EventLog[], bank: HashName): CheckedLog {
  const own = replay(logs, bank, hash);
  const quoted = new Map([...own.pcrs].filter(([pcr]) => !own.unmeasured.has(pcr)));
  const check = checkReplay(own, quoted, hash, () => logs);
  if (!check.ok) throw new RangeError('a log does not lead to its own values');
  return check.log;
}

function banksIn(logs: readonly EventLog[]): HashName[] {
  return bankNames.filter((bank) => logs.some(({ banks }) => banks.includes(bank)));
}

/** Throws Failure evidence.log.bank. */
function bankOf(boots: readonly (readonly EventLog[])[], wanted?: HashName): HashName {
  const banks = bankNames.filter((bank) => boots.every((logs) => banksIn(logs).includes(bank)));
  const bank = wanted ?? banks[0];
  if (bank !== undefined && banks.includes(bank)) return bank;
  throw unusable(
    wanted ? `the log has no digests of ${wanted}` : 'the logs have no bank in common that is known here',
    {
      code: 'evidence.log.bank',
      hint: `there are ${boots.map((logs) => banksIn(logs).join(', ') || 'none').join(' and ')}`,
    },
  );
}

function stateOf(logs: readonly EventLog[]) {
  const truncated = logs.flatMap((log) => (log.truncated ? [log.truncated.message] : []));
  return {
    events: logs.reduce((sum, { events }) => sum + events.length, 0),
    formats: logs.map(({ format }) => format),
    padding: logs.reduce((sum, { padding }) => sum + padding, 0),
    ...(truncated.length > 0 ? { truncated } : {}),
  };
}

/** What was read is printed, and is not all there was. */
function sayCut(logs: readonly EventLog[]): void {
  for (const { truncated } of logs) {
    if (!truncated) continue;
    process.stderr.write(
      `evc: the event log was cut short: ${truncated.message}  [evidence.log.truncated]\n`,
    );
    process.exitCode = exitCodes.usage;
  }
}

function pcrList(text: string): ReadonlySet<number> {
  const pcrs = parsePcrList(text);
  if (!pcrs) throw new InvalidArgumentError('a list as 0-7,14 is wanted.');
  return new Set(pcrs);
}

/** `0-7,9` as numbers; undefined for anything else. */
export function parsePcrList(text: string): number[] | undefined {
  if (!/^\d{1,2}(-\d{1,2})?(,\d{1,2}(-\d{1,2})?)*$/.test(text)) return undefined;
  const pcrs = text.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
  });
  return pcrs.length > 0 && pcrs.every((pcr) => pcr < 24) ? [...new Set(pcrs)] : undefined;
}

function table(pcrs: PcrValues): Record<string, string> {
  return Object.fromEntries(
    [...pcrs].sort(([a], [b]) => a - b).map(([pcr, value]) => [String(pcr), hex(value)]),
  );
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
