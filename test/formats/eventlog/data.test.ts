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

// ---- What other systems than EVE write

const u32 = (...values: number[]) => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * i);
  return bytes;
};
const tagged = (id: number, body: Uint8Array) => Buffer.concat([u32(id, body.length), body]);
const wide = (text: string) => Buffer.from(`${text}\0`, 'utf16le');
const read = (pcr: number, type: number, data: Uint8Array) => readEventData({ pcr, type, data });
const said = (pcr: number, type: number, data: Uint8Array) => describeEvent({ pcr, type, data });

test('Windows: events in events, switches, numbers, texts and digests', () => {
  const real = parseLog(readEventLog('go-attestation/option_rom_eventlog'));
  const boundary = kind(readEventData(real.events[46] as never), 'windows');
  assert.equal(
    boundary.events.map(({ name }) => name),
    ['TRUSTBOUNDARY'],
  );
  assert.match(describeEvent(real.events[46] as never), /^Windows: trustboundary \(.*testsigning no/);
  const module = tagged(
    0x40010003,
    Buffer.concat([tagged(0x00070001, wide('\\Windows\\winload.efi')), tagged(0x00070002, u32(4096))]),
  );
  const data = tagged(0x40010001, Buffer.concat([module, tagged(0x00050003, Buffer.of(1))]));
  assert.is(
    said(12, EventType.EV_EVENT_TAG, data),
    'Windows: trustboundary (loadedmodule aggregation (filepath \\Windows\\winload.efi, imagesize 4096), testsigning yes)',
  );
});

test('Windows: nesting without end and lengths beyond the event stay data with a reason', () => {
  let deep: Uint8Array = Buffer.of(1);
  for (let i = 0; i < 200; i++) deep = tagged(0x40010001, deep);
  assert.is(read(12, EventType.EV_EVENT_TAG, deep).kind, 'windows');
  const long = Buffer.concat([u32(0x40010001, 0xffffffff), Buffer.of(1)]);
  const opaque = kind(read(12, EventType.EV_EVENT_TAG, long), 'opaque');
  assert.match(opaque.reason ?? '', /SIPA/);
  const many = tagged(0x40010001, Buffer.concat(Array(10_001).fill(tagged(0x00050003, new Uint8Array()))));
  assert.match(kind(read(12, EventType.EV_EVENT_TAG, many), 'opaque').reason ?? '', /more than 10000 events/);
});

test('systemd: loader.conf and add-ons by their tags, sections of a unified kernel image, its command line', () => {
  assert.equal(read(5, EventType.EV_EVENT_TAG, tagged(0xf5bc582a, wide('loader.conf'))), {
    kind: 'boot-file',
    role: 'boot-config',
    name: 'loader.conf',
  });
  assert.equal(read(12, EventType.EV_EVENT_TAG, tagged(0xdac08e1a, wide('microcode'))), {
    kind: 'boot-file',
    role: 'microcode',
    name: 'microcode',
  });
  const section = (name: string) => read(11, EventType.EV_IPL, Buffer.from(`${name}\0`));
  assert.equal(
    ['.linux', '.cmdline', '.initrd', '.dtb', '.osrel'].map((name) => kind(section(name), 'boot-file').role),
    ['kernel', 'kernel-options', 'initrd', 'device-tree', 'file'],
  );
  assert.equal(read(12, EventType.EV_IPL, wide('quiet splash')), {
    kind: 'kernel-command-line',
    text: 'quiet splash',
  });
});

test('shim: its keys by name, its levels as text, the certificate that vouched for a program', () => {
  for (const name of ['MokList', 'MokListX', 'MokListTrusted', 'MokSBState'])
    assert.is(
      kind(read(14, EventType.EV_IPL, Buffer.from(`${name}\0`)), 'boot-file').role,
      'machine-owner-keys',
    );
  const boot = parseLog(readEventLog('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements'));
  assert.is(describeEvent(boot.events[27] as never), 'SbatLevel is sbat,1,2025021800 shim,4 grub,5');
  const { value } = kind(readEventData(boot.events[29] as never), 'variable');
  assert.is(value.kind === 'signatures' && value.signatures[0]?.type, 'x509');
});

test('SP800-155: the place of reference values, with platform and firmware from version 2 on', () => {
  const guid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  const text = (words: string) => Buffer.concat([Buffer.of(words.length + 1), Buffer.from(`${words}\0`)]);
  const start = (signature: string) =>
    Buffer.concat([Buffer.from(signature.padEnd(16, '\0')), u32(311), guid]);
  assert.is(
    said(0, EventType.EV_NO_ACTION, start('SP800-155 Event')),
    'reference values 33221100-5544-7766-8899-aabbccddeeff',
  );
  const second = Buffer.concat([
    start('SP800-155 Event2'),
    ...['Maker', 'Board', '1.0', 'Firmware Co'].map(text),
    u32(7),
    text('2.5'),
  ]);
  assert.is(
    said(0, EventType.EV_NO_ACTION, second),
    'reference values 33221100-5544-7766-8899-aabbccddeeff, Maker Board 1.0, Firmware Co 2.5',
  );
  assert.is(kind(read(0, EventType.EV_NO_ACTION, second.subarray(0, 60)), 'opaque').kind, 'opaque');
});

test('the memory guard of a cloud, a compact hash, a partition table without slots', () => {
  const info = Buffer.concat([Buffer.from('GCE NonHostInfo\0'), Buffer.of(2), Buffer.alloc(15)]);
  assert.is(said(0, EventType.EV_NONHOST_INFO, info), 'GCE NonHostInfo: technology 2');
  assert.is(said(11, EventType.EV_COMPACT_HASH, u32(0x10)), '0x00000010');
  const windows = parseLog(readEventLog('go-attestation/option_rom_eventlog')).events[42] as never;
  assert.not.match(describeEvent(windows), /priority/);
});

test.run();
