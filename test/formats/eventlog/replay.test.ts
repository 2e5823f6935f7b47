import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import {
  checkLog,
  initialPcr,
  type PcrDifference,
  replay,
  startupLocalityOf,
} from '../../../formats/eventlog/replay.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { headerEvent, startupLocalityEvent, writeLog } from '../../../formats/eventlog/write.ts';
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

/** Any change of what was extended, or of its order, must lead elsewhere. */
const subject = 'eve/binary_bios_measurement';
const whole = parseLog(readEventLog(subject));
const expected = expectedPcrs(subject, 'sha256');
const extending = whole.events.flatMap((event, i) => (event.extends ? [i] : []));
const refuses = (events: typeof whole.events, bank: HashName = 'sha256') => {
  const bytes = writeLog({ format: 'crypto-agile', events });
  return !checkLog([parseLog(bytes)], bank === 'sha256' ? expected : expectedPcrs(subject, bank), bank, hash)
    .ok;
};
const settings = { seed: 20261123, numRuns: 100 };

test('a flipped bit of a digest leads elsewhere', () => {
  const event = fc.constantFrom(...extending);
  const bank = fc.constantFrom<HashName>('sha1', 'sha256', 'sha384', 'sha512');
  fc.assert(
    fc.property(event, bank, fc.nat(20 * 8 - 1), (index, name, bit) => {
      const bytes = Buffer.from(readEventLog(subject));
      const digest = parseLog(bytes).events[index]?.digest(name) as Uint8Array;
      digest[bit >> 3] = (digest[bit >> 3] as number) ^ (1 << (bit & 7));
      return !checkLog([parseLog(bytes)], expectedPcrs(subject, name), name, hash).ok;
    }),
    settings,
  );
});

test('an event removed, repeated, added or put elsewhere in its PCR leads elsewhere', () => {
  fc.assert(
    fc.property(fc.constantFrom(...extending), fc.constantFrom(...extending), (from, to) => {
      const events = [...whole.events];
      const [one] = events.splice(from, 1) as [(typeof events)[number]];
      assert.ok(refuses(events), 'removed');
      assert.ok(refuses([...whole.events.slice(0, from), one, ...whole.events.slice(from)]), 'repeated');
      assert.ok(refuses([...whole.events, one]), 'added');
      const other = whole.events[to] as (typeof events)[number];
      const same = Buffer.from(one.digest('sha256') ?? []).equals(other.digest('sha256') ?? new Uint8Array());
      if (one.pcr === other.pcr && !same) {
        const swapped = [...whole.events];
        [swapped[from], swapped[to]] = [other, one];
        assert.ok(refuses(swapped), 'swapped');
      }
    }),
    { ...settings, numRuns: 40 },
  );
});

test('an event moved to another PCR leads elsewhere', () => {
  fc.assert(
    fc.property(fc.constantFrom(...extending), fc.nat(23), (index, pcr) => {
      const one = whole.events[index] as (typeof whole.events)[number];
      fc.pre(pcr !== one.pcr);
      const { type, data, digests } = one;
      const events = whole.events.map((event, i) => (i === index ? { pcr, type, data, digests } : event));
      const bytes = writeLog({ format: 'crypto-agile', events });
      return !checkLog([parseLog(bytes)], expected, 'sha256', hash).ok;
    }),
    { ...settings, numRuns: 40 },
  );
});

test.run();
