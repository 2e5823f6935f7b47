// `evc`: the command of the controller.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import type { Account } from '../machines/device-record.ts';
import { attemptsText, fetchAttempt, listAttempts } from './cli/attempt.ts';
import { brokerCommand } from './cli/broker-config.ts';
import { addCatalogueCommands } from './cli/catalogue.ts';
import { ApiClient, type ClientOptions } from './cli/client.ts';
import {
  decide,
  deviceText,
  journalText,
  listDevices,
  readJournal,
  showDevice,
  statusTable,
  whyText,
} from './cli/devices.ts';
import { type EkRootsChanged, ekRootsChanged, ekRootsText, listEkRoots } from './cli/ek-roots.ts';
import { eventlogCommand } from './cli/eventlog.ts';
import { exitCodes, explain, Failure } from './cli/failure.ts';
import { install } from './cli/install.ts';
import { table } from './cli/print.ts';
import { quoteCommand } from './cli/quote.ts';
import { type RecordOptions, record, recordedText } from './cli/record.ts';
import { replayCommand } from './cli/replay.ts';
import { storeCommand } from './cli/store.ts';
import { DataFolder, durationOf } from './options.ts';

type Common = ClientOptions & { json?: boolean };

const program = new Command('evc')
  .description('The controller of a fleet: which devices are trusted, and why not.')
  .showHelpAfterError('(evc --help shows what there is)')
  .exitOverride()
  .addHelpText(
    'after',
    `
Examples:
  evc up                                       a fleet on this machine, and its story
  evc init --host evc.example.com              sets up ./evc-data
  evc serve                                    runs EVC on it
  evc key add --out ./config                   what a device is installed with
  evc status
  evc why edge-02
  evc eventlog diff good.bin failed.bin        what changed between two boots
  evc replay recordings/                       recordings on the charts of today

DEVICE is the id of a device, the start of it, its UUID or its serial number.
The data folder is --data, else EVC_DATA, else ./evc-data; EVC_TOKEN overrides its token.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 EVC is out of reach, 4 EVC refused;
the reason and a hint are on standard error.`,
  );

const dataOption = () => new Option('--data <dir>', "EVC's data folder");
const withParent = () => new Option('--with-parent', 'ends when standard input does').hideHelp();

/** A command that talks to a running EVC. */
function remote(command: Command): Command {
  return command
    .addOption(dataOption())
    .option('--url <url>', 'where EVC is: https://HOST:PORT')
    .option('--root <file>', "EVC's root certificate, where its data folder is not here")
    .option('--json', 'prints the answer as JSON');
}

async function ask<Value>(
  options: Common,
  question: (api: ApiClient) => Promise<Value>,
  text: (value: Value) => string,
): Promise<void> {
  const api = ApiClient.open(options);
  try {
    const value = await question(api);
    say(options.json ? JSON.stringify(value) : text(value));
  } finally {
    api.close();
  }
}

program
  .command('up')
  .description('Brings EVC and devices up on this machine, and plays the sequences as they happen.')
  .option('--story <name>', 'plays one story alone; --story list shows them')
  .option('--exit', 'ends when the stories have; 0 only if every one ended as it must')
  .option('--json', 'prints the steps as lines of JSON')
  .option('--store <url>', 'keeps the records there, as evc serve does: postgres://…')
  .option('--broker <url>', 'uses a broker that runs, as evc serve does: mqtts://…')
  .option(
    '--https-port <number>',
    'port of the API, which such a broker asks for logins (default: a free one)',
  )
  .addOption(dataOption())
  .action(async (options) => {
    process.exitCode = await (await import('./cli/up.ts')).up(options);
  });

program
  .command('init')
  .description('Sets up a data folder: keys, certificates, a first account and the administrator’s token.')
  .addOption(dataOption())
  .option('--host <name...>', 'names and addresses under which devices reach EVC', ['localhost'])
  .option('--json', 'prints what was made as JSON')
  .action(async ({ data, host, json }) => {
    const folder = new DataFolder(data);
    const { token, hosts } = await folder.init(host, Date.now());
    if (json) return say(JSON.stringify({ data: folder.path, hosts, token }));
    if (token === null) return say(`${folder.path} is set up already; nothing was changed`);
    say(`${folder.path} is set up for ${hosts.join(', ')}`);
    say(`the administrator’s token, shown this once: ${token}`);
    say(`it is in ${folder.file('token')} too, for the evc command on this machine`);
    say('next: evc serve');
  });

program
  .command('serve')
  .description('Runs EVC: its broker for devices, its API and images over HTTPS. Ctrl-C stops it in order.')
  .addOption(dataOption())
  .option('--host <address>', 'where to listen; 0.0.0.0 for every network', '127.0.0.1')
  .option('--store <url>', 'postgres://USER@HOST/DATABASE, which controllers may share (default: a file)')
  .option('--broker <url>', 'mqtts://HOST:PORT of a broker that is not EVC’s own; see evc broker config')
  .option('--mqtt-port <number>', 'for devices; 0 takes a free one (default: 8883)')
  .option('--https-port <number>', 'for people and images; 0 takes a free one (default: 8443)')
  .option('--json', 'prints every step of every record as lines of JSON')
  .addOption(withParent())
  .action(async (options) => (await import('./cli/serve.ts')).serve(options));

