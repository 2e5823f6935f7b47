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

export function slotState(partition: Partition): SlotState {
  const bits = Number((partition.attributes >> 48n) & 0xffffn);
  return { priority: bits & 15, triesLeft: (bits >> 4) & 15, bootedWell: ((bits >> 8) & 1) === 1 };
}

function untilNul(name: Uint8Array): Uint8Array {
  let end = 0;
  while (end < name.length && (name[end] !== 0 || name[end + 1] !== 0)) end += 2;
  return name.subarray(0, end);
}
