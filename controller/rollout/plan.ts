// A roll-out, as it is kept, and what comes next in it: pure, so that each rule can be looked at alone. It goes on from one share
// of the devices to the next once all of the share are through, and halts by itself when too many have failed.

export type Progress =
  /** Not begun with. */
  | 'waiting'
  /** The window of its upgrade is open. */
  | 'assigned'
  | 'committed'
  | 'failed'
  /** Nothing to do, or nothing that can be done: `why` says what. */
  | 'skipped';

export interface RolloutDevice {
  device: string;
  /** As it was when the roll-out began; empty where it has none. */
  serial: string;
  progress: Progress;
  /** Code of why it failed or was skipped; empty otherwise. */
  why: string;
}

export interface Rollout {
  id: string;
  version: string;
  by: string;
  reason: string;
  /** ms since the epoch. */
  created: number;
  /** Of these accounts alone, as the token that began it; null: of all. */
  accounts: readonly string[] | null;
  /** In the order in which they are begun with. */
  devices: RolloutDevice[];
  /** Percent of the devices, ascending; the last is 100. */
  stages: readonly number[];
  /** Index of the share that is under way. */
  stage: number;
  /** Percent of the devices that were begun with and may fail. */
  haltAt: number;
  /** Devices whose window is open at the same time, at the most. */
  atOnce: number;
  /** ms: how long a device may take, and how long the new image has to hold. */
  window: number;
  testWindow: number;
  /** `halted` by itself, `stopped` by a person: both may go on. `cancelled` never does. */
  state: 'running' | 'halted' | 'stopped' | 'cancelled' | 'done';
  /** Why it is not running. */
  why: string;
}

export interface Counts extends Record<Progress, number> {
  all: number;
}

export function countsOf({ devices }: Pick<Rollout, 'devices'>): Counts {
  const counts: Counts = {
    all: devices.length,
    waiting: 0,
    assigned: 0,
    committed: 0,
    failed: 0,
    skipped: 0,
  };
  for (const { progress } of devices) counts[progress]++;
  return counts;
}

/** How many devices the shares up to this one are: at least one in each, so that 1 % of ten is somebody. */
export function shareOf({ devices, stages }: Pick<Rollout, 'devices' | 'stages'>, stage: number): number {
  const percent = stages[stage] ?? 100;
  return Math.min(devices.length, Math.max(stage + 1, Math.ceil((devices.length * percent) / 100)));
}

/** What is to be done now: the share that it is at, why it halts or that it is done, and whom to begin with. */
export function nextOf(rollout: Rollout): Pick<Rollout, 'state' | 'stage' | 'why'> & { begin: string[] } {
  const { devices, stages, atOnce, haltAt } = rollout;
  const { failed, committed, assigned } = countsOf(rollout);
  const begun = failed + committed + assigned;
  // A percentage of few is nobody, so the first failure of a small share halts it.
  if (failed > Math.floor((begun * haltAt) / 100)) {
    const why = `${failed} of ${begun} devices failed, and ${haltAt} % may`;
    return { state: 'halted', stage: rollout.stage, why, begin: [] };
  }
  let { stage } = rollout;
  const open = (to: number) => devices.slice(0, shareOf(rollout, to)).filter(isOpen);
  while (stage < stages.length - 1 && open(stage).length === 0) stage++;
  const left = open(stage);
  if (left.length === 0) return { state: 'done', stage, why: '', begin: [] };
  const begin = left
    .filter(({ progress }) => progress === 'waiting')
    .slice(0, Math.max(0, atOnce - assigned));
  return { state: 'running', stage, why: '', begin: begin.map(({ device }) => device) };
}

function isOpen({ progress }: RolloutDevice): boolean {
  return progress === 'waiting' || progress === 'assigned';
}
