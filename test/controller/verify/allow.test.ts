// Allow rules: what they cover, and what hides behind nearly the same words.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type AllowRule,
  builtInRules,
  compareBoots,
  isCovered,
  type RuleMatch,
  ruleFault,
  vouchedSubject,
} from '../../../controller/verify/allow.ts';
import {
  bootOrderData,
  diskFilePath,
  gptData,
  loadOption,
  variableData,
} from '../../../formats/eventlog/build.ts';
import { readEventData } from '../../../formats/eventlog/data.ts';
import { configFileMeasurement } from '../../../formats/eventlog/eve-boot.ts';
import type { Partition } from '../../../formats/eventlog/gpt.ts';
import type { CheckedLog } from '../../../formats/eventlog/replay.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { EFI_GLOBAL_VARIABLE } from '../../../formats/eventlog/variables.ts';
import { evePolicyPcrs } from '../../../machines/pcrs.ts';
import { checkedFixture, checkedLog, hash, type MadeEvent } from '../../kit/eventlogs.ts';

type Made = MadeEvent;

/** A boot of exactly these events. */
function boot(events: readonly Made[], locality = 0): CheckedLog {
  const start = {
    pcr: 0,
    type: EventType.EV_NO_ACTION,
    data: `StartupLocality\0${String.fromCharCode(locality)}`,
  };
  return checkedLog(locality === 0 ? events : [start, ...events]);
}

const text = (words: string) => new TextEncoder().encode(words);
const rule = (pcr: number, match: RuleMatch, more: Partial<AllowRule> = {}): AllowRule => ({
  id: 'r1',
  account: null,
  pcr,
  match,
  removal: false,
  reason: 'it varies',
  by: 'admin',
  at: 1,
  ...more,
});
const about = (type: string, subject: string): RuleMatch => ({ kind: 'event', type, subject });
const variableBoot = (name: string, data: Uint8Array, measured = data): Made => ({
  pcr: 1,
  type: EventType.EV_EFI_VARIABLE_BOOT,
  data: variableData(EFI_GLOBAL_VARIABLE, name, data),
  measured,
});
const order = (...numbers: number[]) => variableBoot('BootOrder', bootOrderData(numbers));
const action = (pcr: number, words: string): Made => ({
  pcr,
  type: EventType.EV_EFI_ACTION,
  data: text(words),
});
const separator: Made = { pcr: 1, type: EventType.EV_SEPARATOR, data: new Uint8Array(4) };
const crtm: Made = { pcr: 0, type: EventType.EV_S_CRTM_VERSION, data: text('v') };
const bootOrderRule = rule(1, about('EV_EFI_VARIABLE_BOOT', 'BootOrder'));

function covered(before: readonly Made[], after: readonly Made[], ...rules: AllowRule[]): boolean {
  return isCovered(compareBoots(boot([crtm, ...before]), boot([crtm, ...after]), rules));
}

test('a change of what a rule names is covered, and the note says which, where and why', () => {
  const { notes, added, removed } = compareBoots(
    boot([crtm, order(1, 2), separator]),
    boot([crtm, order(2, 1), separator]),
    [bootOrderRule],
  );
  assert.equal([added, removed], [[], []]);
  assert.equal(
    notes.map(({ code, pcr, event }) => [code, pcr, event]),
    [['policy.event.allowed', 1, 2]],
  );
  assert.is(notes[0]?.text, 'PCR 1: boot order 0002, 0001. Rule r1 allows it: it varies');
});

test('another PCR, type or name is not covered', () => {
  const change: [Made[], Made[]] = [[order(1, 2)], [order(2, 1)]];
  assert.ok(covered(...change, bootOrderRule));
  assert.not(covered(...change));
  assert.not(covered(...change, { ...bootOrderRule, pcr: 3 }));
  assert.not(covered(...change, rule(1, about('EV_EFI_VARIABLE_BOOT2', 'BootOrder'))));
  assert.not(covered(...change, rule(1, about('EV_EFI_VARIABLE_BOOT', 'Boot0001'))));
  assert.not(covered(...change, rule(1, about('EV_EFI_VARIABLE_BOOT', 'bootorder'))));
  // One change that is covered excuses no other.
  assert.not(covered([order(1), action(1, 'a')], [order(2), action(1, 'b')], bootOrderRule));
});

