// The words and codes of changes. Codes are stable: policies, the API and recordings name them.
import { type BootFileRole, type EventData, readEventData } from './data.ts';
import {
  bootOrderText,
  countSignatures,
  describeData,
  describeGpt,
  describePartition,
  describeVariable,
} from './describe.ts';
import type { Gpt, Partition } from './gpt.ts';
import { hex } from './reader.ts';
import type { CheckedEvent } from './replay.ts';
import { EventType, eventTypeName } from './types.ts';
import { keyVariables, type Signature } from './variables.ts';

export type FindingCode =
  | 'log.firmware-changed'
  | 'log.microcode-changed'
  | 'log.platform-tables-changed'
  | 'log.boot-order-changed'
  | 'log.boot-entry-added'
  | 'log.boot-entry-removed'
  | 'log.boot-entry-changed'
  | 'log.bios-setup-entered'
  | 'log.option-rom-changed'
  | 'log.boot-loader-changed'
  | 'log.gpt-changed'
  | 'log.secure-boot-changed'
  | 'log.secure-boot-keys-changed'
  | 'log.boot-authority-changed'
  | 'log.machine-owner-keys-changed'
  | 'log.variable-changed'
  | 'log.grub-command-changed'
  | 'log.boot-slot-changed'
  | 'log.kernel-cmdline-changed'
  | 'log.kernel-argument-added'
  | 'log.kernel-argument-removed'
  | 'log.kernel-changed'
  | 'log.initrd-changed'
  | 'log.boot-config-changed'
  | 'log.boot-file-changed'
  | 'log.rootfs-changed'
  | 'log.config-file-changed'
  | 'log.config-file-added'
  | 'log.config-file-removed'
  | 'log.exit-boot-services-changed'
  | 'log.measuring-failed'
  | 'log.event-added'
  | 'log.event-removed'
  | 'log.event-changed';

export interface ChangeWords {
  readonly code: FindingCode;
  readonly text: string;
  /** Before and after, where they can be shown side by side. */
  readonly was?: string | undefined;
  readonly is?: string | undefined;
}

/** Names what changed at one place of a PCR: an event replaced, added (`before` absent) or gone (`after` absent). */
export function describeChange(pcr: number, before?: CheckedEvent, after?: CheckedEvent): ChangeWords {
  const event = after ?? before;
  if (!event) throw new TypeError('a change needs an event');
  const was = before && readEventData(before);
  const is = after && readEventData(after);
  return byKind(pcr, event.type, was, is) ?? byPcr(pcr, event.type, was, is);
}

type Data = EventData | undefined;
type Of<K extends EventData['kind']> = Extract<EventData, { kind: K }>;

function both<K extends EventData['kind']>(
  kind: K,
  was: Data,
  is: Data,
): { was?: Of<K>; is?: Of<K> } | undefined {
  if ((was && was.kind !== kind) || (is && is.kind !== kind)) return undefined;
  return { ...(was ? { was: was as Of<K> } : {}), ...(is ? { is: is as Of<K> } : {}) };
}

/** Changes that the data explains, whichever PCR they are in. */
function byKind(pcr: number, type: number, was: Data, is: Data): ChangeWords | undefined {
  const kind = (is ?? was)?.kind;
  switch (kind) {
    case 'variable': {
      const pair = both('variable', was, is);
      return pair && variableChange(type, pair.was, pair.is);
    }
    case 'gpt': {
      const pair = both('gpt', was, is);
      if (!pair) return undefined;
      return gptChange(pair.was, pair.is);
    }
    case 'command': {
      const pair = both('command', was, is);
      return pair && commandChange(pair.was?.text, pair.is?.text);
    }
    case 'kernel-command-line': {
      const pair = both('kernel-command-line', was, is);
      return pair && commandLineChange(pair.was?.text, pair.is?.text);
    }
    case 'rootfs': {
      const sides = { was: both('rootfs', was, is)?.was?.hash, is: both('rootfs', was, is)?.is?.hash };
      return { code: 'log.rootfs-changed', text: change('The root file system image', sides), ...sides };
    }
    case 'config-file': {
      const pair = both('config-file', was, is);
      return pair && configFileChange(pair.was, pair.is);
    }
    case 'boot-file': {
      const pair = both('boot-file', was, is);
      return pair && bootFileChange(pair.was, pair.is);
    }
    case 'action': {
      const pair = both('action', was, is);
      return pair && actionChange(pair.was?.text, pair.is?.text);
    }
    case 'separator': {
      if (!both('separator', was, is)?.is?.error) return undefined;
      return {
        code: 'log.measuring-failed',
        text: `The firmware says that it failed to measure into PCR ${pcr}`,
      };
    }
    default:
      return undefined;
  }
}

function actionChange(was?: string, is?: string): ChangeWords | undefined {
  const text = is ?? was ?? '';
  if (text === 'Entering ROM Based Setup')
    return is === undefined
      ? { code: 'log.event-removed', text: 'Nobody entered the firmware setup during this boot', was }
      : { code: 'log.bios-setup-entered', text: 'Someone entered the firmware setup during this boot', is };
  if (text.startsWith('Exit Boot Services'))
    return {
      code: 'log.exit-boot-services-changed',
      text: change('What the firmware says of leaving its boot services', { was, is }),
      was,
      is,
    };
  return undefined;
}

