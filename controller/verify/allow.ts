// Allow rules: differences from a baseline that a person declared harmless, each narrow and with a reason. A rule believes
// no more of an event than its digest vouches for, and none speaks of code except digest by digest.
import { align, type Hunk } from '../../formats/eventlog/align.ts';
import { readEventData } from '../../formats/eventlog/data.ts';
import { describeEvent } from '../../formats/eventlog/describe.ts';
import { type Partition, readGpt } from '../../formats/eventlog/gpt.ts';
import { type CheckedEvent, type CheckedLog, initialPcr } from '../../formats/eventlog/replay.ts';
import { EventType, eventTypeName } from '../../formats/eventlog/types.ts';
import type { Variable } from '../../formats/eventlog/variables.ts';
import { concat } from '../../formats/tpm2/hash.ts';
import type { Finding } from '../../machines/flow.ts';
import { evePolicyPcrs } from '../../machines/pcrs.ts';
import { hash } from './hash.ts';

export type RuleMatch =
  /** Events of this type about exactly this: a variable by name, an action or a GRUB command by its text, a file of /config by path. */
  | { readonly kind: 'event'; readonly type: string; readonly subject: string }
  /** EVE's two slots in the partition table: which boots next, how often it is tried, whether it booted well. */
  | { readonly kind: 'slot-attributes' }
  /** Events with one of these SHA-256 digests, hex. */
  | { readonly kind: 'digests'; readonly sha256: readonly string[] };

export interface AllowRule {
  readonly id: string;
  /** null for every account. */
  readonly account: string | null;
  readonly pcr: number;
  readonly match: RuleMatch;
  /** Whether the event may be gone as well. */
  readonly removal: boolean;
  readonly reason: string;
  readonly by: string;
  /** ms since the epoch; 0 for a rule that EVC brings along. */
  readonly at: number;
}

/** EVE seals to no PCR 5 for this reason: the table changes with every update, and says nothing of what runs. */
export const builtInRules: readonly AllowRule[] = [
  {
    id: 'slots',
    account: null,
    pcr: 5,
    match: { kind: 'slot-attributes' },
    removal: false,
    reason: 'An update changes which slot of EVE boots next; what it boots is measured elsewhere',
    by: 'EVC',
    at: 0,
  },
];

/** Code, and the keys that vouch for code: no word about an event replaces its digest here. */
const digestsOnly: ReadonlySet<number> = new Set([0, 4, 7, 9, 13]);
const variables = new Set(['EV_EFI_VARIABLE_BOOT', 'EV_EFI_VARIABLE_BOOT2', 'EV_EFI_VARIABLE_DRIVER_CONFIG']);
const worded = new Set([...variables, 'EV_EFI_ACTION', 'EV_ACTION', 'EV_IPL']);
const mostDigests = 64;
const longestSubject = 512;

/** Why a rule would allow too much, or nothing; null for one that can stand. */
export function ruleFault({
  pcr,
  match,
  removal,
}: Pick<AllowRule, 'pcr' | 'match' | 'removal'>): string | null {
  if (!evePolicyPcrs.includes(pcr)) return `PCR ${pcr} is not judged, so there is nothing to allow in it`;
  if (removal && (digestsOnly.has(pcr) || match.kind === 'slot-attributes'))
    return `nothing may be missing from PCR ${pcr} by a rule`;
  switch (match.kind) {
    case 'slot-attributes':
      return pcr === 5 ? null : 'the partition table is measured into PCR 5';
    case 'digests':
      if (match.sha256.length < 1 || match.sha256.length > mostDigests)
        return `a rule names 1 to ${mostDigests} digests`;
      return match.sha256.every((digest) => /^[0-9a-f]{64}$/.test(digest))
        ? null
        : 'a digest is SHA-256 in 64 hex digits';
    case 'event':
      if (digestsOnly.has(pcr)) return `in PCR ${pcr} only exact digests can be allowed`;
      if (!worded.has(match.type))
        return `no digest vouches for what an event of type ${match.type} says; allow it by its digests`;
      return match.subject.length >= 1 && match.subject.length <= longestSubject
        ? null
        : `a subject has 1 to ${longestSubject} characters`;
  }
}

