// `npm run crash -- [--who device|EVC] [--sequence NAME] [--point N] [--step N]`: kills a device, or EVC, at each of its writes.
import { Command, type CommanderError, InvalidArgumentError, Option } from 'commander';
import { type Counted, type CrashOptions, crashEverywhere } from './stage.ts';

const { who, ...options } = readCommand();
let points = 0;
try {
  for (const one of who ? [who] : (['device', 'EVC'] as const)) {
    const counted = await crashEverywhere({
      ...options,
      who: one,
      onSequence: (so) => console.log(lineOf(so)),
    });
    points += counted.reduce((sum, { killed }) => sum + killed, 0);
  }
  console.log(`${points} times somebody was killed at a write, and all ended well`);
} catch (error) {
  console.log((error as Error).message);
  process.exitCode = 1;
}

function lineOf({ sequence, who, points, killed, seconds }: Counted): string {
  return `${sequence.padEnd(20)} ${who.padEnd(7)} ${points} writes, killed ${killed} times in ${seconds.toFixed(0)} s`;
}

function readCommand(): Omit<CrashOptions, 'who'> & { who?: Counted['who'] } {
  const number = (text: string) => {
    if (!(Number.isInteger(Number(text)) && Number(text) > 0))
      throw new InvalidArgumentError('a whole number above 0 belongs here');
    return Number(text);
  };
  const command = new Command('npm run crash --')
    .description('Kills a device, or EVC, at each of its writes in each sequence, and starts it again.')
    .addOption(new Option('--who <who>', 'both without it').choices(['device', 'EVC']))
    .option('--sequence <name>', 'those whose name begins with it')
    .option('--point <number>', 'one write alone', number)
    .option('--step <number>', 'every how many writes one is tried', number, 1)
    .addHelpText('after', '\nExit codes: 0 all ended well; 1 something did not, and where; 2 wrong use.')
    .exitOverride();
  try {
    command.parse();
  } catch (error) {
    process.exit((error as CommanderError).exitCode === 0 ? 0 : 2);
  }
  return command.opts();
}
