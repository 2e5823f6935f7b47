// `evc replay`: recordings on the charts of today. A recording in a folder is a regression test.
import { Command } from 'commander';
import type { Difference } from '../../formats/recording/diff.ts';
import type { StateValue } from '../../formats/recording/format.ts';
import {
  besideCharts,
  type Divergence,
  Replay,
  type ReplayResult,
  type Step,
} from '../../formats/recording/replay.ts';
import { activePaths, codesIn, stateText } from '../../formats/recording/words.ts';
import { charts } from '../../machines/charts.ts';
import { exitCodes, Failure } from './failure.ts';
import { nameOf } from './input.ts';
import { painter, plain, wrap } from './print.ts';
import { readRecordingFile, recordingFiles } from './recording-file.ts';
import { printChanges, readWhatIf, type VerdictChange, whatIf } from './what-if.ts';

interface Options {
  check?: boolean;
  step?: boolean;
  until?: string;
  whatIf?: string;
  json?: boolean;
}

/** What became of one file. */
export interface Replayed extends ReplayResult {
  file: string;
  /** Version of the format that it was written in. */
  version: number;
  notes: string[];
  /** The step that `--until` named, and how the charts stood then. */
  stopped: { step: Step; standing: Step[] } | null;
}

export function replayCommand(): Command {
  return new Command('replay')
    .argument('<file...>', 'recordings (.jsonl, .jsonl.gz), folders of them, - for standard input')
    .description('Drives the charts of today with what was recorded, and compares every step.')
    .option('--check', 'prints what fails, and the summary')
    .option('--step', 'prints each step as it comes out today')
    .option('--until <place>', 'ends at a step: its number, a state, or the code of a reason')
    .option('--what-if <policy>', 'judges the same evidence by another policy, and says what would change')
    .option('--json', 'prints JSON, a line a file')
    .addHelpText(
      'after',
      `
A policy is JSON, each part of it optional; what it leaves out is as it was:
  {"baseline": null | "shown" | {"attempt": "ID"},    the state that the device is compared with
   "accept": {"8": "HEX", "9": "HEX"},                PCR values that a person accepts, over those of the baseline
   "upgrade": null | {"to": "1.1.0", "until": "2026-12-01T00:00:00Z", "logs": ["FILE"]},
   "rules": {"add": [{"pcr": 5, "match": {"kind": "slot-attributes"}}], "remove": ["ID"]},
   "location": {"locked": null | {"latitude": 52.5, "longitude": 13.4, "accuracy": 20}, "radius": 500}}

Exit codes: 0 every step came out as recorded; 1 one did not; 2 unusable input.`,
    )
    .action(async (paths: string[], options: Options) => {
      if (options.whatIf !== undefined) return judgeAgain(paths, options.whatIf, options.json ?? false);
      process.exitCode = await replayAll(recordingFiles(paths), options);
    });
}

async function replayAll(files: readonly string[], options: Options): Promise<number> {
  let passed = 0;
  let failed = 0;
  for (const file of files) {
    const replayed = await replayFile(file, options);
    const good = replayed.divergence === null && replayed.unknown.length === 0;
    if (good) passed++;
    else failed++;
    if (options.json) say(JSON.stringify(jsonOf(replayed)));
    else if (!good || !options.check) say(textOf(replayed));
  }
  if (!options.json) say(`${passed} passed, ${failed} failed`);
  return failed === 0 ? exitCodes.done : exitCodes.failed;
}

/** Replays one recording. Rejects with Failure where it is none. */
export async function replayFile(
  file: string,
  options: Pick<Options, 'step' | 'until' | 'json'> = {},
): Promise<Replayed> {
  const standing = new Map<string, Step>();
  let stopped: Replayed['stopped'] = null;
  const ends = options.until === undefined ? null : placeOf(options.until);
  const replay = new Replay({
    charts,
    onStep: (step) => {
      standing.set(step.component, step);
      if (options.step) say(options.json ? JSON.stringify({ kind: 'step', file, ...step }) : stepLine(step));
      if (!ends?.(step)) return false;
      stopped = { step, standing: [...standing.values()] };
      return true;
    },
  });
  const { version, notes } = await readRecordingFile(
    file,
    (lines) => {
      try {
        for (const line of lines) replay.push(line);
      } catch (cause) {
        if (!(cause instanceof RangeError)) throw cause;
        throw new Failure(`${nameOf(file)}: ${cause.message}`, {
          code: 'recording.malformed',
          exitCode: exitCodes.usage,
          cause,
        });
      }
      return replay.over;
    },
    besideCharts,
  );
  return { file, version, notes, stopped, ...replay.end() };
}

/** Whether a step is the one that is named: by its number, a state that it enters, or a reason that it bears. */
function placeOf(words: string): (step: Step) => boolean {
  if (/^\d+$/.test(words)) return ({ n }) => n >= Number(words);
  const [component = '', state] = words.includes(':') ? words.split(':', 2) : ['', words];
  const active = (value: StateValue) =>
    activePaths(value).some((path) => path === state || path.endsWith(`.${state}`));
  return (step) =>
    (component === '' || step.component === component) &&
    ((active(step.after) && (step.before === null || !active(step.before))) ||
      codesIn(step.event).includes(words));
}

