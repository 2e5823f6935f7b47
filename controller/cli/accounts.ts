// `evc account`: what the devices of an account may do.
import type { Command } from 'commander';
import type { Account } from '../../machines/device-record.ts';
import { switchOf } from './input.ts';
import { table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

type AccountOptions = Common & {
  kind?: string;
  locationLock?: string;
  radius?: string;
  moved?: string;
  requireEkCertificate?: string;
  approval?: string;
};

function accountFields(options: AccountOptions): object {
  const { kind, locationLock, radius, moved, requireEkCertificate, approval } = options;
  return {
    ...(kind === undefined ? {} : { kind }),
    ...(locationLock === undefined ? {} : { locationLock: switchOf('--location-lock', locationLock) }),
    ...(radius === undefined ? {} : { radius: Number(radius) }),
    ...(moved === undefined ? {} : { moved }),
    ...(requireEkCertificate === undefined
      ? {}
      : { requireEkCertificate: switchOf('--require-ek-certificate', requireEkCertificate) }),
    ...(approval === undefined ? {} : { approval: switchOf('--approval', approval) }),
  };
}

function withFields(command: Command): Command {
  return remote(command)
    .option('--kind <kind>', 'manufacturing or production')
    .option('--location-lock <switch>', 'on or off')
    .option('--radius <metres>', 'how far is still the same place')
    .option('--moved <policy>', 'what a moved device meets: report or block')
    .option('--require-ek-certificate <switch>', 'on: only TPMs that a known vendor vouches for')
    .option('--approval <switch>', 'on: a person lets each new device in');
}

export function accountCommands(account: Command): void {
  withFields(account.command('add').argument('<name>'))
    .description('Adds an account.')
    .action((id: string, options: AccountOptions) =>
      ask(
        options,
        (api) => api.send<Account>('POST', '/api/v1/accounts', { id, ...accountFields(options) }),
        accountLine,
      ),
    );

  withFields(account.command('set').argument('<name>'))
    .description('Changes an account; its devices follow.')
    .action((id: string, options: AccountOptions) =>
      ask(
        options,
        (api) =>
          api.send<Account>('PATCH', `/api/v1/accounts/${encodeURIComponent(id)}`, accountFields(options)),
        accountLine,
      ),
    );

  remote(account.command('list'))
    .description('Lists the accounts.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ accounts: Account[] }>('/api/v1/accounts'),
        ({ accounts }) =>
          table(
            ['ACCOUNT', 'KIND', 'LOCATION-LOCK', 'RADIUS', 'MOVED', 'EK-CERTIFICATE', 'APPROVAL'],
            accounts.map(({ id, kind, locationLock, radius, moved, requireEkCertificate, approval }) => [
              id,
              kind,
              locationLock ? 'on' : 'off',
              `${radius} m`,
              moved,
              requireEkCertificate ? 'required' : 'optional',
              approval ? 'on' : 'off',
            ]),
          ),
      ),
    );
}

function accountLine(account: Account): string {
  const { id, kind, locationLock, radius, moved, requireEkCertificate, approval } = account;
  const lock = locationLock ? `on (${radius} m, moved: ${moved})` : 'off';
  const tpms = requireEkCertificate ? ', TPMs of known vendors alone' : '';
  const asked = approval ? ', a person lets devices in' : '';
  return `account ${id}: ${kind}, Location-Lock ${lock}${tpms}${asked}`;
}
