// `evc upgrade`: an image to one device, or to many, share by share; `evc rollout`: how far those are.
import type { Command } from 'commander';
import type { DeviceView } from '../operator.ts';
import { durationOf } from '../options.ts';
import type { Counts, Rollout } from '../rollout/plan.ts';
import { mostDevices, type RolloutView } from '../rollout/rollouts.ts';
import { listId } from './accept.ts';
import type { ApiClient } from './client.ts';
import { decide, listDevices } from './devices.ts';
import { exitCodes, Failure } from './failure.ts';
import { countOf } from './input.ts';
import { ageOf, plain, short, table } from './print.ts';
import { ask, type Common, remote, watchable } from './remote.ts';

interface UpgradeOptions extends Common {
  window: string;
  testWindow: string;
  filter?: string;
  stages: string;
  haltAt: string;
  atOnce: string;
  list?: string;
  reason?: string;
}

const mostAtOnce = 10_000;
/** Devices of a list that are shown; the others are counted. */
const shown = 40;

export function upgradeCommand(program: Command): void {
  remote(
    program.command('upgrade').argument('<device>', 'or, with --filter, the version').argument('[version]'),
  )
    .description('Pushes an image of the catalogue to a device; with --filter to many, share by share.')
    .option('--window <time>', 'how long a device may take', '1h')
    .option('--test-window <time>', 'how long the new image has to hold', '10m')
    .option('--filter <filter>', 'many devices; they are listed first')
    .option('--stages <percents>', 'shares of them; each is begun once the one before is through', '1,10,100')
    .option('--halt-at <percent>', 'it halts by itself when more than these have failed', '10')
    .option('--at-once <number>', 'devices that are under way at the same time, at the most', '100')
    .option('--list <id>', 'the list that was shown; with --filter, only that one is upgraded')
    .option('--reason <text>', 'why; it is kept')
    .action((first: string, second: string | undefined, options: UpgradeOptions) => {
      if (options.filter !== undefined && second === undefined) return upgradeMany(first, options);
      if (options.filter === undefined && second !== undefined) return upgradeOne(first, second, options);
      throw new Failure('upgrade wants a device and a version, or --filter and a version', {
        hint: "evc upgrade edge-01 1.1.0; or evc upgrade 1.1.0 --filter 'label:lab'",
        exitCode: exitCodes.usage,
      });
    });
}

function upgradeOne(words: string, version: string, options: UpgradeOptions): Promise<void> {
  const { reason } = options;
  return ask(
    options,
    (api) =>
      decide(api, words, 'upgrade', {
        version,
        window: durationOf(options.window, '--window'),
        testWindow: durationOf(options.testWindow, '--test-window'),
        ...(reason === undefined ? {} : { reason }),
      }),
    ({ upgrade }: DeviceView) => `${words}: ${upgrade?.from ?? ''} → ${version}; the window is open`,
  );
}

type Listed = { list: string; devices: { device: string; serial: string; image: string }[] };

function upgradeMany(version: string, options: UpgradeOptions): Promise<void> {
  const { filter = '', list, reason } = options;
  const wish = {
    version,
    stages: options.stages.split(',').map(percentOf),
    haltAt: percentOf(options.haltAt),
    atOnce: countOf('--at-once', options.atOnce, mostAtOnce),
    window: durationOf(options.window, '--window'),
    testWindow: durationOf(options.testWindow, '--test-window'),
  };
  return ask<Listed | RolloutView>(
    options,
    async (api) => {
      const listed = await devicesFor(api, filter, version);
      if (list === undefined || reason === undefined) return listed;
      if (list !== listed.list)
        throw new Failure(`the list ${list} is not what stands there now: that is ${listed.list}`, {
          code: 'precondition.failed',
          hint: `look at it again: evc upgrade ${version} --filter '${filter}'`,
        });
      const devices = listed.devices.map(({ device }) => device);
      return api.send<RolloutView>('POST', '/api/v1/rollouts', { ...wish, devices, reason });
    },
    (answer) => ('list' in answer ? listedText(answer, version, filter) : startedText(answer)),
  );
}

async function devicesFor(api: ApiClient, filter: string, version: string): Promise<Listed> {
  const rows = (await listDevices(api, filter)).filter(
    ({ trust, facts }) => trust !== 'retired' && facts.image !== version,
  );
  if (rows.length === 0)
    throw new Failure(`no device is meant by ${filter} that does not run ${version} already`, {
      code: 'rollout.there',
    });
  if (rows.length > mostDevices)
    throw new Failure(`${rows.length} devices are meant, and a roll-out has ${mostDevices} at most`, {
      hint: 'say more in --filter',
      exitCode: exitCodes.usage,
    });
  const devices = rows.map(({ device, serial, facts }) => ({ device, serial, image: facts.image }));
  return { list: listId(devices.map(({ device }) => ({ device, attempt: version }))), devices };
}