remote(program.command('status'))
  .description('Lists the devices: trusted or not, and why.')
  .action((options: Common) =>
    ask(
      options,
      async (api) => Promise.all((await listDevices(api)).map(({ device }) => showDevice(api, device))),
      (views) => (views.length === 0 ? 'no device is registered yet' : statusTable(views, Date.now())),
    ),
  );

remote(program.command('device').description('Looks at a device.').command('show').argument('<device>'))
  .description('Shows all that EVC knows of a device.')
  .action((words: string, options: Common) =>
    ask(
      options,
      (api) => showDevice(api, words),
      (view) => deviceText(view, Date.now()),
    ),
  );

remote(program.command('why').argument('<device>'))
  .description('Says why a device is trusted or not: PCR, event, seen, allowed.')
  .action((words: string, options: Common) =>
    ask(
      options,
      (api) => showDevice(api, words),
      (view) => whyText(view, words, Date.now()),
    ),
  );

remote(program.command('journal').argument('<device>'))
  .description('Shows what happened to the record of a device.')
  .option('--limit <number>', 'entries, newest', '50')
  .action((words: string, options: Common & { limit: string }) =>
    ask(options, (api) => readJournal(api, words, Number(options.limit)), journalText),
  );

remote(program.command('record').argument('<device>'))
  .description('Records what EVC does with a device, as it happens, until Ctrl-C.')
  .option('-o, --output <file>', 'a file, packed as .jsonl.gz (default: standard output)')
  .option('--until <end>', 'the next verdict: trusted or refused; or a number of seconds')
  .action(async (words: string, options: Common & RecordOptions) => {
    const api = ApiClient.open(options);
    try {
      const recorded = await record(api, words, options);
      const text = options.json ? JSON.stringify(recorded) : recordedText(recorded);
      if (options.output === undefined || options.output === '-') process.stderr.write(`${text}\n`);
      else say(text);
    } finally {
      api.close();
    }
  });

const attempt = program.command('attempt').description('Recordings of the last attempts of a device.');

remote(attempt.command('list').argument('<device>'))
  .description('Lists the attempts that EVC keeps, newest first.')
  .action((words: string, options: Common) =>
    ask(
      options,
      (api) => listAttempts(api, words),
      ({ attempts }) => attemptsText(attempts, Date.now()),
    ),
  );

remote(attempt.command('show').argument('<device>').argument('<attempt>'))
  .description('Gives the recording of an attempt: its number, the start of its evidence, or last.')
  .option('-o, --output <file>', 'a file, packed as .jsonl.gz (default: standard output)')
  .action(async (words: string, which: string, options: Common & { output?: string }) => {
    const api = ApiClient.open(options);
    try {
      await fetchAttempt(api, words, which, options.output);
    } finally {
      api.close();
    }
  });

/** A decision about a device: a route of its own, with a reason that is kept. */
function decision(name: string, route: string, description: string, done: string): void {
  remote(program.command(name).argument('<device>'))
    .description(description)
    .requiredOption('--reason <text>', 'why; it is kept')
    .action((words: string, options: Common & { reason: string }) =>
      ask(
        options,
        (api) => decide(api, words, route, { reason: options.reason }),
        () => `${words}: ${done}`,
      ),
    );
}

decision('accept', 'accept', 'Makes what a device runs now its baseline.', 'accepted; it attests again now');
decision('accept-place', 'accept-place', 'Locks a device to where it is now.', 'locked to its new place');
decision('retire', 'retire', 'Takes a device out of service.', 'retired');
decision('reenrol', 'reenrol', 'Lets a device come back with another TPM.', 'may enrol once more');

remote(program.command('upgrade').argument('<device>').argument('<version>'))
  .description('Pushes an image of the catalogue to a device.')
  .option('--window <time>', 'how long the device may take', '1h')
  .option('--test-window <time>', 'how long the new image has to hold', '10m')
  .action((words: string, version: string, options: Common & { window: string; testWindow: string }) =>
    ask(
      options,
      (api) =>
        decide(api, words, 'upgrade', {
          version,
          window: durationOf(options.window, '--window'),
          testWindow: durationOf(options.testWindow, '--test-window'),
        }),
      ({ upgrade }) => `${words}: ${upgrade?.from ?? ''} → ${version}; the window is open`,
    ),
  );

remote(program.command('move').argument('<device>').argument('<account>'))
  .description('Moves a device to another account; its PCR baseline stays.')
  .action((words: string, account: string, options: Common) =>
    ask(
      options,
      (api) => decide(api, words, 'move', { account }),
      () => `${words} is in ${account}`,
    ),
  );

remote(program.command('rotate').argument('<device>'))
  .description('Asks a device for a new master key of its vault.')
  .action((words: string, options: Common) =>
    ask(
      options,
      (api) => decide(api, words, 'rotate'),
      () => `${words} makes a new master key when it attests next`,
    ),
  );

