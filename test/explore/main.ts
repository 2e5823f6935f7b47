// `npm run explore -- [SCENARIO…] [--seconds N] [--faults N] [--eve] [--out DIR]`: steps the charts of a device, its record and
// the network between them through everything that can happen, up to a bound.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Argument, Command, type CommanderError, InvalidArgumentError } from 'commander';
import { eveFaults } from './eve-faults.ts';
import { getsThere, promises } from './promises.ts';
import { recordingOf } from './recording.ts';
import { lineOf } from './report.ts';
import { newCast, scenarios } from './scenarios.ts';
import { type Broken, type Explored, type Scenario, search } from './search.ts';
import type { Cast } from './situation.ts';

interface Options {
  seconds: number;
  faults?: number;
  eve?: boolean;
  out: string;
  json?: boolean;
}

const { args, options } = readCommand();
const wanted = args.length === 0 ? scenarios : scenarios.filter(({ name }) => args.includes(name));
let failed = 0;
if (options.eve) exploreEve();
else exploreCharts();
process.exit(failed === 0 ? 0 : 1);

function exploreCharts(): void {
  const total = { states: 0, transitions: 0, seconds: 0 };
  for (const scenario of wanted) {
    const { faults } = options;
    const given = faults === undefined ? scenario : { ...scenario, budget: { ...scenario.budget, faults } };
    const cast = newCast();
    const explored = search(given, cast, promises, { seconds: options.seconds / wanted.length, broken: 5 });
    report(explored);
    for (const [index, broken] of explored.broken.entries())
      keep(given, cast, broken, `${scenario.name.replaceAll(' ', '-')}-${index + 1}`);
    failed += explored.broken.length;
    total.states += explored.states;
    total.transitions += explored.transitions;
    total.seconds += explored.seconds;
  }
  if (!options.json)
    console.log(
      `${total.states} states, ${total.transitions} transitions in ${total.seconds.toFixed(0)} s; ${promises.length + 1} promises, ${failed} broken`,
    );
}

/** EVE's faults, each in a copy of the charts. */
function exploreEve(): void {
  for (const fault of eveFaults) {
    const scenario = scenarios.find(({ name }) => name === fault.scenario) as Scenario;
    const cast = newCast(fault.charts);
    const asked = promises.filter(({ sentence }) => sentence === fault.breaks);
    const explored = search(scenario, cast, asked, {
      seconds: options.seconds / eveFaults.length,
      alone: fault.breaks === getsThere,
    });
    const [found] = explored.broken;
    console.log(`${fault.name}: ${fault.text}`);
    if (found) keep(scenario, cast, found, `eve-${fault.name.replaceAll(' ', '-').toLowerCase()}`);
    else {
      failed++;
      console.log(`  not found in ${explored.states} states`);
    }
  }
}

function report(explored: Explored): void {
  if (options.json) console.log(JSON.stringify(explored));
  else console.log(lineOf(explored));
}

function keep(scenario: Scenario, cast: Cast, broken: Broken, name: string): void {
  mkdirSync(options.out, { recursive: true });
  const file = join(options.out, `${name}.jsonl.gz`);
  writeFileSync(file, gzipSync(recordingOf(scenario, cast, broken)));
  const { sentence, path, after } = broken;
  console.log(`  not so: ${sentence}`);
  for (const move of path) console.log(`    ${move}`);
  if (after > 0) console.log(`    and then, left alone, nowhere in ${after} moves`);
  console.log(`  kept as ${file}`);
}

function readCommand(): { args: string[]; options: Options } {
  const number = (text: string) => {
    if (!(Number(text) > 0)) throw new InvalidArgumentError('a number above 0 belongs here');
    return Number(text);
  };
  const command = new Command('npm run explore --')
    .description(
      'Steps the charts of a device, its record and the network through everything that can happen.',
    )
    .addArgument(new Argument('[scenario...]', 'all without any').choices(scenarios.map(({ name }) => name)))
    .option('--seconds <number>', 'in all', number, 600)
    .option('--faults <number>', 'how many things may go wrong, whatever the scenario says', number)
    .option('--eve', 'puts each of EVE’s own faults back into the charts, and looks for it')
    .option('--out <dir>', 'where counterexamples are kept, as recordings', 'test/explore/found')
    .option('--json', 'prints JSON, a line a scenario')
    .addHelpText(
      'after',
      '\nExit codes: 0 every promise was kept (with --eve: every fault was found); 1 not so; 2 wrong use.',
    )
    .exitOverride();
  try {
    command.parse();
  } catch (error) {
    process.exit((error as CommanderError).exitCode === 0 ? 0 : 2);
  }
  return { args: command.args, options: command.opts<Options>() };
}
