// `eve`: the command of a device.
import { Command, CommanderError, Option } from 'commander';
import { version } from '../formats/version.ts';
import { exitCodes, explain, Failure } from './cli/failure.ts';
import { locationForms, tpmForms } from './options.ts';

// Commands are loaded when they run: making an image needs no broker.

const program = new Command('eve')
  .description('The agent of an edge node: measured boot, attestation, vault and upgrades.')
  .version(version)
  // Commands have a --version of their own, of an image.
  .enablePositionalOptions()
  .showHelpAfterError('(eve --help shows what there is)')
  .exitOverride()
  .addHelpText(
    'after',
    `
Examples:
  eve image create ./image-1.0.0 --version 1.0.0
  eve install --image ./image-1.0.0 --state ./device-1
  eve run --state ./device-1

Exit codes: 0 done, 1 failed (the reason and a hint are on standard error), 2 wrong usage.`,
  );

function withFolders(command: Command): Command {
  return command
    .option('--config <dir>', 'what the device was installed with (default: /config)')
    .option('--persist <dir>', 'what outlives a reboot (default: /persist)')
    .option('--run <dir>', 'what does not (default: /run/eve)')
    .option('--state <dir>', 'one folder that holds all three');
}

withFolders(program.command('run').argument('[component]', 'runs this one alone, in a process of its own'))
  .description('Runs a device until SIGTERM or Ctrl-C; SIGHUP reboots it, as if the plug were pulled.')
  .option('--processes', 'runs each component in a process of its own, and starts anew what ends')
  .option('--tpm <spec>', `${tpmForms} (default: wasm:PERSIST/tpm.nv, on a real board device:/dev/tpmrm0)`)
  .option(
    '--board <kind>',
    'real: this machine, as it booted; emulated: one of ours (default: real with a TPM of the machine)',
  )
  .option('--platform <dir>', 'programs that change slots and reboot a real board')
  .option('--measure-config', 'measures /config into PCR 14 on a real board, where its OS does not')
  .option(
    '--vault <backend>',
    'auto, fscrypt or file: what encrypts a new vault (default: auto, fscrypt where it can)',
  )
  .option('--location <place>', locationForms)
  .option('--image <dir>', 'puts this image into the first slot before it boots')
  .option('--record <file>', 'records everything that happens into a file, packed as .jsonl.gz')
  .option('--attempts <number>', 'recordings of the last attempts that are kept in PERSIST/recordings')
  .option('--inspect <port>', 'shows its charts in a page on this machine, at this port')
  .option('--json', 'prints everything that happens as lines of JSON')
  .addOption(new Option('--with-parent', 'ends when standard input does').hideHelp())
  .action(async (component, { processes, ...options }) => {
    if (options.inspect !== undefined && (processes || component !== undefined))
      throw new Failure(
        '--inspect is for a device in one process',
        'leave out --processes and the name of a component',
        exitCodes.usage,
      );
    if (component === undefined && !processes) return (await import('./cli/run.ts')).runDevice(options);
    const { runComponent, runDeviceSteps } = await import('./cli/run-processes.ts');
    return component === undefined || component === 'device-steps'
      ? runDeviceSteps(options, processes ?? false)
      : runComponent(component, options);
  });

program
  .command('fleet')
  .argument('<number>', 'how many devices')
  .description('Runs many emulated devices in this process, each with its own TPM, vault and charts.')
  .requiredOption('--config <dir>', 'what they were installed with: evc key add --out DIR --limit NUMBER')
  .option('--state <dir>', 'keeps them here, for the next time (default: they end with the process)')
  .option('--image <dir>', 'what they boot (default: one of ours)')
  .option(
    '--scenario <name>',
    'steady: they run until Ctrl-C; storm: all are cut from power and come back at once, and it ends',
    'steady',
  )
  .option('--at-once <number>', 'devices on their way to a verdict at the same time', '32')
  .option('--tampered <percent>', 'in a storm, these come back with another kernel command line', '0')
  .option('--slow <percent:ms>', 'these have a link with so much latency in each direction')
  .option('--json', 'prints everything that happens as lines of JSON')
  .addOption(new Option('--with-parent', 'ends when standard input does').hideHelp())
  .action(async (number, options) => {
    const { runFleet, runInLargerHeap } = await import('./cli/fleet.ts');
    const code = await runInLargerHeap(number);
    if (code !== null) process.exitCode = code;
    else if (!(await runFleet(number, options))) process.exitCode = exitCodes.failed;
  });

