// What people decide about one device: take it out of service, upgrade it, move it, name it.
import type { Command } from 'commander';
import type { DeviceView } from '../operator.ts';
import { decide } from './devices.ts';
import { exitCodes, Failure } from './failure.ts';
import { switchOf } from './input.ts';
import { plain, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

/** A decision about a device: a route of its own, with a reason that is kept. */
function decision(program: Command, name: string, description: string, done: string): void {
  remote(program.command(name).argument('<device>'))
    .description(description)
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((words: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) => decide(api, words, name, { reason: options.reason }),
        () => `${words}: ${done}`,
      ),
    );
}

export function decisionCommands(program: Command): void {
  decision(program, 'retire', 'Takes a device out of service.', 'retired');
  decision(program, 'reenrol', 'Lets a device come back with another TPM.', 'may enrol once more');

  remote(program.command('move').argument('<device>').argument('<account>'))
    .description('Moves a device to another account; its PCR baseline stays.')
    .option('--reason <text>', 'why; it is kept')
    .action((words: string, account: string, options: Common & { reason?: string }) => {
      const { reason } = options;
      return ask(
        options,
        (api) => decide(api, words, 'move', { account, ...(reason === undefined ? {} : { reason }) }),
        () => `${words} is in ${account}`,
      );
    });

  remote(program.command('rotate').argument('<device>'))
    .description('Asks a device for a new master key of its vault.')
    .action((words: string, options: Common) =>
      ask(
        options,
        (api) => decide(api, words, 'rotate'),
        () => `${words} makes a new master key when it attests next`,
      ),
    );
}

interface Settings {
  revision: number;
  settings: Record<string, string>;
}

function pairOf(text: string): [key: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1)
    throw new Failure(`${text} is no KEY=VALUE`, {
      hint: 'evc device settings edge-01 timer.config.interval=60',
      exitCode: exitCodes.usage,
    });
  return [text.slice(0, at), text.slice(at + 1)];
}

function settingsText(words: string, settings: Readonly<Record<string, string>>): string {
  const names = Object.keys(settings).sort();
  if (names.length === 0) return `${words}: no setting`;
  return table(
    ['SETTING', 'VALUE'],
    names.map((name) => [plain(name), plain(settings[name] ?? '')]),
  );
}

type LockOptions = Common & { locationLock?: string; radius?: string; moved?: string };

export function deviceCommands(device: Command): void {
  const put = (words: string, what: string) => `/api/v1/devices/${encodeURIComponent(words)}/${what}`;

  remote(device.command('label').argument('<device>').argument('[label...]'))
    .description('Gives a device these labels, and no others.')
    .action((words: string, labels: string[], options: Common) =>
      ask(
        options,
        (api) => api.send<DeviceView>('PUT', put(words, 'labels'), { labels }),
        (view) => `${words}: ${view.labels.length === 0 ? 'no label' : view.labels.join(', ')}`,
      ),
    );

  remote(device.command('settings').argument('<device>').argument('[key=value...]'))
    .description('Shows what the configuration of a device says, or changes some of it.')
    .option('--unset <key...>', 'takes these out')
    .action((words: string, pairs: string[], options: Common & { unset?: string[] }) => {
      const change = new Map(pairs.map(pairOf));
      const { unset = [] } = options;
      return ask(
        options,
        async (api) => {
          const now = await api.get<Settings>(put(words, 'settings'));
          if (change.size === 0 && unset.length === 0) return now.settings;
          const next = new Map([...Object.entries(now.settings), ...change]);
          for (const key of unset)
            if (!next.delete(key))
              throw new Failure(`${words} has no setting ${key}`, {
                hint: `evc device settings ${words} shows them`,
                exitCode: exitCodes.usage,
              });
          const settings = Object.fromEntries(next);
          // What was shown is what is changed: somebody else's change in between is not undone.
          const unchanged = { 'if-match': `"${now.revision}"` };
          await api.send<DeviceView>('PUT', put(words, 'settings'), { settings }, unchanged);
          return settings;
        },
        (settings) => settingsText(words, settings),
      );
    });

  remote(device.command('lock').argument('<device>'))
    .description('Says what a device does otherwise than its account; without options, nothing.')
    .option('--location-lock <switch>', 'on or off')
    .option('--radius <metres>', 'how far is still the same place')
    .option('--moved <policy>', 'what it meets when it has moved: report or block')
    .action((words: string, options: LockOptions) => {
      const { locationLock, radius, moved } = options;
      const wish = {
        ...(locationLock === undefined ? {} : { locationLock: switchOf('--location-lock', locationLock) }),
        ...(radius === undefined ? {} : { radius: Number(radius) }),
        ...(moved === undefined ? {} : { moved }),
      };
      return ask(
        options,
        (api) => api.send<DeviceView>('PUT', put(words, 'lock'), wish),
        ({ lock, account }) => {
          const own = Object.keys(wish).length === 0 ? `as account ${account}` : 'for itself';
          const text = lock.locationLock ? `on (${lock.radius} m, moved: ${lock.moved})` : 'off';
          return `${words}: Location-Lock ${text}, ${own}`;
        },
      );
    });
}
