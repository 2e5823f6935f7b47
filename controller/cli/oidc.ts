// `evc oidc` and `evc session`: where people log in, what they may do then, and who is logged in.
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { RoleRule } from '../oidc/roles.ts';
import type { SessionView } from '../oidc/sessions.ts';
import type { OidcView } from '../oidc/settings.ts';
import { type Role, roles } from '../tokens.ts';
import { exitCodes, Failure } from './failure.ts';
import { countOf } from './input.ts';
import { ageOf, plain, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

interface SetOptions extends Common {
  issuer: string;
  clientId: string;
  clientSecretFile?: string;
  roleClaim: string;
  role: string[];
  scope: string[];
  hours: string;
  publicUrl?: string;
}

type Shown = OidcView & { redirectUri: string; logoutUri: string };

const path = '/api/v1/oidc';
const mostHours = 24;
/** Characters of a cell, so that a line has room for all columns; --json has the whole of it. */
const widest = { who: 20, accounts: 12 } as const;

export function oidcCommands(oidc: Command): void {
  remote(oidc.command('set'))
    .description('Lets people log in at a provider of OpenID Connect. All sessions end.')
    .requiredOption('--issuer <url>', 'the provider, as it names itself: https://HOST/PATH')
    .requiredOption('--client-id <id>', 'what EVC is there')
    .option('--client-secret-file <file>', 'with its secret; a public client has none (PKCE is used always)')
    .option(
      '--role-claim <name>',
      'where the provider says what a person is: a name, or a.path.to.it',
      'groups',
    )
    .requiredOption(
      // A name that ends in a bracket would be no list for commander.
      '--role <value=role...>',
      `what a value of the claim gives: ${roles.join(', ')}, or ROLE:ACCOUNT,ACCOUNT; the first that fits counts`,
    )
    .option('--scope <name...>', 'asked for besides openid', ['profile', 'email'])
    .option('--hours <number>', `how long a session lasts, to ${mostHours}`, '8')
    .option('--public-url <url>', 'https://HOST:PORT under which browsers reach EVC (default: its own)')
    .action((options: SetOptions) => {
      const wish = {
        issuer: options.issuer,
        clientId: options.clientId,
        clientSecret: secretOf(options.clientSecretFile),
        roleClaim: options.roleClaim,
        roles: options.role.map(ruleOf),
        scopes: options.scope,
        hours: countOf('--hours', options.hours, mostHours),
        publicUrl: options.publicUrl ?? null,
      };
      return ask(options, (api) => api.send<Shown>('PUT', path, wish), oidcText);
    });

  remote(oidc.command('show'))
    .description('Shows the provider, without the secret.')
    .action((options: Common) => ask(options, (api) => api.get<Shown>(path), oidcText));

  remote(oidc.command('remove'))
    .description('Lets nobody log in at a provider any more. All sessions end.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((options: Common & { reason: string }) =>
      ask(
        options,
        (api) => api.send<Shown>('POST', `${path}/remove`, { reason: options.reason }),
        ({ issuer }) => `nobody logs in at ${plain(issuer)} any more`,
      ),
    );
}

export function sessionCommands(session: Command): void {
  remote(session.command('list'))
    .description('Lists who is logged in.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ sessions: SessionView[] }>('/api/v1/sessions'),
        ({ sessions }) => sessionsText(sessions, Date.now()),
      ),
    );

  remote(session.command('end').argument('<id>'))
    .description('Logs somebody out.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((id: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) =>
          api.send<SessionView>('POST', `/api/v1/sessions/${encodeURIComponent(id)}/end`, {
            reason: options.reason,
          }),
        ({ subject, username }) => `${plain(username || subject)} is logged out`,
      ),
    );
}

export function oidcText(view: Shown): string {
  const { issuer, clientId, confidential, roleClaim, scopes, hours, redirectUri, logoutUri } = view;
  return [
    `people log in at ${plain(issuer)} for ${hours} hours`,
    `EVC is ${plain(clientId)} there, ${confidential ? 'with a secret' : 'a public client'}; it asks for ${plain(['openid', ...scopes].join(' '))}`,
    `the provider has to allow ${plain(redirectUri)}`,
    `and, where it logs people out, to lead back to ${plain(logoutUri)}`,
    '',
    table(
      [plain(roleClaim).toUpperCase(), 'ROLE', 'ACCOUNTS'],
      view.roles.map(({ value, role, accounts }) => [
        plain(value),
        role,
        accounts === null ? 'all' : accounts.join(' '),
      ]),
    ),
  ].join('\n');
}

export function sessionsText(sessions: readonly SessionView[], now: number): string {
  const live = sessions.filter(({ expires }) => expires > now);
  if (live.length === 0) return 'nobody is logged in';
  return table(
    ['ID', 'WHO', 'ROLE', 'LEFT', 'ACCOUNTS', 'SUBJECT'],
    live.map(({ id, username, subject, role, accounts, expires }) => [
      id,
      cut(plain(username), widest.who),
      role,
      ageOf(expires - now),
      cut(accounts === null ? 'all' : accounts.join(' '), widest.accounts),
      // The last column is cut where the line would be too long, and it begins as in the audit log.
      plain(subject),
    ]),
  );
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** `VALUE=ROLE` or `VALUE=ROLE:ACCOUNT,ACCOUNT`; a value may have `=` in it. Throws Failure. */
export function ruleOf(text: string): RoleRule {
  const [, value = '', role = '', accounts] = /^(.+)=([a-z]+)(?::([^=:]+))?$/.exec(text) ?? [];
  if (value === '' || !roles.includes(role as Role))
    throw new Failure(`--role ${text}`, {
      hint: `write VALUE=ROLE or VALUE=ROLE:ACCOUNT,ACCOUNT; roles: ${roles.join(', ')}`,
      exitCode: exitCodes.usage,
    });
  return { value, role: role as Role, accounts: accounts === undefined ? null : accounts.split(',') };
}

function secretOf(file: string | undefined): string | null {
  if (file === undefined) return null;
  let secret = '';
  try {
    secret = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new Failure(`${file} cannot be read`, {
      code: 'input.unreadable',
      hint: 'give a file that holds the secret alone, or leave it out for a public client',
      exitCode: exitCodes.usage,
      cause,
    });
  }
  if (secret.length > 0 && secret.length <= 2000) return secret;
  throw new Failure(`${file} holds no secret of 1 to 2000 characters`, {
    code: 'input.unreadable',
    hint: 'put the secret that the provider gave EVC into it, and nothing else',
    exitCode: exitCodes.usage,
  });
}
