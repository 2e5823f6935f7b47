import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { diskFilePath, gptData, loadOption, variableData } from '../../../formats/eventlog/build.ts';
import { type EventData, readEventData } from '../../../formats/eventlog/data.ts';
import { describeEvent } from '../../../formats/eventlog/describe.ts';
import { devicePathText } from '../../../formats/eventlog/device-path.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { EFI_GLOBAL_VARIABLE, readSignatures } from '../../../formats/eventlog/variables.ts';
import { FormatError } from '../../../formats/format-error.ts';
import { expectedLogs, readEventLog } from '../../kit/eventlogs.ts';

function dataOf(name: string, index: number): EventData {
  const event = parseLog(readEventLog(name)).events[index];
  if (!event) throw new TypeError(`no event ${index}`);
  return readEventData(event);
}

function kind<K extends EventData['kind']>(data: EventData, wanted: K): Extract<EventData, { kind: K }> {
  assert.is(data.kind, wanted);
  return data as Extract<EventData, { kind: K }>;
}

const good = 'eve/TpmLogs.last_good_log.bin';
const update = 'eve/empty_uri.last_good_log.bin';

test('Secure Boot, keys and forbidden hashes', () => {
  assert.equal(kind(dataOf(good, 5), 'variable').value, { kind: 'switch', on: false });
  const db = kind(dataOf(good, 8), 'variable');
  assert.is(db.name, 'db');
  const { value } = kind(dataOf(good, 9), 'variable');
  assert.is(value.kind, 'signatures');
  if (value.kind === 'signatures') {
    assert.ok(value.signatures.length > 300);
    assert.ok(value.signatures.every(({ type, data }) => type !== 'sha256' || data.length === 32));
  }
});

test('the boot order, and boot entries of firmware that logs them whole or without their first six bytes', () => {
  assert.equal(kind(dataOf(good, 11), 'variable').value, { kind: 'boot-order', order: [1, 3, 4, 5, 2] });
  const bare = kind(dataOf(good, 13), 'variable').value;
  assert.is(bare.kind === 'boot-option' && bare.description, 'UEFI: Generic Flash Disk 8.07, Partition 4');
  assert.is(bare.kind === 'boot-option' && bare.active, undefined);
  const whole = kind(dataOf(update, 18), 'variable').value;
  assert.equal(whole, {
    kind: 'boot-option',
    number: 6,
    description: 'UEFI OS',
    path: 'HD(1,GPT,ad6871ee-31f9-4cf3-9e09-6f7a25c30051,0x800,0x12000)/\\EFI\\BOOT\\BOOTX64.EFI',
    active: true,
  });
});

test('the partition table with the state of both slots', () => {
  const gpt = kind(dataOf(update, 16), 'gpt');
  assert.equal(
    gpt.partitions.map(({ name }) => name),
    ['EFI System', 'IMGA', 'IMGB', 'CONFIG', 'P3'],
  );
  const text = describeEvent(parseLog(readEventLog(update)).events[16] as never);
  assert.match(
    text,
    'IMGA (priority 2, 0 tries left, booted well), IMGB (priority 3, 1 tries left, not proven)',
  );
});

test('programs by device path, the root file system, the command line, files of /config', () => {
  assert.is(
    kind(dataOf(good, 27), 'image').path,
    'PciRoot(0x0)/Pci(0x6,0x0)/Pci(0x0,0x0)/NVMe(0x1,00-18-02-26-02-18-7c-70)/HD(1,GPT,ad6871ee-31f9-4cf3-9e09-6f7a25c30051,0x800,0x12000)/\\EFI\\BOOT\\BOOTX64.EFI',
  );
  assert.is(
    kind(dataOf(update, 56), 'rootfs').hash,
    'c6d986d66eef4c6ca8ddbf5022ce3a10d94c9681d15f4f93023425a4fdf14fa6',
  );
  assert.match(
    kind(dataOf(update, 189), 'kernel-command-line').text,
    /^\/boot\/kernel console=tty0 root=PARTUUID=/,
  );
  assert.equal(kind(dataOf(update, 208), 'config-file'), {
    kind: 'config-file',
    path: '/config/origin.2025-07-28.0.0.0-master-98b86c32',
    exists: true,
    contentHash: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  });
});

test('firmware versions as text and as GUID, the startup locality', () => {
  assert.is(kind(dataOf(good, 3), 'firmware-version').version, 'a7102b05-d9c7-4165-8140-2adde94af63c');
  assert.is(
    kind(dataOf('tpm2-tools/event-gce-ubuntu-2104-log.bin', 1), 'firmware-version').version,
    'GCE Virtual Firmware v1',
  );
  assert.is(kind(dataOf(good, 1), 'startup-locality').locality, 3);
});

test('what Linux and systemd-boot measure', () => {
  const direct = parseLog(readEventLog('ovmf/deb2022-tis-direct-nosb/binary_bios_measurements')).events;
  const roles = direct.map(readEventData).flatMap((data) => (data.kind === 'boot-file' ? [data.role] : []));
  assert.equal(roles, ['kernel-options', 'initrd']);
  assert.match(
    kind(dataOf('tpm2-tools/event-sd-boot-fedora37.bin', 23), 'kernel-command-line').text,
    'console=ttyS0',
  );
});

test('data of any event of any log decodes to something or says why not', () => {
  for (const name of Object.keys(expectedLogs))
    for (const event of parseLog(readEventLog(name)).events) {
      readEventData(event);
      assert.type(describeEvent(event), 'string');
    }
});

