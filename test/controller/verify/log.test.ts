import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LogExpectation, verifyLog } from '../../../controller/verify/log.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { initialPcr, replay } from '../../../formats/eventlog/replay.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { writeLog } from '../../../formats/eventlog/write.ts';
import type { Finding } from '../../../machines/flow.ts';
import {
  expectedLogs,
  expectedPcrs,
  hash,
  type MadeEvent,
  madeLog,
  readEventLog,
  sent,
} from '../../kit/eventlogs.ts';

function refusals(logs: readonly Uint8Array[], expected: LogExpectation): Finding[] {
  const verdict = verifyLog(sent(...logs), expected);
  return verdict.ok ? [] : verdict.refusals;
}

const codes = (found: readonly Finding[]) =>
  found.map(({ code, pcr }) => (pcr === undefined ? code : `${code} ${pcr}`));
const good = 'eve/empty_uri.last_good_log.bin';
const pcrs = expectedPcrs(good, 'sha256');
const sha256 = { bank: 'sha256', pcrs } as const;

for (const [name, expected] of Object.entries(expectedLogs))
  for (const bank of (expected.banks ?? []).filter((one) => one !== 'sha1'))
    test(`${name}: the log of an honest machine is believed in bank ${bank}`, () => {
      const values = expectedPcrs(name, bank);
      assert.equal(refusals([readEventLog(name)], { bank, pcrs: values }), []);
    });

test('the firmware log and the log of PCR 14 are one boot', () => {
  const logs = [
    madeLog([
      { pcr: 0, type: 1, data: 'a' },
      { pcr: 4, type: 1, data: 'b' },
    ]),
    readEventLog('eve/measurefs_tpm_event_log'),
  ];
  const { pcrs } = replay(
    logs.map((log) => parseLog(log)),
    'sha256',
    hash,
  );
  const verdict = verifyLog(sent(...logs), { bank: 'sha256', pcrs });
  assert.ok(verdict.ok && verdict.log.events.length === 19);
});

test('no log, and logs without a byte, are an absent log', () => {
  assert.equal(codes(refusals([], sha256)), ['evidence.log.absent']);
  assert.equal(codes(refusals([new Uint8Array(), new Uint8Array()], sha256)), ['evidence.log.absent']);
});

test('bytes that are no log are refused with event and offset', () => {
  const bytes = Buffer.from(readEventLog(good));
  bytes.writeUInt32LE(99, 69);
  const [refusal] = refusals([bytes], sha256);
  assert.is(refusal?.code, 'evidence.log.malformed');
  assert.match(refusal?.text ?? '', 'events[1].pcrIndex at byte 69');
  assert.equal(codes(refusals(Array<Uint8Array>(5).fill(readEventLog(good)), sha256)), [
    'evidence.log.malformed',
  ]);
});

test('[N24] a log cut in its last event says so, and which PCR it no longer explains', () => {
  const bytes = readEventLog(good).subarray(0, -1);
  assert.equal(codes(refusals([bytes], sha256)), ['evidence.log.truncated', 'evidence.log.mismatch 14']);
});

test('a log cut short is refused even where what is left explains every PCR', () => {
  const one = madeLog([
    { pcr: 0, type: 1, data: 'a' },
    { pcr: 4, type: 1, data: 'b' },
  ]);
  const { pcrs } = replay([parseLog(one)], 'sha256', hash);
  assert.equal(codes(refusals([Buffer.concat([one, Buffer.of(1, 0, 0)])], { bank: 'sha256', pcrs })), [
    'evidence.log.truncated',
  ]);
});

test('a mismatch names PCR, signed value and replayed value', () => {
  const failed = readEventLog('eve/empty_uri.last_failed_log.bin');
  const found = refusals([failed], sha256);
  assert.equal(
    codes(found),
    [5, 8, 9, 13].map((pcr) => `evidence.log.mismatch ${pcr}`),
  );
  const values = expectedPcrs('eve/empty_uri.last_failed_log.bin', 'sha256');
  for (const { pcr, seen, allowed } of found) {
    assert.is(seen, Buffer.from(pcrs.get(pcr as number) ?? []).toString('hex'));
    assert.is(allowed, Buffer.from(values.get(pcr as number) ?? []).toString('hex'));
  }
});

