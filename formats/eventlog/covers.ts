// What the digest of an event vouches for. Without this an edited log explains an attack away: replay proves digests, and
// most digests are of something else than the data beside them (measured over 107 logs of real machines).
import type { Hash, HashName } from '../tpm2/hash.ts';
import { equal, printable } from './reader.ts';
import { EventType } from './types.ts';

/**
 * Which part of the data the digest is the hash of:
 *
 * - `data`: all of it;
 * - `variable-data`: VariableData of a UEFI_VARIABLE_DATA. The name of the variable is a hint;
 * - `without-last-byte`, `with-nul`: what old shim and old systemd-boot log with one byte too many or too few;
 * - `grub-text`: the text after GRUB's prefix. Which prefix it was is a hint;
 * - `rootfs-hash`: the raw bytes of the hash that EVE's `measurefs` prints.
 */
export type Cover = 'data' | 'variable-data' | 'without-last-byte' | 'with-nul' | 'grub-text' | 'rootfs-hash';

/**
 * The part of `data` that `digest` is the hash of, undefined where it is of something that is not in the log (an
 * executable, a file, a table): then the data is a hint that nothing vouches for.
 */
export function coverOf(
  event: { readonly type: number; readonly data: Uint8Array },
  digest: Uint8Array,
  bank: HashName,
  hash: Hash,
): Cover | undefined {
  return coversOf(event).find(({ part }) => equal(hash(bank, part), digest))?.cover;
}

/** What the digest of such an event may be of, likeliest first. */
function coversOf({ type, data }: { readonly type: number; readonly data: Uint8Array }): readonly Covered[] {
  const whole: Covered = { cover: 'data', part: data };
  switch (type) {
    case EventType.EV_EFI_BOOT_SERVICES_APPLICATION:
    case EventType.EV_EFI_BOOT_SERVICES_DRIVER:
    case EventType.EV_EFI_RUNTIME_SERVICES_DRIVER:
      return [];
    case EventType.EV_IPL: {
      const text = ipl(data);
      return text
        ? [{ cover: text.cover, part: text.measured }]
        : [whole, { cover: 'with-nul', part: withNul(data) }];
    }
    case EventType.EV_EFI_VARIABLE_BOOT:
    case EventType.EV_EFI_VARIABLE_BOOT2: {
      const value = variableData(data);
      return value ? [whole, { cover: 'variable-data', part: value }] : [whole];
    }
    case EventType.EV_EFI_VARIABLE_AUTHORITY:
      return data.length > 0 ? [whole, { cover: 'without-last-byte', part: data.subarray(0, -1) }] : [whole];
    default:
      return [whole];
  }
}

interface Covered {
  readonly cover: Cover;
  readonly part: Uint8Array;
}

/**
 * What every known firmware and boot loader measures of such an event, undefined where they differ or measure something
 * that is not in the log. A digest that is not of this part shows that the data were edited.
 */
export function alwaysMeasured({
  type,
  data,
}: {
  readonly type: number;
  readonly data: Uint8Array;
}): Uint8Array | undefined {
  switch (type) {
    case EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
    case EventType.EV_EFI_ACTION:
    case EventType.EV_EFI_GPT_EVENT:
      return data;
    case EventType.EV_IPL:
      return measuredText(data);
    default:
      return undefined;
  }
}

/** What GRUB writes before the text that it measures; the longer prefix first where one begins with another. */
export const grubPrefixes = [
  // Upstream: the text without its NUL.
  { prefix: 'grub_cmd: ', kind: 'command', nul: false },
  { prefix: 'kernel_cmdline: ', kind: 'kernel-command-line', nul: false },
  { prefix: 'module_cmdline: ', kind: 'module-command-line', nul: false },
  // EVE's: commands with their NUL.
  { prefix: 'grub_cmd ', kind: 'command', nul: true },
  { prefix: 'grub_kernel_cmdline ', kind: 'kernel-command-line', nul: false },
] as const;

export type GrubText = (typeof grubPrefixes)[number]['kind'];

const encoder = new TextEncoder();
const encodedPrefixes = grubPrefixes.map((form) => ({ ...form, bytes: encoder.encode(form.prefix) }));
const measurefs = encoder.encode('squash4 ');

/** The parts of GRUB's EV_IPL data, undefined for the names of files and what other boot loaders write. */
export function ipl(
  data: Uint8Array,
): { kind: GrubText | 'rootfs'; measured: Uint8Array; text: Uint8Array; cover: Cover } | undefined {
  const measured = measuredText(data);
  if (!measured) return undefined;
  const form = grubForm(data);
  const text = data.subarray(form ? form.bytes.length : measurefs.length, textEnd(data));
  return form
    ? { kind: form.kind, text, measured, cover: 'grub-text' }
    : { kind: 'rootfs', text, measured, cover: 'rootfs-hash' };
}

/** What GRUB measures of its text. */
function measuredText(data: Uint8Array): Uint8Array | undefined {
  const form = grubForm(data);
  if (!form)
    return startsWith(data, measurefs) ? fromHex(data.subarray(measurefs.length, textEnd(data))) : undefined;
  const start = form.bytes.length;
  const end = textEnd(data);
  // A command is measured with its NUL, a command line without: a NUL inside would make one pass for the other.
  for (let i = start; i < end; i++) if (data[i] === 0) return undefined;
  return data.subarray(start, form.nul ? data.length : end);
}

function grubForm(data: Uint8Array): (typeof encodedPrefixes)[number] | undefined {
  for (let i = 0; i < encodedPrefixes.length; i++) {
    const form = encodedPrefixes[i] as (typeof encodedPrefixes)[number];
    if (startsWith(data, form.bytes)) return form;
  }
  return undefined;
}

function textEnd(data: Uint8Array): number {
  return data[data.length - 1] === 0 ? data.length - 1 : data.length;
}

/** VariableData of a UEFI_VARIABLE_DATA: GUID, two 64-bit lengths, CHAR16 name, data [PFP 10.2]. */
function variableData(data: Uint8Array): Uint8Array | undefined {
  if (data.length < 32) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const start = 32n + 2n * view.getBigUint64(16, true);
  const end = start + view.getBigUint64(24, true);
  return end <= BigInt(data.length) ? data.subarray(Number(start), Number(end)) : undefined;
}

function withNul(data: Uint8Array): Uint8Array {
  const longer = new Uint8Array(data.length + 1);
  longer.set(data);
  return longer;
}

function startsWith(data: Uint8Array, prefix: Uint8Array): boolean {
  if (data.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (data[i] !== prefix[i]) return false;
  return true;
}

function fromHex(text: Uint8Array): Uint8Array | undefined {
  const digits = printable(text);
  if (digits?.length !== 64 || !/^[0-9a-f]+$/.test(digits)) return undefined;
  return Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}
