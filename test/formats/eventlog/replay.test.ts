import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type EventLog, type LogEvent, parseLog } from '../../../formats/eventlog/parse.ts';
import {
  checkLog,
  initialPcr,
  type PcrDifference,
  replay,
  startupLocalityOf,
} from '../../../formats/eventlog/replay.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { headerEvent, startupLocalityEvent, writeLog } from '../../../formats/eventlog/write.ts';
import { FormatError } from '../../../formats/format-error.ts';
import type { HashName } from '../../../formats/tpm2/hash.ts';
import {
  expectedLogs,
  expectedPcrs,
  hash,
  type MadeEvent,
  madeEvent,
  madeLog,
  readEventLog,
} from '../../kit/eventlogs.ts';

const separator = { pcr: 0, type: EventType.EV_SEPARATOR, data: new Uint8Array(4) };
const hex = (values: ReadonlyMap<number, Uint8Array>) =>
  Object.fromEntries([...values].map(([pcr, value]) => [pcr, Buffer.from(value).toString('hex')]));

function differencesOf(logs: Uint8Array[], pcrs: ReadonlyMap<number, Uint8Array>): readonly PcrDifference[] {
  const check = checkLog(
    logs.map((log) => parseLog(log)),
    pcrs,
    'sha256',
    hash,
  );
  return check.ok ? [] : check.differing;
}

for (const [name, expected] of Object.entries(expectedLogs))
  for (const bank of expected.banks ?? [])
    test(`${name}: leads to the known ${bank} values`, () => {
      const log = parseLog(readEventLog(name));
      const { pcrs, startupLocality, unmeasured } = replay([log], bank, hash);
      assert.equal(hex(pcrs), hex(expectedPcrs(name, bank)));
      assert.is(startupLocality, expected.startupLocality);
      // Some PCRs have events in one bank alone: measure-config's log knows SHA-256.
      assert.not.ok([...unmeasured.keys()].some((pcr) => pcrs.has(pcr)));
      assert.ok(checkLog([log], expectedPcrs(name, bank), bank, hash).ok);
    });

for (const boot of [
  'deb2022-crb-shim-grub-sb',
  'deb2022-crb-shim-grub-sb-cmdline',
  'deb2022-tis-direct-nosb',
])
  for (const bank of ['sha1', 'sha256', 'sha384'] as const)
    test(`ovmf/${boot}: leads to the live ${bank} PCRs of the machine`, () => {
      const folder = new URL(`../../fixtures/eventlog/ovmf/${boot}/`, import.meta.url);
      const lines = readFileSync(new URL(`pcrs.${bank}.txt`, folder), 'utf8')
        .trim()
        .split('\n');
      const live = new Map(
        lines.map((line) => {
          const [pcr, value] = line.split(' ') as [string, string];
          return [Number(pcr), new Uint8Array(Buffer.from(value, 'hex'))];
        }),
      );
      // Linux extends PCR 10 (IMA) and logs it elsewhere.
      const differing = checkLog(
        [parseLog(readEventLog(`ovmf/${boot}/binary_bios_measurements`))],
        live,
        bank,
        hash,
      );
      assert.equal(differing.ok ? [] : differing.differing.map(({ pcr, reason }) => [pcr, reason]), [
        [10, 'no-events'],
      ]);
      live.delete(10);
      assert.ok(
        checkLog([parseLog(readEventLog(`ovmf/${boot}/binary_bios_measurements`))], live, bank, hash).ok,
      );
    });

test('two logs of one boot are replayed one after the other', () => {
  const bios = madeLog([separator]);
  const config = readEventLog('eve/measurefs_tpm_event_log');
  const logs = [parseLog(bios), parseLog(config)];
  const { pcrs } = replay(logs, 'sha256', hash);
  assert.equal([...pcrs.keys()], [0, 14]);
  const check = checkLog(logs, pcrs, 'sha256', hash);
  assert.ok(check.ok);
  if (check.ok) {
    assert.is(check.log.events.length, 18);
    // Counted through both logs: header and separator are 0 and 1.
    assert.equal(
      check.log.events.slice(0, 2).map(({ index, pcr }) => [index, pcr]),
      [
        [1, 0],
        [2, 14],
      ],
    );
  }
});

test('only events of checked PCRs are among the checked events', () => {
  const name = 'eve/empty_uri.last_good_log.bin';
  const pcrs = new Map([...expectedPcrs(name, 'sha256')].filter(([pcr]) => pcr === 13));
  const check = checkLog([parseLog(readEventLog(name))], pcrs, 'sha256', hash);
  assert.ok(check.ok);
  if (check.ok)
    assert.equal(
      check.log.events.map(({ pcr }) => pcr),
      [13],
    );
});

