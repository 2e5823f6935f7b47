// Certificates of TPM vendors, for the person at the terminal.
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { EkRootView } from '../enrol/endorsers.ts';
import type { ApiClient } from './client.ts';
import { plain, short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

export interface EkRootList {
  roots: EkRootView[];
  unusable: { file: string; why: string }[];
}

export interface EkRootsChanged {
  roots: EkRootView[];
  /** Devices whose endorsement is worth something else now. */
  devices: number;
}

export function ekRootCommands(ekRoot: Command): void {
  remote(ekRoot.command('add').argument('<file...>'))
    .description('Adds certificates of vendors, PEM or DER, roots and intermediates.')
    .action((files: string[], options: Common) =>
      ask(
        options,
        async (api) => {
          const answers: EkRootsChanged[] = [];
          for (const file of files) {
            const certificates = readFileSync(file).toString('base64');
            answers.push(await api.send<EkRootsChanged>('POST', '/api/v1/ek-roots', { certificates }));
          }
          return {
            roots: answers.flatMap(({ roots }) => roots),
            devices: answers.reduce((sum, { devices }) => sum + devices, 0),
          };
        },
        (answer) => ekRootsChanged(answer, 'believed'),
      ),
    );

  remote(ekRoot.command('list'))
    .description('Lists the certificates of vendors, and files that are of no use.')
    .action((options: Common) => ask(options, listEkRoots, (answer) => ekRootsText(answer, Date.now())));

  remote(ekRoot.command('remove').argument('<id>'))
    .description('Takes a certificate of a vendor out; what it vouched for is vouched for no more.')
    .action((id: string, options: Common) =>
      ask(
        options,
        (api) => api.send<EkRootsChanged>('DELETE', `/api/v1/ek-roots/${encodeURIComponent(id)}`),
        (answer) => ekRootsChanged(answer, 'believed no more'),
      ),
    );
}

function listEkRoots(api: ApiClient): Promise<EkRootList> {
  return api.get('/api/v1/ek-roots');
}

export function ekRootsText({ roots, unusable }: EkRootList, now: number): string {
  const rows = roots.map(({ id, kind, subject, notAfter }) => [
    short(id),
    kind,
    `${day(notAfter)}${notAfter < now ? ' (over)' : ''}`,
    subject,
  ]);
  const lines = unusable.map(({ file, why }) => `of no use: ${plain(file)}: ${plain(why)}`);
  if (roots.length === 0) return ['no vendor of TPMs is known', ...lines].join('\n');
  return [table(['ID', 'KIND', 'UNTIL', 'SUBJECT'], rows), ...lines].join('\n');
}

export function ekRootsChanged({ roots, devices }: EkRootsChanged, done: string): string {
  const lines = roots.map(({ id, kind, subject }) => `${kind} ${short(id)} ${plain(subject)}: ${done}`);
  return [...lines, `${devices} enrolled device${devices === 1 ? '' : 's'} judged otherwise now`].join('\n');
}

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
