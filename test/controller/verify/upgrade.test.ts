// A boot against what an image is known to measure: what is too much, what is missing, and what is of two slots at once.
import { hash as nodeHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Comparison } from '../../../controller/verify/allow.ts';
import type { KnownEntry } from '../../../controller/verify/entries.ts';
import { foreignTo, knownMeasurements } from '../../../controller/verify/upgrade.ts';
import type { CheckedEvent } from '../../../formats/eventlog/replay.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { checkedLog, type MadeEvent } from '../../kit/eventlogs.ts';

const digestOf = (measured: string) => nodeHash('sha256', measured);
/** An event about the file `name`: another content is an alternative in its place. */
const file = (pcr: number, name: string, measured: string): MadeEvent => ({
  pcr,
  type: EventType.EV_IPL,
  data: `/${name}\0`,
  measured,
});
const entry = (pcr: number, name: string, measured: string, more: Partial<KnownEntry> = {}): KnownEntry => ({
  pcr,
  type: 'EV_IPL',
  subject: `file /${name}`,
  text: `file /${name}`,
  digests: { sha256: digestOf(measured) },
  ...more,
});
const log = (...events: MadeEvent[]) => checkedLog(events);
const events = (...made: MadeEvent[]): readonly CheckedEvent[] => checkedLog(made).events;
const change = (more: Partial<Comparison> = {}): Comparison => ({
  added: [],
  removed: [],
  unexplained: [],
  notes: [],
  ...more,
});
const image = (...entries: KnownEntry[]) => knownMeasurements(entries, null, 'Acme-1');
const found = (
  ...given: [known: readonly KnownEntry[], shown: MadeEvent[], change?: Partial<Comparison>]
) => {
  const [known, shown, more] = given;
  return foreignTo('2', image(...known), log(...shown), change(more));
};
const said = (findings: ReturnType<typeof foreignTo>) =>
  findings.map(({ code, pcr, event }) => [code.replace('policy.entry.', ''), pcr, event].join(' ').trim());

test('firmware is known in its own PCRs alone, and where its maker is that of the baseline or nobody said', () => {
  const entries = Array.from({ length: 24 }, (_, pcr) => entry(pcr, 'a', 'a'));
  const of = (vendor: string, running = 'Acme-1') => {
    const { firmware, digests } = knownMeasurements([entry(9, 'k', 'k')], { vendor, entries }, running);
    assert.is(digests.size, firmware.length + 1);
    for (const { pcr } of firmware) assert.ok(digests.has(`${pcr}:${digestOf('a')}`));
    return firmware.map(({ pcr }) => pcr);
  };
  assert.equal(of('Acme'), [0, 1, 2, 3, 6, 7]);
  assert.equal(of(''), [0, 1, 2, 3, 6, 7]);
  for (const [vendor, running] of [
    ['Acm', 'Acme-1'],
    ['Acme-1', 'Acme-1'],
    ['Other', 'Acme-1'],
    ['Acme', 'Big Acme-1'],
  ] as const)
    assert.equal(of(vendor, running), [], `${vendor} ${running}`);
  assert.equal(image(entry(0, 'a', 'a')).firmware, []);
});

test('what came and is not known: what would have been, in words where they differ, four of them at most, and what to do', () => {
  const one = (pcr: number, known: readonly KnownEntry[]) => {
    const added = events(file(pcr, 'x', 'new'));
    const [finding, ...more] = found(known, [file(pcr, 'x', 'new')], { added });
    assert.equal(
      [more, finding?.code, finding?.pcr, finding?.seen],
      [[], 'policy.entry.unknown', pcr, digestOf('new')],
    );
    assert.is(finding?.event, added[0]?.index);
    assert.not(Object.values(finding ?? {}).includes(undefined));
    return { text: finding?.text, allowed: finding?.allowed, remedy: finding?.remedy };
  };
  const nothing = one(9, [entry(8, 'x', 'a'), entry(9, 'y', 'a')]);
  assert.equal([nothing.text, nothing.allowed], ['PCR 9: file /x is no measurement of 2', undefined]);
  const same = one(9, [entry(9, 'x', 'a'), entry(9, 'x', 'b')]);
  assert.equal([same.text, same.allowed], [nothing.text, `${digestOf('a')} ${digestOf('b')}`]);
  const many = one(
    9,
    ['a', 'b', 'c', 'd', 'e'].map((words) => entry(9, 'x', words, { text: words })),
  );
  assert.is(many.text, 'PCR 9: file /x is no measurement of 2; allowed would have been: a · b · c · d');
  assert.is(many.allowed, ['a', 'b', 'c', 'd'].map(digestOf).join(' '));
  assert.is(one(9, [entry(9, 'x', 'a', { text: 'a' }), entry(9, 'x', 'b')]).text, nothing.text);
  const other = one(9, [entry(9, 'x', 'a', { text: 'a' })]);
  assert.is(other.text, `${nothing.text}; allowed would have been: a`);
  assert.match(nothing.remedy ?? '', /^find out where this file \/x comes from; if it is of 2, measure/);
  assert.match(one(7, []).remedy ?? '', 'evc firmware add');
  assert.match(one(5, []).remedy ?? '', 'evc image add');
  assert.match(one(4, []).remedy ?? '', 'evc image measure');
});

test('firmware’s words are alternatives of firmware, and the digest counts in its own PCR', () => {
  const firmware = { vendor: 'Acme', entries: [entry(0, 'x', 'a')] };
  const known = knownMeasurements([entry(9, 'x', 'new')], firmware, 'Acme-1');
  const added = events(file(0, 'x', 'new'), file(9, 'x', 'new'), file(0, 'x', 'a'));
  const findings = foreignTo('2', known, log(), change({ added }));
  assert.equal(
    findings.map(({ pcr, allowed }) => [pcr, allowed]),
    [[0, digestOf('a')]],
  );
});

