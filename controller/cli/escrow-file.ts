// `evc escrow export` and `restore`: keys in escrow as a file that only the holder of a private key can read, and back.
import { createReadStream } from 'node:fs';
import type { Command } from 'commander';
import {
  ExportError,
  type ExportedPage,
  ExportReader,
  type KeptKey,
  type Restored,
  type RestoredKey,
} from '../escrow-export.ts';
import { JweError, openerOf, recipientOf } from '../jwe.ts';
import type { ApiClient } from './client.ts';
import { exitCodes } from './failure.ts';
import { nameOf, readInput, unusable } from './input.ts';
import { replaceOutput } from './output-file.ts';
import { short, table } from './print.ts';
import { ask, type Common, remote } from './remote.ts';

/** Characters: a page of 200 devices with four keys each of the largest size. */
const longestLine = 16 * 1024 * 1024;
/** Keys that EVC is asked about at a time. */
const atOnce = 200;

type ExportOptions = Common & { to: string; out: string };
type RestoreOptions = Common & { key: string; reason?: string };

interface Exported {
  out: string;
  devices: number;
  keys: number;
  lost: number;
}

export function safeCommands(escrow: Command): void {
  remote(escrow.command('export').argument('[filter]', 'which devices (default: all)'))
    .description(
      'Writes the keys into a file for safe-keeping, encrypted for a public key; 1 if one is lost.',
    )
    .requiredOption('--to <file>', 'the public key or certificate, PEM; its private key stays elsewhere')
    .requiredOption('-o, --out <file>', 'where to write it')
    .addHelpText(
      'after',
      `
Every key stays sealed for the TPM of its device, so the file opens no vault by itself. It is lines of JWE (RFC 7516).
  openssl genpkey -algorithm X25519 -aes256 -out safe.pem     kept in a safe
  openssl pkey -in safe.pem -pubout -out safe.pub.pem         given to evc escrow export --to`,
    )
    .action((filter: string | undefined, options: ExportOptions) => {
      const to = publicPem(options.to);
      return ask(
        options,
        async (api) => {
          const done = await exportAll(api, { to, out: options.out, filter: filter ?? '' });
          if (done.lost > 0) process.exitCode = exitCodes.failed;
          return done;
        },
        ({ out, keys, devices, lost }) =>
          [
            `${nameOf(out)}: ${many(keys, 'key')} of ${many(devices, 'device')}`,
            ...(lost > 0 ? [`${many(lost, 'key')} lost: evc escrow check`] : []),
          ].join('\n'),
      );
    });

  remote(escrow.command('restore').argument('<file>', 'what evc escrow export wrote'))
    .description('Puts keys back that records list and the store has not; shows first which.')
    .requiredOption('--key <file>', 'the private key, PEM; its passphrase in EVC_KEY_PASSPHRASE')
    .option('--reason <text>', 'why; it is kept. Without it, what would come back is shown and nothing done')
    .action(async (file: string, options: RestoreOptions) => {
      const kept = await readExport(file, privateKey(options.key));
      await ask(
        options,
        (api) => restoreAll(api, kept, options.reason),
        (results) => restoredText(results, options.reason !== undefined),
      );
    });
}

/** Only the public half leaves this machine, whatever the file holds. */
function publicPem(path: string): string {
  return usable(path, () =>
    recipientOf(readInput(path).toString()).export({ type: 'spki', format: 'pem' }).toString(),
  );
}

function privateKey(path: string) {
  return usable(path, () => openerOf(readInput(path).toString(), process.env.EVC_KEY_PASSPHRASE));
}

function usable<Value>(path: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof JweError)) throw error;
    throw unusable(`the key in ${path}: ${error.message}`, {
      code: 'export.key',
      hint: 'evc escrow export --help shows how one is made; its passphrase is given in EVC_KEY_PASSPHRASE',
      cause: error,
    });
  }
}

async function exportAll(
  api: ApiClient,
  { to, out, filter }: { to: string; out: string; filter: string },
): Promise<Exported> {
  const done: Exported = { out, devices: 0, keys: 0, lost: 0 };
  // A key that EVC refuses, and an EVC that goes away, leave the export of before.
  await replaceOutput(out, async (file) => {
    for (let after: string | null = ''; after !== null; ) {
      const wish = { key: to, filter, after };
      const page: ExportedPage = await api.send('POST', '/api/v1/escrow/export', wish);
      await file.write(`${page.sealed}\n`);
      done.devices += page.devices;
      done.keys += page.keys;
      done.lost += page.lost;
      after = page.next;
    }
  });
  return done;
}

/** All keys of a file. Rejects with Failure. */
export async function readExport(path: string, key: ReturnType<typeof openerOf>): Promise<KeptKey[]> {
  const reader = new ExportReader(key);
  const keys: KeptKey[] = [];
  try {
    for await (const line of linesOf(path)) if (line !== '') keys.push(...reader.page(line));
    reader.end();
  } catch (error) {
    if (error instanceof ExportError)
      throw unusable(`${nameOf(path)}: ${error.message}`, { code: error.code, cause: error });
    const { message } = error as Error;
    throw unusable(`${nameOf(path)} cannot be read: ${message}`, { code: 'input.unreadable', cause: error });
  }
  return keys;
}

async function* linesOf(path: string): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of createReadStream(path, { encoding: 'utf8' }) as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > longestLine)
      throw new ExportError('export.file', 'a line of it is longer than any of an export');
    yield* lines;
  }
  yield rest;
}

async function restoreAll(
  api: ApiClient,
  kept: readonly KeptKey[],
  reason: string | undefined,
): Promise<RestoredKey[]> {
  const results: RestoredKey[] = [];
  for (let from = 0; from < kept.length; from += atOnce) {
    const keys = kept.slice(from, from + atOnce);
    const wish = { keys, ...(reason === undefined ? {} : { reason }) };
    const answer = await api.send<{ keys: RestoredKey[] }>('POST', '/api/v1/escrow/restore', wish);
    results.push(...answer.keys);
  }
  return results;
}

const words: Record<Restored, string> = {
  there: 'there',
  missing: 'would come back',
  restored: 'came back',
  unlisted: 'no record lists it any more',
  unreadable: 'it is no sealed key',
};

export function restoredText(results: readonly RestoredKey[], decided: boolean): string {
  const rows = results
    .filter(({ outcome }) => outcome !== 'there')
    .map(({ device, version, outcome }) => [short(device), `version ${version}`, words[outcome]]);
  const count = (wanted: Restored) => results.filter(({ outcome }) => outcome === wanted).length;
  const missing = count('missing');
  return [
    ...(rows.length > 0 ? [table(['DEVICE', 'KEY', 'WHAT'], rows)] : []),
    `of ${many(results.length, 'key')}, ${count('there')} there, ${count('restored')} came back`,
    ...(missing > 0 && !decided
      ? [`nothing was done; to put ${missing} back, say why with --reason "…"`]
      : []),
  ].join('\n');
}

const many = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`;
