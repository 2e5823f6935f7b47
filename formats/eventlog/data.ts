// What the data of an event says, for people. Data that does not decode stays data with a reason; it never stops anything.
import { FormatError } from '../format-error.ts';
import { type GrubText, ipl } from './covers.ts';
import { devicePathText } from './device-path.ts';
import { type Gpt, readGpt } from './gpt.ts';
import { hex, printable, Reader, utf8, utf16 } from './reader.ts';
import { EventType } from './types.ts';
import { readVariable, type Variable } from './variables.ts';
import { readWindowsEvents, type WindowsEvent } from './windows.ts';

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
  /** Where the firmware's maker publishes reference values [NIST SP 800-155; PFP 10.4.5.2]. */
  | { kind: 'reference-manifest'; guid: string; platform: string; firmware: string }
  | { kind: 'windows'; events: readonly WindowsEvent[] }
  | { kind: 'text'; text: string }
  /** Bytes; `reason` where they should have been more. */
  | { kind: 'opaque'; reason?: string };

export type BootFileRole =
  | 'kernel'
  | 'kernel-options'
  | 'initrd'
  | 'boot-config'
  | 'device-tree'
  | 'microcode'
  | 'machine-owner-keys'
  | 'file';

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
      return { kind: 'variable', ...readVariable(data) };
    case EventType.EV_EFI_VARIABLE_AUTHORITY:
      return { kind: 'variable', ...readVariable(data, { authority: true }) };
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
    case EventType.EV_COMPACT_HASH:
      return data.length === 4 ? { kind: 'text', text: `0x${hex(data.toReversed())}` } : plain(data);
    case EventType.EV_NONHOST_INFO:
      return nonHostInfo(data);
    default:
      return plain(data);
  }
}

function noAction(data: Uint8Array): EventData {
  const signature = printable(data.subarray(0, 15));
  if (signature === 'Spec ID Event03' || signature === 'Spec ID Event00') return { kind: 'header' };
  if (signature === 'StartupLocality' && data.length === 17)
    return { kind: 'startup-locality', locality: data[16] as number };
  if (signature === 'SP800-155 Event') return referenceManifest(data);
  const windows = readWindowsEvents(data);
  return windows ? { kind: 'windows', events: windows } : plain(data);
}

/** TCG_Sp800_155_PlatformId_Event, Event2 and Event3, which say more and more after the same start [PFP 10.4.5.2]. */
function referenceManifest(data: Uint8Array): EventData {
  const reader = new Reader(data, 'TCG_Sp800_155_PlatformId_Event');
  const version = printable(trimNul(reader.take(16, 'signature')))?.at(-1);
  reader.take(4, 'vendorId');
  const guid = reader.guid('referenceManifestGuid');
  if (version !== '2' && version !== '3')
    return { kind: 'reference-manifest', guid, platform: '', firmware: '' };
  const words = () => Array.from({ length: 3 }, () => describedBy(reader)).filter(Boolean);
  const platform = words().join(' ');
  const maker = describedBy(reader);
  reader.take(4, 'firmwareManufacturerId');
  const firmware = [maker, describedBy(reader)].filter(Boolean).join(' ');
  return { kind: 'reference-manifest', guid, platform, firmware };
}

/** Of Google's cloud: a text and which technology guards the memory of the machine. */
function nonHostInfo(data: Uint8Array): EventData {
  const [text, technology] = [printable(trimNul(data.subarray(0, 16))), data[16]];
  if (text !== 'GCE NonHostInfo' || technology === undefined) return plain(data);
  return { kind: 'text', text: `${text}: technology ${technology}` };
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
  const wide = wideText(data);
  if (wide === undefined) return { kind: 'opaque' };
  return { kind: pcr === 8 || pcr === 12 ? 'kernel-command-line' : 'text', text: wide };
}

/** CHAR16 text, undefined for bytes that are none. */
function wideText(data: Uint8Array): string | undefined {
  const text = utf16(data);
  return data.length >= 2 && data[1] === 0 && !text.includes('\ufffd') ? text : undefined;
}

/** EVE's GRUB names the role, upstream's the file, systemd's stub the section of its image, shim the list of keys. */
function roleOf(name: string): BootFileRole {
  if (/^(MokList\w*|MokSBState|MokDBState|SbatLevel|Shim)$/.test(name)) return 'machine-owner-keys';
  const section = sections[name];
  if (section) return section;
  if (/^grub_linuxefi /.test(name)) return 'kernel';
  if (/^grub_cfg /.test(name)) return 'boot-config';
  if (/^grub_initrd /.test(name)) return 'initrd';
  const file = name.split('/').at(-1) ?? name;
  if (/grub\.cfg|\.conf$/.test(file)) return 'boot-config';
  if (/^(vmlinuz|vmlinux|bzImage|linux|kernel)/.test(file)) return 'kernel';
  if (/^(initrd|initramfs)/.test(file)) return 'initrd';
  return 'file';
}

/** Sections of a unified kernel image, measured into PCR 11: first the name, then the content [systemd-stub(7)]. */
const sections: Readonly<Record<string, BootFileRole>> = {
  '.linux': 'kernel',
  '.cmdline': 'kernel-options',
  '.initrd': 'initrd',
  '.ucode': 'microcode',
  '.dtb': 'device-tree',
  '.dtbauto': 'device-tree',
};

/** TCG_PCClientTaggedEvent: Linux's EFI stub, systemd-boot and its stub, and Windows log this way. */
function tagged(data: Uint8Array): EventData {
  const windows = readWindowsEvents(data);
  if (windows) return { kind: 'windows', events: windows };
  const reader = new Reader(data, 'TCG_PCClientTaggedEvent');
  const id = reader.u32('taggedEventID');
  const body = reader.take(reader.u32('taggedEventDataSize'), 'taggedEventData');
  const text = printable(trimNul(body)) ?? wideText(body);
  const role = taggedFiles[id];
  if (role) return { kind: 'boot-file', role, name: text ?? '' };
  return text === undefined ? { kind: 'opaque' } : { kind: 'text', text };
}

/** Tags of Linux [drivers/firmware/efi/libstub/efistub.h] and of systemd [src/fundamental/tpm2-pcr.h]. */
const taggedFiles: Readonly<Record<number, BootFileRole>> = {
  2403017452: 'initrd',
  2403017453: 'kernel-options',
  4122761258: 'boot-config',
  1816590161: 'device-tree',
  1239416335: 'initrd',
  3670052378: 'microcode',
  330225371: 'boot-config',
};

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
