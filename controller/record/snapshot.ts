// A record at rest: the persisted snapshot of its chart, with the version of the chart that it is a state of. A newer controller
// brings an older record forward when it steps it; an older one leaves a newer record alone, so that both can run side by side
// while a fleet of controllers is upgraded one by one.
import { type DeviceRecordSnapshot, deviceRecord } from '../../machines/device-record.ts';
import { StoreError } from '../store/store.ts';

/** A persisted snapshot, as its chart of then left it. */
export type StoredSnapshot = Record<string, unknown>;

/** Brings a snapshot from one version to the next; pure. */
export type Migration = (snapshot: StoredSnapshot) => StoredSnapshot;

export interface RecordChart {
  machine: typeof deviceRecord;
  /** Raised when a state, or something that it remembers, gets another name or another meaning. */
  version: number;
  /** From version 1 to 2, from 2 to 3, … */
  migrations: readonly Migration[];
}

export const recordChart: RecordChart = { machine: deviceRecord, version: 1, migrations: [] };

/** Records that were made before the version was kept are of version 1. */
const firstVersion = 1;

/** Throws StoreError ahead for a record of a newer EVC, broken for what is no record of any. */
export function restoreRecord(stored: object, chart: RecordChart = recordChart): DeviceRecordSnapshot {
  const { chart: found = firstVersion, ...kept } = stored as StoredSnapshot & { chart?: number };
  if (found > chart.version) {
    throw new StoreError(
      'ahead',
      `this record was written by a newer EVC (chart ${found}, this one knows ${chart.version}); it is left to that one`,
    );
  }
  let snapshot: StoredSnapshot = kept;
  for (const migration of chart.migrations.slice(found - firstVersion)) snapshot = migration(snapshot);
  try {
    return chart.machine.restoreSnapshot(snapshot as never, {} as never) as DeviceRecordSnapshot;
  } catch (cause) {
    throw new StoreError('broken', `a record names a state that chart ${found} never had`, { cause });
  }
}

export function storedRecord(snapshot: DeviceRecordSnapshot, chart: RecordChart = recordChart): object {
  return { ...(chart.machine.getPersistedSnapshot(snapshot) as StoredSnapshot), chart: chart.version };
}
