// One line of plain words for an event.
import { type EventData, readEventData } from './data.ts';
import { type Gpt, type Partition, slotState } from './gpt.ts';
import { eventTypeName } from './types.ts';
import type { Signature, Variable } from './variables.ts';
import { describeWindows } from './windows.ts';

/** What the data of an event says; whether anything vouches for it, the event itself knows (`vouched`). */
export function describeEvent(event: {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
}): string {
  return shorten(
    describeData(readEventData(event)) ?? `${eventTypeName(event.type)}, ${event.data.length} bytes`,
  );
}

const longest = 2000;

/** Texts end up in replies, databases and terminals; an event may hold half a megabyte of them. */
export function shorten(text: string): string {
  return text.length <= longest ? text : `${text.slice(0, longest)}… (${text.length} characters)`;
}

export function describeData(data: EventData): string | undefined {
  switch (data.kind) {
    case 'header':
      return 'header of the log';
    case 'startup-locality':
      return `the TPM was started from locality ${data.locality}`;
    case 'separator':
      return data.error ? 'the firmware failed to measure' : 'end of a boot phase';
    case 'config-file':
      if (!data.exists) return `${data.path} is absent`;
      return data.contentHash ? `${data.path} with SHA-256 ${data.contentHash}` : `${data.path} is there`;
    case 'variable':
      return describeVariable(data);
    case 'gpt':
      return `partition table: ${describeGpt(data)}`;
    case 'image':
      return data.path ? `program ${data.path}` : 'program from memory';
    case 'command':
      return `GRUB command: ${data.text}`;
    case 'kernel-command-line':
      return `kernel command line: ${data.text}`;
    case 'module-command-line':
      return `module command line: ${data.text}`;
    case 'rootfs':
      return `root file system with SHA-256 ${data.hash}`;
    case 'boot-file':
      return `${bootFileRoles[data.role]} ${data.name}`;
    case 'firmware-version':
      return `firmware version ${data.version || '(empty)'}`;
    case 'firmware-blob':
      return `firmware ${data.name ? `${data.name} ` : ''}at 0x${data.base.toString(16)}, ${data.length} bytes`;
    case 'tables':
      return data.name ? `table ${data.name}` : 'tables of the platform';
    case 'reference-manifest':
      return `reference values ${[data.guid, data.platform, data.firmware].filter(Boolean).join(', ')}`;
    case 'windows':
      return describeWindows(data.events);
    case 'action':
    case 'text':
      return data.text;
    case 'opaque':
      return undefined;
  }
}

const bootFileRoles = {
  kernel: 'kernel',
  'kernel-options': 'kernel options',
  initrd: 'initrd',
  'boot-config': 'boot loader configuration',
  'device-tree': 'device tree',
  microcode: 'microcode',
  'machine-owner-keys': "machine owner's keys",
  file: 'file',
} as const;

export function describeVariable({ name, data, value }: Variable): string {
  switch (value.kind) {
    case 'boot-order':
      return `boot order ${bootOrderText(value.order)}`;
    case 'boot-option':
      return `boot entry ${name}: ${value.description}${value.path ? ` (${value.path})` : ''}`;
    case 'switch':
      return `${name} is ${value.on ? 'on' : 'off'}`;
    case 'signatures':
      return `${name}: ${countSignatures(value.signatures).join(' and ') || 'empty'}`;
    case 'text':
      return `${name} is ${value.text}`;
    case 'bytes':
      return `variable ${name}, ${data.length} bytes`;
  }
}

/** `2 certificates`, `1 hash`; of each what there is. */
export function countSignatures(signatures: readonly Signature[]): string[] {
  const certificates = signatures.filter(({ type }) => type === 'x509').length;
  const hashes = signatures.length - certificates;
  return [
    ...(certificates > 0 ? [`${certificates} certificate${certificates === 1 ? '' : 's'}`] : []),
    ...(hashes > 0 ? [`${hashes} hash${hashes === 1 ? '' : 'es'}`] : []),
  ];
}

export function bootOrderText(order: readonly number[]): string {
  return order.map((number) => number.toString(16).toUpperCase().padStart(4, '0')).join(', ') || '(empty)';
}

/** The partitions, with the state of the slots among them. */
export function describeGpt(gpt: Gpt): string {
  return gpt.partitions.map(describePartition).join(', ') || '(empty)';
}

export function describePartition(partition: Partition): string {
  const state = slotState(partition);
  const name = partition.name || partition.guid;
  if (!state) return name;
  const { priority, triesLeft, bootedWell } = state;
  return `${name} (priority ${priority}, ${triesLeft} tries left, ${bootedWell ? 'booted well' : 'not proven'})`;
}