/** Changes known by where they are: the data is a hint at most. */
function byPcr(pcr: number, type: number, was: Data, is: Data): ChangeWords {
  const sides = { was: was && describeData(was), is: is && describeData(is) };
  const say = (code: FindingCode, thing: string): ChangeWords => ({
    code,
    text: change(thing, sides),
    ...sides,
  });
  if (type === EventType.EV_CPU_MICROCODE) return say('log.microcode-changed', 'The CPU microcode');
  if (type === EventType.EV_EFI_HANDOFF_TABLES || type === EventType.EV_EFI_HANDOFF_TABLES2) {
    const name = (is?.kind === 'tables' && is.name) || (was?.kind === 'tables' && was.name);
    return say(
      'log.platform-tables-changed',
      name ? `The platform table ${name}` : 'The tables of the platform',
    );
  }
  if ((is ?? was)?.kind === 'image' && pcr === 2)
    return say('log.option-rom-changed', 'A driver or option ROM');
  if ((is ?? was)?.kind === 'image' && pcr === 4) return say('log.boot-loader-changed', 'A boot program');
  if (pcr === 0) return say('log.firmware-changed', 'The firmware');
  if (pcr === 2) return say('log.option-rom-changed', 'A driver or option ROM');
  const thing = `An event of type ${eventTypeName(type)}`;
  return say(!is ? 'log.event-removed' : !was ? 'log.event-added' : 'log.event-changed', thing);
}

function change(thing: string, { was, is }: { was?: string | undefined; is?: string | undefined }): string {
  if (was === undefined && is === undefined) return `${thing} changed`;
  if (was === undefined) return `${thing} is new: ${is}`;
  if (is === undefined) return `${thing} is gone: ${was}`;
  return was === is ? `${thing} changed: ${is}` : `${thing} changed from ${was} to ${is}`;
}

function variableChange(type: number, was?: Of<'variable'>, is?: Of<'variable'>): ChangeWords {
  const { name, value } = (is ?? was) as Of<'variable'>;
  const sides = { was: was && describeVariable(was), is: is && describeVariable(is) };
  if (type === EventType.EV_EFI_VARIABLE_AUTHORITY)
    return {
      code: 'log.boot-authority-changed',
      text: change('What vouches for a boot program', sides),
      ...sides,
    };
  if (name === 'BootOrder') {
    const order = (side?: Of<'variable'>) =>
      side?.value.kind === 'boot-order' ? bootOrderText(side.value.order) : undefined;
    const orders = { was: order(was), is: order(is) };
    return { code: 'log.boot-order-changed', text: change('The boot order', orders), ...orders };
  }
  if (value.kind === 'boot-option') {
    const code = !was ? 'log.boot-entry-added' : !is ? 'log.boot-entry-removed' : 'log.boot-entry-changed';
    return { code, text: change('A boot entry', sides), ...sides };
  }
  if (name === 'SecureBoot')
    return { code: 'log.secure-boot-changed', text: change('Secure Boot', sides), ...sides };
  if (keyVariables.has(name)) return keysChange(name, sides, was, is);
  return { code: 'log.variable-changed', text: change(`The variable ${name}`, sides), ...sides };
}

/** Which keys came and went: for dbx, a list of hundreds, the one thing that a person can use. */
function keysChange(
  name: string,
  sides: { was: string | undefined; is: string | undefined },
  was?: Of<'variable'>,
  is?: Of<'variable'>,
): ChangeWords {
  const code = name.startsWith('Mok') ? 'log.machine-owner-keys-changed' : 'log.secure-boot-keys-changed';
  const thing =
    code === 'log.secure-boot-keys-changed'
      ? `The Secure Boot keys ${name}`
      : `The machine owner's keys ${name}`;
  const keys = (side?: Of<'variable'>) =>
    side?.value.kind === 'signatures' ? side.value.signatures : undefined;
  const [before, after] = [keys(was), keys(is)];
  if (!before || !after) return { code, text: change(thing, sides), ...sides };
  const parts = [
    ...countSignatures(missingIn(before, after)).map((count) => `${count} added`),
    ...countSignatures(missingIn(after, before)).map((count) => `${count} removed`),
  ];
  return {
    code,
    text: `${thing} changed: ${parts.join(', ') || 'the same ones in another order or with other owners'}`,
    ...sides,
  };
}

function missingIn(some: readonly Signature[], others: readonly Signature[]): Signature[] {
  const known = new Set(some.map(({ type, data }) => `${type} ${hex(data)}`));
  return others.filter(({ type, data }) => !known.has(`${type} ${hex(data)}`));
}

