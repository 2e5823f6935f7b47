// Certificates of TPM vendors, for the person at the terminal.
import type { EkRootView } from '../enrol/endorsers.ts';
import type { ApiClient } from './client.ts';
import { plain, short, table } from './print.ts';

export interface EkRootList {
  roots: EkRootView[];
  unusable: { file: string; why: string }[];
}

export interface EkRootsChanged {
  roots: EkRootView[];
  /** Devices whose endorsement is worth something else now. */
  devices: number;
}

export function listEkRoots(api: ApiClient): Promise<EkRootList> {
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
