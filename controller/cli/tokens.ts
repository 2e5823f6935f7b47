// `evc token`: who may ask EVC for what.
import { type Command, Option } from 'commander';
import { roles, type TokenView } from '../tokens.ts';
import { countOf } from './input.ts';
import { ageOf, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

interface TokenOptions extends Common {
  role: string;
  account?: string[];
  days?: string;
}

const mostDays = 3650;

export function tokenCommands(token: Command): void {
  remote(token.command('add').argument('<name>'))
    .description('Makes a token; it is shown once.')
    .addOption(
      new Option('--role <role>', 'what it may do: each may do what those before it may')
        .choices(roles)
        .default('viewer'),
    )
    .option('--account <name...>', 'for these accounts alone (default: all)')
    .option('--days <number>', 'how long it is good for (default: for good)')
    .action((name: string, options: TokenOptions) => {
      const { role, account = null, days } = options;
      const wish = { name, role, accounts: account };
      return ask(
        options,
        (api) =>
          api.send<{ token: string; view: TokenView }>('POST', '/api/v1/tokens', {
            ...wish,
            days: days === undefined ? null : countOf('--days', days, mostDays),
          }),
        (made) => `${made.token}\nshown this once; in EVC_TOKEN it speaks for ${name}, ${made.view.role}`,
      );
    });

  remote(token.command('list'))
    .description('Lists the tokens, without the tokens themselves.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ tokens: TokenView[] }>('/api/v1/tokens'),
        ({ tokens }) => tokensText(tokens, Date.now()),
      ),
    );

  remote(token.command('revoke').argument('<token>'))
    .description('Lets a token in no more; by its name or id.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((words: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<TokenView>('POST', `/api/v1/tokens/${encodeURIComponent(words)}/revoke`, {
            reason: options.reason,
          }),
        ({ name }) => `${name} lets nobody in any more`,
      ),
    );
}

export function tokensText(tokens: readonly TokenView[], now: number): string {
  return table(
    ['ID', 'NAME', 'ROLE', 'ACCOUNTS', 'GOOD', 'MADE BY'],
    tokens.map(({ id, name, role, accounts, expires, revoked, by }) => [
      id,
      name,
      role,
      accounts === null ? 'all' : accounts.join(' '),
      revoked
        ? `taken back by ${revoked.by}`
        : expires === null
          ? 'for good'
          : expires <= now
            ? 'run out'
            : `${ageOf(expires - now)} left`,
      by,
    ]),
  );
}
