// What changed between two boots, in plain words: the answer to "why is this device not trusted any more?".
import { align } from './align.ts';
import { readEventData } from './data.ts';
import { describeEvent, shorten } from './describe.ts';
import { describeChange, type FindingCode } from './findings.ts';
import { hex } from './reader.ts';
import type { CheckedEvent, CheckedLog } from './replay.ts';
import { eventTypeName } from './types.ts';

/** One difference between two checked logs. */
export interface LogFinding {
  readonly code: FindingCode;
  readonly pcr: number;
  /** Index of the event in the new boot, where it has one. */
  readonly event?: number;
  /** Index of the event in the baseline, where it has one. */
  readonly baselineEvent?: number;
  /** Name of the event type: a hint, like every type. */
  readonly type: string;
  readonly text: string;
  readonly before?: string;
  readonly after?: string;
  /** Whether digests vouch for these words. False: something changed, and the log says it was this. */
  readonly vouched: boolean;
}

/** An event of one boot that the other does not have at this place. */
export interface DifferingEntry {
  readonly pcr: number;
  readonly event: number;
  readonly type: string;
  /** In the bank of the logs, hex. */
  readonly digest: string;
  readonly text: string;
}

/**
 * The differences between the boot of a baseline and a new boot, PCR by PCR in the order of events.
 *
 * Throws TypeError unless both logs were checked in one bank: digests of two banks cannot be compared.
 */
export function diffLogs(baseline: CheckedLog, current: CheckedLog): LogFinding[] {
  const findings: LogFinding[] = [];
  for (const { pcr, hunks } of differences(baseline, current)) {
    const changes = hunks.flatMap(({ removed, added }) => pair(removed, added));
    findings.push(...mergeSlots(changes.map((change) => finding(pcr, change))).map(short));
  }
  return findings;
}

/**
 * The entries that tell two boots apart. `added` are those of the new boot that the baseline does not have at their
 * place, `removed` those of the baseline that are gone: a boot that measures less is a difference as well.
 */
export function differingEntries(
  baseline: CheckedLog,
  current: CheckedLog,
): { added: DifferingEntry[]; removed: DifferingEntry[] } {
  const hunks = differences(baseline, current).flatMap((difference) => difference.hunks);
  return {
    added: hunks.flatMap(({ added }) => added.map(entry)),
    removed: hunks.flatMap(({ removed }) => removed.map(entry)),
  };
}

function entry(event: CheckedEvent): DifferingEntry {
  const { pcr, index, type, digest } = event;
  return { pcr, event: index, type: eventTypeName(type), digest: hex(digest), text: describeEvent(event) };
}

function differences(baseline: CheckedLog, current: CheckedLog) {
  if (baseline.bank !== current.bank)
    throw new TypeError(
      `a log checked in bank ${baseline.bank} cannot be compared with one of ${current.bank}`,
    );
  const pcrs = new Set([...baseline.events, ...current.events].map((event) => event.pcr));
  return [...pcrs]
    .sort((a, b) => a - b)
    .map((pcr) => {
      const of = (log: CheckedLog) => log.events.filter((event) => event.pcr === pcr);
      return { pcr, hunks: align(of(baseline), of(current)) };
    })
    .filter(({ hunks }) => hunks.length > 0);
}

interface Change {
  readonly before?: CheckedEvent;
  readonly after?: CheckedEvent;
}

/** Within a hunk, an event that went and one that came are a change if they speak of the same thing. */
function pair(removed: readonly CheckedEvent[], added: readonly CheckedEvent[]): Change[] {
  const bySubject = new Map<string, CheckedEvent[]>();
  for (const event of added.toReversed()) {
    const subject = subjectOf(event);
    const others = bySubject.get(subject);
    if (others) others.push(event);
    else bySubject.set(subject, [event]);
  }
  const changes: Change[] = removed.map((before) => {
    const after = bySubject.get(subjectOf(before))?.pop();
    return after ? { before, after } : { before };
  });
  for (const events of bySubject.values()) changes.push(...events.map((after) => ({ after })));
  const place = ({ before, after }: Change) => (after ?? before)?.index ?? 0;
  return changes.sort((a, b) => place(a) - place(b));
}

function subjectOf(event: CheckedEvent): string {
  const data = readEventData(event);
  switch (data.kind) {
    case 'variable':
      return `variable ${data.guid} ${data.name}`;
    case 'config-file':
      return `config-file ${data.path}`;
    case 'boot-file':
      return data.role === 'file' ? `boot-file ${data.name}` : data.role;
    case 'tables':
      return `tables ${data.name}`;
    case 'command':
      return `command ${/^\S*/.exec(data.text)?.[0]}`;
    case 'action':
      return `action ${data.text}`;
    case 'text':
    case 'opaque':
      return `${event.type}`;
    default:
      return data.kind;
  }
}

function finding(pcr: number, { before, after }: Change): LogFinding {
  const { code, text, was, is } = describeChange(pcr, before, after);
  return {
    code,
    pcr,
    ...(after ? { event: after.index } : {}),
    ...(before ? { baselineEvent: before.index } : {}),
    type: eventTypeName((after ?? before)?.type ?? 0),
    text,
    ...(was === undefined ? {} : { before: was }),
    ...(is === undefined ? {} : { after: is }),
    vouched: (before?.vouched ?? 'data') === 'data' && (after?.vouched ?? 'data') === 'data',
  };
}

/** Only when everything was compared: what differs may be beyond the end of a short text. */
function short(finding: LogFinding): LogFinding {
  const { text, before, after } = finding;
  return {
    ...finding,
    text: shorten(text),
    ...(before === undefined ? {} : { before: shorten(before) }),
    ...(after === undefined ? {} : { after: shorten(after) }),
  };
}

const slot = /\bhd\d+,gpt\d+\b|\bPARTUUID=[0-9a-f-]+/gi;

/**
 * After an A/B update dozens of GRUB commands differ in the name of the slot alone. They become one finding per name,
 * so that the command that differs in something else stands out.
 */
function mergeSlots(findings: readonly LogFinding[]): LogFinding[] {
  const merged: LogFinding[] = [];
  const counts = new Map<string, { at: number; count: number }>();
  for (const one of findings) {
    const renamed = one.code === 'log.grub-command-changed' ? slotChange(one.before, one.after) : undefined;
    if (!renamed) {
      merged.push(one);
      continue;
    }
    const key = `${renamed.before} ${renamed.after}`;
    const known = counts.get(key);
    if (known) known.count++;
    else counts.set(key, { at: merged.length, count: 1 });
    if (!known) merged.push({ ...one, ...renamed, code: 'log.boot-slot-changed' });
  }
  for (const { at, count } of counts.values()) {
    const one = merged[at] as LogFinding;
    const commands = count === 1 ? '1 GRUB command names' : `${count} GRUB commands name`;
    merged[at] = { ...one, text: `${commands} ${one.after} instead of ${one.before}` };
  }
  return merged;
}

/** The names of the slots, if two commands differ in nothing else. */
function slotChange(before = '', after = ''): { before: string; after: string } | undefined {
  if (before.replace(slot, '') !== after.replace(slot, '')) return undefined;
  const was = new Set(before.match(slot));
  const is = new Set(after.match(slot));
  return was.size === 1 && is.size === 1 ? { before: [...was].join(), after: [...is].join() } : undefined;
}
