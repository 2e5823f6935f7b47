// What is looked at of each process, and how much of a rise is none.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Tolerance } from './slope.ts';

export type Figure =
  | 'rssMb'
  | 'heapMb'
  | 'fds'
  | 'handles'
  | 'delayMs'
  | 'kbPerEntry'
  | 'records'
  | 'foldersMb';

/** Of one process at one moment. */
export type Figures = Partial<Record<Figure, number>>;

export const tolerances: Record<Figure, Tolerance> = {
  heapMb: { part: 0.1, least: 8, why: 'after a collection: caches that are bounded may still fill a little' },
  rssMb: {
    part: 0.15,
    least: 48,
    why: 'what V8 and malloc keep in hand comes and goes in steps of tens of MB',
  },
  fds: { part: 0.1, least: 8, why: 'some links are cut and dialled at any moment' },
  handles: { part: 0.1, least: 8, why: 'as file descriptors' },
  delayMs: { part: 1, least: 200, why: 'the machine is shared: only what grows without end is meant' },
  kbPerEntry: {
    part: 0.25,
    least: 1,
    why: 'the store grows with the journal until that has 5,000 entries a device; with anything else it must not',
  },
  records: { part: 0, least: 0, why: 'no device comes, so no record does' },
  foldersMb: { part: 0.1, least: 4, why: 'slots and certificates stand; reports that wait come and go' },
};

/** Figures of a process from outside of it [proc(5)]; empty when it is gone. */
export function procFigures(pid: number): Figures {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const kb = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    return { rssMb: kb / 1024, fds: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return {};
  }
}

/** MiB of all files below a folder; those that go meanwhile count nothing. */
export function folderMb(path: string, wanted: (name: string) => boolean = () => true): number {
  let bytes = 0;
  let names: string[] = [];
  try {
    names = readdirSync(path, { recursive: true }) as string[];
  } catch {
    // Not there yet.
  }
  for (const name of names.filter(wanted)) {
    try {
      const found = statSync(join(path, name));
      if (found.isFile()) bytes += found.size;
    } catch {
      // Replaced meanwhile.
    }
  }
  return bytes / 2 ** 20;
}
