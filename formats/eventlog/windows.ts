// What the Windows boot manager measures into PCRs 11 to 14: tagged events in tagged events, little-endian
// [Windows SDK, wbcl.h].
import { hex, Reader, utf16 } from './reader.ts';

export interface WindowsEvent {
  readonly id: number;
  /** Without its SIPAEVENT_ prefix; hex where no name is known. */
  readonly name: string;
  /** In words; the events inside an aggregation. */
  readonly value: string | readonly WindowsEvent[];
}

const aggregation = 0x40000000;
const deepest = 4;
const mostEvents = 10_000;

/**
 * Reads the data of a Windows event, undefined where they are none: no identifier of Windows at the start.
 * Throws FormatError where they begin as one and do not go on as one.
 */
export function readWindowsEvents(data: Uint8Array): readonly WindowsEvent[] | undefined {
  if (data.length < 8 || !isWindows(new Reader(data, 'id').u32('id'))) return undefined;
  const budget = { left: mostEvents };
  return readEvents(data, 'SIPA', 0, budget);
}

function isWindows(id: number): boolean {
  return names.has(id) || ((id & aggregation) !== 0 && ((id >>> 16) & 0x3fff) === 1);
}

function readEvents(data: Uint8Array, path: string, depth: number, budget: { left: number }): WindowsEvent[] {
  const reader = new Reader(data, path);
  const events: WindowsEvent[] = [];
  while (reader.left > 0) {
    if (budget.left-- === 0) reader.fail(`more than ${mostEvents} events`, 'count');
    const id = reader.u32(`[${events.length}].id`);
    const size = reader.u32(`[${events.length}].size`);
    const body = reader.take(size, `[${events.length}].data`);
    const name = names.get(id) ?? `0x${id.toString(16).padStart(8, '0')}`;
    const nested = (id & aggregation) !== 0 && depth < deepest;
    events.push({
      id,
      name,
      value: nested ? readEvents(body, `${path}.${name}`, depth + 1, budget) : wordsOf(id, body),
    });
  }
  return events;
}

function wordsOf(id: number, data: Uint8Array): string {
  if (texts.has(id)) return utf16(data);
  if (data.length === 1) return data[0] === 0 ? 'no' : data[0] === 1 ? 'yes' : `${data[0]}`;
  const reader = new Reader(data, 'value');
  if (data.length === 4) return `${reader.u32('value')}`;
  if (data.length === 8) return `${reader.u64('value')}`;
  return `${hex(data.subarray(0, 64))}${data.length > 64 ? `… (${data.length} bytes)` : ''}`;
}

/** One line: the events that say most, in the order of the log. */
export function describeWindows(events: readonly WindowsEvent[]): string {
  return `Windows: ${events.map(describe).join(', ')}`;
}

function describe({ name, value }: WindowsEvent): string {
  const words = name.toLowerCase().replaceAll('_', ' ');
  return typeof value === 'string' ? `${words} ${value}` : `${words} (${value.map(describe).join(', ')})`;
}

