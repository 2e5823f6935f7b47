// Recordings of older versions, brought to the newest step by step. A step is never changed: recordings that it reads exist.
import { type Header, RecordingError, recordingFormat, recordingVersion } from './format.ts';

export type Loose = Record<string, unknown>;

/** What a version changed, undone in its successor: takes lines of version n, gives lines of n + 1. */
export interface Step {
  header?(header: Loose): Loose;
  /** An array where a line becomes several, or none. */
  line?(line: Loose): Loose | Loose[];
}

/** By the version that they start from. */
export type Steps = Readonly<Record<number, Step>>;

export const steps: Steps = {};

/**
 * Upgrades a header, and gives what upgrades the lines after it.
 * Throws RecordingError none, newer.
 *
 * @param through the steps and the version that they lead to; those of this version, unless a test says otherwise
 */
export function upgradeFrom(
  header: Loose,
  through: { steps: Steps; version: number } = { steps, version: recordingVersion },
): { header: Header; from: number; line(line: Loose): Loose[] } {
  const from = header.version;
  if (header.recording !== recordingFormat || typeof from !== 'number' || !Number.isInteger(from) || from < 1)
    throw new RecordingError('none', 1, 'this is no recording: its first line does not say that it is one');
  if (from > through.version) {
    throw new RecordingError(
      'newer',
      1,
      `this recording is of version ${from}, and this program reads versions up to ${through.version}; use a newer one`,
    );
  }
  const way: Step[] = [];
  for (let version = from; version < through.version; version++) way.push(through.steps[version] ?? {});
  const upgraded = way.reduce((newer, step) => step.header?.(newer) ?? newer, header);
  return {
    header: { ...upgraded, version: through.version } as unknown as Header,
    from,
    line: (line) =>
      way.reduce<Loose[]>((lines, step) => lines.flatMap<Loose>((one) => step.line?.(one) ?? one), [line]),
  };
}
