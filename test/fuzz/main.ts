// `npm run fuzz -- [TARGET…] [--minutes N] [--seed N]`: looks for inputs that break a reader.
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, Command, type CommanderError, InvalidArgumentError } from 'commander';
import { projectRoot } from '../kit/root.ts';
import { type FuzzResult, fuzz } from './fuzzer.ts';
import { targets } from './targets.ts';

const { args, seed, minutes } = readCommand();
const wanted = args.length === 0 ? targets : targets.filter(({ name }) => args.includes(name));

const root = new URL('../../', import.meta.url);
const found = fileURLToPath(new URL('test/fuzz/found/', projectRoot));
const isOurs = (url: string) =>
  ['formats/', 'controller/', 'machines/'].some((folder) => url.startsWith(new URL(folder, root).href));

const line = (result: FuzzResult) =>
  `${result.target.padEnd(12)} ${result.inputs} inputs in ${result.seconds.toFixed(0)} s (${Math.round(result.inputs / result.seconds)}/s), ` +
  `${result.corpus} of them new, ${result.reached} blocks, slowest ${result.slowestMs.toFixed(1)} ms, found ${result.found.length}`;

let broken = 0;
let inputs = 0;
for (const target of wanted) {
  const result = await fuzz(target, {
    seconds: (60 * minutes) / wanted.length,
    seed,
    wanted: isOurs,
    onProgress: (so) => console.log(`  ${line(so)}`),
  });
  console.log(line(result));
  inputs += result.inputs;
  for (const { bytes, fault } of result.found) {
    broken++;
    mkdirSync(found, { recursive: true });
    const name = `${target.name}-${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}.bin`;
    writeFileSync(join(found, name), bytes);
    console.log(
      `  ${fault.what}: ${fault.detail.split('\n').slice(0, 4).join('\n    ')}\n    kept as test/fuzz/found/${name}`,
    );
  }
}
console.log(`${inputs} inputs, ${broken} broke a reader`);
process.exit(broken === 0 ? 0 : 1);

function readCommand(): { args: string[]; minutes: number; seed: number } {
  const number = (text: string) => {
    if (!(Number(text) > 0)) throw new InvalidArgumentError('a number above 0 belongs here');
    return Number(text);
  };
  const command = new Command('npm run fuzz --')
    .description('Looks for inputs that break a reader; those that do are kept in test/fuzz/found.')
    .addArgument(new Argument('[target...]', 'all without any').choices(targets.map(({ name }) => name)))
    .option('--minutes <number>', 'in all', number, 10)
    .option('--seed <number>', 'the same inputs for the same seed', number, 1)
    .addHelpText('after', '\nExit codes: 0 nothing broke; 1 something did; 2 wrong use.')
    .exitOverride();
  try {
    command.parse();
  } catch (error) {
    process.exit((error as CommanderError).exitCode === 0 ? 0 : 2);
  }
  return { args: command.args, ...command.opts<{ minutes: number; seed: number }>() };
}
