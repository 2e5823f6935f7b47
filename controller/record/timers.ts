// Timers are rows: a due one is taken in the same transaction as the step of its record, by whichever controller is first.
import type { Clock } from '../../machines/clock.ts';
import type { Timer } from '../../machines/device-record.ts';
import { type Store, type TimerRow, TimerTaken } from '../store/store.ts';
import type { RecordRunner } from './runner.ts';

const batch = 100;
/** Looks at least this often, since other controllers set timers too, ms. */
const longest = 10_000;
const shortest = 20;
const day = 86_400_000;

/**
 * Runs until the signal; resolves then. What fails is tried again, and holds nobody else up.
 * @param look what else is looked at now and then, at least each ten seconds
 */
export async function runTimers(
  store: Store,
  runner: RecordRunner,
  clock: Clock,
  signal: AbortSignal,
  look: () => Promise<void> = async () => undefined,
): Promise<void> {
  let recovery = clock.now() + longest;
  let maintenance = clock.now();
  while (!signal.aborted) {
    const now = clock.now();
    const at = await answerDue(store, runner, now).catch(() => now + longest);
    // What failed, and what a controller left that is gone.
    if (due(recovery, now, longest)) {
      await runner.recover().catch(() => undefined);
      recovery = now + longest;
    }
    await look().catch(() => undefined);
    if (due(maintenance, now, day)) {
      // Where it fails nothing is lost but room.
      await store.maintain(now).catch(() => undefined);
      maintenance = now + day;
    }
    if (at > now) await clock.sleepUntil(at, signal).catch(() => undefined);
  }
}

/** Whether something that is done each so many ms is to be done: also where the clock was set back since the last time. */
function due(at: number, now: number, each: number): boolean {
  return now >= at || at > now + each;
}

/** Answers what is due, and says when to look again. */
async function answerDue(store: Store, runner: RecordRunner, now: number): Promise<number> {
  const rows = await store.due(now, batch);
  let failed = 0;
  for (const row of rows) if (!(await answer(runner, row))) failed++;
  // A record that cannot be stepped keeps its timer; without a pause it would be looked at for ever.
  if (failed > 0) return now + longest;
  if (rows.length === batch) return now;
  const next = await store.nextTimer();
  return Math.min(now + longest, Math.max(now + shortest, next ?? now + longest));
}

async function answer(runner: RecordRunner, row: TimerRow): Promise<boolean> {
  try {
    await runner.send(row.device, { type: 'timer.due', timer: row.timer as Timer }, { timer: row });
    return true;
  } catch (error) {
    return error instanceof TimerTaken;
  }
}