export interface Comparison {
  /** Events that tell the two boots apart and that no rule covers. */
  readonly added: readonly CheckedEvent[];
  readonly removed: readonly CheckedEvent[];
  /** PCRs whose values differ though their events do not. */
  readonly unexplained: readonly number[];
  /** What rules covered, and which. */
  readonly notes: readonly Finding[];
}

/** The difference between two boots, and what of it is allowed. */
export function compareBoots(before: CheckedLog, after: CheckedLog, rules: readonly AllowRule[]): Comparison {
  const added: CheckedEvent[] = [];
  const removed: CheckedEvent[] = [];
  const notes: Finding[] = [];
  const unexplained: number[] = [];
  for (const pcr of evePolicyPcrs) {
    const of = (log: CheckedLog) => log.events.filter((event) => event.pcr === pcr);
    const hunks = align(of(before), of(after));
    if (!sameStart(pcr, before, after)) unexplained.push(pcr);
    if (hunks.length === 0) continue;
    const covered = coverPcr(
      hunks,
      rules.filter((rule) => rule.pcr === pcr),
    );
    for (const event of hunks.flatMap((hunk) => hunk.added)) if (!covered.has(event)) added.push(event);
    for (const event of hunks.flatMap((hunk) => hunk.removed)) if (!covered.has(event)) removed.push(event);
    for (const [event, { rule, gone }] of covered)
      if (gone !== 'replaced') notes.push(note(event, rule, gone));
  }
  return { added, removed, unexplained, notes };
}

/** Whether all that differs is allowed. */
export function isCovered({ added, removed, unexplained }: Comparison): boolean {
  return added.length === 0 && removed.length === 0 && unexplained.length === 0;
}

interface Covering {
  rule: AllowRule;
  /** `replaced`: gone, and another one of the same rule came. */
  gone: 'no' | 'yes' | 'replaced';
}

function coverPcr(hunks: readonly Hunk[], rules: readonly AllowRule[]): Map<CheckedEvent, Covering> {
  const covered = new Map<CheckedEvent, Covering>();
  for (const rule of rules) {
    if (rule.match.kind === 'slot-attributes') {
      for (const hunk of hunks) coverSlots(rule, hunk, covered);
      continue;
    }
    const free = (events: readonly CheckedEvent[]) =>
      events.filter((event) => !covered.has(event) && matches(rule.match, event));
    const come = free(hunks.flatMap(({ added }) => added));
    const gone = free(hunks.flatMap(({ removed }) => removed));
    for (const event of come) covered.set(event, { rule, gone: 'no' });
    // As many as came were replaced; more than that are missing.
    for (const [i, event] of gone.entries())
      if (i < come.length) covered.set(event, { rule, gone: 'replaced' });
      else if (rule.removal) covered.set(event, { rule, gone: 'yes' });
  }
  return covered;
}

function matches(match: RuleMatch, event: CheckedEvent): boolean {
  if (match.kind === 'digests') return match.sha256.includes(hex(event.digest));
  if (match.kind !== 'event' || eventTypeName(event.type) !== match.type) return false;
  return vouchedSubject(event) === match.subject;
}

/** What an event is about, where its digest vouches for that; undefined where it is somebody's word. */
export function vouchedSubject(event: CheckedEvent): string | undefined {
  if (!event.cover) return undefined;
  const data = readEventData(event);
  switch (data.kind) {
    case 'variable':
      // Where the name was not hashed, a boot entry may be any of them; only an order can be nothing else.
      return event.cover === 'data' || isBootOrder(data) ? data.name : undefined;
    case 'config-file':
      return data.path;
    case 'action':
    case 'command':
    case 'kernel-command-line':
      return data.text;
    default:
      return undefined;
  }
}