test('data cut anywhere or with any byte changed still decodes to something or says why not', () => {
  for (const event of parseLog(readEventLog(good)).events) {
    const step = Math.max(1, Math.floor(event.data.length / 40));
    for (let length = 0; length < event.data.length; length += step) {
      readEventData({ pcr: event.pcr, type: event.type, data: event.data.subarray(0, length) });
      const data = Buffer.from(event.data);
      data[length] = 0xff;
      describeEvent({ pcr: event.pcr, type: event.type, data });
    }
  }
});

const reasonOf = (type: number, data: Uint8Array) => {
  const read = kind(readEventData({ pcr: 7, type, data }), 'opaque');
  return read.reason ?? '';
};

test('[N35] a variable whose lengths exceed the event, a GPT of 10^6 entries', () => {
  const variable = Buffer.from(variableData(EFI_GLOBAL_VARIABLE, 'db', new Uint8Array(8)));
  variable.writeBigUInt64LE(0xffffffffffffffffn, 24);
  assert.match(reasonOf(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable), /VariableDataLength at byte 24/);
  variable.writeBigUInt64LE(1n << 63n, 16);
  assert.match(reasonOf(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable), /UnicodeNameLength at byte 16/);
  const gpt = Buffer.from(gptData({ disk: EFI_GLOBAL_VARIABLE, partitions: [] }, 4096n));
  gpt.writeBigUInt64LE(1_000_000n, 92);
  assert.match(reasonOf(EventType.EV_EFI_GPT_EVENT, gpt), /NumberOfPartitions at byte 92/);
  gpt.writeUInt32LE(0, 84);
  assert.match(reasonOf(EventType.EV_EFI_GPT_EVENT, gpt), /SizeOfPartitionEntry/);
});

/** EFI_SIGNATURE_LIST of one SHA-256, with sizes to choose. */
function signatureList(
  sizes: { list?: number; header?: number; signature?: number },
  extra = Buffer.alloc(0),
): Buffer {
  const sha256 = Buffer.from('2616c4c14c509240aca941f936934328', 'hex');
  const head = Buffer.alloc(12);
  head.writeUInt32LE(sizes.list ?? 28 + extra.length + 48, 0);
  head.writeUInt32LE(sizes.header ?? extra.length, 4);
  head.writeUInt32LE(sizes.signature ?? 48, 8);
  return Buffer.concat([sha256, head, extra, Buffer.alloc(16, 1), Buffer.alloc(32, 2)]);
}

function refusesList(list: Buffer, field: RegExp): void {
  assert.throws(
    () => readSignatures(list),
    (error: unknown) => error instanceof FormatError && field.test(error.path),
  );
}

test('[N31] the vendor header of a signature list is no signature', () => {
  const header = Buffer.alloc(48, 0xee);
  const signatures = readSignatures(signatureList({}, header));
  assert.is(signatures.length, 1);
  assert.equal(Buffer.from(signatures[0]?.data ?? []), Buffer.alloc(32, 2));
});

test('[N32] signature sizes of 0, 15 and 0xffffffff, lists that are too short or too long', () => {
  for (const signature of [0, 15, 16, 47, 0xffffffff])
    refusesList(signatureList({ signature }), /SignatureSize/);
  for (const list of [0, 27, 77, 0xffffffff]) refusesList(signatureList({ list }), /Signature(List)?Size/);
  refusesList(signatureList({ header: 0xffffffff }), /SignatureListSize/);
});

test('[N35] device paths that stand still or run over', () => {
  for (const [path, reason] of [
    ['04040000', /a node of 0 bytes/],
    ['04040300', /a node of 3 bytes/],
    ['0404ff00', /need 251 bytes, have 0/],
  ] as const)
    assert.throws(
      () => devicePathText(Buffer.from(path, 'hex'), 'path'),
      (error: unknown) => error instanceof FormatError && reason.test(error.message),
    );
  const partition = {
    type: EFI_GLOBAL_VARIABLE,
    guid: EFI_GLOBAL_VARIABLE,
    firstBlock: 1n,
    lastBlock: 2n,
    attributes: 0n,
    name: '',
  };
  const many = Buffer.concat(
    Array<Uint8Array>(1000).fill(diskFilePath(1, 1, partition, 'x').subarray(0, -4)),
  );
  assert.match(devicePathText(many, 'path'), /^PciRoot/);
});

test('texts of a log cannot draw on a terminal', () => {
  const drawing = Buffer.from('grub_cmd set a=\u001b[2J\u202eb\0');
  assert.is(
    describeEvent({ pcr: 8, type: EventType.EV_IPL, data: drawing }),
    'GRUB command: set a=\ufffd[2J\ufffdb',
  );
  const option = variableData(
    EFI_GLOBAL_VARIABLE,
    'Boot0001',
    loadOption('a\u0007b', Buffer.from('7fff0400', 'hex')),
  );
  assert.match(describeEvent({ pcr: 1, type: EventType.EV_EFI_VARIABLE_BOOT, data: option }), 'a\ufffdb');
});

test('half a megabyte of NULs, spaces or words is read in bounded time', () => {
  const size = 512 * 1024;
  for (const [type, data] of [
    [
      EventType.EV_S_CRTM_VERSION,
      Buffer.alloc(size)
        .fill(0)
        .fill(1, size - 2),
    ],
    [EventType.EV_IPL, Buffer.concat([Buffer.alloc(2, 'a\0'), Buffer.alloc(size), Buffer.from('b\0')])],
    [EventType.EV_EFI_ACTION, Buffer.alloc(size, 'file: exist:true exist:')],
    [EventType.EV_EFI_ACTION, Buffer.alloc(size, 'file:')],
    [
      EventType.EV_EFI_VARIABLE_BOOT,
      variableData(EFI_GLOBAL_VARIABLE, 'Boot0000', Buffer.alloc(size, '\x04\x04\x04\0')),
    ],
  ] as const)
    assert.type(describeEvent({ pcr: 8, type, data }), 'string');
});

test.run();