test('an event that is gone is covered only where the rule says so', () => {
  const removal = { ...bootOrderRule, removal: true };
  assert.not(covered([order(1), separator], [separator], bootOrderRule));
  assert.ok(covered([order(1), separator], [separator], removal));
  assert.match(
    compareBoots(boot([crtm, order(1), separator]), boot([crtm, separator]), [removal]).notes[0]?.text ?? '',
    /boot order 0001 is gone\. Rule r1/,
  );
  // Two went and one came: one is missing.
  assert.not(covered([order(1), order(2), separator], [order(3), separator], bootOrderRule));
  assert.ok(covered([order(1), order(2), separator], [order(3), separator], removal));
  // Coming is covered without it: that is what a visit to the setup is.
  assert.ok(
    covered(
      [separator],
      [action(1, 'Entering ROM Based Setup'), separator],
      rule(1, about('EV_EFI_ACTION', 'Entering ROM Based Setup')),
    ),
  );
});

test('only what the digest vouches for is believed', () => {
  const [esp] = partitions(0x0102n, 0n) as [Partition];
  const option = loadOption('USB stick', diskFilePath(6, 1, esp, '\\EFI\\BOOT\\BOOTX64.EFI'));
  const stick = rule(1, about('EV_EFI_VARIABLE_BOOT', 'Boot0003'));
  const whole = variableData(EFI_GLOBAL_VARIABLE, 'Boot0003', option);
  assert.ok(covered([separator], [variableBoot('Boot0003', option, whole), separator], stick));
  // Without its name it may be any boot entry.
  assert.not(covered([separator], [variableBoot('Boot0003', option), separator], stick));
  // The name is a hint: a table of the platform under the name of a boot entry, and as an order.
  const table = new Uint8Array(600).fill(3);
  assert.not(covered([separator], [variableBoot('Boot0003', table), separator], stick));
  assert.not(covered([separator], [variableBoot('BootOrder', table), separator], bootOrderRule));
  // Words beside a digest of something else.
  assert.not(
    covered(
      [separator],
      [variableBoot('BootOrder', bootOrderData([1]), text('other')), separator],
      bootOrderRule,
    ),
  );
  const forged = { ...action(14, 'file:/config/authorized_keys exist:true'), measured: text('rootkit') };
  assert.not(covered([], [forged], rule(14, about('EV_EFI_ACTION', '/config/authorized_keys'))));
});

test('a file of /config by its path, a GRUB command by its words', () => {
  const file = (content: string): Made => {
    const { pcr, type, data } = configFileMeasurement(
      '/config/authorized_keys',
      true,
      hash('sha256', text(content)),
    );
    return { pcr, type, data };
  };
  const keys = rule(14, about('EV_EFI_ACTION', '/config/authorized_keys'));
  assert.ok(covered([file('a')], [file('b')], keys));
  assert.not(covered([file('a')], [file('b')], rule(14, about('EV_EFI_ACTION', '/config/server'))));
  const command = (words: string): Made => ({
    pcr: 8,
    type: EventType.EV_IPL,
    data: text(`grub_cmd ${words}\0`),
    measured: text(`${words}\0`),
  });
  const timeout = rule(8, about('EV_IPL', 'set timeout=5'));
  assert.ok(covered([], [command('set timeout=5')], timeout));
  assert.not(covered([], [command('set timeout=50')], timeout));
  assert.not(covered([command('set timeout=3')], [command('set timeout=5')], timeout));
});

test('exact digests: of any PCR, from one of the list to another', () => {
  const post = (words: string): Made => ({
    pcr: 0,
    type: EventType.EV_POST_CODE,
    data: text('ACPI DATA'),
    measured: text(words),
  });
  const digests = (...words: string[]): RuleMatch => ({
    kind: 'digests',
    sha256: words.map((one) => Buffer.from(hash('sha256', text(one))).toString('hex')),
  });
  assert.ok(covered([post('a')], [post('b')], rule(0, digests('a', 'b'))));
  assert.not(covered([post('a')], [post('b')], rule(0, digests('b'))));
  assert.not(covered([post('a')], [post('c')], rule(0, digests('a', 'b'))));
  assert.not(covered([post('a')], [post('b')], rule(4, digests('a', 'b'))));
});