const locality = (value: number) => startupLocalityEvent(value, ['sha256']);
const logOf = (...events: ReturnType<typeof madeEvent>[]) =>
  parseLog(writeLog({ format: 'crypto-agile', events: [headerEvent(['sha256']), ...events] }));

test('[N25] PCR 0 starts from the stated locality, from 4 after an H-CRTM, from 0 otherwise', () => {
  const extend = madeEvent(separator);
  const hcrtm = madeEvent({ pcr: 0, type: EventType.EV_EFI_HCRTM_EVENT, data: 'HCRTM' });
  const cases = [
    { log: logOf(extend), start: 0 },
    { log: logOf(locality(3), extend), start: 3 },
    { log: logOf(locality(4), extend), start: 4 },
    { log: logOf(hcrtm, extend), start: 4 },
    // Too late, in another PCR, or a second one: not believed.
    { log: logOf(extend, locality(3)), start: 0 },
    { log: logOf({ ...locality(3), pcr: 1 }, extend), start: 0 },
    { log: logOf(locality(3), locality(4), extend), start: 3 },
  ];
  for (const { log, start } of cases) {
    assert.is(startupLocalityOf([log]), start);
    let value: Uint8Array = initialPcr(0, 'sha256', start);
    for (const event of log.events.filter(({ pcr, type }) => pcr === 0 && type !== EventType.EV_NO_ACTION))
      value = hash('sha256', Buffer.concat([value, event.digest('sha256') as Uint8Array]));
    assert.equal(Buffer.from(replay([log], 'sha256', hash).pcrs.get(0) ?? []), value);
  }
});

test('[N26] EV_NO_ACTION never extends, whatever digest it carries', () => {
  const quiet = {
    pcr: 0,
    type: EventType.EV_NO_ACTION,
    data: Buffer.from('SP800-155 Event'),
    digests: madeEvent(separator).digests,
  };
  assert.equal(replay([logOf(quiet)], 'sha256', hash).pcrs.size, 0);
});

test('[N23] a PCR that was extended and has no events is a difference of its own', () => {
  const pcrs = new Map([[2, Buffer.alloc(32, 7)]]);
  const [difference] = differencesOf([madeLog([separator])], pcrs);
  assert.is(difference?.reason, 'no-events');
  assert.equal(
    differencesOf(
      [madeLog([separator])],
      new Map([
        [2, Buffer.alloc(32)],
        [17, Buffer.alloc(32, 0xff)],
      ]),
    ),
    [],
  );
});

test('[N28] an event without a digest in the bank is a difference of its own, with its place', () => {
  const events = [
    headerEvent(['sha1', 'sha256']),
    madeEvent(separator, ['sha1', 'sha256']),
    madeEvent(separator, ['sha1']),
  ];
  const bytes = writeLog({ format: 'crypto-agile', events });
  const { pcrs } = replay([parseLog(bytes)], 'sha256', hash);
  const [difference] = differencesOf([bytes], pcrs);
  assert.equal([difference?.reason, difference?.event], ['bank', 2]);
});

test('[N29] what ExitBootServices measured after the log was taken is supplied, if it leads to the quoted value', () => {
  const action = (text: string) => ({ pcr: 5, type: EventType.EV_EFI_ACTION, data: text });
  const [first, second] = [
    action('Exit Boot Services Invocation'),
    action('Exit Boot Services Returned with Success'),
  ];
  const gpt = { pcr: 5, type: EventType.EV_EFI_GPT_EVENT, data: 'gpt' };
  const leadsTo = (...events: MadeEvent[]) => replay([parseLog(madeLog(events))], 'sha256', hash).pcrs;
  const log = parseLog(madeLog([gpt]));
  const check = checkLog([log], leadsTo(gpt, first, second), 'sha256', hash);
  assert.ok(check.ok);
  if (check.ok)
    assert.equal(
      check.log.events.map(({ index, vouched }) => [index, vouched]),
      [
        [1, 'data'],
        [-1, 'data'],
        [-1, 'data'],
      ],
    );
  for (const other of [leadsTo(gpt, first), leadsTo(gpt, second, first), leadsTo(first, second)])
    assert.not.ok(checkLog([log], other, 'sha256', hash).ok);
});

