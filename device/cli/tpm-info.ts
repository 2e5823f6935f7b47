// `eve tpm info`: what a TPM is, has and can do.
import { type FolderOptions, foldersOf, tpmForms, tpmSpecOf } from '../options.ts';
import type { Folders } from '../state.ts';
import { readTpmInfo, type TpmInfo } from '../tpm/info.ts';
import { Failure } from './failure.ts';
import { discoverTpm, type FoundTpm, openSharedTpm, tpmText } from './open-tpm.ts';
import { plainText } from './print.ts';

export interface TpmInfoOptions extends FolderOptions {
  tpm?: string;
}

export interface FoundTpmInfo extends TpmInfo {
  /** As `--tpm` has it. */
  tpm: string;
}

/** Throws Failure when there is no TPM, TransportError when it does not answer. */
export async function tpmInfo(options: TpmInfoOptions): Promise<FoundTpmInfo> {
  const folders = foldersOf(options);
  const { spec } = foundTpm(options.tpm, folders);
  const tpm = await openSharedTpm(spec, folders);
  try {
    return { tpm: tpmText(spec), ...(await readTpmInfo(tpm)) };
  } finally {
    await tpm.close();
  }
}

/** The TPM that `--tpm` names, or the one that is found. Throws Failure. */
export function foundTpm(text: string | undefined, folders: Folders): FoundTpm {
  if (text !== undefined) return { spec: tpmSpecOf(text, folders), why: 'as --tpm says' };
  const found = discoverTpm(folders);
  if (found) return found;
  throw new Failure(
    'no TPM was found: there is no /dev/tpmrm0, and no emulated one of a device here',
    `turn it on in the firmware setup (fTPM, PTT, Security Device), or name one with --tpm (${tpmForms})`,
  );
}

export function tpmInfoText(info: FoundTpmInfo): string {
  const { manufacturer, free, lockout, clock } = info;
  const days = Math.floor(clock.ms / 86_400_000);
  const lines: [title: string, text: string][] = [
    ['TPM', info.tpm],
    ['manufacturer', `${manufacturerText(manufacturer)}, ${info.vendor}`],
    ['firmware', `${info.firmware}, specification 2.0 revision ${info.revision}`],
    ['PCR banks', banksText(info)],
    ['algorithms', info.algorithms.join(' ')],
    ['curves', info.curves.join(' ')],
    ...rows('EK certificates', info.certificates.map(certificateText), 'none'),
    ['persistent', info.persistent.map(hex).join(' ') || 'none'],
    [
      'free slots',
      `${free.transient} transient, ${free.sessions} sessions, ${free.persistent} persistent, ${free.counters} counters`,
    ],
    [
      'lockout',
      `${lockout.locked ? 'LOCKED; ' : ''}${lockout.failures} of ${lockout.limit} failures, one is forgotten in ${lockout.interval} s`,
    ],
    ['hierarchies', hierarchiesText(info)],
    [
      'clock',
      `on for ${days} days in all, ${clock.resets} resets, ${clock.restarts} restarts${clock.safe ? '' : ', not safe after a power cut'}`,
    ],
  ];
  return lines.map(([title, text]) => `${title.padEnd(16)} ${plainText(text)}`).join('\n');
}

function manufacturerText({ id, name }: TpmInfo['manufacturer']): string {
  return name === id ? id : `${name} (${id})`;
}

function rows(title: string, texts: string[], none: string): [string, string][] {
  return (texts.length === 0 ? [none] : texts).map((text, n) => [n === 0 ? title : '', text]);
}

function banksText({ banks }: TpmInfo): string {
  const texts = Object.entries(banks).map(([bank, pcrs]) => `${bank} (${pcrs.length} PCRs)`);
  return texts.join(', ') || 'none';
}

function certificateText({ index, key, size, subject, notAfter, problem }: TpmInfo['certificates'][number]) {
  const what = `${hex(index)} ${key}, ${size} bytes`;
  if (problem !== '') return `${what}, not readable: ${problem}`;
  return `${what}, ${subject || 'no subject'}, until ${new Date(notAfter).toISOString().slice(0, 10)}`;
}

function hierarchiesText({ authorized, disabled }: TpmInfo): string {
  const off = disabled.length > 0 ? `disabled: ${disabled.join(', ')}; ` : '';
  return `${off}authorization values set: ${authorized.join(', ') || 'none'}`;
}

function hex(handle: number): string {
  return `0x${handle.toString(16).padStart(8, '0')}`;
}
