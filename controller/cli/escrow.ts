// `evc escrow`: whether the keys that EVC keeps for its devices would come back.
import type { Command } from 'commander';
import type { EscrowCheck } from '../escrow.ts';
import type { ApiClient } from './client.ts';
import { safeCommands } from './escrow-file.ts';
import { exitCodes } from './failure.ts';
import { ageOf, short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

export function escrowCommands(escrow: Command): void {
  remote(escrow.command('check').argument('[filter]', 'which devices (default: all)'))
    .description('Looks whether the key of each device is there and readable; 1 if one is not.')
    .action((filter: string | undefined, options: Common) =>
      ask(
        options,
        async (api) => {
          const checks = await checkAll(api, filter);
          if (checks.some(lost)) process.exitCode = exitCodes.failed;
          return checks;
        },
        (checks) => escrowText(checks, Date.now()),
      ),
    );
  safeCommands(escrow);
}

export async function checkAll(api: ApiClient, filter = ''): Promise<EscrowCheck[]> {
  const all: EscrowCheck[] = [];
  for (let after = ''; ; ) {
    const query = new URLSearchParams({ limit: '1000', after, filter });
    const page = await api.get<{ escrow: EscrowCheck[]; next: string | null }>(`/api/v1/escrow?${query}`);
    all.push(...page.escrow);
    if (page.next === null) return all;
    after = page.next;
  }
}

/** The device has a key, and EVC could not give it back. */
export const lost = ({ state }: EscrowCheck) => state === 'missing' || state === 'unreadable';

export function escrowText(checks: readonly EscrowCheck[], now: number): string {
  const bad = checks.filter(({ state }) => state !== 'good');
  const rows = bad.map(({ device, serial, version, at, state }) => [
    serial || short(device),
    version === 0 ? 'none' : `version ${version}, ${ageOf(now - at)} ago`,
    words[state],
  ]);
  const good = checks.length - bad.length;
  const counts = `${good} of ${checks.length} keys are there and readable, ${bad.filter(lost).length} lost`;
  return rows.length === 0 ? counts : `${table(['DEVICE', 'KEY', 'STATE'], rows)}\n${counts}`;
}

const words: Record<EscrowCheck['state'], string> = {
  good: 'good',
  none: 'it has not given a key yet',
  missing: 'LOST: the store has not what the record lists',
  unreadable: 'LOST: what the store has is no sealed key',
};
