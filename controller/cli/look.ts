// `evc status`, `device show`, `why`, `journal`, `events`, `audit`, `record`, `attempt`: what people look at.
import type { Command } from 'commander';
import { filterKeys } from '../../formats/filter/filter.ts';
import type { AuditEntry } from '../store/store.ts';
import { attemptsText, fetchAttempt, listAttempts } from './attempt.ts';
import { ApiClient } from './client.ts';
import {
  deviceText,
  journalText,
  listDevices,
  readJournal,
  showDevice,
  statusText,
  stepLine,
  whyText,
} from './devices.ts';
import { countOf } from './input.ts';
import { plain, short, table } from './print.ts';
import { type RecordOptions, record, recordedText } from './record.ts';
import { ask, type Common, endedByEvc, remote, say, watchable } from './remote.ts';

const filterHelp = `
A filter is terms that must all hold; commas separate alternatives, - denies, * leaves the rest open:
${filterKeys.map(({ key, says }) => `  ${(key === 'name' ? 'WORD' : `${key}:`).padEnd(10)}${says}`).join('\n')}
Example: evc status 'trust:uud pcr:8 account:plant-7 -label:lab'`;

export function lookCommands(program: Command): void {
  watchable(program.command('status').argument('[filter]', 'which devices (default: all)'))
    .description('Lists devices: trusted or not, and why.')
    .addHelpText('after', filterHelp)
    .action((filter: string | undefined, options: Common) =>
      ask(
        options,
        (api) => listDevices(api, filter),
        (rows) => statusText(rows, filter ?? '', Date.now()),
      ),
    );

  watchable(program.command('why').argument('<device>'))
    .description('Says why a device is trusted or not: PCR, event, seen, allowed.')
    .action((words: string, options: Common) =>
      ask(
        options,
        (api) => showDevice(api, words),
        (view) => whyText(view, words, Date.now()),
      ),
    );

  remote(program.command('journal').argument('<device>'))
    .description('Shows what happened to the record of a device.')
    .option('--limit <number>', 'entries, newest', '50')
    .action((words: string, options: Common & { limit: string }) =>
      ask(options, (api) => readJournal(api, words, countOf('--limit', options.limit, 1000)), journalText),
    );

  remote(program.command('events').argument('[device]', 'of this one alone'))
    .description('Prints every step of every record as it happens, until Ctrl-C.')
    .option('--account <name>', 'of the devices of this account')
    .action(events);

  remote(program.command('audit').argument('[device]', 'about this one alone'))
    .description('Shows who did what, when and why, the newest last.')
    .option('--limit <number>', 'entries, newest', '50')
    .action((words: string | undefined, options: Common & { limit: string }) =>
      ask(
        options,
        async (api) => {
          const query = new URLSearchParams({ limit: `${countOf('--limit', options.limit, 1000)}` });
          if (words !== undefined) query.set('device', words);
          const { entries } = await api.get<{ entries: AuditLine[] }>(`/api/v1/audit?${query}`);
          return entries;
        },
        auditText,
      ),
    );

  recordingCommands(program);
}

export function showCommand(device: Command): void {
  watchable(device.command('show').argument('<device>'))
    .description('Shows all that EVC knows of a device.')
    .action((words: string, options: Common) =>
      ask(
        options,
        (api) => showDevice(api, words),
        (view) => deviceText(view, Date.now()),
      ),
    );
}

function recordingCommands(program: Command): void {
  remote(program.command('record').argument('<device>'))
    .description('Records what EVC does with a device, as it happens, until Ctrl-C.')
    .option('-o, --output <file>', 'a file, packed as .jsonl.gz (default: standard output)')
    .option('--until <end>', 'the next verdict: trusted or refused; or a number of seconds')
    .action(async (words: string, options: Common & RecordOptions) => {
      const api = ApiClient.open(options);
      try {
        const recorded = await record(api, words, options);
        const text = options.json ? JSON.stringify(recorded) : recordedText(recorded);
        if (options.output === undefined || options.output === '-') process.stderr.write(`${text}\n`);
        else say(text);
      } finally {
        api.close();
      }
    });

  const attempt = program.command('attempt').description('Recordings of the last attempts of a device.');

  remote(attempt.command('list').argument('<device>'))
    .description('Lists the attempts that EVC keeps, newest first.')
    .action((words: string, options: Common) =>
      ask(
        options,
        (api) => listAttempts(api, words),
        ({ attempts }) => attemptsText(attempts, Date.now()),
      ),
    );

  remote(attempt.command('show').argument('<device>').argument('<attempt>'))
    .description('Gives the recording of an attempt: its number, the start of its evidence, or last.')
    .option('-o, --output <file>', 'a file, packed as .jsonl.gz (default: standard output)')
    .action(async (words: string, which: string, options: Common & { output?: string }) => {
      const api = ApiClient.open(options);
      try {
        await fetchAttempt(api, words, which, options.output);
      } finally {
        api.close();
      }
    });
}

async function events(words: string | undefined, options: Common & { account?: string }): Promise<void> {
  const api = ApiClient.open(options);
  const query = new URLSearchParams();
  if (words !== undefined) query.set('device', words);
  if (options.account !== undefined) query.set('account', options.account);
  let asked = false;
  try {
    await new Promise<void>((resolve, reject) => {
      let stop = resolve;
      const end = () => {
        asked = true;
        stop();
      };
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, end);
      api
        .events(
          (step) => say(options.json ? JSON.stringify(step) : stepLine(step)),
          () => (asked ? resolve() : reject(endedByEvc())),
          query.size === 0 ? '' : `?${query}`,
        )
        .then((stream) => {
          stop = () => stream.close();
          if (asked) stop();
        }, reject);
    });
  } finally {
    api.close();
  }
}

type AuditLine = AuditEntry & { seq: number };

export function auditText(entries: readonly AuditLine[]): string {
  if (entries.length === 0) return 'nobody did anything yet';
  const rows = [...entries]
    .reverse()
    .map(({ at, by, what, subject, reason, before, after }) => [
      new Date(at).toISOString().slice(0, 19).replace('T', ' '),
      by,
      what,
      short(subject),
      [reason, changed(before, after)].filter(Boolean).join('; '),
    ]);
  return table(['TIME', 'WHO', 'WHAT', 'TO', 'WHY'], rows);
}

/** What is otherwise than before, as `field: before → after`. */
function changed(before: object | null, after: object | null): string {
  if (before === null || after === null) return '';
  const [was, is] = [before as Record<string, unknown>, after as Record<string, unknown>];
  return Object.keys(is)
    .filter((key) => JSON.stringify(was[key]) !== JSON.stringify(is[key]))
    .map((key) => `${key}: ${brief(was[key])} → ${brief(is[key])}`)
    .join(', ');
}

function brief(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(brief).join(' ');
  if (typeof value === 'object') return Object.values(value).map(brief).join(' ');
  return short(plain(String(value)));
}
