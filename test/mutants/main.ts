// `npm run mutants`: every small change of a check is noticed by a test, or it is listed with the reason why it changes nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { runCampaign } from './campaign.ts';
import { type Equivalent, judge } from './equivalents.ts';
import type { Mutant } from './mutant.ts';

const folder = 'controller/verify';
const tests = readdirSync(`test/${folder}`)
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => `test/${folder}/${name}`);
/** Runs where no test can follow it, on another thread. */
const elsewhere = new Set(['worker.ts']);

interface Options {
  file?: string[];
  json?: boolean;
  processes: number;
}

const program = new Command('mutants')
  .description(`Changes ${folder} in one small thing after another, and runs its tests against each change.`)
  .option('--file <name...>', 'these files alone (default: all of the folder)')
  .option('--processes <number>', 'processes at a time, 1 to 8', count, 2)
  .option('--json', 'prints the survivors as JSON')
  .addHelpText(
    'after',
    '\nExit codes: 0 every mutant was noticed or is listed, 1 survivors or a list that is out of date, 2 used wrongly',
  );

function count(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= 8) return number;
  throw new InvalidArgumentError('a number from 1 to 8');
}

async function main(): Promise<void> {
  program.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));
  const { file, json, processes } = program.parse().opts<Options>();
  const all = readdirSync(folder).filter((name) => name.endsWith('.ts') && !elsewhere.has(name));
  const wanted = file?.map((name) => name.replace(/^.*\//, '')) ?? all;
  const unknown = wanted.find((name) => !all.includes(name));
  if (unknown !== undefined) program.error(`there is no ${unknown} in ${folder}; known: ${all.join(', ')}`);

  const began = performance.now();
  const result = await runCampaign({
    files: wanted.map((name) => `${folder}/${name}`),
    tests,
    processes,
    onProgress: (done, of, survivors) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${of}, ${survivors} survive`);
      else if (done % 50 === 0 || done === of)
        process.stderr.write(`${done} of ${of}, ${survivors} survive\n`);
    },
    onSurvivor: (mutant) => {
      if (!process.stderr.isTTY) process.stderr.write(`${lineOf(mutant)}\n`);
    },
  });
  if (process.stderr.isTTY) process.stderr.write('\n');
  const listed = JSON.parse(
    readFileSync(new URL('./equivalents.json', import.meta.url), 'utf8'),
  ) as Equivalent[];
  const { survivors, equivalent, outdated } = judge(result, listed);
  const seconds = Math.round((performance.now() - began) / 1000);
  const { mutants, endless } = result;
  if (json)
    console.log(
      JSON.stringify({ mutants: mutants.length, equivalent, endless, seconds, survivors, outdated }),
    );
  else {
    for (const mutant of survivors) console.log(lineOf(mutant));
    for (const { file: at, context, mutated } of outdated)
      console.log(`equivalents.json: ${at} has no survivor "${mutated}" in "${context}" any more`);
    const noticed = mutants.length - survivors.length - equivalent;
    console.log(
      `FIGURES: mutants of ${folder}: ${mutants.length}, noticed by tests ${noticed} (${endless} because they never end), equivalent ${equivalent}, survivors ${survivors.length}; ${seconds} s`,
    );
  }
  process.exitCode = survivors.length + outdated.length > 0 ? 1 : 0;
}

const oneLine = (text: string) => text.replaceAll(/\s+/g, ' ').slice(0, 120);

function lineOf({ file, line, column, original, mutated }: Mutant): string {
  return `${file}:${line}:${column}  ${oneLine(original)}  →  ${oneLine(mutated) || '(left out)'}`;
}

await main();
