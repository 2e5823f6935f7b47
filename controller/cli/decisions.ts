// What people decide about one device: take it out of service, upgrade it, move it, name it.
import type { Command } from 'commander';
import type { DeviceView } from '../operator.ts';
import { decide } from './devices.ts';
import { switchOf } from './input.ts';
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