function listedText({ list, devices }: Listed, version: string, filter: string): string {
  const rows = devices
    .slice(0, shown)
    .map(({ device, serial, image }) => [serial || short(device), image || 'none']);
  const more = devices.length > shown ? `\n… and ${devices.length - shown} more (--json shows all)` : '';
  const again = `evc upgrade ${version} --filter '${filter}' --list ${list} --reason "…"`;
  const count = devices.length === 1 ? '1 device' : `${devices.length} devices`;
  return `${table(['DEVICE', 'RUNS'], rows)}${more}\n${count}, list ${list}; nothing was done; to upgrade these: ${again}`;
}

function startedText({ id, version, counts, stages }: RolloutView): string {
  const shares = stages.map((one) => `${one} %`).join(', ');
  return `roll-out ${id}: ${version} to ${counts.all} devices, ${shares}\nnext: evc rollout show ${id} --watch`;
}

export function rolloutCommands(rollout: Command): void {
  watchable(rollout.command('list'))
    .description('Lists the roll-outs, the newest first.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ rollouts: RolloutView[] }>('/api/v1/rollouts'),
        ({ rollouts }) => rolloutsText(rollouts, Date.now()),
      ),
    );

  watchable(rollout.command('show').argument('<rollout>'))
    .description('Shows a roll-out, and the devices that failed, are under way or were skipped.')
    .action((id: string, options: Common) =>
      ask(
        options,
        (api) => api.get<Rollout & { counts: Counts }>(`/api/v1/rollouts/${encodeURIComponent(id)}`),
        rolloutText,
      ),
    );

  for (const [verb, description, done] of [
    ['stop', 'Begins with no further device; those under way go on.', 'stopped'],
    ['resume', 'Goes on, and with the devices that failed once more.', 'goes on'],
    ['cancel', 'Ends it for good: devices that wait are skipped, those under way go on.', 'is cancelled'],
  ] as const)
    remote(rollout.command(verb).argument('<rollout>'))
      .description(description)
      .requiredOption('--reason <text>', 'why; it is kept')
      .action((id: string, options: Common & { reason: string }) =>
        ask(
          options,
          (api) =>
            api.send<RolloutView>('POST', `/api/v1/rollouts/${encodeURIComponent(id)}/${verb}`, {
              reason: options.reason,
            }),
          ({ counts }) => `roll-out ${id} ${done}: ${progressOf(counts)}`,
        ),
      );
}

function rolloutsText(rollouts: readonly RolloutView[], now: number): string {
  if (rollouts.length === 0) return 'there is no roll-out yet; evc upgrade VERSION --filter … begins one';
  return table(
    ['ROLL-OUT', 'VERSION', 'BEGUN', 'STATE', 'SHARE', 'DEVICES'],
    rollouts.map(({ id, version, created, state, stages, stage, counts }) => [
      id,
      version,
      `${ageOf(now - created)} ago`,
      state,
      `${stages[stage]} %`,
      progressOf(counts),
    ]),
  );
}

export function rolloutText({ counts, devices, ...rollout }: Rollout & { counts: Counts }): string {
  const { id, version, by, reason, state, why, stages, stage, haltAt } = rollout;
  const told = devices.filter(({ progress }) => progress !== 'waiting' && progress !== 'committed');
  const rows = told
    .slice(0, shown)
    .map(({ device, serial, progress, why: code }) => [serial || short(device), progress, code]);
  return [
    `roll-out ${id}: ${version}, by ${by}: ${plain(reason)}`,
    `  ${state}${why === '' ? '' : `: ${plain(why)}`}`,
    `  share ${stage + 1} of ${stages.length} (${stages[stage]} %), halts when more than ${haltAt} % fail`,
    `  ${progressOf(counts)}`,
    ...(rows.length > 0 ? [table(['DEVICE', 'PROGRESS', 'WHY'], rows)] : []),
    ...(told.length > shown ? [`… and ${told.length - shown} more (--json shows all)`] : []),
  ].join('\n');
}

function progressOf({ all, committed, failed, assigned, skipped }: Counts): string {
  const parts = [
    `${committed} of ${all} done`,
    ...(assigned > 0 ? [`${assigned} under way`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
  ];
  return parts.join(', ');
}

function percentOf(text: string): number {
  const percent = /^\d{1,3}(\.\d{1,3})?%?$/.test(text.trim()) ? Number.parseFloat(text) : Number.NaN;
  if (percent >= 0 && percent <= 100) return percent;
  if (text.trim() === 'all') return 100;
  throw new Failure(`${text} is no percentage`, {
    hint: 'write 1,10,100 or 1%,10%,all',
    exitCode: exitCodes.usage,
  });
}
