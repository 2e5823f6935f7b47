// Event data as firmware writes it: the pair of data.ts, for machines whose firmware is ours.
import { concat } from '../tpm2/hash.ts';
import type { Gpt, Partition } from './gpt.ts';

/** UEFI_VARIABLE_DATA [PFP 10.2]. */
export function variableData(guid: string, name: string, data: Uint8Array): Uint8Array {
  return concat(guidBytes(guid), u64(BigInt(name.length)), u64(BigInt(data.length)), text16(name), data);
}

/** EFI_LOAD_OPTION, active [UEFI 2.10 section 3.1.3]. */
export function loadOption(description: string, path: Uint8Array): Uint8Array {
  return concat(u32(1), u16(path.length), text16(`${description}\0`), path);
}

export function bootOrderData(order: readonly number[]): Uint8Array {
  return concat(...order.map(u16));
}

/** UEFI_IMAGE_LOAD_EVENT [PFP 10.2]. */
export function imageLoadData(address: bigint, length: bigint, path: Uint8Array): Uint8Array {
  return concat(u64(address), u64(length), u64(0n), u64(BigInt(path.length)), path);
}

/** UEFI_PLATFORM_FIRMWARE_BLOB [PFP 10.2]. */
export function firmwareBlobData(base: bigint, length: bigint): Uint8Array {
  return concat(u64(base), u64(length));
}

/** UEFI_HANDOFF_TABLE_POINTERS2 with one table [PFP 10.2]. */
export function handoffTableData(description: string, guid: string, address: bigint): Uint8Array {
  const name = new TextEncoder().encode(`${description}\0`);
  return concat(Uint8Array.of(name.length), name, u64(1n), guidBytes(guid), u64(address));
}

/** UEFI_GPT_DATA; the header's checksums are those of the UEFI specification [PFP 10.2, UEFI 2.10 section 5.3.2]. */
export function gptData(gpt: Gpt, blocks: bigint): Uint8Array {
  const entries = gpt.partitions.map(partitionEntry);
  // The table on disk has room for 128 entries; its checksum covers the empty ones as well.
  const table = concat(...entries, new Uint8Array(128 * (128 - entries.length)));
  const header = concat(
    new TextEncoder().encode('EFI PART'),
    u32(0x00010000),
    u32(92),
    u32(0),
    u32(0),
    u64(1n),
    u64(blocks - 1n),
    u64(34n),
    u64(blocks - 34n),
    guidBytes(gpt.disk),
    u64(2n),
    u32(128),
    u32(128),
    u32(crc32(table)),
  );
  header.set(u32(crc32(header)), 16);
  return concat(header, u64(BigInt(entries.length)), ...entries);
}

function partitionEntry({ type, guid, firstBlock, lastBlock, attributes, name }: Partition): Uint8Array {
  const label = new Uint8Array(72);
  label.set(text16(name));
  return concat(guidBytes(type), guidBytes(guid), u64(firstBlock), u64(lastBlock), u64(attributes), label);
}

/** PCI root 0, PCI device, partition, file: how firmware names a program on a disk [UEFI 2.10 section 10.3]. */
export function diskFilePath(device: number, number: number, partition: Partition, file: string): Uint8Array {
  const size = partition.lastBlock - partition.firstBlock + 1n;
  return concat(
    node(2, 1, concat(u32(0x0a0341d0), u32(0))),
    node(1, 1, Uint8Array.of(0, device)),
    node(
      4,
      1,
      concat(
        u32(number),
        u64(partition.firstBlock),
        u64(size),
        guidBytes(partition.guid),
        Uint8Array.of(2, 2),
      ),
    ),
    node(4, 4, text16(`${file}\0`)),
    node(0x7f, 0xff, new Uint8Array()),
  );
}

function node(type: number, subType: number, body: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(type, subType), u16(body.length + 4), body);
}

/** CHAR16. */
export function text16(text: string): Uint8Array {
  const bytes = new Uint8Array(2 * text.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return bytes;
}

function guidBytes(guid: string): Uint8Array {
  const digits = guid.replaceAll('-', '');
  const bytes = Uint8Array.from({ length: 16 }, (_, i) =>
    Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** CRC-32 of IEEE 802.3. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
