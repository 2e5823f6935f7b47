// UEFI_GPT_DATA: the partition table as the firmware saw it [PFP 10.2, UEFI 2.10 section 5.3].
import { Reader, utf16 } from './reader.ts';

export interface Gpt {
  /** DiskGUID in text form. */
  disk: string;
  partitions: Partition[];
}

export interface Partition {
  type: string;
  guid: string;
  firstBlock: bigint;
  lastBlock: bigint;
  /** Bits 48 and up belong to the type. EVE and ChromeOS: priority 48–51, tries left 52–55, booted well 56. */
  attributes: bigint;
  name: string;
}

/** Throws FormatError with field and offset. */
export function readGpt(data: Uint8Array): Gpt {
  const reader = new Reader(data, 'UEFI_GPT_DATA');
  reader.take(56, 'UEFIPartitionHeader');
  const disk = reader.guid('UEFIPartitionHeader.DiskGUID');
  reader.take(12, 'UEFIPartitionHeader.PartitionEntryLBA');
  const entrySize = reader.u32('UEFIPartitionHeader.SizeOfPartitionEntry');
  reader.take(4, 'UEFIPartitionHeader.PartitionEntryArrayCRC32');
  if (entrySize < 128 || entrySize > 4096) reader.fail(`${entrySize} bytes`, 'SizeOfPartitionEntry', 84);
  const count = reader.length64('NumberOfPartitions', entrySize);
  return { disk, partitions: Array.from({ length: count }, (_, i) => readPartition(reader, i, entrySize)) };
}

function readPartition(reader: Reader, index: number, size: number): Partition {
  const field = `Partitions[${index}]`;
  const end = reader.at + size;
  const partition = {
    type: reader.guid(field),
    guid: reader.guid(field),
    firstBlock: reader.u64(field),
    lastBlock: reader.u64(field),
    attributes: reader.u64(field),
    name: utf16(untilNul(reader.take(72, field))),
  };
  reader.take(end - reader.at, field);
  return partition;
}

/** How a boot loader chooses between slots. */
export interface SlotState {
  priority: number;
  triesLeft: number;
  bootedWell: boolean;
}

/** Types whose attributes say which slot to boot: EVE's root file systems, and the kernels of ChromeOS. */
const slotTypes: ReadonlySet<string> = new Set([
  '5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6',
  'fe3a2a5d-4f32-41a7-b725-accc3285a309',
]);

/** Undefined for partitions that are no slots, and for a slot that was never used. */
export function slotState({ type, attributes }: Partition): SlotState | undefined {
  const bits = Number((attributes >> 48n) & 0xffffn);
  if (bits === 0 || !slotTypes.has(type)) return undefined;
  return { priority: bits & 15, triesLeft: (bits >> 4) & 15, bootedWell: ((bits >> 8) & 1) === 1 };
}

function untilNul(name: Uint8Array): Uint8Array {
  let end = 0;
  while (end < name.length && (name[end] !== 0 || name[end + 1] !== 0)) end += 2;
  return name.subarray(0, end);
}