test('[N23] all events of a PCR removed', () => {
  const log = parseLog(readEventLog(good));
  const bytes = writeLog({ format: log.format, events: log.events.filter(({ pcr }) => pcr !== 8) });
  assert.equal(codes(refusals([bytes], sha256)), ['evidence.log.pcr-without-events 8']);
});

test('[N07] a bank that the log does not have', () => {
  const values = new Map([0, 4].map((pcr) => [pcr, Buffer.alloc(48, 7)]));
  assert.equal(codes(refusals([readEventLog(good)], { bank: 'sha384', pcrs: values })), [
    'evidence.log.bank 0',
    'evidence.log.bank 4',
  ]);
});

test('[N07] PCRs 0 and 4 that nobody extended, whatever locality PCR 0 started from', () => {
  for (const locality of [0, 3, 4]) {
    const values = new Map(pcrs).set(0, initialPcr(0, 'sha256', locality)).set(4, new Uint8Array(32));
    assert.equal(codes(refusals([readEventLog(good)], { bank: 'sha256', pcrs: values })), [
      'evidence.pcr.not-extended 0',
      'evidence.pcr.not-extended 4',
    ]);
  }
});

const firmware: MadeEvent[] = [
  { pcr: 0, type: EventType.EV_S_CRTM_VERSION, data: 'a' },
  { pcr: 4, type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION, data: 'path', measured: 'program' },
];

function codesOfMade(...events: MadeEvent[]): string[] {
  const bytes = madeLog([...firmware, ...events]);
  return codes(refusals([bytes], { bank: 'sha256', pcrs: replay([parseLog(bytes)], 'sha256', hash).pcrs }));
}

test('[N21] edited data is refused where firmware always measures the data, and is a hint elsewhere', () => {
  const edited = 'evidence.log.data-edited';
  const action = { pcr: 14, type: EventType.EV_EFI_ACTION, data: 'file:/config/server exist:true' };
  assert.equal(codesOfMade(action), []);
  assert.equal(codesOfMade({ ...action, measured: 'file:/config/server exist:false' }), [`${edited} 14`]);
  assert.equal(codesOfMade({ pcr: 5, type: EventType.EV_EFI_GPT_EVENT, data: 'a', measured: 'b' }), [
    `${edited} 5`,
  ]);
  assert.equal(
    codesOfMade({ pcr: 7, type: EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, data: 'a', measured: 'b' }),
    [`${edited} 7`],
  );
  assert.equal(codesOfMade({ pcr: 8, type: EventType.EV_IPL, data: 'grub_cmd a\0', measured: 'b\0' }), [
    `${edited} 8`,
  ]);
  assert.equal(
    codesOfMade({ pcr: 9, type: EventType.EV_IPL, data: 'grub_linuxefi Kernel\0', measured: 'kernel' }),
    [],
  );
});

test('[N21] any event of a real log edited, the digests kept', () => {
  const log = parseLog(readEventLog(good));
  let refused = 0;
  for (const [i, event] of log.events.entries()) {
    if (event.data.length === 0 || !event.extends) continue;
    const bytes = Buffer.from(readEventLog(good));
    const at = event.offset + event.size - Math.min(2, event.data.length);
    bytes[at] = (bytes[at] as number) ^ 1;
    const verdict = verifyLog(sent(bytes), sha256);
    if (!verdict.ok) {
      assert.ok(
        verdict.refusals.every(
          ({ code, event: index }) => code === 'evidence.log.data-edited' && index === i,
        ),
      );
      refused++;
    } else {
      assert.is(verdict.log.events.find(({ index }) => index === i)?.vouched, 'digest', `event ${i}`);
    }
  }
  assert.ok(refused > 190);
});

test('[N72] a root file system of which nothing was measured', () => {
  const h = Buffer.from(hash('sha256', new Uint8Array()));
  assert.equal(
    codesOfMade({ pcr: 13, type: EventType.EV_IPL, data: `squash4 ${h.toString('hex')}\0`, measured: h }),
    ['evidence.log.rootfs-not-measured 13'],
  );
  // Whatever the log calls it.
  assert.equal(codesOfMade({ pcr: 13, type: EventType.EV_IPL, data: 'x', measured: h }), [
    'evidence.log.rootfs-not-measured 13',
  ]);
});

test('logs of one byte are no logs, and four are as many as one boot has', () => {
  assert.is(codes(refusals([Uint8Array.of(1)], sha256))[0], 'evidence.log.truncated');
  const [empty, log] = [madeLog([]), readEventLog(good)];
  assert.equal(refusals([log, empty, empty, empty], sha256), []);
  assert.equal(codes(refusals([log, empty, empty, empty, empty], sha256)), ['evidence.log.malformed']);
});