const account = program.command('account').description('Accounts: what their devices may do.');

type AccountOptions = Common & {
  kind?: string;
  locationLock?: string;
  radius?: string;
  moved?: string;
  requireEkCertificate?: string;
};

function accountFields(options: AccountOptions): object {
  const { kind, locationLock, radius, moved, requireEkCertificate } = options;
  return {
    ...(kind === undefined ? {} : { kind }),
    ...(locationLock === undefined ? {} : { locationLock: switchOf('--location-lock', locationLock) }),
    ...(radius === undefined ? {} : { radius: Number(radius) }),
    ...(moved === undefined ? {} : { moved }),
    ...(requireEkCertificate === undefined
      ? {}
      : { requireEkCertificate: switchOf('--require-ek-certificate', requireEkCertificate) }),
  };
}

function withAccountFields(command: Command): Command {
  return command
    .option('--kind <kind>', 'manufacturing or production')
    .option('--location-lock <switch>', 'on or off')
    .option('--radius <metres>', 'how far is still the same place')
    .option('--moved <policy>', 'what a moved device meets: report or block')
    .option('--require-ek-certificate <switch>', 'on: only TPMs that a known vendor vouches for');
}

withAccountFields(remote(account.command('add').argument('<name>')))
  .description('Adds an account.')
  .action((id: string, options: AccountOptions) =>
    ask(
      options,
      (api) => api.send<Account>('POST', '/api/v1/accounts', { id, ...accountFields(options) }),
      accountLine,
    ),
  );

withAccountFields(remote(account.command('set').argument('<name>')))
  .description('Changes an account; its devices follow.')
  .action((id: string, options: AccountOptions) =>
    ask(
      options,
      (api) =>
        api.send<Account>('PATCH', `/api/v1/accounts/${encodeURIComponent(id)}`, accountFields(options)),
      accountLine,
    ),
  );

remote(account.command('list'))
  .description('Lists the accounts.')
  .action((options: Common) =>
    ask(
      options,
      (api) => api.get<{ accounts: Account[] }>('/api/v1/accounts'),
      ({ accounts }) =>
        table(
          ['ACCOUNT', 'KIND', 'LOCATION-LOCK', 'RADIUS', 'MOVED', 'EK-CERTIFICATE'],
          accounts.map(({ id, kind, locationLock, radius, moved, requireEkCertificate }) => [
            id,
            kind,
            locationLock ? 'on' : 'off',
            `${radius} m`,
            moved,
            requireEkCertificate ? 'required' : 'optional',
          ]),
        ),
    ),
  );

remote(program.command('key').description('Onboarding keys.').command('add'))
  .description('Makes an onboarding key, and the /config folder of a device with it.')
  .requiredOption('--out <dir>', 'folder for onboard.*.pem, root-certificate.pem and server')
  .option('--name <name>', 'what to call it', 'onboarding')
  .option('--account <name>', 'account of the devices that register with it', 'default')
  .option('--limit <number>', 'devices that may register with it', '1')
  .option('--serial <text>', 'serial number of the device; without it the device makes one')
  .option('--days <number>', 'how long it is good for', '30')
  .action((options: KeyOptions) => {
    const out = resolve(options.out);
    return ask(
      options,
      async (api) => {
        const root = options.root ?? new DataFolder(options.data).file('pki/root.cert.pem');
        const { name, account, serial } = options;
        const wanted = { root, name, account, limit: Number(options.limit), days: Number(options.days) };
        const id = await install(api, out, serial === undefined ? wanted : { ...wanted, serial });
        return { id, out };
      },
      () => `${out} is ready: copy it to /config of the device`,
    );
  });

interface KeyOptions extends ClientOptions {
  json?: boolean;
  out: string;
  name: string;
  account: string;
  limit: string;
  days: string;
  serial?: string;
}

const ekRoot = program
  .command('ek-root')
  .description('Roots of TPM vendors: whom EVC believes what a TPM is.');

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

addCatalogueCommands(program, { remote, ask, say });

program.addCommand(eventlogCommand());
program.addCommand(quoteCommand());
program.addCommand(storeCommand());
program.addCommand(brokerCommand());
program.addCommand(replayCommand());

// Who reads no further, such as `head`, ends the reading and not the command.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError)
    process.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  else {
    const { code, text, hint, exitCode } = explain(error);
    process.stderr.write(`evc: ${text}  [${code}]\n${hint === '' ? '' : `hint: ${hint}\n`}`);
    process.exitCode = exitCode;
  }
}

function accountLine({ id, kind, locationLock, radius, moved, requireEkCertificate }: Account): string {
  const lock = locationLock ? `on (${radius} m, moved: ${moved})` : 'off';
  const tpms = requireEkCertificate ? ', TPMs of known vendors alone' : '';
  return `account ${id}: ${kind}, Location-Lock ${lock}${tpms}`;
}

function switchOf(option: string, text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on';
  throw new Failure(`${option} ${text}`, { hint: 'known: on, off', exitCode: exitCodes.usage });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
