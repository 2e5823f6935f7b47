// What the data of an event says, for people. Data that does not decode stays data with a reason; it never stops anything.
import { FormatError } from '../format-error.ts';
import { type GrubText, ipl } from './covers.ts';
import { devicePathText } from './device-path.ts';
import { type Gpt, readGpt } from './gpt.ts';
import { hex, printable, Reader, utf8, utf16 } from './reader.ts';
import { EventType } from './types.ts';
import { readVariable, type Variable } from './variables.ts';

export type EventData =
  | { kind: 'header' }
  | { kind: 'startup-locality'; locality: number }
  /** `error`: the firmware says that it could not measure [PFP 10.4.1]. */
  | { kind: 'separator'; error: boolean }
  | { kind: 'action'; text: string }
  /** EVE's measure-config; no `contentHash` where only the existence of the file is measured. */
  | { kind: 'config-file'; path: string; exists: boolean; contentHash?: string }
  | ({ kind: 'variable' } & Variable)
  | ({ kind: 'gpt' } & Gpt)
  /** UEFI_IMAGE_LOAD_EVENT. */
  | { kind: 'image'; path: string }
  | { [K in GrubText]: { kind: K; text: string } }[GrubText]
  /** SHA-256 of the root file system image, hex. */
  | { kind: 'rootfs'; hash: string }
  /** A file that the boot loader read; its digest is of the content. */
  | { kind: 'boot-file'; role: BootFileRole; name: string }
  | { kind: 'firmware-version'; version: string }
  | { kind: 'firmware-blob'; name: string; base: bigint; length: bigint }
  | { kind: 'tables'; name: string }
  | { kind: 'text'; text: string }
  /** Bytes; `reason` where they should have been more. */
  | { kind: 'opaque'; reason?: string };

export type BootFileRole = 'kernel' | 'kernel-options' | 'initrd' | 'boot-config' | 'file';

interface Measured {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
}

/** Decodes the data of an event. Never throws: `opaque` with a reason is the worst there is. */
export function readEventData(event: Measured): EventData {
  try {
    return decode(event);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { kind: 'opaque', reason: error.message };
  }
}

function decode({ pcr, type, data }: Measured): EventData {
  switch (type) {
    case EventType.EV_NO_ACTION:
      return noAction(data);
    case EventType.EV_SEPARATOR:
      return separator(data);
    case EventType.EV_ACTION:
    case EventType.EV_EFI_ACTION:
      return action(data);
    case EventType.EV_EFI_VARIABLE_DRIVER_CONFIG:
    case EventType.EV_EFI_VARIABLE_BOOT:
    case EventType.EV_EFI_VARIABLE_BOOT2:
    case EventType.EV_EFI_VARIABLE_AUTHORITY:
      return { kind: 'variable', ...readVariable(data) };
    case EventType.EV_EFI_GPT_EVENT:
    case EventType.EV_EFI_GPT_EVENT2:
      return { kind: 'gpt', ...readGpt(data) };
    case EventType.EV_EFI_BOOT_SERVICES_APPLICATION:
    case EventType.EV_EFI_BOOT_SERVICES_DRIVER:
    case EventType.EV_EFI_RUNTIME_SERVICES_DRIVER:
      return imageLoad(data);
    case EventType.EV_IPL:
      return bootLoader(pcr, data);
    case EventType.EV_S_CRTM_VERSION:
      return { kind: 'firmware-version', version: version(data) };
    case EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB:
    case EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2:
    case EventType.EV_POST_CODE:
    case EventType.EV_POST_CODE2:
      return firmwareBlob(type, data);
    case EventType.EV_EFI_HANDOFF_TABLES2:
      return { kind: 'tables', name: describedBy(new Reader(data, 'UEFI_HANDOFF_TABLE_POINTERS2')) };
    case EventType.EV_EFI_HANDOFF_TABLES:
      return { kind: 'tables', name: '' };
    case EventType.EV_EVENT_TAG:
      return tagged(data);
    default:
      return plain(data);
  }
}

function noAction(data: Uint8Array): EventData {
  const signature = printable(data.subarray(0, 15));
  if (signature === 'Spec ID Event03') return { kind: 'header' };
  if (signature === 'StartupLocality' && data.length === 17)
    return { kind: 'startup-locality', locality: data[16] as number };
  return plain(data);
}

/** 0 or 0xffffffff between the firmware and what it starts; 1 where measuring failed. */
function separator(data: Uint8Array): EventData {
  if (data.length !== 4) return plain(data);
  return { kind: 'separator', error: data[0] === 1 && data[1] === 0 && data[2] === 0 && data[3] === 0 };
}