test('values that are none of the bank are a mistake of the caller', () => {
  const log = parseLog(madeLog([separator]));
  assert.throws(() => checkLog([log], new Map([[0, Buffer.alloc(20)]]), 'sha256', hash), TypeError);
  assert.throws(() => checkLog([log], new Map([[24, Buffer.alloc(32)]]), 'sha256', hash), TypeError);
});

// Any change of what was extended, or of its order, leads elsewhere: for any log, any bank, any event.

const subjects = Object.entries(expectedLogs).flatMap(([name, { banks, pcrs }]) =>
  pcrs && Object.values(pcrs).some((values) => Object.keys(values).length > 0)
    ? [{ name, log: parseLog(readEventLog(name)), banks: banks as HashName[] }]
    : [],
);
const settings = { seed: 20261123, numRuns: 150 };

/** A log of the fixtures, one of its banks, and an event that extends. */
const place = fc
  .constantFrom(...subjects)
  .chain(({ name, log, banks }) =>
    fc.record({
      name: fc.constant(name),
      log: fc.constant(log),
      bank: fc.constantFrom(...banks),
      at: fc.constantFrom(...log.events.filter((event) => event.extends).map(({ index }) => index)),
      to: fc.nat(log.events.length - 1),
    }),
  )
  // Some PCRs have events in one bank alone.
  .filter(({ log, bank, at }) => log.events[at]?.digest(bank) !== undefined);

function refuses(
  name: string,
  bank: HashName,
  log: Pick<EventLog, 'format' | 'events'> | Uint8Array,
): boolean {
  const bytes = log instanceof Uint8Array ? log : writeLog(log);
  return !checkLog([parseLog(bytes)], expectedPcrs(name, bank), bank, hash).ok;
}

test('a flipped bit of a digest leads elsewhere', () => {
  fc.assert(
    fc.property(place, fc.nat(8 * 64 - 1), ({ name, bank, at }, bit) => {
      const bytes = Buffer.from(readEventLog(name));
      const digest = parseLog(bytes).events[at]?.digest(bank) as Uint8Array;
      const byte = (bit >> 3) % digest.length;
      digest[byte] = (digest[byte] as number) ^ (1 << (bit & 7));
      return refuses(name, bank, bytes);
    }),
    settings,
  );
});

test('an event removed, repeated, added at the end, or put elsewhere in its PCR leads elsewhere', () => {
  fc.assert(
    fc.property(place, ({ name, bank, log: { format, events }, at, to }) => {
      const one = events[at] as LogEvent;
      const changed = (change: LogEvent[]) => refuses(name, bank, { format, events: change });
      assert.ok(changed(events.filter((event) => event !== one)), 'removed');
      assert.ok(changed([...events.slice(0, at), one, ...events.slice(at)]), 'repeated');
      assert.ok(changed([...events, one]), 'added');
      const other = events[to] as LogEvent;
      const [digest, others] = [one.digest(bank), other.extends ? other.digest(bank) : undefined];
      if (one.pcr !== other.pcr || !digest || !others || Buffer.compare(digest, others) === 0) return;
      const swapped = [...events];
      [swapped[at], swapped[to]] = [other, one];
      assert.ok(changed(swapped), 'swapped');
    }),
    settings,
  );
});

test('an event moved to another PCR leads elsewhere', () => {
  fc.assert(
    fc.property(place, fc.nat(23), ({ name, bank, log: { format, events }, at }, pcr) => {
      const one = events[at] as LogEvent;
      fc.pre(pcr !== one.pcr);
      const { type, data, digests } = one;
      const moved = events.map((event) => (event === one ? { pcr, type, data, digests } : event));
      return refuses(name, bank, { format, events: moved as LogEvent[] });
    }),
    settings,
  );
});

test('any prefix of any log is an error that says where, or a partial log that is marked and refused', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...subjects),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (subject, part) => {
        const bytes = readEventLog(subject.name);
        const cut = bytes.subarray(0, Math.floor(part * bytes.length));
        let log: EventLog;
        try {
          log = parseLog(cut);
        } catch (error) {
          return error instanceof FormatError && /at byte \d+/.test(error.message);
        }
        const bank = subject.banks[0] as HashName;
        const believed = checkLog([log], expectedPcrs(subject.name, bank), bank, hash).ok;
        // What follows the last event that extends may go: zeros, and events that only inform.
        const rest = subject.log.events.filter((event) => event.offset + event.size > cut.length);
        return !believed || rest.every((event) => !event.extends) || log.truncated !== undefined;
      },
    ),
    { ...settings, numRuns: 1000 },
  );
});

test.run();
