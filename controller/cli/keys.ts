// `evc key`: onboarding keys, and the devices that wait to be let in.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { KeyView } from '../enrol/keys.ts';
import type { WaitingDevice } from '../enrol/onboarding.ts';
import { DataFolder } from '../options.ts';
import { countOf } from './input.ts';
import { install } from './install.ts';
import { ageOf, short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

interface KeyOptions extends Common {
  out: string;
  name: string;
  account: string;
  limit: string;
  days: string;
  serial?: string;
  approval?: boolean;
}

const mostDevices = 1_000_000;
const mostDays = 3650;

export function keyCommands(key: Command): void {
  remote(key.command('add'))
    .description('Makes an onboarding key, and the /config folder of a device with it.')
    .requiredOption('--out <dir>', 'folder for onboard.*.pem, root-certificate.pem and server')
    .option('--name <name>', 'what to call it', 'onboarding')
    .option('--account <name>', 'account of the devices that register with it', 'default')
    .option('--limit <number>', 'devices that may register with it', '1')
    .option('--serial <text>', 'serial number of the device; without it the device makes one')
    .option('--days <number>', 'how long it is good for', '30')
    .option('--approval', 'a person lets each device in')
    .action((options: KeyOptions) => {
      const out = resolve(options.out);
      const { name, account, serial, approval } = options;
      const limit = countOf('--limit', options.limit, mostDevices);
      const days = countOf('--days', options.days, mostDays);
      return ask(
        options,
        async (api) => {
          const root = options.root ?? new DataFolder(options.data).file('pki/root.cert.pem');
          const wanted = { root, name, account, limit, days, ...(approval ? { approval } : {}) };
          const id = await install(api, out, serial === undefined ? wanted : { ...wanted, serial });
          return { id, out };
        },
        () => `${out} is ready: copy it to /config of the device`,
      );
    });

  remote(key.command('list'))
    .description('Lists the onboarding keys.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ keys: KeyView[] }>('/api/v1/keys'),
        ({ keys }) => keysText(keys, Date.now()),
      ),
    );

  remote(key.command('revoke').argument('<key>'))
    .description('Takes a key back; devices that registered with it stay.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((id: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<KeyView>('POST', `/api/v1/keys/${encodeURIComponent(id)}/revoke`, {
            reason: options.reason,
          }),
        ({ name, used }) => `${name} lets nobody in any more; ${used} devices came with it`,
      ),
    );

  remote(key.command('waiting'))
    .description('Lists devices that wait for a person to let them in.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ enrolments: WaitingDevice[] }>('/api/v1/enrolments'),
        ({ enrolments }) => waitingText(enrolments, Date.now()),
      ),
    );

  for (const [verb, description, done] of [
    [
      'approve',
      'Lets a device in; it registers when it asks next.',
      'let in; it registers when it asks next',
    ],
    ['refuse', 'Sends a device away for good.', 'sent away'],
  ] as const)
    remote(key.command(verb).argument('<device>'))
      .description(description)
      .requiredOption('--reason <text>', 'why; it is kept')
      .action((words: string, options: Common & { reason: string }) =>
        ask(
          options,
          (api) =>
            api.send<WaitingDevice>('POST', `/api/v1/enrolments/${encodeURIComponent(words)}/${verb}`, {
              reason: options.reason,
            }),
          ({ serial }) => `${serial}: ${done}`,
        ),
      );
}

function keysText(keys: readonly KeyView[], now: number): string {
  if (keys.length === 0) return 'there is no onboarding key yet; evc key add makes one';
  const left = ({ state, expires }: KeyView) => (state === 'good' ? `${ageOf(expires - now)} left` : state);
  return table(
    ['KEY', 'NAME', 'ACCOUNT', 'DEVICES', 'GOOD', 'APPROVAL'],
    keys.map((key) => [
      key.id.slice(0, 12),
      key.name,
      key.account,
      `${key.used} of ${key.limit}`,
      left(key),
      key.approval ? 'on' : 'off',
    ]),
  );
}

function waitingText(enrolments: readonly WaitingDevice[], now: number): string {
  if (enrolments.length === 0) return 'no device waits';
  return table(
    ['DEVICE', 'SERIAL', 'ACCOUNT', 'SINCE', 'ANSWER'],
    enrolments.map(({ device, serial, account, since, state }) => [
      short(device),
      serial,
      account,
      `${ageOf(now - since)} ago`,
      state === 'waiting' ? 'none yet' : state,
    ]),
  );
}
