// What a boot says about itself, from vouched data alone: a fact that no digest covers is not here, and what only a hint
// explains is called one.
import { readEventData } from './data.ts';
import { describeEvent } from './describe.ts';
import { equal, hex } from './reader.ts';
import type { CheckedEvent, CheckedLog } from './replay.ts';
import { EventType, separatorData } from './types.ts';
import {
  EFI_GLOBAL_VARIABLE,
  EFI_IMAGE_SECURITY_DATABASE,
  type Signature,
  type Variable,
} from './variables.ts';

export interface BootFacts {
  /** S-CRTM version: a text or a GUID of the firmware's maker. */
  readonly firmwareVersion?: string;
  /** `unknown`: the log does not say, says it twice, or says it after the firmware handed over. */
  readonly secureBoot: 'on' | 'off' | 'unknown';
  /** PK, KEK, db, dbx as the firmware stated them before it handed over; none where it states one twice. */
  readonly secureBootKeys: Readonly<Record<string, readonly Signature[]>>;
  /** What vouched for the programs that were started under Secure Boot, in order. */
  readonly authorities: readonly { readonly name: string; readonly signature: Signature }[];
  /** Numbers of Boot#### in the order in which the firmware tries them. */
  readonly bootOrder?: readonly number[];
  /** Programs, kernels and the like in the order in which they were measured. */
  readonly bootChain: readonly MeasuredProgram[];
  /** One for each kernel that was started. GRUB measures the text without its label, so the label is the log's word. */
  readonly kernelCommandLines: readonly string[];
  /** SHA-256 of the root file system image, hex; absent where none or more than one was measured. */
  readonly rootfsHash?: string;
  readonly configFiles: readonly ConfigFile[];
}

/** Something that was started or loaded: the digest is true, what it is of is only said. */
export interface MeasuredProgram {
  readonly pcr: number;
  readonly event: number;
  /** In the bank of the log, hex: Authenticode for programs of the firmware, of the content for files of a boot loader. */
  readonly digest: string;
  readonly hint: string;
}

/** A file of EVE's /config as measure-config saw it. */
export interface ConfigFile {
  readonly path: string;
  readonly exists: boolean;
  /** SHA-256 of the content, hex; absent for the files whose content is a secret or unique to the device. */
  readonly contentHash?: string;
}

/** PCRs that were not checked have no events and so no facts. */
export function bootFacts(log: CheckedLog): BootFacts {
  const vouched = (pcr: number) =>
    log.events.filter((event) => event.pcr === pcr && event.vouched === 'data');
  const data = (pcr: number) => vouched(pcr).map(readEventData);

  const [version] = data(0).flatMap((one) => (one.kind === 'firmware-version' ? [one.version] : []));
  const [order, ...otherOrders] = data(1).flatMap((one) =>
    one.kind === 'variable' && one.value.kind === 'boot-order' ? [one.value.order] : [],
  );
  const roots = data(13).flatMap((one) => (one.kind === 'rootfs' ? [one.hash] : []));
  const stated = firmwareVariables(vouched(7));
  const authorities = vouched(7).filter(({ type }) => type === EventType.EV_EFI_VARIABLE_AUTHORITY);
  return {
    ...(version === undefined ? {} : { firmwareVersion: version }),
    secureBoot: secureBoot(stated),
    secureBootKeys: secureBootKeys(stated),
    authorities: authorities.map(readEventData).flatMap((one) => {
      if (one.kind !== 'variable' || one.value.kind !== 'signatures') return [];
      const [signature] = one.value.signatures;
      return signature ? [{ name: one.name, signature }] : [];
    }),
    ...(order && otherOrders.length === 0 ? { bootOrder: order } : {}),
    bootChain: log.events.filter(isLoaded).map((event) => ({
      pcr: event.pcr,
      event: event.index,
      digest: hex(event.digest),
      hint: describeEvent(event),
    })),
    kernelCommandLines: [...data(8), ...data(12)].flatMap((one) =>
      one.kind === 'kernel-command-line' ? [one.text] : [],
    ),
    ...(roots.length === 1 && roots[0] ? { rootfsHash: roots[0] } : {}),
    configFiles: data(14).flatMap((one) => {
      if (one.kind !== 'config-file') return [];
      const { kind: _, ...file } = one;
      return [file];
    }),
  };
}

function isLoaded(event: CheckedEvent): boolean {
  const { kind } = readEventData(event);
  return kind === 'image' || (kind === 'boot-file' && event.pcr !== 7 && event.pcr !== 14);
}

/**
 * What the firmware states stands before its separator in PCR 7; whatever comes later, anyone may have extended. A
 * separator is told by what it measures and not by its type, which anyone may have changed.
 */
function firmwareVariables(events: readonly CheckedEvent[]): Variable[] {
  const separator = events.findIndex(({ data }) => separatorData.some((one) => equal(one, data)));
  return events
    .slice(0, Math.max(separator, 0))
    .map(readEventData)
    .filter((one) => one.kind === 'variable');
}

function statedOnce(
  variables: readonly Variable[],
  guid: string,
  name: string,
): Variable['value'] | undefined {
  const [only, ...others] = variables.filter((one) => one.guid === guid && one.name === name);
  return others.length === 0 ? only?.value : undefined;
}

function secureBoot(variables: readonly Variable[]): BootFacts['secureBoot'] {
  const value = statedOnce(variables, EFI_GLOBAL_VARIABLE, 'SecureBoot');
  if (value?.kind !== 'switch') return 'unknown';
  return value.on ? 'on' : 'off';
}

function secureBootKeys(variables: readonly Variable[]): Record<string, readonly Signature[]> {
  const lists: [guid: string, name: string][] = [
    [EFI_GLOBAL_VARIABLE, 'PK'],
    [EFI_GLOBAL_VARIABLE, 'KEK'],
    [EFI_IMAGE_SECURITY_DATABASE, 'db'],
    [EFI_IMAGE_SECURITY_DATABASE, 'dbx'],
  ];
  return Object.fromEntries(
    lists.flatMap(([guid, name]) => {
      const value = statedOnce(variables, guid, name);
      return value?.kind === 'signatures' ? [[name, value.signatures]] : [];
    }),
  );
}
