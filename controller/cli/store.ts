// `evc store`: where EVC's records live.
import { Command } from 'commander';
import { DataFolder } from '../options.ts';
import { table } from './print.ts';

export function storeCommand(): Command {
  const command = new Command('store').description('Where EVC’s records live.');
  command
    .command('copy')
    .description('Copies the store of a data folder into PostgreSQL, while EVC runs or not.')
    .requiredOption('--to <url>', 'postgres://USER@HOST/DATABASE')
    .option('--data <dir>', 'EVC’s data folder')
    .option('--json', 'prints JSON')
    .addHelpText(
      'after',
      `
What is copied is what stood there at one moment, all of it or nothing. Copy once while EVC runs; then stop it, copy
again, which brings over what has changed, and go on with evc serve --store URL.`,
    )
    .action(async ({ to, data, json }: { to: string; data?: string; json?: boolean }) => {
      const folder = new DataFolder(data);
      folder.check();
      const progress = (name: string, rows: number) => process.stderr.write(`${name}: ${rows}\n`);
      const { copyStore } = await import('../store/copy.ts');
      const { rows } = await copyStore(folder.file('evc.db'), to, json ? undefined : progress);
      const running = folder.service() !== null;
      if (json) process.stdout.write(`${JSON.stringify({ rows, running })}\n`);
      else {
        const lines = Object.entries(rows).map(([name, count]) => [name, String(count)]);
        process.stdout.write(`${table(['TABLE', 'ROWS'], lines)}\n`);
        process.stdout.write(
          running
            ? 'EVC runs: what it stores from now on is not there; stop it and copy again\n'
            : 'next: evc serve --store with the same address\n',
        );
      }
    });
  return command;
}
