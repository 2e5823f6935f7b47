// `evc backup` and `evc restore`: a data folder as one file, and back.
import { resolve } from 'node:path';
import { Command } from 'commander';
import { BackupError, backUp, restore } from '../backup.ts';
import { DataFolder } from '../options.ts';
import { Failure } from './failure.ts';
import { ageOf } from './print.ts';
import { dataOption, say } from './remote.ts';

interface BackupOptions {
  data?: string;
  out: string;
  images: boolean;
  json?: boolean;
}

export function backupCommand(): Command {
  return new Command('backup')
    .description('Writes all of a data folder into one file, while EVC runs or not.')
    .requiredOption('-o, --out <file>', 'where to write it: .tar.gz, for its owner alone')
    .addOption(dataOption())
    .option('--no-images', 'leaves the files of images out; they can be added again')
    .option('--json', 'prints what was written as JSON')
    .addHelpText(
      'after',
      `
It holds the keys of EVC, the store as it stands at one moment, images and certificates, and no token: keep it as you keep keys.
Where records live in PostgreSQL (evc serve --store), pg_dump backs those up; this file has the rest.`,
    )
    .action(async ({ data, out, images, json }: BackupOptions) => {
      const folder = new DataFolder(data);
      folder.check();
      const done = await asFailure(backUp(folder.path, resolve(out), Date.now(), images));
      say(json ? JSON.stringify({ out: resolve(out), ...done }) : `${resolve(out)}: ${textOf(done)}`);
    });
}

export function restoreCommand(): Command {
  return new Command('restore')
    .description('Makes a data folder of a backup.')
    .argument('<file>')
    .addOption(dataOption())
    .option('--json', 'prints what was restored as JSON')
    .action(async (file: string, { data, json }: { data?: string; json?: boolean }) => {
      const folder = new DataFolder(data);
      const done = await asFailure(restore(resolve(file), folder.path));
      if (json) return say(JSON.stringify({ data: folder.path, ...done }));
      say(`${folder.path}: ${textOf(done)}, as it stood ${ageOf(Date.now() - done.made)} ago`);
      say(
        'next: evc serve; tokens that were good then are good again, and what was decided since is not known',
      );
    });
}

function textOf({ files, size, devices }: { files: number; size: number; devices: number }): string {
  const count = devices === 1 ? '1 device' : `${devices} devices`;
  return `${count}, ${files} files, ${(size / 1_000_000).toFixed(1)} MB`;
}

async function asFailure<Value>(work: Promise<Value>): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof BackupError)) throw error;
    throw new Failure(error.message, { code: error.code, hint: hints[error.code], cause: error });
  }
}

const hints: Record<BackupError['code'], string> = {
  'backup.unreadable': 'give a file that evc backup wrote',
  'backup.damaged': 'use another backup',
  'backup.occupied': 'say where it shall go with --data DIR',
  'backup.store': 'see whether the disk has room, and what evc doctor says',
};