/** Bytes of 64 boot entries. */
const longestBootOrder = 128;

/** By its value: a table of the platform, passed off as an order, is longer, and a boot entry has zeros more than once. */
function isBootOrder({ value, data }: Variable): boolean {
  if (value.kind !== 'boot-order' || data.length > longestBootOrder) return false;
  return new Set(value.order).size === value.order.length;
}

function coverSlots(rule: AllowRule, hunk: Hunk, covered: Map<CheckedEvent, Covering>): void {
  const tables = (events: readonly CheckedEvent[]) =>
    events.filter(({ type, cover }) => type === EventType.EV_EFI_GPT_EVENT && cover === 'data');
  const after = tables(hunk.added);
  for (const [i, gone] of tables(hunk.removed).entries()) {
    const come = after[i];
    if (!come || !sameButSlots(gone.data, come.data)) continue;
    covered.set(gone, { rule, gone: 'replaced' });
    covered.set(come, { rule, gone: 'no' });
  }
}

const eveRootfs = '5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6';
const slotNames = new Set(['IMGA', 'IMGB']);
/** UEFI_GPT_DATA: the header's checksum, the size of an entry, the checksum of the table, and where entries start. */
const [headerCrc, sizeAt, tableCrc, partitionsAt, attributesAt] = [16, 84, 88, 100, 48];

/** Whether two partition tables differ in the attributes of EVE's slots alone, and in the checksums that follow. */
function sameButSlots(one: Uint8Array, other: Uint8Array): boolean {
  const [before, after] = [withoutSlots(one), withoutSlots(other)];
  return before !== null && after !== null && Buffer.compare(before, after) === 0;
}

function withoutSlots(data: Uint8Array): Buffer | null {
  const partitions = partitionsOf(data);
  if (!partitions) return null;
  const bare = Buffer.from(data);
  const size = bare.readUInt32LE(sizeAt);
  if (data.length !== partitionsAt + partitions.length * size) return null;
  bare.fill(0, headerCrc, headerCrc + 4);
  bare.fill(0, tableCrc, tableCrc + 4);
  for (const [i, { type, name }] of partitions.entries()) {
    if (type !== eveRootfs || !slotNames.has(name)) continue;
    // Bits 48 to 56 of 64: priority, tries left, booted well [EVE, after ChromeOS].
    const at = partitionsAt + i * size + attributesAt;
    bare[at + 6] = 0;
    bare[at + 7] = (bare[at + 7] as number) & 0xfe;
  }
  return bare;
}

function partitionsOf(data: Uint8Array): Partition[] | null {
  try {
    return readGpt(data).partitions;
  } catch {
    return null;
  }
}

/** Equal events lead to equal values from an equal start alone: PCR 0 starts from the locality of TPM2_Startup. */
function sameStart(pcr: number, before: CheckedLog, after: CheckedLog): boolean {
  if (pcr !== 0) return true;
  const start = localityOf(before);
  return start !== undefined && start === localityOf(after);
}

function localityOf({ events, pcrs, bank }: CheckedLog): number | undefined {
  const value = pcrs.get(0);
  if (!value) return undefined;
  const digests = events.flatMap((event) => (event.pcr === 0 ? [event.digest] : []));
  return [0, 3, 4].find((locality) => {
    const end = digests.reduce(
      (sum, digest) => hash(bank, concat(sum, digest)),
      initialPcr(0, bank, locality),
    );
    return Buffer.compare(end, value) === 0;
  });
}

function note(event: CheckedEvent, { id, reason }: AllowRule, gone: Covering['gone']): Finding {
  const { pcr, index } = event;
  const what = `${describeEvent(event)}${gone === 'yes' ? ' is gone' : ''}`;
  return {
    code: 'policy.event.allowed',
    text: `PCR ${pcr}: ${what}. Rule ${id} allows it: ${reason}`,
    pcr,
    ...(gone === 'yes' ? {} : { event: index }),
    seen: hex(event.digest),
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