const table: Readonly<Record<string, number>> = {
  TRUSTBOUNDARY: 0x40010001,
  ELAM_AGGREGATION: 0x40010002,
  LOADEDMODULE_AGGREGATION: 0x40010003,
  TRUSTPOINT_AGGREGATION: 0xc0010004,
  KSR_AGGREGATION: 0x40010005,
  KSR_SIGNED_MEASUREMENT_AGGREGATION: 0x40010006,
  INFORMATION: 0x00020001,
  BOOTCOUNTER: 0x00020002,
  TRANSFER_CONTROL: 0x00020003,
  APPLICATION_RETURN: 0x00020004,
  BITLOCKER_UNLOCK: 0x00020005,
  EVENTCOUNTER: 0x00020006,
  COUNTERID: 0x00020007,
  MORBIT_NOT_CANCELABLE: 0x00020008,
  APPLICATION_SVN: 0x00020009,
  SVN_CHAIN_STATUS: 0x0002000a,
  MORBIT_API_STATUS: 0x0002000b,
  IDK_GENERATION_STATUS: 0x0002000c,
  FIRMWAREFAILURE: 0x00030001,
  TPMFAILURE: 0x00030002,
  BOOTDEBUGGING: 0x00040001,
  BOOT_REVOCATION_LIST: 0x00040002,
  OSKERNELDEBUG: 0x00050001,
  CODEINTEGRITY: 0x00050002,
  TESTSIGNING: 0x00050003,
  DATAEXECUTIONPREVENTION: 0x00050004,
  SAFEMODE: 0x00050005,
  WINPE: 0x00050006,
  PHYSICALADDRESSEXTENSION: 0x00050007,
  OSDEVICE: 0x00050008,
  SYSTEMROOT: 0x00050009,
  HYPERVISOR_LAUNCH_TYPE: 0x0005000a,
  HYPERVISOR_PATH: 0x0005000b,
  HYPERVISOR_IOMMU_POLICY: 0x0005000c,
  HYPERVISOR_DEBUG: 0x0005000d,
  DRIVER_LOAD_POLICY: 0x0005000e,
  SI_POLICY: 0x0005000f,
  HYPERVISOR_MMIO_NX_POLICY: 0x00050010,
  HYPERVISOR_MSR_FILTER_POLICY: 0x00050011,
  VSM_LAUNCH_TYPE: 0x00050012,
  OS_REVOCATION_LIST: 0x00050013,
  SMT_STATUS: 0x00050014,
  VSM_IDK_INFO: 0x00050020,
  FLIGHTSIGNING: 0x00050021,
  PAGEFILE_ENCRYPTION_ENABLED: 0x00050022,
  VSM_IDKS_INFO: 0x00050023,
  HIBERNATION_DISABLED: 0x00050024,
  DUMPS_DISABLED: 0x00050025,
  DUMP_ENCRYPTION_ENABLED: 0x00050026,
  DUMP_ENCRYPTION_KEY_DIGEST: 0x00050027,
  LSAISO_CONFIG: 0x00050028,
  SBCP_INFO: 0x00050029,
  HYPERVISOR_BOOT_DMA_PROTECTION: 0x00050030,
  SI_POLICY_SIGNER: 0x00050031,
  SI_POLICY_UPDATE_SIGNER: 0x00050032,
  NOAUTHORITY: 0x00060001,
  AUTHORITYPUBKEY: 0x00060002,
  FILEPATH: 0x00070001,
  IMAGESIZE: 0x00070002,
  HASHALGORITHMID: 0x00070003,
  AUTHENTICODEHASH: 0x00070004,
  AUTHORITYISSUER: 0x00070005,
  AUTHORITYSERIAL: 0x00070006,
  IMAGEBASE: 0x00070007,
  AUTHORITYPUBLISHER: 0x00070008,
  AUTHORITYSHA1THUMBPRINT: 0x00070009,
  IMAGEVALIDATED: 0x0007000a,
  MODULE_SVN: 0x0007000b,
  QUOTE: 0x80080001,
  QUOTESIGNATURE: 0x80080002,
  AIKID: 0x80080003,
  AIKPUBDIGEST: 0x80080004,
  ELAM_KEYNAME: 0x00090001,
  ELAM_CONFIGURATION: 0x00090002,
  ELAM_POLICY: 0x00090003,
  ELAM_MEASURED: 0x00090004,
  VBS_VSM_REQUIRED: 0x000a0001,
  VBS_SECUREBOOT_REQUIRED: 0x000a0002,
  VBS_IOMMU_REQUIRED: 0x000a0003,
  VBS_MMIO_NX_REQUIRED: 0x000a0004,
  VBS_MSR_FILTERING_REQUIRED: 0x000a0005,
  VBS_MANDATORY_ENFORCEMENT: 0x000a0006,
  VBS_HVCI_POLICY: 0x000a0007,
  VBS_MICROSOFT_BOOT_CHAIN_REQUIRED: 0x000a0008,
};
const names = new Map<number, string>(Object.entries(table).map(([name, id]) => [id, name]));
const texts: ReadonlySet<number> = new Set(
  [
    'SYSTEMROOT',
    'HYPERVISOR_PATH',
    'FILEPATH',
    'AUTHORITYISSUER',
    'AUTHORITYPUBLISHER',
    'AIKID',
    'ELAM_KEYNAME',
  ].map((name) => table[name] as number),
);
