// `evc`: the command of the controller.
import { Command, CommanderError, Option } from 'commander';
import { version } from '../formats/version.ts';
import { acceptCommands } from './cli/accept.ts';
import { accountCommands } from './cli/accounts.ts';
import { backupCommand, restoreCommand } from './cli/backup.ts';
import { brokerCommand } from './cli/broker-config.ts';
import { addCatalogueCommands } from './cli/catalogue.ts';
import { certificatesCommand } from './cli/certificates.ts';
import { completionCommand } from './cli/completion.ts';
import { decisionCommands, deviceCommands } from './cli/decisions.ts';
import { ekRootCommands } from './cli/ek-roots.ts';
import { escrowCommands } from './cli/escrow.ts';
import { eventlogCommand } from './cli/eventlog.ts';
import { exitCodes, explain } from './cli/failure.ts';
import { keyCommands } from './cli/keys.ts';
import { lookCommands, showCommand } from './cli/look.ts';
import { oidcCommands, sessionCommands } from './cli/oidc.ts';
import { quoteCommand } from './cli/quote.ts';
import { type Common, dataOption, remote, say } from './cli/remote.ts';
import { replayCommand } from './cli/replay.ts';
import { rolloutCommands, upgradeCommand } from './cli/rollouts.ts';
import { storeCommand } from './cli/store.ts';
import { tokenCommands } from './cli/tokens.ts';
import { tryCommand } from './cli/try.ts';
import { webhookCommands } from './cli/webhooks.ts';
import { DataFolder } from './options.ts';

const program = new Command('evc')
  .description('The controller of a fleet: which devices are trusted, and why not.')
  .version(version)
  // Commands have a --version of their own, of an image.
  .enablePositionalOptions()
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
  evc status 'trust:uud pcr:8 -label:lab'
  evc why edge-02
  evc accept edge-02                           what an acceptance would change
  evc try --accept edge-02 label:lab           what it would do to those devices
  evc eventlog diff good.bin failed.bin        what changed between two boots
  evc replay recordings/                       recordings on the charts of today

DEVICE is the id of a device, the start of it, its UUID or its serial number.
The data folder is --data, else EVC_DATA, else ./evc-data; EVC_TOKEN overrides its token. In bash:  source <(evc completion bash)

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 EVC is out of reach, 4 EVC refused;
the reason and a hint are on standard error.`,
  );

const withParent = () => new Option('--with-parent', 'ends when standard input does').hideHelp();

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
  .addOption(
    new Option('--log <form>', 'json: a line of JSON for all that happens, with level, ids and reason code')
      .choices(['text', 'json'])
      .default('text')
      .conflicts('json'),
  )
  .addOption(withParent())
  .action(async (options) => {
    process.exitCode = await (await import('./cli/serve.ts')).serve(options);
  });

lookCommands(program);
acceptCommands(program);
tryCommand(program);
decisionCommands(program);
upgradeCommand(program);
rolloutCommands(program.command('rollout').description('Roll-outs: images on their way to many devices.'));
const device = program.command('device').description('Looks at a device, and says what is its own.');
showCommand(device);
deviceCommands(device);
accountCommands(program.command('account').description('Accounts: what their devices may do.'));
keyCommands(program.command('key').description('Onboarding keys, and devices that wait to be let in.'));
tokenCommands(program.command('token').description('Tokens: who may ask EVC for what.'));
oidcCommands(program.command('oidc').description('Logins at a provider: who may do what.'));
sessionCommands(program.command('session').description('Sessions: who is logged in at a provider.'));
escrowCommands(
  program.command('escrow').description('The master keys of vaults that EVC keeps for devices.'),
);
remote(program.command('doctor'))
  .description('Looks for what may be wrong with this EVC; 1 if something is.')
  .action(async (options: Common) => {
    const { doctorText, examine, exitOf } = await import('./cli/doctor.ts');
    const findings = await examine(options, Date.now());
    say(options.json ? JSON.stringify(findings) : doctorText(findings));
    process.exitCode = exitOf(findings);
  });
webhookCommands(program.command('webhook').description('Webhooks: who is told what happens.'));
ekRootCommands(
  program.command('ek-root').description('Roots of TPM vendors: whom EVC believes what a TPM is.'),
);
addCatalogueCommands(program);

for (const command of [
  eventlogCommand(),
  quoteCommand(),
  storeCommand(),
  certificatesCommand(),
  backupCommand(),
  restoreCommand(),
  brokerCommand(),
  replayCommand(),
  completionCommand(program),
])
  program.addCommand(asOurs(command));

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

/** Wrong usage ends as everywhere, in commands below as well. */
function asOurs(command: Command): Command {
  command.copyInheritedSettings(program);
  for (const below of command.commands) asOurs(below);
  return command;
}
