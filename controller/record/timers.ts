// Timers are rows: a due one is taken and becomes an event of its record, by whichever controller is there.
import type { Clock } from '../../machines/clock.ts';
import type { Timer } from '../../machines/device-record.ts';
import type { Store } from '../store/store.ts';
import type { RecordRunner } from './runner.ts';

const batch = 100;
/** Looks at least this often, since other controllers set timers too, ms. */
const longest = 10_000;
const shortest = 20;

/** Runs until the signal; resolves then. */
export async function runTimers(
  store: Store,
  runner: RecordRunner,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const due = await store.due(clock.now(), batch);
    for (const row of due) {
      if (await store.takeTimer(row)) await runner.send(row.device, { type: 'timer.due', timer: row.timer as Timer });
    }
    if (due.length === batch) continue;
    const next = await store.nextTimer();
    const now = clock.now();
    const at = Math.min(now + longest, Math.max(now + shortest, next ?? now + longest));
    await clock.sleepUntil(at, signal).catch(() => undefined);
  }
}
