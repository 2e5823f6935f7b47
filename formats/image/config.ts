// What EVE's measure-config makes of /config (PCR 14): which files count by their content, and which by being there.
import { configFileMeasurement, type Measurement } from '../eventlog/eve-boot.ts';

/** Only whether they exist is measured: the content is a secret or unique to the device. */
const contentExcluded = [
  'tpm_credential',
  'device.cert.pem',
  'device.key.pem',
  'onboard.cert.pem',
  'onboard.key.pem',
  'soft_serial',
  'ftpm.tar.xz',
];
/** Files that change what EVE does: that they are absent is measured as well. */
const existenceWatched = [
  'bootstrap-config.pb',
  'DevicePortConfig/override.json',
  'GlobalConfig/global.json',
];

/** Whether only the existence of a file of /config is measured. */
export function measuredByExistence(path: string): boolean {
  return contentExcluded.includes(path);
}

/**
 * Every file that is there and those that are looked for, sorted by path.
 *
 * @param files paths below /config, and the SHA-256 of each whose content counts
 */
export function configMeasurements(files: ReadonlyMap<string, Uint8Array | undefined>): Measurement[] {
  const encoder = new TextEncoder();
  const paths = [...new Set([...files.keys(), ...contentExcluded, ...existenceWatched])]
    .map((path) => ({ path, bytes: encoder.encode(path) }))
    .sort((a, b) => compare(a.bytes, b.bytes));
  return paths.map(({ path, bytes }) => {
    const hash = measuredByExistence(path) ? undefined : files.get(path);
    return configFileMeasurement(eventPath(path, bytes), files.has(path), hash);
  });
}

/** TPM2_PCR_Event takes 1,024 bytes of data, so a long path is cut to its file name. */
function eventPath(path: string, bytes: Uint8Array): string {
  return '/config/'.length + bytes.length > 512 ? (path.split('/').at(-1) as string) : `/config/${path}`;
}

function compare(one: Uint8Array, other: Uint8Array): number {
  for (let i = 0; i < Math.min(one.length, other.length); i++) {
    const difference = (one[i] as number) - (other[i] as number);
    if (difference !== 0) return difference;
  }
  return one.length - other.length;
}