test('an error that is not of the format is nobody’s fault but ours, and passes through', () => {
  const log = {
    bytes: readEventLog(good),
    get sha256(): string {
      throw new TypeError('no hash');
    },
  };
  assert.throws(() => verifyLog([log], sha256), /no hash/);
});

test('values beside those of the policy count where the log has events of them, and not in their place', () => {
  const reached = replay([parseLog(readEventLog(good))], 'sha256', hash).pcrs;
  const without = Array.from({ length: 24 }, (_, pcr) => pcr).find((pcr) => !reached.has(pcr)) as number;
  const filled = new Uint8Array(32).fill(7);
  const log = [readEventLog(good)];
  assert.equal(refusals(log, { ...sha256, beside: new Map([[without, filled]]) }), []);
  const some = new Map([...pcrs].filter(([pcr]) => pcr !== 1));
  assert.equal(codes(refusals(log, { bank: 'sha256', pcrs: some, beside: new Map([[1, filled]]) })), [
    'evidence.log.mismatch 1',
  ]);
  const spoiled = new Map([...pcrs, [2, filled]]) as Map<number, Uint8Array>;
  assert.equal(
    codes(
      refusals(log, { bank: 'sha256', pcrs: spoiled, beside: new Map([[1, pcrs.get(1) as Uint8Array]]) }),
    ),
    ['evidence.log.mismatch 2'],
  );
});

test('of PCR 0 a value of another locality is a start as well, and of PCR 4 it is not', () => {
  const unextended = new Map([...pcrs, [4, new Uint8Array(32)]]) as Map<number, Uint8Array>;
  const log = [readEventLog(good)];
  assert.equal(codes(refusals(log, { bank: 'sha256', pcrs: unextended })), ['evidence.pcr.not-extended 4']);
  // One value is a start of PCR 0 alone: of another PCR it is an end like any other.
  const locality3 = Uint8Array.from({ length: 32 }, (_, i) => (i === 31 ? 3 : 0));
  const four = new Map([...pcrs, [4, locality3]]) as Map<number, Uint8Array>;
  assert.equal(codes(refusals(log, { bank: 'sha256', pcrs: four })), ['evidence.log.mismatch 4']);
});

test('a difference names its event where one is to blame, and has no field for one elsewhere', () => {
  const [bank] = refusals([readEventLog(good)], {
    bank: 'sha384',
    pcrs: new Map([[4, Buffer.alloc(48, 7)]]),
  });
  const first = parseLog(readEventLog(good)).events.find((event) => event.extends && event.pcr === 4);
  assert.equal([bank?.code, bank?.event], ['evidence.log.bank', first?.index]);
  const other = new Map([...pcrs, [0, pcrs.get(1) as Uint8Array]]) as Map<number, Uint8Array>;
  const [mismatch] = refusals([readEventLog(good)], { bank: 'sha256', pcrs: other });
  assert.is(mismatch?.code, 'evidence.log.mismatch');
  assert.not('event' in (mismatch ?? {}));
});

test('a fault in a PCR that nobody asks about refuses nothing; asked about or told beside, it does', () => {
  const forged: MadeEvent = { pcr: 10, type: EventType.EV_EFI_ACTION, data: 'a', measured: 'b' };
  const bytes = madeLog([...firmware, forged]);
  const { pcrs: reached } = replay([parseLog(bytes)], 'sha256', hash);
  const of = (...wanted: number[]) => new Map([...reached].filter(([pcr]) => wanted.includes(pcr)));
  assert.equal(refusals([bytes], { bank: 'sha256', pcrs: of(0, 4) }), []);
  for (const expected of [{ pcrs: of(0, 4, 10) }, { pcrs: of(0, 4), beside: of(10) }])
    assert.equal(codes(refusals([bytes], { bank: 'sha256', ...expected })), ['evidence.log.data-edited 10']);
});

test('only PCRs of the expectation are checked, and only their events believed', () => {
  const verdict = verifyLog(sent(readEventLog(good)), {
    bank: 'sha256',
    pcrs: new Map([[13, pcrs.get(13) as Uint8Array]]),
  });
  assert.ok(verdict.ok && verdict.log.events.length === 1);
});

test.run();
