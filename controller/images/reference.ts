// What a version measures, learnt from the logs of its reference boots.
import { readEventData } from '../../formats/eventlog/data.ts';
import { type EventLog, parseLog } from '../../formats/eventlog/parse.ts';
import { checkLog, replay } from '../../formats/eventlog/replay.ts';
import { digestSize, type HashName } from '../../formats/tpm2/hash.ts';
import { entryOf, type KnownEntry } from '../verify/entries.ts';
import { hash } from '../verify/hash.ts';
import { CatalogueError } from './error.ts';

const kept: readonly HashName[] = ['sha1', 'sha384', 'sha512'];

/**
 * The measurements of boots of one version, each given by its log: once each, in the order of the first boot that has
 * them. Throws CatalogueError catalogue.log: a log that was cut short is no reference.
 */
export function entriesOfLogs(logs: readonly Uint8Array[]): KnownEntry[] {
  if (logs.length === 0) throw new CatalogueError('catalogue.log', 'there is no log of a reference boot');
  return entriesOfBoots(logs.map(bootOf));
}

/** One way in which a version boots. */
export interface Boot {
  /** The slot that it boots from; empty where nothing says. */
  readonly slot: string;
  readonly entries: readonly KnownEntry[];
}

/** The measurements of several boots of one version: which every boot has, and which belong to one slot. */
export function entriesOfBoots(boots: readonly Boot[]): KnownEntry[] {
  const slots = new Set(boots.map(({ slot }) => slot));
  const found = new Map<string, { entry: KnownEntry; boots: Set<Boot> }>();
  for (const boot of boots)
    for (const entry of boot.entries) {
      const known = found.get(keyOf(entry));
      if (known) known.boots.add(boot);
      else found.set(keyOf(entry), { entry, boots: new Set([boot]) });
    }
  return [...found.values()].map(({ entry: { required, ...entry }, boots: of }) => {
    const [slot = '', ...others] = new Set([...of].map((boot) => boot.slot));
    // Only what names a partition is the slot's; what else differs between boots is the board's.
    const alternative = slots.size > 1 && others.length === 0 && namesPartition.test(entry.text);
    return {
      ...entry,
      ...(required && of.size === boots.length ? { required } : {}),
      ...(alternative && slot !== '' ? { alternative: slot } : {}),
    };
  });
}

/** What was known and what comes to it; what is new is no reason to miss it in boots that were good before. */
export function joinEntries(known: readonly KnownEntry[], more: readonly KnownEntry[]): KnownEntry[] {
  const keys = new Set(known.map(keyOf));
  const fresh = more.filter((entry) => !keys.has(keyOf(entry)));
  return [...known, ...fresh.map(({ required: _, ...entry }) => entry)];
}

function keyOf({ pcr, digests }: KnownEntry): string {
  return `${pcr}:${digests.sha256}`;
}

const namesPartition = /\bgpt\d+\b|\bPARTUUID=/i;

function bootOf(bytes: Uint8Array): Boot {
  const log = reference(bytes);
  const entries: KnownEntry[] = [];
  let slot = '';
  for (const event of log.events) {
    const sha256 = event.extends ? event.digest('sha256') : undefined;
    if (!sha256) continue;
    const data = readEventData(event);
    if (data.kind === 'command') slot ||= /^measurefs \(?hd\d+,(gpt\d+)\b/.exec(data.text)?.[1] ?? '';
    const more = kept.flatMap((bank) => {
      const digest = event.digest(bank);
      return digest?.length === digestSize(bank) ? [[bank, hex(digest)] as const] : [];
    });
    entries.push(entryOf(event, { sha256: hex(sha256), ...Object.fromEntries(more) }));
  }
  return { slot, entries };
}

/** A whole log that leads to its own values. */
function reference(bytes: Uint8Array): EventLog {
  try {
    const log = parseLog(bytes);
    if (log.truncated) throw log.truncated;
    const { pcrs, unmeasured } = replay([log], 'sha256', hash);
    if (unmeasured.size > 0) throw new RangeError('it has events without a SHA-256 digest');
    if (!checkLog([log], pcrs, 'sha256', hash).ok) throw new RangeError('it does not lead to its own values');
    if (pcrs.size === 0) throw new RangeError('it measures nothing');
    return log;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unreadable';
    throw new CatalogueError('catalogue.log', `this is no log of a reference boot: ${why}`, { cause });
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
