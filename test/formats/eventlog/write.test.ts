import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { headerEvent, startupLocalityEvent, writeEvent1, writeLog } from '../../../formats/eventlog/write.ts';
import type { HashName } from '../../../formats/tpm2/hash.ts';
import { expectedLogs, type MadeEvent, madeLog, readEventLog } from '../../kit/eventlogs.ts';

const settings = { seed: 20261123, numRuns: 200 };
const banks: readonly HashName[] = ['sha1', 'sha256', 'sha384', 'sha512'];

const anyEvent: fc.Arbitrary<MadeEvent> = fc.record({
  pcr: fc.nat(23),
  type: fc.constantFrom(...Object.values(EventType)),
  data: fc.uint8Array({ maxLength: 200 }),
});
const anyBanks = fc.subarray([...banks], { minLength: 1 });

for (const name of Object.keys(expectedLogs))
  test(`${name}: writing what was parsed gives the same bytes`, () => {
    const bytes = readEventLog(name);
    assert.ok(Buffer.from(writeLog(parseLog(bytes))).equals(bytes));
  });

test('parsing what was written gives the same events, in every format and with any banks', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { minLength: 1, maxLength: 20 }), anyBanks, (events, used) => {
      for (const format of ['crypto-agile', 'headerless', 'sha1'] as const) {
        const bytes = madeLog(events, format === 'sha1' ? ['sha1'] : used, format);
        const log = parseLog(bytes);
        assert.is(log.format, format);
        assert.is(log.truncated, undefined);
        const read = format === 'crypto-agile' ? log.events.slice(1) : log.events;
        assert.equal(
          read.map(({ pcr, type, data }) => ({ pcr, type, data: Buffer.from(data) })),
          events.map(({ pcr, type, data }) => ({ pcr, type, data: Buffer.from(data as Uint8Array) })),
        );
        assert.ok(Buffer.from(writeLog(log)).equals(bytes));
      }
    }),
    settings,
  );
});

test('parsing any bytes gives a log or a FormatError, and a log writes back to a part of the bytes', () => {
  const whole = readEventLog('tpm2-tools/event.bin');
  const change = fc.tuple(fc.nat(whole.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      try {
        const log = parseLog(bytes);
        const end = log.events.reduce((sum, event) => sum + event.size, 0);
        assert.ok(Buffer.from(writeLog(log)).equals(bytes.subarray(0, end)));
      } catch (error) {
        assert.is((error as Error).name, 'FormatError');
      }
    }),
    { ...settings, numRuns: 1000 },
  );
});

test('the header and the startup locality read back as what they say', () => {
  const log = parseLog(
    writeLog({ format: 'crypto-agile', events: [headerEvent(banks), startupLocalityEvent(3, banks)] }),
  );
  assert.equal(log.banks, banks);
  assert.is(log.events[1]?.data.at(-1), 3);
});

test('TCG_PCR_EVENT takes one SHA-1 digest and no other', () => {
  const event = { pcr: 0, type: EventType.EV_SEPARATOR, data: new Uint8Array(4) };
  assert.throws(() => writeEvent1({ ...event, digests: [] }), /one SHA-1 digest/);
  assert.throws(
    () => writeEvent1({ ...event, digests: [{ hashAlg: 0x0b, digest: new Uint8Array(32) }] }),
    /one SHA-1 digest/,
  );
});

test.run();