/** For texts that are too long to be shown twice. */
function wordChange(was: string, is: string): { come: string[]; gone: string[]; text: string } {
  const before = new Set(was.split(/\s+/));
  const after = new Set(is.split(/\s+/));
  const gone = [...before].filter((word) => !after.has(word));
  const come = [...after].filter((word) => !before.has(word));
  const parts = [
    ...(come.length > 0 ? [`now with ${come.join(' ')}`] : []),
    ...(gone.length > 0 ? [`no longer with ${gone.join(' ')}`] : []),
  ];
  return { come, gone, text: parts.join(', ') || 'the same words in another order or number' };
}

function commandChange(was?: string, is?: string): ChangeWords {
  const code = 'log.grub-command-changed';
  const long = was !== undefined && is !== undefined && was.length + is.length > 120;
  if (!long) return { code, text: change('A GRUB command', { was, is }), was, is };
  const name = is.trim().split(/\s/, 1)[0];
  return { code, text: `The GRUB command ${name} changed: ${wordChange(was, is).text}`, was, is };
}

function commandLineChange(was?: string, is?: string): ChangeWords {
  const code = 'log.kernel-cmdline-changed';
  if (was === undefined || is === undefined)
    return { code, text: change('A kernel command line', { was, is }), was, is };
  const { come, gone, text } = wordChange(was, is);
  return {
    code:
      come.length > 0 && gone.length === 0
        ? 'log.kernel-argument-added'
        : gone.length > 0 && come.length === 0
          ? 'log.kernel-argument-removed'
          : code,
    text: `The kernel command line changed: ${text}`,
    was,
    is,
  };
}

function gptChange(was?: Gpt, is?: Gpt): ChangeWords {
  const code = 'log.gpt-changed';
  const sides = { was: was && describeGpt(was), is: is && describeGpt(is) };
  if (!was || !is) return { code, text: change('The partition table', sides), ...sides };
  const before = new Map(was.partitions.map((partition) => [partition.guid, partition]));
  const after = new Map(is.partitions.map((partition) => [partition.guid, partition]));
  const parts = [
    ...is.partitions.filter(({ guid }) => !before.has(guid)).map((one) => `${describePartition(one)} is new`),
    ...was.partitions
      .filter(({ guid }) => !after.has(guid))
      .map((one) => `${describePartition(one)} is gone`),
    ...is.partitions.flatMap((now) => {
      const then = before.get(now.guid);
      return then ? partitionChange(then, now) : [];
    }),
    ...(was.disk === is.disk ? [] : [`another disk, ${is.disk} instead of ${was.disk}`]),
  ];
  return {
    code,
    text: `The partition table changed: ${parts.join('; ') || 'the same partitions in another order or header'}`,
    ...sides,
  };
}

function partitionChange(was: Partition, is: Partition): string[] {
  const [before, after] = [describePartition(was), describePartition(is)];
  if (before !== after) return [`${before} is now ${after}`];
  if (was.firstBlock !== is.firstBlock || was.lastBlock !== is.lastBlock)
    return [
      `${before} moved from blocks ${was.firstBlock}–${was.lastBlock} to ${is.firstBlock}–${is.lastBlock}`,
    ];
  if (was.type !== is.type) return [`${before} is now of type ${is.type}`];
  return was.attributes === is.attributes ? [] : [`${before} has other attributes`];
}

function configFileChange(was?: Of<'config-file'>, is?: Of<'config-file'>): ChangeWords {
  const path = (is ?? was)?.path;
  const sides = { was: was && describeData(was), is: is && describeData(is) };
  const existed = was?.exists ?? false;
  const exists = is?.exists ?? false;
  if (existed && exists)
    return { code: 'log.config-file-changed', text: `The content of ${path} changed`, ...sides };
  if (exists) return { code: 'log.config-file-added', text: `${path} is new`, ...sides };
  if (existed) return { code: 'log.config-file-removed', text: `${path} is gone`, ...sides };
  // Absent before and after: only the list of files that are looked for changed.
  return {
    code: was ? 'log.event-removed' : 'log.event-added',
    text: change('A check for a file', sides),
    ...sides,
  };
}

function bootFileChange(was?: Of<'boot-file'>, is?: Of<'boot-file'>): ChangeWords {
  const { role } = (is ?? was) as Of<'boot-file'>;
  const sides = { was: was?.name, is: is?.name };
  const { code, thing } = bootFiles[role];
  return { code, text: change(thing, sides), ...sides };
}

const bootFiles: Record<BootFileRole, { code: FindingCode; thing: string }> = {
  kernel: { code: 'log.kernel-changed', thing: 'The kernel' },
  'kernel-options': { code: 'log.kernel-cmdline-changed', thing: 'The options of the kernel' },
  initrd: { code: 'log.initrd-changed', thing: 'The initrd' },
  'boot-config': { code: 'log.boot-config-changed', thing: 'The configuration of the boot loader' },
  'device-tree': { code: 'log.platform-tables-changed', thing: 'The device tree' },
  microcode: { code: 'log.microcode-changed', thing: 'The microcode that the boot loader loads' },
  'machine-owner-keys': { code: 'log.machine-owner-keys-changed', thing: "The machine owner's keys" },
  file: { code: 'log.boot-file-changed', thing: 'A file that the boot loader read' },
};
