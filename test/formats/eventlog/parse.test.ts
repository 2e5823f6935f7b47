import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { logLimits, parseLog } from '../../../formats/eventlog/parse.ts';
import { EventType, eventTypeName } from '../../../formats/eventlog/types.ts';
import { headerEvent, writeEvent, writeLog } from '../../../formats/eventlog/write.ts';
import { FormatError } from '../../../formats/format-error.ts';
import { expectedLogs, madeEvent, madeLog, readEventLog } from '../../kit/eventlogs.ts';

const separator = { pcr: 0, type: EventType.EV_SEPARATOR, data: new Uint8Array(4) };

function fails(bytes: Uint8Array, path: RegExp, reason: RegExp): void {
  assert.throws(
    () => parseLog(bytes),
    (error: unknown) => error instanceof FormatError && path.test(error.path) && reason.test(error.message),
  );
}

/** The header and one event with a field of its own choosing at `offset` into the event. */
function spoilt(offset: number, value: number, size: 2 | 4): Uint8Array {
  const bytes = madeLog([separator]);
  const start = bytes.length - writeEvent(madeEvent(separator)).length;
  const view = new DataView(bytes.buffer);
  if (size === 2) view.setUint16(start + offset, value, true);
  else view.setUint32(start + offset, value, true);
  return bytes;
}

for (const [name, expected] of Object.entries(expectedLogs)) {
  test(`${name}: format, banks and events`, () => {
    const log = parseLog(readEventLog(name));
    assert.is(log.truncated, undefined);
    assert.is(log.padding, 0);
    if (expected.format === null) {
      assert.is(log.format, 'headerless');
      return;
    }
    assert.is(log.format, expected.format === 'sha1-legacy' ? 'sha1' : expected.format);
    assert.equal(log.banks, expected.banks);
    assert.is(log.events.length, expected.events);
    const counts: Record<string, number> = {};
    for (const { type } of log.events) counts[eventTypeName(type)] = (counts[eventTypeName(type)] ?? 0) + 1;
    assert.equal(counts, expected.eventTypes);
  });
}

test("EVE's log of PCR 14 has no header and reads as what it is", () => {
  const log = parseLog(readEventLog('eve/measurefs_tpm_event_log'));
  assert.is(log.format, 'headerless');
  assert.equal(log.banks, ['sha256']);
  assert.is(log.events.length, 17);
  assert.ok(log.events.every(({ pcr, type }) => pcr === 14 && type === EventType.EV_EFI_ACTION));
});

test('vendor data of the header is kept, and nothing has to follow it', () => {
  const log = parseLog(readEventLog('tpm2-tools/specid-vendordata.bin'));
  assert.is(log.format, 'crypto-agile');
  assert.equal(log.banks, ['sha1', 'sha256']);
  assert.is(log.events.length, 1);
  assert.is(log.truncated, undefined);
  assert.equal([...(log.events[0]?.data.subarray(-4) ?? [])], [0xde, 0xad, 0xbe, 0xef]);
});

test('an empty log is an error, never a log without events', () => {
  fails(readEventLog('ovmf/deb2022-tis-shim-grub-nosb/binary_bios_measurements'), /^log$/, /is empty/);
});

test('an algorithm this code does not know is skipped by the size that the header states', () => {
  const header = headerEvent(['sha256']);
  // One more algorithm in the header: 0x7777 with 5 bytes.
  const data = Buffer.concat([header.data.subarray(0, -1), Buffer.from('777705', 'hex'), Buffer.alloc(2)]);
  data.writeUInt32LE(2, 24);
  const event = madeEvent(separator);
  const digests = [{ hashAlg: 0x7777, digest: Buffer.alloc(5, 7) }, ...event.digests];
  const bytes = writeLog({
    format: 'crypto-agile',
    events: [
      { ...header, data },
      { ...event, digests },
    ],
  });
  const log = parseLog(bytes);
  assert.equal(log.banks, ['sha256']);
  assert.is(log.events[1]?.digests.length, 2);
  assert.equal(
    Buffer.from(log.events[1]?.digest('sha256') ?? []),
    Buffer.from(event.digests[0]?.digest ?? []),
  );
  assert.equal(Buffer.from(writeLog(log)), Buffer.from(bytes));
});

for (const fill of [0x00, 0xff])
  test(`0x${fill.toString(16)} after the last event is padding`, () => {
    for (const length of [1, 7, 8, 4096]) {
      const bytes = madeLog([separator, separator]);
      const log = parseLog(Buffer.concat([bytes, Buffer.alloc(length, fill)]));
      assert.is(log.events.length, 3);
      assert.is(log.padding, length);
      assert.is(log.truncated, undefined);
      assert.equal(Buffer.from(writeLog(log)), Buffer.from(bytes));
    }
  });

/** Each prefix is an error, a log marked as truncated, or ends with an event (or zeros that may be padding). */
function cutAt(bytes: Uint8Array, length: number): void {
  const whole = parseLog(bytes);
  const ends = new Set(whole.events.map((event) => event.offset + event.size));
  const log = parseLog(bytes.subarray(0, length));
  const complete = ends.has(length - log.padding);
  assert.is(log.truncated === undefined, complete, `cut at ${length}`);
  if (log.truncated) assert.ok(log.truncated instanceof FormatError && log.truncated.offset <= length);
  assert.ok(log.events.length <= whole.events.length);
  for (const [i, event] of log.events.entries()) {
    assert.is(event.pcr, whole.events[i]?.pcr);
    assert.equal(event.data, whole.events[i]?.data);
  }
}

