// `evc webhook`: who is told what happens, and what they did not take.
import type { Command } from 'commander';
import type { WebhookView } from '../webhook/webhooks.ts';
import { ageOf, short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

interface AddOptions extends Common {
  event?: string[];
  account?: string[];
}

/** Dead letters that are shown of each. */
const shown = 10;

export function webhookCommands(webhook: Command): void {
  remote(webhook.command('add').argument('<url>'))
    .description('Tells an address what happens from now on; the secret to check it with is shown once.')
    .option('--event <name...>', 'of these alone (default: all but link.changed)')
    .option('--account <name...>', 'of these accounts alone (default: all)')
    .action((url: string, options: AddOptions) => {
      const { event, account } = options;
      const wish = { url, accounts: account ?? null, ...(event === undefined ? {} : { events: event }) };
      return ask(
        options,
        (api) => api.send<{ webhook: WebhookView; secret: string }>('POST', '/api/v1/webhooks', wish),
        ({ webhook: { id }, secret }) =>
          `webhook ${id} is told from now on\n${secret}\nshown this once: receivers check signatures with it`,
      );
    });

  remote(webhook.command('list'))
    .description('Lists the addresses, and what they did not take.')
    .action((options: Common) =>
      ask(
        options,
        (api) => api.get<{ webhooks: WebhookView[] }>('/api/v1/webhooks'),
        ({ webhooks }) => webhooksText(webhooks, Date.now()),
      ),
    );

  const path = (id: string, what: string) => `/api/v1/webhooks/${encodeURIComponent(id)}/${what}`;

  remote(webhook.command('retry').argument('<id>'))
    .description('Tells what was set aside once more.')
    .action((id: string, options: Common) =>
      ask(
        options,
        (api) => api.send<WebhookView>('POST', path(id, 'retry')),
        ({ deadLetters }) => `${id}: ${deadLetters.length} are left`,
      ),
    );

  remote(webhook.command('remove').argument('<id>'))
    .description('Tells an address nothing more.')
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((id: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) => api.send<WebhookView>('POST', path(id, 'remove'), { reason: options.reason }),
        ({ url }) => `${url} is told nothing more`,
      ),
    );
}

export function webhooksText(webhooks: readonly WebhookView[], now: number): string {
  if (webhooks.length === 0) return 'nobody is told anything yet; evc webhook add URL';
  const rows = webhooks.map(({ id, delivered, tries, why, deadLetters, url }) => [
    id,
    `${delivered}`,
    `${deadLetters.length}`,
    why === '' ? 'well' : `${why}, try ${tries}`,
    url,
  ]);
  const dead = webhooks.flatMap(({ id, deadLetters }) =>
    deadLetters
      .slice(-shown)
      .map(({ at, event, device, why }) => [id, `${ageOf(now - at)} ago`, event, short(device), why]),
  );
  return [
    table(['ID', 'TOLD', 'DEAD', 'STATE', 'ADDRESS'], rows),
    ...(dead.length > 0 ? ['', table(['ID', 'GIVEN UP', 'EVENT', 'DEVICE', 'WHY'], dead)] : []),
  ].join('\n');
}
