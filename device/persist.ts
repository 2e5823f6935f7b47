// The folder that outlives a reboot, in the version that this program writes. An older one is brought forward when it is opened; a
// newer one is left alone, since what it means is not known here. A version is raised where a program of before could not read what is
// written, and for nothing less: the slot that an upgrade falls back to has the older program.
import { Refusal } from './refusal.ts';
import { StateFolder } from './state.ts';

/** Brings the folder from one version to the next. Cut short, it is done again from its beginning. */
export type PersistStep = (folder: StateFolder) => void;

/** From version 1 to 2, from 2 to 3, … */
const steps: readonly PersistStep[] = [];

/** Folders without a number are of this one. */
const firstVersion = 1;
const file = 'version';

export interface PersistOptions {
  /** As of StateFolder. */
  durable?: boolean;
  steps?: readonly PersistStep[];
}

/** Throws Refusal state.newer, and what a step throws. */
export function openPersist(path: string, options: PersistOptions = {}): StateFolder {
  const { durable = true, steps: known = steps } = options;
  const folder = new StateFolder(path, { durable });
  const newest = firstVersion + known.length;
  const found = folder.restore<{ version: number }>(file)?.version ?? firstVersion;
  if (found > newest)
    throw new Refusal(
      'state.newer',
      `${path} was written by a newer eve (state ${found}, this one knows ${newest}); run that one`,
    );
  for (const [i, step] of known.slice(found - firstVersion).entries()) {
    step(folder);
    folder.checkpoint(file, { version: found + i + 1 });
  }
  return folder;
}