test('what every boot of the image measures is missed, of the slot that boots alone', () => {
  const known = [
    entry(9, 'main', 'main', { required: true }),
    entry(8, 'a', 'two', { alternative: 'gpt2' }),
    entry(8, 'b', 'three', { alternative: 'gpt3' }),
    entry(9, 'ramdisk', 'ramdisk'),
    entry(8, 'c', 'two too', { alternative: 'gpt2', required: true }),
    entry(8, 'd', 'three too', { alternative: 'gpt3', required: true }),
  ];
  const kernel = file(9, 'main', 'main');
  const slot = file(8, 'a', 'two');
  assert.equal(said(found(known, [slot, kernel])), ['missing 8']);
  const [missed] = found(known, [slot, kernel]);
  assert.equal(
    [missed?.text, missed?.allowed],
    ['PCR 8: file /c was not measured, and a boot of 2 measures it', digestOf('two too')],
  );
  assert.equal(said(found(known, [slot, kernel, file(8, 'c', 'two too')])), []);
  assert.equal(said(found(known, [file(8, 'c', 'two too')])), ['missing 9']);
  assert.equal(said(found(known, [kernel])), [], 'nothing says from which slot');
  // In another PCR it is another measurement.
  assert.equal(said(found(known, [file(8, 'main', 'main')])), ['missing 9']);
});

test('code that the baseline had and the image has is missed, told once, unless something of its kind is there', () => {
  for (const pcr of [4, 9, 13]) {
    const removed = events(file(pcr, 'ramdisk', 'old'));
    const rest = file(pcr, 'other', 'other');
    const known = [entry(pcr, 'other', 'other'), entry(pcr, 'ramdisk', 'new')];
    const [missed, ...more] = found(known, [rest], { removed });
    assert.equal(
      [missed?.code, missed?.pcr, missed?.allowed, more],
      ['policy.entry.missing', pcr, digestOf('new'), []],
    );
    assert.equal(said(found(known, [rest, file(pcr, 'ramdisk', 'new')], { removed })), []);
    const required = [known[0] as KnownEntry, entry(pcr, 'ramdisk', 'new', { required: true })];
    assert.equal(said(found(required, [rest], { removed })), [`missing ${pcr}`]);
    assert.equal(said(found([known[0] as KnownEntry], [rest], { removed })), [], 'the image has none');
  }
  const settings = [entry(8, 'other', 'other'), entry(8, 'ramdisk', 'new')];
  const removed = events(file(8, 'ramdisk', 'old'));
  assert.equal(
    said(found(settings, [file(8, 'other', 'other')], { removed })),
    [],
    'what is no code may be left out',
  );
});

test('less than before in a PCR is foreign where nothing is left in it, or something that is not of the image', () => {
  const removed = events(file(1, 'a', 'a'), file(1, 'b', 'b'), file(2, 'c', 'c'));
  const one = { removed, added: events(file(1, 'x', 'x')) };
  const known = [entry(1, 'x', 'x'), entry(1, 'y', 'y')];
  const less = (shown: MadeEvent[], more: Partial<Comparison>) =>
    found(known, shown, more).flatMap(({ pcr, text }) =>
      /measured less than before/.test(text) ? [pcr] : [],
    );
  assert.equal(less([file(1, 'x', 'x'), file(1, 'z', 'z'), file(2, 'd', 'd')], one), [1, 2]);
  assert.equal(less([file(1, 'z', 'z'), file(1, 'x', 'x'), file(2, 'd', 'd')], one), [1, 2]);
  assert.equal(less([file(1, 'x', 'x'), file(1, 'y', 'y')], one), [2]);
  assert.equal(less([], one), [1, 2]);
  const asMany = { removed, added: events(file(1, 'x', 'x'), file(1, 'z', 'z'), file(2, 'd', 'd')) };
  assert.equal(less([file(1, 'x', 'x'), file(1, 'z', 'z'), file(2, 'd', 'd')], asMany), []);
  const [told] = found([], [], { removed: events(file(1, 'a', 'a')) });
  assert.equal(
    [told?.code, told?.pcr, told?.text],
    ['policy.entry.missing', 1, 'PCR 1: the boot measured less than before, and 2 does not'],
  );
});

test('events of two slots in one boot are told with the first that does not fit', () => {
  const known = (pcr: number) => [
    entry(pcr, 'a', 'two', { alternative: 'gpt2' }),
    entry(pcr, 'b', 'three', { alternative: 'gpt3' }),
    entry(pcr, 'c', 'any'),
  ];
  for (const pcr of [8, 9, 13]) {
    const [any, two, three] = [file(pcr, 'c', 'any'), file(pcr, 'a', 'two'), file(pcr, 'b', 'three')];
    const shown = [any, two, two, three, two];
    const [mixed, ...more] = found(known(pcr), shown);
    assert.equal(
      [mixed?.code, mixed?.pcr, mixed?.event, mixed?.seen, more],
      ['policy.entry.mixed', pcr, 4, digestOf('three'), []],
    );
    assert.is(mixed?.text, `PCR ${pcr}: file /b is of a boot of 2 from gpt3, and this one is from gpt2`);
    assert.equal(said(found(known(pcr), [any, two, two])), []);
    assert.equal(said(found(known(pcr), [any])), []);
  }
  for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 14])
    assert.equal(said(found(known(pcr), [file(pcr, 'a', 'two'), file(pcr, 'b', 'three')])), [], `PCR ${pcr}`);
});

test.run();