const image = '5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6';
function partitions(imga: bigint, imgb: bigint, change: Partial<Partition> = {}): Partition[] {
  const one = (i: number, type: string, attributes: bigint, name: string): Partition => ({
    type,
    guid: `ad6871ee-31f9-4cf3-9e09-6f7a25c3005${i}`,
    firstBlock: BigInt(i) * 0x1000n,
    lastBlock: BigInt(i) * 0x1000n + 0xfffn,
    attributes,
    name,
  });
  return [
    { ...one(1, 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b', 4n, 'EFI System'), ...change },
    one(2, image, imga << 48n, 'IMGA'),
    one(3, image, imgb << 48n, 'IMGB'),
  ];
}
const table = (list: Partition[], type = EventType.EV_EFI_GPT_EVENT as number): Made => ({
  pcr: 5,
  type,
  data: gptData({ disk: 'ad6871ee-31f9-4cf3-9e09-6f7a25c30050', partitions: list }, 0x4000n),
});

const longer = (made: Made, by: number): Made => ({
  ...made,
  data: Buffer.concat([made.data as Uint8Array, new Uint8Array(by)]),
});
const withByte = (made: Made, at: number): Made => {
  const data = Buffer.from(made.data as Uint8Array);
  data[at] = 1;
  return { ...made, data };
};

test('the slots of a partition table, and not a bit beside their attributes', () => {
  const before = table(partitions(0x0102n, 0n));
  assert.ok(covered([before], [table(partitions(0x0102n, 0x0013n))], ...builtInRules));
  assert.ok(
    covered(
      [before, before],
      [table(partitions(0n, 0x0102n)), table(partitions(0n, 0x0102n))],
      ...builtInRules,
    ),
  );
  const [, imga, imgb] = partitions(0x0102n, 0n) as [Partition, Partition, Partition];
  const [esp] = partitions(0n, 0n) as [Partition];
  const others: [name: string, table: Made][] = [
    ['an attribute of another partition', table(partitions(0x0102n, 0n, { attributes: 5n }))],
    [
      'a high attribute of another partition',
      table(partitions(0x0102n, 0n, { attributes: 4n | (1n << 50n) })),
    ],
    ['a bit above those of the slots', table([esp, imga, { ...imgb, attributes: 1n << 57n }])],
    ['a bit below those of the slots', table([esp, imga, { ...imgb, attributes: 1n << 47n }])],
    ['another block', table([esp, imga, { ...imgb, firstBlock: 0x3001n }])],
    ['another name', table([esp, imga, { ...imgb, name: 'IMGC', attributes: 0x13n << 48n }])],
    ['another type', table([esp, imga, { ...imgb, type: esp.type, attributes: 0x13n << 48n }])],
    ['one partition more', table([esp, imga, imgb, { ...imgb, name: 'P9' }])],
    ['one partition less', table([esp, imga])],
    [
      'data that the digest does not cover',
      { ...table(partitions(0x0102n, 0x13n)), measured: text('other') },
    ],
    ['another type of event', table(partitions(0x0102n, 0x13n), EventType.EV_EFI_ACTION)],
    ['bytes after the entries', longer(table(partitions(0x0102n, 0x13n)), 1)],
    ['room for as many entries again', longer(table(partitions(0x0102n, 0x13n)), 3 * 128)],
    ['the byte after the checksum of the header', withByte(table(partitions(0x0102n, 0x13n)), 20)],
    ['no table at all', { ...before, data: text('no table') }],
  ];
  for (const [name, after] of others) assert.not(covered([before], [after], ...builtInRules), name);
  for (const [name, other] of others)
    assert.not(covered([other], [before], ...builtInRules), `${name} before`);
  for (const by of [1, 3 * 128]) {
    const both = [partitions(0x0102n, 0n), partitions(0x0102n, 0x13n)].map((list) => longer(table(list), by));
    assert.not(covered([both[0] as Made], [both[1] as Made], ...builtInRules), `${by} bytes after both`);
  }
  // A slot is EVE's by its type and its name.
  for (const change of [{ name: 'P3' }, { type: esp.type }]) {
    const slots = [0n, 0x13n].map((bits) =>
      table([esp, imga, { ...imgb, ...change, attributes: bits << 48n }]),
    );
    assert.not(covered([slots[0] as Made], [slots[1] as Made], ...builtInRules), JSON.stringify(change));
  }
  assert.not(covered([before], [], ...builtInRules), 'none');
  assert.not(covered([before], [before, table(partitions(0n, 0x13n))], ...builtInRules), 'one more');
});

test('the same events from another start of the TPM are a difference that no rule covers', () => {
  const before = boot([crtm, order(1)]);
  const after = boot([crtm, order(2)], 3);
  const change = compareBoots(before, after, [bootOrderRule]);
  assert.equal(change.unexplained, [0]);
  assert.not(isCovered(change));
  assert.ok(isCovered(compareBoots(before, boot([crtm, order(2)]), [bootOrderRule])));
});

test('from which locality the TPM was started has to be known, and the same', () => {
  const events = [crtm, order(1)];
  const unexplained = (before: CheckedLog, after: CheckedLog) => compareBoots(before, after, []).unexplained;
  for (const locality of [0, 3, 4])
    assert.equal(unexplained(boot(events, locality), boot(events, locality)), [], `locality ${locality}`);
  assert.equal(unexplained(boot(events, 3), boot(events, 4)), [0]);
  assert.equal(unexplained(boot(events, 1), boot(events, 1)), [0], 'no firmware starts a TPM from there');
  assert.equal(unexplained(boot([order(1)]), boot([order(1)])), [0], 'nothing of PCR 0');
});

test('an event that one rule covers stands for no other of the next rule', () => {
  const digests = (...of: Made[]) =>
    of.map(({ data }) => Buffer.from(hash('sha256', data as Uint8Array)).toString('hex'));
  const variable = (n: number): Made => ({ pcr: 1, type: EventType.EV_EFI_ACTION, data: text(`${n}`) });
  const [one, two, three] = [variable(1), variable(2), variable(3)];
  const rules = [one, two].map((gone, n) =>
    rule(1, { kind: 'digests', sha256: digests(gone, three) }, { id: `r${n}` }),
  );
  assert.ok(covered([one], [three], ...rules));
  assert.not(covered([one, two], [three], ...rules), 'two went and one came');
});

test('the note of an event that is gone names no place in this boot, and that of one that came does', () => {
  const removal = { ...bootOrderRule, removal: true };
  const notes = (before: Made[], after: Made[]) =>
    compareBoots(boot([crtm, ...before]), boot([crtm, ...after]), [removal]).notes;
  const [gone] = notes([order(1), separator], [separator]);
  assert.equal([gone?.code, 'event' in (gone ?? {})], ['policy.event.allowed', false]);
  assert.is(notes([separator], [order(1), separator])[0]?.event, 2);
});

test('no name in the log makes another boot entry, or an order, of one whose value alone was measured', () => {
  const [esp] = partitions(0x0102n, 0n) as [Partition];
  const evil = loadOption('EVIL', diskFilePath(6, 1, esp, '\\A'));
  assert.ok(evil.length <= 128 && evil.length % 2 === 0, 'as an order is');
  for (const name of ['Boot0000', 'Boot0001', 'BootOrder']) {
    const named = [variableBoot(name, evil)];
    assert.not(covered([], named, rule(1, about('EV_EFI_VARIABLE_BOOT', name))), name);
  }
  // Entries of real firmware that are as short as an order.
  const short = checkedFixture('eve/binary_bios_measurement').events.flatMap((event) => {
    const data = readEventData(event);
    return data.kind === 'variable' && data.value.kind === 'boot-option' ? [data.data] : [];
  });
  assert.ok(short.some(({ length }) => length <= 128 && length % 2 === 0));
  for (const value of short)
    assert.not(covered([], [variableBoot('BootOrder', value)], bootOrderRule), `${value.length} bytes`);
  assert.ok(covered([], [order(2, 1)], bootOrderRule));
  assert.not(covered([], [order(2, 1, 2)], bootOrderRule), 'an order names nothing twice');
});

test('the name of a variable counts where all of it was measured, or its value can be nothing else', () => {
  const driver = (name: string, value: string): Made => ({
    pcr: 3,
    type: EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
    data: variableData(EFI_GLOBAL_VARIABLE, name, text(value)),
  });
  const setup = rule(3, about('EV_EFI_VARIABLE_DRIVER_CONFIG', 'Setup'));
  assert.ok(covered([driver('Setup', 'a')], [driver('Setup', 'b')], setup));
  assert.not(covered([driver('Other', 'a')], [driver('Other', 'b')], setup));
  const timeout = rule(1, about('EV_EFI_VARIABLE_BOOT', 'Timeout'));
  assert.not(covered([variableBoot('Timeout', text('ab'))], [variableBoot('Timeout', text('cd'))], timeout));
  const entries = (count: number) => order(...Array.from({ length: count }, (_, n) => n));
  assert.ok(covered([order(1)], [entries(64)], bootOrderRule));
  assert.not(covered([order(1)], [entries(65)], bootOrderRule), 'more than any firmware has');
});

test('a rule that would allow too much, or nothing, cannot stand', () => {
  const digest = 'ab'.repeat(32);
  const fault = (pcr: number, match: RuleMatch, removal = false) => ruleFault({ pcr, match, removal });
  const digests = (...sha256: string[]): RuleMatch => ({ kind: 'digests', sha256 });
  const slots: RuleMatch = { kind: 'slot-attributes' };
  for (const one of builtInRules) assert.equal([ruleFault(one), one.at], [null, 0]);

  assert.match(fault(10, digests(digest)) ?? '', 'PCR 10 is not judged');
  assert.match(fault(15, slots) ?? '', 'PCR 15 is not judged');
  for (const pcr of evePolicyPcrs) {
    const code = [0, 4, 7, 9, 13].includes(pcr);
    assert.is(fault(pcr, digests(digest)), null, `PCR ${pcr}`);
    const missing = code ? `nothing may be missing from PCR ${pcr} by a rule` : null;
    assert.is(fault(pcr, digests(digest), true), missing);
    const worded = code ? `in PCR ${pcr} only exact digests can be allowed` : null;
    assert.is(fault(pcr, about('EV_EFI_ACTION', 'a')), worded);
    assert.is(fault(pcr, slots), pcr === 5 ? null : 'the partition table is measured into PCR 5');
  }
  assert.match(fault(5, slots, true) ?? '', 'nothing may be missing from PCR 5');

  const many = (count: number) => digests(...Array<string>(count).fill(digest));
  for (const count of [1, 64]) assert.is(fault(1, many(count)), null, `${count} digests`);
  for (const count of [0, 65]) assert.is(fault(1, many(count)), 'a rule names 1 to 64 digests');
  for (const wrong of [digest.toUpperCase(), digest.slice(1), `${digest}a`, `x${digest.slice(1)}`])
    assert.is(fault(1, digests(digest, wrong)), 'a digest is SHA-256 in 64 hex digits', wrong);

  const worded = ['VARIABLE_BOOT', 'VARIABLE_BOOT2', 'VARIABLE_DRIVER_CONFIG', 'ACTION'].map(
    (name) => `EV_EFI_${name}`,
  );
  for (const type of [...worded, 'EV_ACTION', 'EV_IPL']) assert.is(fault(1, about(type, 'a')), null, type);
  for (const type of ['EV_EFI_GPT_EVENT', 'EV_POST_CODE', 'EV_EFI_VARIABLE_AUTHORITY', ''])
    assert.match(fault(1, about(type, 'a')) ?? '', 'no digest vouches for what an event of type');
  for (const length of [1, 512]) assert.is(fault(1, about('EV_IPL', 'a'.repeat(length))), null);
  for (const length of [0, 513])
    assert.is(fault(1, about('EV_IPL', 'a'.repeat(length))), 'a subject has 1 to 512 characters');
});

test('two boots of a real node: each rule takes its own events away, and code remains', () => {
  const [before, after] = [
    checkedFixture('eve/TpmLogs.last_good_log.bin'),
    checkedFixture('eve/TpmLogs.last_failed_log.bin'),
  ];
  const left = (rules: AllowRule[]) => {
    const { added, removed } = compareBoots(before, after, rules);
    return [...new Set([...added, ...removed].map(({ pcr }) => pcr))].sort((a, b) => a - b);
  };
  assert.equal(left([]), [1, 8, 14]);
  const keys = rule(14, about('EV_EFI_ACTION', '/config/authorized_keys'));
  assert.equal(left([keys, rule(14, about('EV_EFI_ACTION', '/config/grub.cfg'))]), [1, 8]);
  const variables = ['BootOrder', 'Boot0003', 'Boot0004', 'Boot0005'].map((name) =>
    rule(1, about('EV_EFI_VARIABLE_BOOT', name), { removal: true }),
  );
  const { added, removed } = compareBoots(before, after, [
    ...variables,
    rule(1, about('EV_EFI_ACTION', 'Entering ROM Based Setup')),
  ]);
  // The table of the platform: nothing vouches for what it says, so only digests would do.
  assert.equal(
    [...added, ...removed].filter(({ pcr }) => pcr === 1).map(({ type }) => type),
    [EventType.EV_EFI_HANDOFF_TABLES2, EventType.EV_EFI_HANDOFF_TABLES2],
  );
});

test('an update of a real node: the rule for the slots covers its PCR 5, and nothing else of it', () => {
  const [before, after] = [
    checkedFixture('eve/empty_uri.last_good_log.bin'),
    checkedFixture('eve/empty_uri.last_failed_log.bin'),
  ];
  const { added, removed, notes } = compareBoots(before, after, builtInRules);
  assert.equal(
    [...new Set([...added, ...removed].map(({ pcr }) => pcr))].sort((a, b) => a - b),
    [8, 9, 13],
  );
  assert.ok(notes.length > 0 && notes.every(({ pcr }) => pcr === 5));
});

test('no event of a real boot has a subject that its digest does not vouch for', () => {
  for (const name of ['eve/TpmLogs.last_good_log.bin', 'eve/binary_bios_measurement'])
    for (const event of checkedFixture(name).events)
      if (vouchedSubject(event) !== undefined) assert.is(event.vouched, 'data');
  assert.ok(evePolicyPcrs.includes(5));
});

test.run();