async function judgeAgain(paths: readonly string[], policyPath: string, json: boolean): Promise<void> {
  const policy = readWhatIf(policyPath);
  let changed = 0;
  let all = 0;
  for (const file of recordingFiles(paths)) {
    const changes: VerdictChange[] = await whatIf(file, policy);
    all += changes.length;
    changed += changes.filter(({ changes: differs }) => differs).length;
    if (json) for (const change of changes) say(JSON.stringify({ file, ...change }));
    else printChanges(file, changes, say);
  }
  if (all === 0)
    throw new Failure('no evidence is in these recordings', {
      code: 'recording.no-evidence',
      exitCode: exitCodes.usage,
      hint: 'EVC records it: evc attempt show DEVICE ATTEMPT -o FILE',
    });
  if (!json) say(`${changed} of ${all} verdicts would change`);
}

function stepLine({ n, at, component, event, before, after }: Step): string {
  const time = new Date(at).toISOString().slice(11, 23);
  const from = before === null ? '' : stateText(before);
  const to = stateText(after);
  const where = from === to ? to : (changedStates(before, after) ?? `${from} → ${to}`);
  return plain(
    `${String(n).padStart(6)}  ${time}  ${component.padEnd(13)} ${event.type.padEnd(32)} ${where}`,
  );
}

/** Of a parallel chart the regions that moved. */
function changedStates(before: StateValue | null, after: StateValue): string | null {
  if (typeof before !== 'object' || before === null || typeof after !== 'object') return null;
  const regions = Object.keys(after);
  if (regions.length < 2) return null;
  return regions
    .filter((region) => stateText(before[region]) !== stateText(after[region]))
    .map((region) => `${region}: ${stateText(before[region])} → ${stateText(after[region])}`)
    .join(', ');
}

function textOf(replayed: Replayed): string {
  const { file, steps, divergence, changed, unknown, unchecked, notes, stopped } = replayed;
  const paint = painter();
  const remarks = [
    `${steps} steps`,
    ...(unchecked > 0 ? [`${unchecked} not checked, since lines before them are missing`] : []),
    ...(changed.length > 0 ? [`changed since: ${changed.join(', ')}`] : []),
    ...notes,
  ];
  const good = divergence === null && unknown.length === 0;
  const head = `${good ? paint('green', 'ok  ') : paint('red', 'FAIL')} ${plain(nameOf(file))}  ${plain(remarks.join('; '))}`;
  const lines = [
    head,
    ...unknown.map((chart) => plain(`     there is no chart ${chart} any more`)),
    ...(divergence ? divergenceLines(divergence) : []),
    ...(stopped ? stoppedLines(stopped) : []),
  ];
  return lines.join('\n');
}

const mostDifferences = 20;

function divergenceLines(divergence: Divergence): string[] {
  const { n, at, component, chart, chartChanged, event, state, differs, expected, got, context } = divergence;
  const shown = differs === 'state' ? (value: unknown) => stateText(value as StateValue) : inWords;
  return [
    `     ${component}, line ${n}, ${new Date(at).toISOString()}: its ${words[differs]}`,
    `     chart     ${chart}${chartChanged ? ', whose definition changed since' : ''}`,
    `     state     ${state === null ? 'none, it begins' : stateText(state)}`,
    `     event     ${event.type}`,
    `     expected  ${shown(expected)}`,
    `     got       ${shown(got)}`,
    ...context.slice(0, mostDifferences).map(differenceLine),
    ...(context.length > mostDifferences ? [`       … and ${context.length - mostDifferences} more`] : []),
  ]
    .flatMap((line) => (line.length > 2000 ? `${line.slice(0, 2000)}…` : line))
    .map(plain);
}

const words: Record<Divergence['differs'], string> = {
  state: 'state is another one',
  context: 'memory is another one',
  transitions: 'way to its state is another one',
  effects: 'effects are others',
  status: 'status is another one',
  error: 'step fails',
};

function differenceLine({ path, before, after }: Difference): string {
  return `       ${path}: ${inWords(before)} → ${inWords(after)}`;
}

function inWords(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}

function stoppedLines({ step, standing }: NonNullable<Replayed['stopped']>): string[] {
  return [
    `     ends at line ${step.n}: ${step.component}, ${step.event.type}`,
    ...standing.flatMap(({ component, after, context }) => {
      const { waiting } = context as { waiting?: { for?: string; attempt?: number } | null };
      const wait = waiting?.for ? `, waits for ${waiting.for}, attempt ${waiting.attempt}` : '';
      return wrap(`${component.padEnd(14)} ${stateText(after)}${wait}`, '     ');
    }),
  ].map(plain);
}

function jsonOf({ stopped, ...replayed }: Replayed): object {
  return { kind: 'replayed', ...replayed, ...(stopped ? { stopped } : {}) };
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
