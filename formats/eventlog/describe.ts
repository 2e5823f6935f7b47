// One line of plain words for an event.
import { type EventData, readEventData } from './data.ts';
import { type Gpt, slotState } from './gpt.ts';
import { eventTypeName } from './types.ts';
import type { Variable } from './variables.ts';

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
    case 'signatures': {
      const certificates = value.signatures.filter(({ type }) => type === 'x509').length;
      return `${name}: ${certificates} certificates, ${value.signatures.length - certificates} hashes`;
    }
    case 'bytes':
      return `variable ${name}, ${data.length} bytes`;
  }
}

export function bootOrderText(order: readonly number[]): string {
  return order.map((number) => number.toString(16).toUpperCase().padStart(4, '0')).join(', ') || '(empty)';
}

/** The partitions, with the state of the slots among them. */
export function describeGpt(gpt: Gpt): string {
  return gpt.partitions
    .map((partition) => {
      if (partition.attributes >> 48n === 0n) return partition.name;
      const { priority, triesLeft, bootedWell } = slotState(partition);
      return `${partition.name} (priority ${priority}, ${triesLeft} tries left, ${bootedWell ? 'booted well' : 'not proven'})`;
    })
    .join(', ');
}
