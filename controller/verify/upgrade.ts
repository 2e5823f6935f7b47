// Sequence S4.7: is all that a boot measured differently of the image that EVC pushed, and all of the image that it should
// have measured?
import { describeEvent } from '../../formats/eventlog/describe.ts';
import type { CheckedEvent, CheckedLog } from '../../formats/eventlog/replay.ts';
import type { Finding } from '../../machines/flow.ts';
import type { Comparison } from './allow.ts';
import { type KnownEntry, subjectOf } from './entries.ts';

/** Measured by the firmware, so looked up by its version and not by that of the image. */
export const firmwarePcrs: ReadonlySet<number> = new Set([0, 1, 2, 3, 6, 7]);
/** Programs, files of the boot loader, the root file system. */
const codePcrs: ReadonlySet<number> = new Set([4, 9, 13]);
/** Measured by what an image brings along, so two alternatives of one image never meet there. */
const imagePcrs: ReadonlySet<number> = new Set([8, 9, 13]);

/** `vendor` is empty where nobody said. */
export interface KnownFirmware {
  readonly vendor: string;
  readonly entries: readonly KnownEntry[];
}

/** What the pushed image may measure, and the reported firmware in the PCRs that are its own. */
export interface KnownMeasurements {
  image: readonly KnownEntry[];
  /** Empty where the firmware is of another vendor than that of the baseline: a board does not change its maker. */
  firmware: readonly KnownEntry[];
  digests: ReadonlySet<string>;
}

/** `running` is the firmware of the baseline, `vendor-version-date`. */
export function knownMeasurements(
  image: readonly KnownEntry[],
  firmware: KnownFirmware | null,
  running: string,
): KnownMeasurements {
  const sameMaker = firmware && (firmware.vendor === '' || running.startsWith(`${firmware.vendor}-`));
  const ofFirmware = sameMaker ? firmware.entries.filter(({ pcr }) => firmwarePcrs.has(pcr)) : [];
  const digests = new Set(
    [...image, ...ofFirmware].map(({ pcr, digests: { sha256 } }) => `${pcr}:${sha256}`),
  );
  return { image, firmware: ofFirmware, digests };
}

/** Nothing, when a boot is one of this image. `change` is what tells it from the baseline, allowed differences left out. */
export function foreignTo(
  image: string,
  known: KnownMeasurements,
  log: CheckedLog,
  change: Comparison,
): Finding[] {
  return [
    ...unknownEntries(image, change, known),
    ...missingEntries(image, log, change, known),
    ...mixedEntries(image, log, known.image),
  ];
}

function isKnown({ pcr, digest }: CheckedEvent, { digests }: KnownMeasurements): boolean {
  return digests.has(`${pcr}:${hex(digest)}`);
}

function unknownEntries(image: string, { added }: Comparison, known: KnownMeasurements): Finding[] {
  const unknown = added.filter((event) => !isKnown(event, known));
  return unknown.map((event) => {
    const { pcr, index, digest } = event;
    const subject = subjectOf(event);
    const shown = describeEvent(event);
    const instead = [...known.image, ...known.firmware].filter(
      (entry) => entry.pcr === pcr && entry.subject === subject,
    );
    const words = unique(instead.map(({ text }) => text));
    const allowed = unique(instead.map(({ digests }) => digests.sha256));
    const others =
      words.length > 0 && !words.includes(shown) ? `; allowed would have been: ${words.join(' · ')}` : '';
    return {
      code: 'policy.entry.unknown',
      text: `PCR ${pcr}: ${shown} is no measurement of ${image}${others}`,
      pcr,
      event: index,
      seen: hex(digest),
      ...(allowed.length > 0 ? { allowed: allowed.join(' ') } : {}),
      remedy: remedyFor(pcr, image, subject),
    };
  });
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)].slice(0, mostAlternatives);
}

const mostAlternatives = 4;

function remedyFor(pcr: number, image: string, subject: string): string {
  if (firmwarePcrs.has(pcr))
    return 'if this firmware is right, add it: evc firmware add; if it varies from boot to boot, allow it: evc allow add';
  if (pcr === 5) return 'if the disk of this device is right, add the log of its boot: evc image add';
  return `find out where this ${subject} comes from; if it is of ${image}, measure the image again: evc image measure`;
}

/**
 * Less than before is known only where all that is measured is the image's, where all that it always measures is there, and
 * where no kind of code is left out that both the baseline and the image have.
 */
function missingEntries(
  image: string,
  log: CheckedLog,
  { added, removed }: Comparison,
  known: KnownMeasurements,
): Finding[] {
  const shown = new Set(log.events.map(({ pcr, digest }) => `${pcr}:${hex(digest)}`));
  const alternatives = new Set(alternativesOf(log, known.image).map(({ alternative }) => alternative));
  const required = known.image.filter(
    ({ pcr, digests, required: always, alternative }) =>
      always &&
      (alternative === undefined || alternatives.has(alternative)) &&
      !shown.has(`${pcr}:${digests.sha256}`),
  );
  const less = [...new Set(removed.map(({ pcr }) => pcr))].filter((pcr) => {
    const of = (events: readonly CheckedEvent[]) => events.filter((event) => event.pcr === pcr);
    const rest = of(log.events);
    const fewer = of(removed).length > of(added).length;
    return fewer && (rest.length === 0 || !rest.every((event) => isKnown(event, known)));
  });
  const there = new Set(log.events.map((event) => `${event.pcr} ${subjectOf(event)}`));
  const left = new Set(
    removed.flatMap((event) => (codePcrs.has(event.pcr) ? [`${event.pcr} ${subjectOf(event)}`] : [])),
  );
  const leftOut = known.image.filter((entry) => {
    const what = `${entry.pcr} ${entry.subject}`;
    return left.has(what) && !there.has(what) && !required.includes(entry);
  });
  return [
    ...[...required, ...leftOut].map(({ pcr, text, digests }) => ({
      code: 'policy.entry.missing',
      text: `PCR ${pcr}: ${text} was not measured, and a boot of ${image} measures it`,
      pcr,
      allowed: digests.sha256,
    })),
    ...less.map((pcr) => ({
      code: 'policy.entry.missing',
      text: `PCR ${pcr}: the boot measured less than before, and ${image} does not`,
      pcr,
    })),
  ];
}

/** A boot that is half of one slot and half of the other: what was measured is not what runs. */
function mixedEntries(image: string, log: CheckedLog, entries: readonly KnownEntry[]): Finding[] {
  const [first, ...rest] = alternativesOf(log, entries);
  const other = rest.find(({ alternative }) => alternative !== first?.alternative);
  if (!first || !other) return [];
  return [
    {
      code: 'policy.entry.mixed',
      text: `PCR ${other.event.pcr}: ${describeEvent(other.event)} is of a boot of ${image} from ${other.alternative}, and this one is from ${first.alternative}`,
      pcr: other.event.pcr,
      event: other.event.index,
      seen: hex(other.event.digest),
    },
  ];
}

/** The events of a boot that only one alternative of an image has. */
function alternativesOf(log: CheckedLog, entries: readonly KnownEntry[]) {
  const by = new Map<string, string>();
  for (const { pcr, digests, alternative } of entries)
    if (alternative !== undefined) by.set(`${pcr}:${digests.sha256}`, alternative);
  return log.events.flatMap((event) => {
    const alternative = imagePcrs.has(event.pcr) ? by.get(`${event.pcr}:${hex(event.digest)}`) : undefined;
    return alternative === undefined ? [] : [{ event, alternative }];
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
