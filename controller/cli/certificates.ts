// `evc certificates`: what EVC shows and signs with, until when, and new ones.
import { Command } from 'commander';
import {
  CertificateError,
  type CertificateView,
  certificateViews,
  renew,
  warnedBefore,
} from '../certificates.ts';
import { DataFolder } from '../options.ts';
import { type Renewable, renewable } from '../pki.ts';
import { exitCodes, Failure } from './failure.ts';
import { ageOf, short, table } from './print.ts';
import { dataOption, say } from './remote.ts';

interface Options {
  data?: string;
  json?: boolean;
}

export function certificatesCommand(): Command {
  const command = new Command('certificates').description('EVC’s certificates: until when, and new ones.');
  command
    .command('show')
    .description('Shows them; 1 if one ends within 30 days.')
    .addOption(dataOption())
    .option('--json', 'prints JSON')
    .action(({ data, json }: Options) => {
      const views = certificateViews(new DataFolder(data).pki());
      const now = Date.now();
      say(json ? JSON.stringify(views) : viewsText(views, now));
      if (views.some(({ until }) => until - now < warnedBefore)) process.exitCode = exitCodes.failed;
    });
  command
    .command('renew')
    .description(
      'Makes new ones below the same root, while EVC runs or not; devices take them over by themselves.',
    )
    .argument('[name...]', `which: ${renewable.join(', ')} (default: all)`)
    .addOption(dataOption())
    .option('--json', 'prints JSON')
    .addHelpText(
      'after',
      `
A running EVC takes them over within seconds, and renews by itself what ends within 60 days. Both need pki/root.key.pem.
A broker that is not EVC's own gets its certificate from evc broker config, which has to be run again.`,
    )
    .action(async (names: string[], { data, json }: Options) => {
      const wanted = names.length === 0 ? renewable : names.map(renewableOf);
      const folder = new DataFolder(data);
      folder.check();
      const views = await asFailure(renew(folder.file('pki'), wanted, folder.hosts(), Date.now()));
      if (json) return say(JSON.stringify(views));
      say(viewsText(views, Date.now()));
      say(folder.service() ? 'the EVC that runs takes them over within seconds' : 'next: evc serve');
    });
  return command;
}

function renewableOf(name: string): Renewable {
  const found = renewable.find((one) => one === name);
  if (found) return found;
  throw new Failure(`there is no certificate ${name} to renew`, {
    hint: `known: ${renewable.join(', ')}; the root stays, since devices are installed with it`,
    exitCode: exitCodes.usage,
    code: 'certificates.unknown',
  });
}

function viewsText(views: readonly CertificateView[], now: number): string {
  const rows = views.map(({ name, until, fingerprint }) => [
    name,
    until < now ? `ran out ${ageOf(now - until)} ago` : ageOf(until - now),
    short(fingerprint),
  ]);
  return table(['CERTIFICATE', 'GOOD FOR', 'SHA-256'], rows);
}

async function asFailure<Value>(work: Promise<Value>): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof CertificateError)) throw error;
    throw new Failure(error.message, { code: error.code, hint: 'evc certificates show', cause: error });
  }
}
