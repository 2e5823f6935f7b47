import { hash as nodeHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { entriesOfLogs } from '../../../controller/images/reference.ts';
import { type AllowRule, builtInRules } from '../../../controller/verify/allow.ts';
import { judgeSoftware, movedAway, type SoftwareBasis } from '../../../controller/verify/policy.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { distance } from '../../../machines/distance.ts';
import { evePolicyPcrs } from '../../../machines/pcrs.ts';
import { checkedLog, type MadeEvent, madeLog } from '../../kit/eventlogs.ts';

const at = (latitude: number, longitude: number, accuracy = 0) => ({ latitude, longitude, accuracy, at: 0 });

test('what both fixes may be off counts for the device', () => {
  const locked = at(0, 0, 5);
  const metres = distance(locked, at(0, 0.01));
  assert.ok(movedAway(at(0, 0.01), { locked, radius: metres - 6 }));
  assert.not(movedAway(at(0, 0.01), { locked, radius: metres - 5 + 1e-6 }));
  assert.not(movedAway(at(0, 0.01, 100), { locked, radius: metres - 90 }));
  assert.ok(movedAway(at(0, 0.01, 100), { locked, radius: metres - 106 }));
});

test('on the circle is inside of it', () => {
  assert.not(movedAway(at(0, 0), { locked: at(0, 0), radius: 0 }));
});

test('nothing locked, and no fix, are no movement', () => {
  assert.not(movedAway(at(0, 0), { locked: null, radius: 1 }));
  assert.not(movedAway(null, { locked: at(0, 0), radius: 1 }));
});

// ---- Software: made boots, event by event

const now = 1000;
const ipl = (pcr: number, data: string, measured: string): MadeEvent => ({
  pcr,
  type: EventType.EV_IPL,
  data,
  measured,
});
const command = (words: string) => ipl(8, `grub_cmd ${words}\0`, `${words}\0`);
const action = (pcr: number, data: string): MadeEvent => ({ pcr, type: EventType.EV_EFI_ACTION, data });
const program = (measured: string): MadeEvent => ({
  pcr: 4,
  type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
  data: new Uint8Array(32),
  measured,
});
const rootfsHash = (version: string) => version.charCodeAt(0).toString(16).repeat(32);

interface BootOptions {
  firmware?: string;
  kernel?: string;
  cmdline?: string;
  partition?: number;
  kernelPartition?: number;
  more?: MadeEvent[];
  without?: (event: MadeEvent) => boolean;
}

/** All that a boot of a version measures, small. */
function eventsOf(version: string, options: BootOptions = {}): MadeEvent[] {
  const { firmware = '1', kernel = `kernel ${version}`, cmdline = 'quiet', partition = 2 } = options;
  const root = options.kernelPartition ?? partition;
  const line = `/boot/kernel root=PARTUUID=${root} ${cmdline} ${version}`;
  const raw = Buffer.from(rootfsHash(version), 'hex');
  const events: MadeEvent[] = [
    { pcr: 0, type: EventType.EV_S_CRTM_VERSION, data: `firmware ${firmware}` },
    ...[1, 2, 3, 5, 6, 7].map(
      (pcr): MadeEvent => ({ pcr, type: EventType.EV_SEPARATOR, data: new Uint8Array(4) }),
    ),
    program('grub'),
    command(`set root=hd0,gpt${partition}`),
    command(`measurefs hd0,gpt${partition} --pcr 13`),
    { pcr: 13, type: EventType.EV_IPL, data: `squash4 ${rootfsHash(version)}\0`, measured: raw },
    command(`linux ${line}`),
    ipl(9, 'grub_linuxefi Kernel\0', kernel),
    ipl(8, `grub_kernel_cmdline ${line}\0`, line),
    ipl(9, 'grub_initrd Initrd\0', `initrd ${version}`),
    action(14, 'file:/config/server exist:true'),
    ...(options.more ?? []),
  ];
  return events.filter((event) => !options.without?.(event));
}

function shownBy(events: readonly MadeEvent[], versions = { image: '2', firmware: 'Acme-1' }) {
  const log = checkedLog(events);
  const initial = '0'.repeat(64);
  const pcrs = Object.fromEntries(
    evePolicyPcrs.map((pcr) => {
      const value = log.pcrs.get(pcr);
      return [String(pcr), value ? Buffer.from(value).toString('hex') : initial];
    }),
  );
  return { pcrs, log, versions };
}

const logOf = (events: readonly MadeEvent[]) => {
  const bytes = madeLog(events);
  return { bytes, sha256: nodeHash('sha256', bytes) };
};

const entriesOf = (version: string, options?: BootOptions) =>
  entriesOfLogs([2, 3].map((partition) => madeLog(eventsOf(version, { ...options, partition }))));
const baseline = shownBy(eventsOf('1'), { image: '1', firmware: 'Acme-1' });
const basis: SoftwareBasis = {
  baseline,
  acceptance: null,
  upgrade: { to: '2', until: now, entries: entriesOf('2') },
  firmware: null,
  former: [],
  catalogue: ['1', '2'],
  rules: builtInRules,
};

function refusedFor(
  events: readonly MadeEvent[],
  change: Partial<SoftwareBasis> = {},
  versions?: { image: string; firmware: string },
) {
  const verdict = judgeSoftware(now, shownBy(events, versions), { ...basis, ...change });
  if (verdict.accepted) throw new Error(`accepted: ${verdict.grounds}`);
  return verdict.refusals;
}

function acceptedFor(events: readonly MadeEvent[], change: Partial<SoftwareBasis> = {}) {
  const verdict = judgeSoftware(now, shownBy(events), { ...basis, ...change });
  if (!verdict.accepted) throw new Error(JSON.stringify(verdict.refusals, null, 1));
  return verdict;
}

const coded = (findings: ReturnType<typeof refusedFor>, code: string) =>
  findings.filter((one) => one.code === code);

test('the pushed image is accepted from either slot', () => {
  assert.is(acceptedFor(eventsOf('2')).grounds, 'upgrade');
  assert.is(acceptedFor(eventsOf('2', { partition: 3 })).grounds, 'upgrade');
});

test('a known version with one unknown entry: what was seen, and what would have been allowed', () => {
  const [first, entry, ...more] = refusedFor(eventsOf('2', { kernel: 'rootkit' }));
  assert.is(first?.code, 'policy.upgrade.unknown-entries');
  assert.equal([entry?.code, entry?.pcr], ['policy.entry.unknown', 9]);
  const kernel = basis.upgrade?.entries.find(({ subject }) => subject === 'kernel');
  assert.is(entry?.allowed, kernel?.digests.sha256);
  assert.is.not(entry?.seen, entry?.allowed);
  assert.match(entry?.remedy ?? '', /kernel .*evc image measure/);
  assert.is(coded(more, 'policy.entry.unknown').length, 0);
  // Where the words tell the difference, they are given.
  const [, command] = refusedFor(eventsOf('2', { cmdline: 'init=/bin/sh' }));
  assert.match(
    command?.text ?? '',
    /init=\/bin\/sh 2 is no measurement of 2; allowed would have been: .*PARTUUID=2 quiet 2 · .*PARTUUID=3 quiet 2/,
  );
});

test('an entry of another PCR is none of this one', () => {
  const moved = (basis.upgrade?.entries ?? []).map((entry) =>
    entry.subject === 'kernel' ? { ...entry, pcr: 4 } : entry,
  );
  const findings = refusedFor(eventsOf('2'), { upgrade: { to: '2', until: now, entries: moved } });
  assert.equal(
    coded(findings, 'policy.entry.unknown').map(({ pcr }) => pcr),
    [9],
  );
});

test('an unknown version that names known events, an older image, a closed window, nothing pushed', () => {
  const first = (...args: Parameters<typeof refusedFor>) => refusedFor(...args)[0];
  assert.is(
    first(eventsOf('2'), {}, { image: '9', firmware: 'Acme-1' })?.code,
    'policy.upgrade.other-version',
  );
  const older = first(eventsOf('2'), { upgrade: null, former: ['2'] });
  assert.equal([older?.code, older?.seen, older?.allowed], ['policy.version.older', '2', '1']);
  assert.match(older?.remedy ?? '', /push 1/);
  assert.is(
    first(eventsOf('2'), { upgrade: { to: '2', until: now - 1, entries: entriesOf('2') } })?.code,
    'policy.upgrade.window-closed',
  );
  assert.is(first(eventsOf('2'), { upgrade: null })?.code, 'policy.upgrade.not-pushed');
  assert.is(first(eventsOf('2'), { upgrade: null, catalogue: [] })?.code, 'policy.software.unknown');
});

test('a PCR that neither side has is no PCR that is the same', () => {
  const { 13: _left, ...some } = baseline.pcrs;
  const shown = { ...shownBy(eventsOf('1')), pcrs: some };
  const verdict = judgeSoftware(now, shown, {
    ...basis,
    baseline: { ...baseline, pcrs: some },
    upgrade: null,
  });
  assert.is(verdict.accepted && verdict.grounds === 'baseline', false);
});

test('the version that runs is neither older than itself nor one that somebody would have to push', () => {
  const versions = { image: '1', firmware: 'Acme-1' };
  for (const change of [{ former: ['1'] }, { catalogue: ['1'] }])
    assert.is(
      refusedFor(eventsOf('2'), { upgrade: null, ...change }, versions)[0]?.code,
      'policy.software.unknown',
    );
});

test('an upgrade is judged to the last millisecond of its window', () => {
  const upgrade = { to: '2', entries: entriesOf('2') };
  assert.is(acceptedFor(eventsOf('2'), { upgrade: { ...upgrade, until: now } }).grounds, 'upgrade');
});

test('what changed is told for the PCRs that differ, with the words on both sides, or the digests where the words are the same', () => {
  const found = refusedFor(eventsOf('1', { kernel: 'kernel x' }), { upgrade: null });
  const pcrs = coded(found, 'policy.pcr.unexpected');
  assert.equal(
    pcrs.map(({ pcr }) => pcr),
    [9],
  );
  const now9 = shownBy(eventsOf('1', { kernel: 'kernel x' })).pcrs['9'];
  assert.equal([pcrs[0]?.seen, pcrs[0]?.allowed], [now9, baseline.pcrs['9']]);
  const other = found.find(({ event }) => event !== undefined);
  assert.ok(other, 'the event is named');
  const kernels = ['kernel x', 'kernel 1'].map((kernel) => `sha256 ${nodeHash('sha256', kernel)}`);
  assert.equal([other?.seen, other?.allowed], kernels, 'the words are the same, so the digests are shown');
  const words = refusedFor(eventsOf('1', { cmdline: 'loud' }), { upgrade: null });
  const worded = words.find(({ pcr, event }) => pcr === 8 && event !== undefined);
  assert.match(worded?.seen ?? '', 'loud');
  assert.match(worded?.allowed ?? '', 'quiet');
});

test('the same words are told by their digests, and what came or went by its words on its side alone', () => {
  const tables = (measured: string): MadeEvent => ({
    pcr: 1,
    type: EventType.EV_EFI_HANDOFF_TABLES,
    data: new Uint8Array(16),
    measured,
  });
  const [before, after] = ['one', 'other'].map((words) => eventsOf('1', { more: [tables(words)] }));
  const told = (was: readonly MadeEvent[] = [], is: readonly MadeEvent[] = []) => {
    const found = refusedFor(is, { baseline: shownBy(was, baseline.versions), upgrade: null });
    for (const one of found) assert.not(Object.values(one).includes(undefined), one.code);
    const own = found.filter(({ code }) => code.startsWith('log.'));
    return own.map(({ event, seen, allowed }) => [event !== undefined, seen, allowed]);
  };
  const digest = (words: string) => `sha256 ${nodeHash('sha256', words)}`;
  assert.equal(told(before, after), [[true, digest('other'), digest('one')]]);
  assert.equal(told(eventsOf('1'), after), [[true, 'tables of the platform', undefined]]);
  assert.equal(told(before, eventsOf('1')), [[false, undefined, 'tables of the platform']]);
  // There are no words for this one on either side.
  const failed = { pcr: 3, type: EventType.EV_SEPARATOR, data: Uint8Array.of(1, 0, 0, 0) };
  const failure = `sha256 ${nodeHash('sha256', failed.data)}`;
  assert.equal(told(eventsOf('1'), eventsOf('1', { more: [failed] })), [[true, failure, undefined]]);
});

test('a value that one side does not have is told as none, and events of PCRs that nobody judges are not told', () => {
  const { 13: _left, ...some } = baseline.pcrs;
  const shown = { ...shownBy(eventsOf('1'), baseline.versions), pcrs: some };
  const less = judgeSoftware(now, shown, { ...basis, baseline: shownBy(eventsOf('2')), upgrade: null });
  const none = coded(less.accepted ? [] : less.refusals, 'policy.pcr.unexpected').find(
    ({ pcr }) => pcr === 13,
  );
  assert.equal([none?.seen, none?.allowed], ['', shownBy(eventsOf('2')).pcrs['13']]);
  const without = { ...baseline, pcrs: some };
  const more = coded(
    refusedFor(eventsOf('2'), { baseline: without, upgrade: null }),
    'policy.pcr.unexpected',
  );
  assert.is(more.find(({ pcr }) => pcr === 13)?.allowed, '');
  const found = refusedFor(eventsOf('1', { kernel: 'x', more: [action(10, 'b')] }), { upgrade: null });
  assert.not(found.some(({ pcr }) => pcr === 10));
  assert.ok(found.some(({ pcr, code }) => pcr === 9 && code.startsWith('log.')));
});

test('of very many changes the first fifty are told', () => {
  const more = Array.from({ length: 70 }, (_, i) => command(`set x=${i}`));
  const found = refusedFor(eventsOf('1', { more }), { upgrade: null });
  const told = found.filter(({ code }) => code.startsWith('log.'));
  assert.is(told.length, 50, [...new Set(found.map(({ code }) => code))].join());
  for (const { event, seen, allowed } of told) {
    assert.ok(event !== undefined && seen !== undefined, 'an event that came has a place and what it says');
    assert.is(allowed, undefined);
  }
});

test('firmware is known by its vendor and version, in its own PCRs', () => {
  const events = eventsOf('2', { firmware: '2' });
  const known = entriesOf('2', { firmware: '2' });
  const ofFirmware = known.filter(({ pcr }) => pcr === 0);
  const with2 = (vendor: string, entries = ofFirmware) => ({ firmware: { vendor, entries } });
  const [entry] = coded(refusedFor(events), 'policy.entry.unknown');
  assert.is(entry?.pcr, 0);
  assert.match(entry?.remedy ?? '', /evc firmware add/);
  assert.is(acceptedFor(events, with2('Acme')).grounds, 'upgrade');
  assert.is(acceptedFor(events, with2('')).grounds, 'upgrade');
  // A board does not change its maker; and what a firmware measures excuses nothing of the image.
  assert.is(coded(refusedFor(events, with2('Other')), 'policy.entry.unknown')[0]?.pcr, 0);
  assert.is(coded(refusedFor(events, with2('Acm')), 'policy.entry.unknown')[0]?.pcr, 0);
  const evil = eventsOf('2', { kernel: 'rootkit' });
  const findings = refusedFor(evil, with2('Acme', entriesOfLogs([madeLog(evil)])));
  assert.is(coded(findings, 'policy.entry.unknown')[0]?.pcr, 9);
});

test('a boot that measures no root file system, or another kernel’s, is none of the image', () => {
  const missing = (without: BootOptions['without']) =>
    coded(refusedFor(eventsOf('2', without ? { without } : {})), 'policy.entry.missing').map(
      ({ pcr, text }) => `${pcr} ${text}`,
    );
  const [rootfs] = missing(({ pcr }) => pcr === 13);
  assert.match(rootfs ?? '', /^13 .*root file system .*was not measured, and a boot of 2 measures it/);
  assert.match(missing(({ pcr }) => pcr === 9)[0] ?? '', /^9 .*kernel .*was not measured/);
  // An initrd is not on every board: it is missing where the baseline had one.
  const noInitrd = ({ data }: MadeEvent) => data === 'grub_initrd Initrd\0';
  assert.match(missing(noInitrd)[0] ?? '', /^9 .*initrd .*was not measured/);
  const board = shownBy(eventsOf('1', { without: noInitrd }), baseline.versions);
  assert.is(acceptedFor(eventsOf('2', { without: noInitrd }), { baseline: board }).grounds, 'upgrade');
  // Nothing of a PCR at all, where nothing is known of it either.
  const entries = (basis.upgrade?.entries ?? []).filter(({ pcr }) => pcr !== 13);
  const findings = refusedFor(eventsOf('2', { without: ({ pcr }) => pcr === 13 }), {
    upgrade: { to: '2', until: now, entries },
  });
  assert.match(
    coded(findings, 'policy.entry.missing')[0]?.text ?? '',
    /PCR 13: the boot measured less than before/,
  );
});

test('one slot measured and the other started is no boot of the image', () => {
  const findings = refusedFor(eventsOf('2', { partition: 3, kernelPartition: 2 }));
  const [mixed] = coded(findings, 'policy.entry.mixed');
  assert.is(mixed?.pcr, 8);
  assert.match(mixed?.text ?? '', /PARTUUID=2 .* is of a boot of 2 from gpt2, and this one is from gpt3/);
});

test('equal events from another locality of the TPM are an unexplained PCR 0, pushed or not', () => {
  const locality: MadeEvent = { pcr: 0, type: EventType.EV_NO_ACTION, data: 'StartupLocality\0\u0003' };
  for (const upgrade of [basis.upgrade, null]) {
    const findings = refusedFor([locality, ...eventsOf('2')], { upgrade });
    assert.equal(
      coded(findings, 'policy.pcr.unexplained').map(({ pcr }) => pcr),
      [0],
    );
  }
});

const setup = action(1, 'Entering ROM Based Setup');
const visits: AllowRule = {
  id: 'visits',
  account: null,
  pcr: 1,
  match: { kind: 'event', type: 'EV_EFI_ACTION', subject: 'Entering ROM Based Setup' },
  removal: true,
  reason: 'the laboratory looks at settings',
  by: 'admin',
  at: 0,
};
const withRule = { rules: [visits], upgrade: null };

test('a difference that rules cover is allowed, and named; one that they do not is not', () => {
  const visited = eventsOf('1', { more: [setup] });
  const { grounds, notes } = acceptedFor(visited, withRule);
  assert.is(grounds, 'allowed');
  assert.equal(
    notes.map(({ code, pcr }) => [code, pcr]),
    [['policy.event.allowed', 1]],
  );
  assert.match(notes[0]?.text ?? '', /Entering ROM Based Setup\. Rule visits allows it: the laboratory/);
  refusedFor(visited, { upgrade: null });
  const both = refusedFor(eventsOf('1', { more: [setup], kernel: 'rootkit' }), {
    ...withRule,
    catalogue: [],
  });
  assert.is(both[0]?.code, 'policy.software.unknown');
});

test('an upgrade and a difference that a rule covers at once', () => {
  const events = eventsOf('2', { more: [setup] });
  assert.is(coded(refusedFor(events), 'policy.entry.unknown')[0]?.pcr, 1);
  const { grounds, notes } = acceptedFor(events, { rules: [visits] });
  assert.equal([grounds, notes.length], ['upgrade', 1]);
});

test('what a person accepted may differ in the next boot only where a rule covers it', () => {
  const events = eventsOf('7');
  const acceptance = { pcrs: shownBy(events).pcrs, logs: [logOf(events)] };
  const visited = eventsOf('7', { more: [setup] });
  assert.is(acceptedFor(events, { acceptance }).grounds, 'acceptance');
  refusedFor(visited, { acceptance });
  const { grounds, notes } = acceptedFor(visited, { ...withRule, acceptance });
  assert.equal([grounds, notes.length], ['acceptance', 1]);
  // Accepted with the visit, shown without it: gone is covered, since this rule says so.
  const accepted = { pcrs: shownBy(visited).pcrs, logs: [logOf(visited)] };
  assert.is(acceptedFor(events, { ...withRule, acceptance: accepted }).grounds, 'acceptance');
  refusedFor(events, { acceptance: accepted, upgrade: null, rules: [{ ...visits, removal: false }] });
  // The very values that were accepted need no log; logs that do not lead to them explain nothing else, and neither do none.
  assert.is(acceptedFor(events, { acceptance: { ...acceptance, logs: [] } }).grounds, 'acceptance');
  for (const logs of [[], [logOf(eventsOf('6'))]])
    refusedFor(visited, { ...withRule, acceptance: { ...acceptance, logs } });
  const { 13: _left, ...some } = acceptance.pcrs;
  refusedFor(visited, { ...withRule, acceptance: { ...acceptance, pcrs: some } });
});

test.run();
