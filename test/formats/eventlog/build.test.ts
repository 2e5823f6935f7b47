import { crc32 } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  bootOrderData,
  diskFilePath,
  firmwareBlobData,
  gptData,
  handoffTableData,
  imageLoadData,
  loadOption,
  text16,
  variableData,
} from '../../../formats/eventlog/build.ts';
import { readEventData } from '../../../formats/eventlog/data.ts';
import { readGpt } from '../../../formats/eventlog/gpt.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { EFI_GLOBAL_VARIABLE, readVariable } from '../../../formats/eventlog/variables.ts';
import { readEventLog } from '../../kit/eventlogs.ts';

const partition = {
  type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  guid: 'ad6871ee-31f9-4cf3-9e09-6f7a25c30051',
  firstBlock: 0x800n,
  lastBlock: 0x127ffn,
  attributes: 0x0102n << 48n,
  name: 'EFI System',
};
const path = diskFilePath(6, 1, partition, '\\EFI\\BOOT\\BOOTX64.EFI');
const pathText =
  'PciRoot(0x0)/Pci(0x6,0x0)/HD(1,GPT,ad6871ee-31f9-4cf3-9e09-6f7a25c30051,0x800,0x12000)/\\EFI\\BOOT\\BOOTX64.EFI';

test('variables read back', () => {
  const order = readVariable(variableData(EFI_GLOBAL_VARIABLE, 'BootOrder', bootOrderData([1, 0x2a])));
  assert.equal(
    [order.guid, order.name, order.value],
    [EFI_GLOBAL_VARIABLE, 'BootOrder', { kind: 'boot-order', order: [1, 42] }],
  );
  const option = readVariable(variableData(EFI_GLOBAL_VARIABLE, 'Boot002A', loadOption('UEFI OS', path)));
  assert.equal(option.value, {
    kind: 'boot-option',
    number: 42,
    description: 'UEFI OS',
    path: pathText,
    active: true,
  });
});

test('programs, firmware and tables read back', () => {
  const read = (type: number, data: Uint8Array) => readEventData({ pcr: 0, type, data });
  assert.equal(read(EventType.EV_EFI_BOOT_SERVICES_APPLICATION, imageLoadData(1n, 2n, path)), {
    kind: 'image',
    path: pathText,
  });
  assert.equal(read(EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, firmwareBlobData(0xff000000n, 4096n)), {
    kind: 'firmware-blob',
    name: '',
    base: 0xff000000n,
    length: 4096n,
  });
  assert.equal(
    read(EventType.EV_EFI_HANDOFF_TABLES2, handoffTableData('SmbiosTable', EFI_GLOBAL_VARIABLE, 1n)),
    {
      kind: 'tables',
      name: 'SmbiosTable',
    },
  );
  assert.equal(read(EventType.EV_S_CRTM_VERSION, text16('1.0.0\0')), {
    kind: 'firmware-version',
    version: '1.0.0',
  });
});

test('a partition table reads back, and its checksums are those of a disk', () => {
  const gpt = {
    disk: 'ad6871ee-31f9-4cf3-9e09-6f7a25c30050',
    partitions: [partition, { ...partition, name: 'IMGA' }],
  };
  const data = Buffer.from(gptData(gpt, 0x10000n));
  assert.equal(readGpt(data), gpt);
  const table = Buffer.alloc(128 * 128);
  data.copy(table, 0, 100);
  assert.is(data.readUInt32LE(88), crc32(table));
  const header = Buffer.from(data.subarray(0, 92));
  header.writeUInt32LE(0, 16);
  assert.is(data.readUInt32LE(16), crc32(header));
});

test('what real firmware logged of its partition table is written the same, but for the empty entries in between', () => {
  const event = parseLog(readEventLog('eve/empty_uri.last_good_log.bin')).events[16];
  const real = Buffer.from(event?.data ?? []);
  const written = Buffer.from(gptData(readGpt(real), real.readBigUInt64LE(32) + 1n));
  // Both checksums cover the position of entries in the table, which the event does not tell.
  for (const checksum of [16, 88]) written.copy(real, checksum, checksum, checksum + 4);
  assert.ok(written.equals(real));
});

test.run();
