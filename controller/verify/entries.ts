// What a version of an image, or of a firmware, is known to measure, event by event.
import { readEventData } from '../../formats/eventlog/data.ts';
import { describeEvent } from '../../formats/eventlog/describe.ts';
import { eventTypeName } from '../../formats/eventlog/types.ts';
import type { HashName } from '../../formats/tpm2/hash.ts';

/** One measurement that a version may cause. */
export interface KnownEntry {
  readonly pcr: number;
  /** Name of the event type: a hint, like every type. */
  readonly type: string;
  /** What it is about; entries about one thing are each other's alternatives in words. */
  readonly subject: string;
  readonly text: string;
  /** Hex by bank. Policy compares SHA-256. */
  readonly digests: { readonly sha256: string } & Readonly<Partial<Record<HashName, string>>>;
  /** Every boot of this version measures it: one that does not is no boot of it. */
  readonly required?: boolean;
  /** Entries of two alternatives, such as the two slots of a disk, never stand in one boot. */
  readonly alternative?: string;
}

interface Measured {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
}

/** An event as the catalogue keeps it; whether it is required holds for the boot that it is of. */
export function entryOf(event: Measured, digests: KnownEntry['digests']): KnownEntry {
  return {
    pcr: event.pcr,
    type: eventTypeName(event.type),
    subject: subjectOf(event),
    text: describeEvent(event),
    digests,
    ...(isRequired(event) ? { required: true } : {}),
  };
}

/** What an event is about. A hint as far as its data is one. */
export function subjectOf(event: Measured): string {
  const data = readEventData(event);
  switch (data.kind) {
    case 'variable':
      return `variable ${data.name}`;
    case 'config-file':
      return data.path;
    case 'boot-file':
      return data.role === 'file' ? `file ${data.name}` : data.role;
    case 'tables':
      return `tables ${data.name}`.trim();
    case 'command':
      return `command ${/^(?:(?:set|export|set_global) +)?[^\s=]*/.exec(data.text)?.[0] ?? ''}`;
    case 'action':
      return `action ${data.text}`;
    case 'text':
    case 'opaque':
      return eventTypeName(event.type);
    default:
      return data.kind;
  }
}

/** Whether a version that measures such an event does so on every board. What else it measures, a board may not have. */
function isRequired(event: Measured): boolean {
  const data = readEventData(event);
  return data.kind === 'rootfs' || (event.pcr === 9 && data.kind === 'boot-file' && data.role === 'kernel');
}
