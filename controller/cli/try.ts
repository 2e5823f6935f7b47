// `evc try`: what another policy, other images or an acceptance would change, before somebody decides.
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { changeOf } from '../trial/change.ts';
import { mostTrialAttempts, type Said, type TrialPage, type TrialWish } from '../trial/trials.ts';
import type { ApiClient } from './client.ts';
import { exitCodes, Failure } from './failure.ts';
import { countOf, readInput } from './input.ts';
import { ageOf, plain, short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';
import { readPolicyFile } from './what-if.ts';

interface TryOptions extends Common {
  policy?: string;
  image?: string[];
  accept?: string;
  acceptShown?: boolean;
  attempts: string;
  devices: string;
  all?: boolean;
}

/** All pages; `more` is true where devices were left. */
export type Trial = Omit<TrialPage, 'next'> & { more: boolean };

const mostDevices = 100_000;
const pageOf = 50;

export function tryCommand(program: Command): void {
  remote(program.command('try').argument('[filter]', 'which devices (default: all)'))
    .description('Judges evidence that is kept by a change, and lists what would be otherwise; does nothing.')
    .option('--policy <file>', 'another policy, as evc replay --what-if takes it')
    .option('--image <version...>', 'images of the catalogue, as if they had been pushed')
    .option('--accept <device>', 'as if what this device shows were accepted of all')
    .addOption(
      new Option('--accept-shown', 'as if what each of them shows were accepted').conflicts('accept'),
    )
    .option('--attempts <count>', `of each device, the last so many; ${mostTrialAttempts} are kept`, '3')
    .option('--devices <count>', 'ends after so many devices', '1000')
    .option('--all', 'lists what stays as it is, too')
    .addHelpText('after', '\nExit codes: 0 nothing that is trusted would be refused; 1 something would.')
    .action(async (filter: string | undefined, options: TryOptions) => {
      const wish = wishOf(filter, options);
      const most = countOf('--devices', options.devices, mostDevices);
      await ask(
        options,
        async (api) => {
          const trial = await tryAll(api, wish, most, progress);
          if (trial.verdicts.some(lost)) process.exitCode = exitCodes.failed;
          return trial;
        },
        (trial) => trialText(trial, Date.now(), options.all ?? false),
      );
    });
}

function wishOf(filter: string | undefined, options: TryOptions): Omit<TrialWish, 'limit'> {
  const { policy, image, accept, acceptShown } = options;
  if (policy === undefined && image === undefined && accept === undefined && !acceptShown)
    throw new Failure('there is nothing to try', {
      hint: 'give --policy, --image, --accept or --accept-shown',
      exitCode: exitCodes.usage,
      code: 'trial.nothing',
    });
  return {
    attempts: countOf('--attempts', options.attempts, mostTrialAttempts),
    ...(filter === undefined ? {} : { filter }),
    ...(policy === undefined ? {} : { policy: policyOf(policy) }),
    ...(image === undefined ? {} : { images: image }),
    ...(accept === undefined ? {} : { accept: { device: accept } }),
    ...(acceptShown ? { accept: {} } : {}),
  };
}

/** With the bytes of its logs in place of their names, since EVC has no such files. Throws Failure input.policy. */
function policyOf(path: string): object {
  return readPolicyFile(path, (json) => {
    const logs = new Map<string, string>();
    changeOf(json, (name) => {
      const bytes = readInput(resolve(path, '..', name));
      logs.set(name, Buffer.from(bytes).toString('base64'));
      return bytes;
    });
    const policy = json as { upgrade?: { logs?: string[] } | null };
    const named = policy.upgrade?.logs;
    if (!named) return policy;
    return { ...policy, upgrade: { ...policy.upgrade, logs: named.map((name) => logs.get(name)) } };
  });
}

async function tryAll(
  api: ApiClient,
  wish: Omit<TrialWish, 'limit'>,
  most: number,
  tell: (trial: Trial | null) => void,
): Promise<Trial> {
  const all: Trial = { devices: 0, verdicts: [], skipped: [], more: false };
  try {
    for (let after = ''; ; ) {
      const limit = Math.min(pageOf, most - all.devices);
      const page = await api.send<TrialPage>('POST', '/api/v1/trials', { ...wish, after, limit });
      all.devices += page.devices;
      all.verdicts.push(...page.verdicts);
      all.skipped.push(...page.skipped);
      if (page.next === null) return all;
      if (all.devices >= most) return { ...all, more: true };
      after = page.next;
      tell(all);
    }
  } finally {
    tell(null);
  }
}

/** On a terminal, a line that is gone when it is over. */
function progress(trial: Trial | null): void {
  if (!process.stderr.isTTY) return;
  const text = trial ? `${trial.devices} devices, ${trial.verdicts.length} verdicts …` : '';
  process.stderr.write(`\r\u001b[K${text}`);
}

const lost = ({ before, after }: { before: Said; after: Said }) => before.accepted && !after.accepted;

export function trialText(trial: Trial, now: number, all: boolean): string {
  const { devices, verdicts, skipped, more } = trial;
  const changed = verdicts.filter(({ changes }) => changes);
  const rows = (all ? verdicts : changed).map(
    ({ serial, device, attempt, judged, before, after, changes }) => [
      serial || short(device),
      attempt.slice(0, 8),
      `${ageOf(now - judged)} ago`,
      sentence(before),
      changes ? sentence(after) : 'the same',
    ],
  );
  const gained = changed.filter(({ before, after }) => !before.accepted && after.accepted).length;
  const count = changed.filter(lost).length;
  const parts = [
    `${changed.length} of ${verdicts.length} verdicts of ${devices} device${devices === 1 ? '' : 's'} would be otherwise`,
    `${gained} trusted that ${gained === 1 ? 'is' : 'are'} refused`,
    `${count} refused that ${count === 1 ? 'is' : 'are'} trusted`,
  ];
  return [
    ...(rows.length > 0 ? [table(['DEVICE', 'EVIDENCE', 'JUDGED', 'WAS', 'WOULD BE'], rows)] : []),
    ...skippedLines(skipped),
    `${parts[0]}:\n${parts[1]}, ${parts[2]}; nothing was done`,
    ...(more ? ['there are more devices: --devices COUNT'] : []),
  ].join('\n');
}

/** By reason, with the first device of each. */
function skippedLines(skipped: Trial['skipped']): string[] {
  return [...new Set(skipped.map(({ why }) => why))].map((why) => {
    const [first, ...others] = skipped.filter((one) => one.why === why);
    const name = plain(first?.serial || short(first?.device ?? ''));
    return `not judged again: ${name}${others.length > 0 ? ` and ${others.length} more` : ''}  [${why}]`;
  });
}

function sentence({ accepted, genuine, grounds, finding }: Said): string {
  // What a trusted device is told besides is of its clock, unless it moved.
  const moved = finding?.code.startsWith('policy.') ? `, ${finding.code}` : '';
  if (accepted) return `trusted (${grounds})${moved}`;
  return `${genuine ? '' : 'not genuine: '}${finding?.code ?? 'refused'}`;
}
