// `npm run faults -- [--seeds N] [--from N] [--seed N] [--json]`: sequences with whatever goes wrong, by number.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command, type CommanderError, InvalidArgumentError } from 'commander';
import { planInWords } from './plan.ts';
import { type Played, playSeed } from './run.ts';
import { Tally } from './tally.ts';

interface Options {
  seeds: number;
  from: number;
  seed?: number;
  out: string;
  json?: boolean;
}

const { seeds, from, seed, out, json } = readCommand();
const wanted = seed === undefined ? Array.from({ length: seeds }, (_, index) => from + index) : [seed];
const tally = new Tally();
for (const one of wanted) {
  const played = tally.added(await playSeed(one));
  if (json) console.log(JSON.stringify(lineOf(played)));
  else if (played.broken === null && seed === undefined) progress();
  else report(played);
  if (played.broken !== null) keep(played);
}
if (!json) console.log(tally.line);
process.exit(tally.broken === 0 ? 0 : 1);

function progress(): void {
  if (tally.seeds % 50 === 0) console.log(`  ${tally.line}`);
}

function report({ plan, broken, messages, time }: Played): void {
  for (const line of planInWords(plan)) console.log(line);
  console.log(`  ${messages} messages in ${(time / 60_000).toFixed(1)} simulated minutes`);
  if (broken === null) console.log('  all ended well');
  else console.log(`  not so: ${broken.replaceAll('\n', '\n    ')}`);
}

function lineOf({ plan, broken, trace, faults, messages, time }: Played): object {
  return {
    ...plan,
    words: planInWords(plan),
    ok: broken === null,
    broken,
    trace,
    began: faults,
    messages,
    ms: time,
  };
}

function keep({ plan, recording }: Played): void {
  if (recording === null) return;
  mkdirSync(out, { recursive: true });
  const file = join(out, `seed-${plan.seed}.jsonl.gz`);
  writeFileSync(file, gzipSync(recording));
  if (!json) console.log(`  kept as ${file}: evc replay ${file}`);
}

function readCommand(): Options {
  const number = (text: string) => {
    if (!(Number.isSafeInteger(Number(text)) && Number(text) > 0))
      throw new InvalidArgumentError('a whole number above 0 belongs here');
    return Number(text);
  };
  const command = new Command('npm run faults --')
    .description('Plays sequences in which things go wrong, each as its number has it; then all has to heal.')
    .option('--seeds <number>', 'how many', number, 200)
    .option('--from <number>', 'the first of them', number, 1)
    .option('--seed <number>', 'one alone, and what it did', number)
    .option('--out <dir>', 'where recordings of those that end badly are kept', 'test/faults/found')
    .option('--json', 'prints JSON, a line a seed')
    .addHelpText('after', '\nExit codes: 0 all ended well; 1 something did not, and what; 2 wrong use.')
    .exitOverride();
  try {
    command.parse();
  } catch (error) {
    process.exit((error as CommanderError).exitCode === 0 ? 0 : 2);
  }
  return command.opts<Options>();
}
