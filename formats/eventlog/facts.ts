// What a boot says about itself, from vouched data alone: a fact that no digest covers is not here.
import { readEventData } from './data.ts';
import type { CheckedEvent, CheckedLog } from './replay.ts';
import { EFI_GLOBAL_VARIABLE } from './variables.ts';

export interface BootFacts {
  /** S-CRTM version: a text or a GUID of the firmware's maker. */
  readonly firmwareVersion?: string;
  /** `unknown`: the log does not say, says it twice, or says it after the firmware handed over. */
  readonly secureBoot: 'on' | 'off' | 'unknown';
  /** One for each kernel that was started. GRUB measures the text without its label, so the label is the log's word. */
  readonly kernelCommandLines: readonly string[];
  /** SHA-256 of the root file system image, hex; absent where none or more than one was measured. */
  readonly rootfsHash?: string;
  readonly configFiles: readonly ConfigFile[];
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
  const roots = data(13).flatMap((one) => (one.kind === 'rootfs' ? [one.hash] : []));
  return {
    ...(version === undefined ? {} : { firmwareVersion: version }),
    secureBoot: secureBoot(vouched(7)),
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

/** The firmware's statement stands before its separator in PCR 7; whatever comes later, anyone may have extended. */
function secureBoot(events: readonly CheckedEvent[]): BootFacts['secureBoot'] {
  const data = events.map(readEventData);
  const separator = data.findIndex(({ kind }) => kind === 'separator');
  const stated = data
    .slice(0, Math.max(separator, 0))
    .filter((one) => one.kind === 'variable')
    .filter((one) => one.guid === EFI_GLOBAL_VARIABLE && one.name === 'SecureBoot');
  const [only] = stated;
  if (stated.length !== 1 || only?.value.kind !== 'switch') return 'unknown';
  return only.value.on ? 'on' : 'off';
}
