// The same evidence by another policy: what EVC would have said, and where the record of the device would stand.
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Line, LineOf, StateValue } from '../../formats/recording/format.ts';
import { Replay } from '../../formats/recording/replay.ts';
import { stateText } from '../../formats/recording/words.ts';
import { charts } from '../../machines/charts.ts';
import type { Finding, Verdict } from '../../machines/flow.ts';
import { type FindLog, openEvidence } from '../evidence.ts';
import { basisOfJson } from '../record/basis.ts';
import { applyChange, type Change, changeOf, stateOfVerdict } from '../trial/change.ts';
import { verify } from '../verify/verify.ts';
import { Failure } from './failure.ts';
import { readInput, unusable } from './input.ts';
import { painter, plain } from './print.ts';
import { readRecordingFile } from './recording-file.ts';

/** Before and after, in a few words each. */
export interface VerdictChange {
  attempt: string;
  /** When it was judged, ms since the epoch. */
  judged: number;
  changes: boolean;
  before: VerdictWords;
  after: VerdictWords;
}

export interface VerdictWords {
  accepted: boolean;
  genuine: boolean;
  grounds: string | null;
  findings: Finding[];
  /** Of the record of the device after this verdict. */
  states: StateValue | null;
}

/** Throws Failure input.policy. */
export function readWhatIf(path: string): Change {
  return readPolicyFile(path, (json) => changeOf(json, (log) => readInput(resolve(dirname(path), log))));
}

/** The file of a policy, read as `read` does. Throws Failure input.policy. */
export function readPolicyFile<Policy>(path: string, read: (json: unknown) => Policy): Policy {
  try {
    return read(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw unusable(`${path} is no policy: ${(cause as Error).message}`, {
      code: 'input.policy',
      hint: 'evc replay --help shows one',
      cause,
    });
  }
}

/** Judges every piece of evidence of a recording again. Rejects with Failure. */
export async function whatIf(file: string, policy: Change): Promise<VerdictChange[]> {
  const lines: Line[] = [];
  await readRecordingFile(file, (more) => {
    for (const line of more) if (line.kind !== 'message' && line.kind !== 'tpm') lines.push(line);
    return false;
  });
  const blobs = new Map(
    lines.flatMap((line) => (line.kind === 'blob' ? [[line.sha256, line.bytes] as const] : [])),
  );
  const blob = (sha256: string) => bytesOf(blobs.get(sha256));
  const find: FindLog = async (sha256) => blob(sha256) ?? null;
  const known = new Map<string, LineOf<'evidence'>>();
  for (const line of lines) if (line.kind === 'evidence') known.set(line.attempt, line);
  const stateOf = async (wanted: string) => {
    const [, line] = [...known].find(([attempt]) => attempt.startsWith(wanted)) ?? [];
    const state =
      line?.bytes === undefined
        ? null
        : stateOfVerdict(
            line.verdict as Partial<Verdict>,
            await openEvidence(Buffer.from(line.bytes, 'base64'), find),
          );
    if (!state)
      throw unusable(`the recording has no genuine evidence of an attempt ${wanted}`, {
        code: 'input.policy',
      });
    return state;
  };
  const verdicts = new Map<string, Verdict>();
  for (const [attempt, line] of known) {
    if (line.bytes === undefined) continue;
    const shown = await openEvidence(Buffer.from(line.bytes, 'base64'), find);
    const basis = basisOfJson(line.basis, blob);
    verdicts.set(attempt, verify(shown, await applyChange(basis, shown, policy, stateOf), line.judged));
  }
  const after = statesAfter(lines, (event) => verdicts.get(String(event.attempt)) ?? null);
  const before = statesAfter(lines, () => null);
  return [...verdicts].map(([attempt, verdict]) => {
    const { judged, verdict: recorded } = known.get(attempt) as LineOf<'evidence'>;
    const one = wordsOf(recorded as unknown as Verdict, before.get(attempt));
    const other = wordsOf(verdict, after.get(attempt));
    return {
      attempt,
      judged,
      changes: JSON.stringify(one) !== JSON.stringify(other),
      before: one,
      after: other,
    };
  });
}

/** Where the record stands after each verdict, with another one in its place. */
function statesAfter(
  lines: readonly Line[],
  verdictOf: (event: Record<string, unknown>) => Verdict | null,
): Map<string, StateValue> {
  const states = new Map<string, StateValue>();
  const replay = new Replay({
    charts,
    replace: ({ event }, { basis }) => {
      if (event.type !== 'verdict.given') return null;
      const verdict = verdictOf(event);
      // Made with what the record knows now: an earlier verdict of ours may have changed that.
      return verdict && { ...event, verdict, basis };
    },
    onStep: ({ event, after }) => {
      if (event.type === 'verdict.given') states.set(String(event.attempt), after);
      return false;
    },
  });
  for (const line of lines) replay.push(line);
  replay.end();
  return states;
}

function wordsOf(
  { accepted, genuine, grounds, findings }: Verdict,
  states: StateValue | undefined,
): VerdictWords {
  return { accepted, genuine, grounds, findings, states: states ?? null };
}

export function printChanges(
  file: string,
  changes: readonly VerdictChange[],
  say: (line: string) => void,
): void {
  const paint = painter();
  for (const { attempt, judged, changes: differs, before, after } of changes) {
    const where = `${plain(file)}  attempt ${plain(attempt).slice(0, 8)}, ${new Date(judged).toISOString()}`;
    const line = (words: VerdictWords) => plain(sentence(words));
    say(differs ? `${paint('yellow', '!')} ${where}` : `= ${where}: ${line(before)}, as before`);
    if (!differs) continue;
    say(`    was     ${line(before)}`);
    say(`    would   ${line(after)}`);
    for (const text of movedStates(before.states, after.states)) say(`    record  ${plain(text)}`);
    for (const { code, text } of newFindings(before, after).slice(0, 10)) say(plain(`    ${code}  ${text}`));
  }
}

function sentence({ accepted, genuine, grounds, findings }: VerdictWords): string {
  if (accepted) return `accepted (${grounds})`;
  return `refused${genuine ? '' : ', not genuine'}: ${findings[0]?.code ?? 'without a finding'}`;
}

function movedStates(before: StateValue | null, after: StateValue | null): string[] {
  if (typeof before !== 'object' || before === null || typeof after !== 'object' || after === null) return [];
  return Object.keys(after)
    .filter((region) => stateText(before[region]) !== stateText(after[region]))
    .map((region) => `${region}: ${stateText(before[region])} → ${stateText(after[region])}`);
}

function newFindings(before: VerdictWords, after: VerdictWords): Finding[] {
  const known = new Set(before.findings.map(({ code, text }) => `${code} ${text}`));
  return after.findings.filter(({ code, text }) => !known.has(`${code} ${text}`));
}

function bytesOf(base64: string | undefined): Uint8Array | undefined {
  return base64 === undefined ? undefined : new Uint8Array(Buffer.from(base64, 'base64'));
}
