// How far a roll-out is, for people. Pure.
import { type Progress, progresses, type Rollout } from './answers.ts';

export const progressMarks: Readonly<Record<Progress, { mark: string; tone: string; text: string }>> = {
  committed: { mark: '✓', tone: 'good', text: 'done' },
  assigned: { mark: '▸', tone: 'busy', text: 'under way' },
  failed: { mark: '✗', tone: 'bad', text: 'failed' },
  skipped: { mark: '−', tone: 'none', text: 'skipped' },
  waiting: { mark: '·', tone: 'none', text: 'waiting' },
};

export const stateTones: Readonly<Record<Rollout['state'], string>> = {
  running: 'busy',
  halted: 'bad',
  stopped: 'warn',
  cancelled: 'none',
  done: 'good',
};

/** `41 of 50 done, 3 under way, 6 failed`. */
export function progressText({ counts }: Pick<Rollout, 'counts'>): string {
  const others = (['assigned', 'failed', 'skipped'] as const)
    .filter((one) => counts[one] > 0)
    .map((one) => `${counts[one]} ${progressMarks[one].text}`);
  return [`${counts.committed} of ${counts.all} done`, ...others].join(', ');
}

/** `share 2 of 3 (10 %)`. */
export function shareText({ stages, stage }: Pick<Rollout, 'stages' | 'stage'>): string {
  return `share ${stage + 1} of ${stages.length} (${stages[stage] ?? 100} %)`;
}

/** Parts of the bar, in order; those that are nothing are left out. */
export function barOf({ counts }: Pick<Rollout, 'counts'>): { progress: Progress; count: number }[] {
  return progresses
    .map((progress) => ({ progress, count: counts[progress] }))
    .filter(({ count }) => count > 0);
}