test('a small log cut at every byte is marked as truncated', () => {
  for (const name of [
    'tpm2-tools/event.bin',
    'tpm2-tools/event-uefiaction.bin',
    'tpm2-tools/event-sd-boot-fedora37.bin',
  ]) {
    const bytes = readEventLog(name);
    for (let length = 1; length <= 4; length++) fails(bytes.subarray(0, length), /^log$/, /holds no event/);
    for (let length = 5; length < bytes.length; length++) cutAt(bytes, length);
  }
});

test('a large log cut at many bytes is marked as truncated', () => {
  for (const name of [
    'eve/binary_bios_measurement',
    'go-attestation/option_rom_eventlog',
    'eve/measurefs_tpm_event_log',
  ]) {
    const bytes = readEventLog(name);
    // The first digest of a headerless log tells that it is one.
    for (let length = 60; length < bytes.length; length += 97) cutAt(bytes, length);
  }
});

test('[N30] an event of 3.18 GB or 0xffffffff bytes is refused by its length', () => {
  // TCG_PCR_EVENT2 with one SHA-256 digest: eventSize stands at 46.
  for (const size of [3_180_000_000, 0xffffffff, logLimits.data + 1])
    fails(spoilt(46, size, 4), /^events\[1\]\.eventSize$/, /at most/);
});

test('[N33] a PCR that does not exist is refused, in both formats', () => {
  fails(spoilt(0, 24, 4), /^events\[1\]\.pcrIndex$/, /there is no PCR 24/);
  fails(spoilt(0, 0xffffffff, 4), /^events\[1\]\.pcrIndex$/, /there is no PCR 4294967295/);
  const legacy = Buffer.from(madeLog([separator], ['sha1'], 'sha1'));
  legacy.writeUInt32LE(0xffffffff, 0);
  fails(legacy, /^events\[0\]\.pcrIndex$/, /there is no PCR 4294967295/);
});

test('[N26] EV_NO_ACTION may stand in PCR 0xffffffff, as Windows writes it', () => {
  const log = parseLog(madeLog([{ pcr: 0xffffffff, type: EventType.EV_NO_ACTION, data: 'WBCL' }, separator]));
  assert.is(log.events.length, 3);
});

test('[N28] digest counts, sizes and algorithms that cannot be are refused', () => {
  fails(spoilt(8, 0xffffffff, 4), /^events\[1\]\.digests\.count$/, /at most 16/);
  fails(spoilt(12, 0x1234, 2), /^events\[1\]\.digests\[0\]\.hashAlg$/, /0x1234 has no size/);
  const event = madeEvent(separator);
  const twice = { ...event, digests: [...event.digests, ...event.digests] };
  const bytes = writeLog({ format: 'crypto-agile', events: [headerEvent(['sha256']), twice] });
  fails(bytes, /^events\[1\]\.digests\[1\]\.hashAlg$/, /appears twice/);
});

test('[N35] NumAlgs of 0, of 0xffffffff and sizes that no algorithm has are refused', () => {
  const header = (change: (data: Buffer) => void) => {
    const data = Buffer.from(headerEvent(['sha256']).data);
    change(data);
    return writeLog({ format: 'crypto-agile', events: [{ ...headerEvent(['sha256']), data }] });
  };
  fails(
    header((data) => data.writeUInt32LE(0, 24)),
    /numberOfAlgorithms/,
    /from 1 to 16/,
  );
  fails(
    header((data) => data.writeUInt32LE(0xffffffff, 24)),
    /numberOfAlgorithms/,
    /from 1 to 16/,
  );
  fails(
    header((data) => data.writeUInt32LE(16, 24)),
    /digestSizes/,
    /need 2 bytes/,
  );
  fails(
    header((data) => data.writeUInt16LE(20, 30)),
    /digestSizes\[0\]/,
    /no digest size/,
  );
  fails(
    header((data) => data.writeUInt16LE(0x7777, 28) && data.writeUInt16LE(0, 30)),
    /digestSizes\[0\]/,
    /no digest size/,
  );
});

test('[N35] a log of 100 MB is refused before it is read, one with too many events where they are too many', () => {
  fails(Buffer.alloc(100_000_000), /^log$/, /at most 2097152/);
  const empty = writeEvent({ pcr: 8, type: EventType.EV_IPL, digests: [], data: new Uint8Array() });
  const many = Buffer.concat([madeLog([]), ...Array<Uint8Array>(logLimits.events + 1).fill(empty)]);
  fails(many, /^log$/, /more than 20000 events/);
});

test('[N35] two megabytes that look like padding up to the last byte', () => {
  const zeros = Buffer.alloc(logLimits.size - 1000);
  zeros[zeros.length - 1] = 1;
  fails(Buffer.concat([madeLog([separator]), zeros]), /^log$/, /more than 20000 events/);
});

test.run();