const configFile = /^file:(.+) exist:(true|false)(?: content-hash:([0-9a-f]{64}))?$/s;

function action(data: Uint8Array): EventData {
  const text = printable(trimNul(data));
  if (text === undefined) return { kind: 'opaque', reason: 'the action is no text' };
  const [, path, exists, contentHash] = configFile.exec(text) ?? [];
  if (!path) return { kind: 'action', text };
  return { kind: 'config-file', path, exists: exists === 'true', ...(contentHash ? { contentHash } : {}) };
}

function imageLoad(data: Uint8Array): EventData {
  const reader = new Reader(data, 'UEFI_IMAGE_LOAD_EVENT');
  reader.take(24, 'ImageLocationInMemory'); // addresses and length: they differ from boot to boot
  const length = reader.length64('LengthOfDevicePath');
  return { kind: 'image', path: devicePathText(reader.take(length, 'DevicePath'), 'DevicePath') };
}

function bootLoader(pcr: number, data: Uint8Array): EventData {
  const grub = ipl(data);
  if (grub?.kind === 'rootfs') return { kind: 'rootfs', hash: hex(grub.measured) };
  if (grub) return { kind: grub.kind, text: utf8(grub.text) };
  const name = printable(trimNul(data));
  if (name !== undefined) return { kind: 'boot-file', role: roleOf(name), name };
  // systemd-boot and its stub: CHAR16 command line, in PCR 8 before version 251 and in PCR 12 since.
  const wide = utf16(data);
  const isText = data.length >= 2 && data[1] === 0 && !wide.includes('\ufffd');
  if (isText)
    return { kind: pcr === 8 || pcr === 12 ? 'kernel-command-line' : 'text', text: wide } as EventData;
  return { kind: 'opaque' };
}

/** EVE's GRUB names the role, upstream's the file. */
function roleOf(name: string): BootFileRole {
  if (/^grub_linuxefi |^\.linux$/.test(name)) return 'kernel';
  if (/^grub_cfg /.test(name)) return 'boot-config';
  if (/^grub_initrd |^\.initrd$/.test(name)) return 'initrd';
  const file = name.split('/').at(-1) ?? name;
  if (/grub\.cfg|\.conf$/.test(file)) return 'boot-config';
  if (/^(vmlinuz|vmlinux|bzImage|linux|kernel)/.test(file)) return 'kernel';
  if (/^(initrd|initramfs)/.test(file)) return 'initrd';
  return 'file';
}

/** TCG_PCClientTaggedEvent; Linux's EFI stub logs what it measures into PCR 9 this way. */
function tagged(data: Uint8Array): EventData {
  const reader = new Reader(data, 'TCG_PCClientTaggedEvent');
  const id = reader.u32('taggedEventID');
  const text = printable(trimNul(reader.take(reader.u32('taggedEventDataSize'), 'taggedEventData')));
  if (text === undefined) return { kind: 'opaque' };
  if (id === 0x8f3b22ec) return { kind: 'boot-file', role: 'initrd', name: text };
  if (id === 0x8f3b22ed) return { kind: 'boot-file', role: 'kernel-options', name: text };
  return { kind: 'text', text };
}

/** A CHAR16 text or a GUID; firmware uses either [PFP 3.3.4.1]. */
function version(data: Uint8Array): string {
  const wide = data.length % 2 === 0 ? utf16(data) : '';
  if (/^[\x20-\x7e]*$/.test(wide) && data.length > 0) return wide;
  if (data.length === 16) return new Reader(data, 'GUID').guid('version');
  return printable(trimNul(data)) ?? hex(data);
}

function firmwareBlob(type: number, data: Uint8Array): EventData {
  const text = printable(trimNul(data));
  if (text !== undefined && data.length !== 16) return { kind: 'text', text };
  const reader = new Reader(data, 'UEFI_PLATFORM_FIRMWARE_BLOB');
  const described = type === EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2 || type === EventType.EV_POST_CODE2;
  const name = described ? describedBy(reader) : '';
  return { kind: 'firmware-blob', name, base: reader.u64('BlobBase'), length: reader.u64('BlobLength') };
}

/** The description in front of the "2" structures: its length in a byte, then text. */
function describedBy(reader: Reader): string {
  const length = reader.u8('DescriptionSize');
  return printable(trimNul(reader.take(length, 'Description'))) ?? '';
}

function plain(data: Uint8Array): EventData {
  const text = printable(trimNul(data));
  return text ? { kind: 'text', text } : { kind: 'opaque' };
}

function trimNul(data: Uint8Array): Uint8Array {
  let end = data.length;
  while (end > 0 && data[end - 1] === 0) end--;
  return data.subarray(0, end);
}