withFolders(program.command('install'))
  .description('Puts an image into the first slot, as the factory does.')
  .requiredOption('--image <dir>', 'folder of the image')
  .action(async ({ image, ...options }) => {
    const { installImage } = await import('./cli/image.ts');
    const { version } = await installImage(image, options);
    say(`image ${version} is installed in slot IMGA and boots next`);
  });

withFolders(program.command('status'))
  .description('Shows what a running device does and waits for.')
  .option('--json', 'everything that the components publish, as JSON')
  .action(async ({ json, ...options }) => {
    const { readStatus, statusText } = await import('./cli/status.ts');
    const status = await readStatus(options);
    say(json ? JSON.stringify(status) : statusText(status));
  });

const image = program.command('image').description('Makes, packs and measures images of the base OS.');

image
  .command('create')
  .description('Makes a small image as a folder: the same bytes for the same options.')
  .argument('<dir>')
  .requiredOption('--version <version>', 'version of the image')
  .option('--firmware <version>', 'version of the firmware of the board (default: 1.0.0)')
  .option('--cmdline <text>', 'kernel command line')
  .option('--selftest <result>', 'what its own test says: passes, fails or hangs')
  .option('--recorded <name>', 'boots as the EVE node did that left this log: update.before, …')
  .option('--pack <file>', 'packs it, too')
  .option('--measure <dir>', 'measures it, too')
  .action(async (dir, options) => {
    const { createImageFolder, measureImage, packImage } = await import('./cli/image.ts');
    const { version, directory } = await createImageFolder(dir, options);
    if (options.pack) await packImage(dir, options.pack);
    if (options.measure) await measureImage(dir, options.measure);
    say(`image ${version} is in ${directory}`);
  });

image
  .command('pack')
  .description('Packs an image into one file for `evc image add`; the same bytes for the same image.')
  .argument('<dir>')
  .requiredOption('-o, --output <file>', 'the file')
  .action(async (dir, { output }) => {
    const { packImage } = await import('./cli/image.ts');
    const { version } = await packImage(dir, output);
    say(`image ${version} is packed in ${output}`);
  });

image
  .command('measure')
  .description('Boots an image in the laboratory and writes the logs, for `evc image add --log`.')
  .argument('<dir>')
  .requiredOption('-o, --output <dir>', 'folder for the logs')
  .action(async (dir, { output }) => {
    const { measureImage } = await import('./cli/image.ts');
    for (const path of await measureImage(dir, output)) say(path);
  });

withFolders(program.command('doctor'))
  .description(
    'Says what this machine can and cannot do as a device; ends with 1 when no device runs like this.',
  )
  .option('--tpm <spec>', tpmForms)
  .option('--board <kind>', 'real or emulated (default: by the TPM)')
  .option('--platform <dir>', 'programs that change slots and reboot a real board')
  .option('--json', 'as JSON')
  .action(async ({ json, ...options }) => {
    const { examine, findingsText, healthy } = await import('./cli/doctor.ts');
    const findings = await examine(options);
    say(json ? JSON.stringify(findings) : findingsText(findings));
    if (!healthy(findings)) process.exitCode = exitCodes.failed;
  });

const tpm = program.command('tpm').description('Works with TPMs.');

withFolders(tpm.command('info'))
  .description('Shows what a TPM is, has and can do; by default the one of the device, else of this machine.')
  .option('--tpm <spec>', tpmForms)
  .option('--json', 'as JSON')
  .action(async ({ json, ...options }) => {
    const { tpmInfo, tpmInfoText } = await import('./cli/tpm-info.ts');
    const info = await tpmInfo(options);
    say(json ? JSON.stringify(info) : tpmInfoText(info));
  });

tpm
  .command('serve')
  .description('Serves a WebAssembly TPM on two ports (commands, and control above it), for tpm2-tools.')
  .option('--state <file>', 'keeps the TPM in this file (default: a new one that ends with the process)')
  .option('--protocol <name>', 'swtpm or mssim', 'swtpm')
  .option('--host <address>', 'where to listen; nobody is authenticated', '127.0.0.1')
  .option('--port <number>', 'port for commands; 0 takes a free one', '2321')
  .option('--json', 'prints where it listens as JSON')
  .addOption(new Option('--with-parent', 'ends when standard input does').hideHelp())
  .action(async (options) => (await import('./cli/tpm.ts')).serveTpmUntilEnded(options));

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
    process.stderr.write(`eve: ${text}  [${code}]\n${hint === '' ? '' : `hint: ${hint}\n`}`);
    process.exitCode = exitCode;
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
