import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { variableData } from '../../../formats/eventlog/build.ts';
import { differingEntries, diffLogs, type LogFinding } from '../../../formats/eventlog/diff.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { EFI_GLOBAL_VARIABLE } from '../../../formats/eventlog/variables.ts';
import { checkedFixture, checkedLog, checkedReplay, hash, type MadeEvent } from '../../kit/eventlogs.ts';

const counts = (findings: readonly LogFinding[]) => {
  const found: Record<string, number> = {};
  for (const { pcr, code } of findings) found[`${pcr} ${code}`] = (found[`${pcr} ${code}`] ?? 0) + 1;
  return found;
};
const texts = (findings: readonly LogFinding[], code: string) =>
  findings.filter((finding) => finding.code === code).map(({ text }) => text);

test('EVE, good to failed: someone entered the setup, getty was switched on, /config was edited', () => {
  const findings = diffLogs(
    checkedFixture('eve/TpmLogs.last_good_log.bin'),
    checkedFixture('eve/TpmLogs.last_failed_log.bin'),
  );
  assert.equal(counts(findings), {
    '1 log.bios-setup-entered': 1,
    '1 log.platform-tables-changed': 1,
    '1 log.boot-order-changed': 1,
    '1 log.boot-entry-removed': 3,
    '8 log.grub-command-changed': 5,
    '8 log.kernel-argument-added': 1,
    '14 log.config-file-changed': 2,
  });
  assert.equal(texts(findings, 'log.boot-order-changed'), [
    'The boot order changed from 0001, 0003, 0004, 0005, 0002 to 0001, 0002',
  ]);
  assert.equal(
    texts(findings, 'log.boot-entry-removed').map((text) => /Boot000\d/.exec(text)?.[0]),
    ['Boot0003', 'Boot0004', 'Boot0005'],
  );
  assert.equal(texts(findings, 'log.config-file-changed'), [
    'The content of /config/authorized_keys changed',
    'The content of /config/grub.cfg changed',
  ]);
  assert.ok(
    texts(findings, 'log.grub-command-changed').includes('A GRUB command is new: set dom0_extra_args= getty'),
  );
  assert.ok(texts(findings, 'log.grub-command-changed').includes('A GRUB command is new: set_getty'));
  assert.match(texts(findings, 'log.kernel-argument-added')[0] ?? '', 'now with getty');
  assert.match(texts(findings, 'log.platform-tables-changed')[0] ?? '', 'SmbiosTable');
  // The digest of the table is signed, its name is the log's word.
  assert.equal(
    findings.filter(({ vouched }) => !vouched).map(({ code }) => code),
    ['log.platform-tables-changed'],
  );
});

test('EVE, an A/B update: slot, kernel, root file system', () => {
  const findings = diffLogs(
    checkedFixture('eve/empty_uri.last_good_log.bin'),
    checkedFixture('eve/empty_uri.last_failed_log.bin'),
  );
  assert.equal(counts(findings), {
    '5 log.gpt-changed': 1,
    '8 log.boot-slot-changed': 2,
    '8 log.grub-command-changed': 3,
    '8 log.kernel-cmdline-changed': 1,
    '9 log.kernel-changed': 1,
    '13 log.rootfs-changed': 1,
  });
  const [slot] = findings.filter(({ code }) => code === 'log.boot-slot-changed');
  assert.equal([slot?.before, slot?.after], ['hd0,gpt3', 'hd0,gpt2']);
  const [rootfs] = findings.filter(({ code }) => code === 'log.rootfs-changed');
  assert.match(rootfs?.before ?? '', /^c6d986d6/);
  assert.match(rootfs?.after ?? '', /^eaf5a707/);
});

test('OVMF, another kernel command line: PCRs 8 and 9, nothing else', () => {
  const log = (boot: string) => checkedReplay(`ovmf/${boot}/binary_bios_measurements`);
  const findings = diffLogs(log('deb2022-crb-shim-grub-sb'), log('deb2022-crb-shim-grub-sb-cmdline'));
  assert.equal(counts(findings), {
    '8 log.grub-command-changed': 2,
    '8 log.kernel-argument-added': 1,
    '9 log.boot-config-changed': 1,
  });
  assert.is(
    texts(findings, 'log.kernel-argument-added')[0],
    'The kernel command line changed: now with init=/bin/sh debug_backdoor=1 rdinit=/init',
  );
});

test('a log does not differ from itself', () => {
  const log = checkedFixture('eve/empty_uri.last_good_log.bin');
  assert.equal(diffLogs(log, log), []);
  assert.equal(differingEntries(log, log), { added: [], removed: [] });
});

test('the differing entries are exactly the events outside the common part, on both sides', () => {
  const { added, removed } = differingEntries(
    checkedFixture('eve/empty_uri.last_good_log.bin'),
    checkedFixture('eve/empty_uri.last_failed_log.bin'),
  );
  assert.is(added.length, 27);
  assert.is(removed.length, 27);
  assert.equal([...new Set(added.map(({ pcr }) => pcr))], [5, 8, 9, 13]);
  const rootfs = added.find(({ pcr }) => pcr === 13);
  const h = 'eaf5a7072ace17c4c95c08641c8cf6d4dc47ddf6b69db083e81ab358ed2e75d0';
  assert.equal(rootfs, {
    pcr: 13,
    event: 56,
    type: 'EV_IPL',
    digest: Buffer.from(hash('sha256', Buffer.from(h, 'hex'))).toString('hex'),
    text: `root file system with SHA-256 ${h}`,
  });
});

test('logs of two banks cannot be compared', () => {
  const name = 'eve/binary_bios_measurement';
  assert.throws(() => diffLogs(checkedFixture(name, 'sha256'), checkedFixture(name, 'sha384')), TypeError);
});

const action = (text: string, pcr = 4): MadeEvent => ({ pcr, type: EventType.EV_EFI_ACTION, data: text });
const command = (text: string): MadeEvent => ({
  pcr: 8,
  type: EventType.EV_IPL,
  data: `grub_cmd ${text}\0`,
  measured: `${text}\0`,
});
const variable = (pcr: number, name: string, data: Uint8Array): MadeEvent => ({
  pcr,
  type: pcr === 7 ? EventType.EV_EFI_VARIABLE_DRIVER_CONFIG : EventType.EV_EFI_VARIABLE_BOOT,
  data: variableData(EFI_GLOBAL_VARIABLE, name, data),
});
const codes = (before: MadeEvent[], after: MadeEvent[]) =>
  diffLogs(checkedLog(before), checkedLog(after)).map(({ pcr, code }) => `${pcr} ${code}`);

test('every kind of change has its code', () => {
  const file = (text: string) => action(`file:/config/${text}`, 14);
  const hashOf = (text: string) =>
    ` exist:true content-hash:${Buffer.from(hash('sha256', Buffer.from(text))).toString('hex')}`;
  const image = (pcr: number, measured: string): MadeEvent => ({
    pcr,
    type: EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
    data: Buffer.concat([Buffer.alloc(32)]),
    measured,
  });
  const crtm = (text: string): MadeEvent => ({ pcr: 0, type: EventType.EV_S_CRTM_VERSION, data: text });
  const mok = (text: string): MadeEvent => ({
    pcr: 14,
    type: EventType.EV_IPL,
    data: 'MokList\0',
    measured: text,
  });
  const other = (text: string): MadeEvent => ({ pcr: 6, type: EventType.EV_COMPACT_HASH, data: text });
  const cases: [MadeEvent[], MadeEvent[], string[]][] = [
    [[crtm('1')], [crtm('2')], ['0 log.firmware-changed']],
    [[image(4, 'a')], [image(4, 'b')], ['4 log.boot-loader-changed']],
    [[image(2, 'a')], [image(2, 'a'), image(2, 'b')], ['2 log.option-rom-changed']],
    [
      [variable(7, 'SecureBoot', Uint8Array.of(1))],
      [variable(7, 'SecureBoot', Uint8Array.of(0))],
      ['7 log.secure-boot-changed'],
    ],
    [
      [variable(7, 'PK', Uint8Array.of(1))],
      [variable(7, 'PK', Uint8Array.of(2))],
      ['7 log.secure-boot-keys-changed'],
    ],
    [
      [variable(1, 'Timeout', Uint8Array.of(1))],
      [variable(1, 'Timeout', Uint8Array.of(2))],
      ['1 log.variable-changed'],
    ],
    [[], [variable(1, 'Boot0007', Uint8Array.of(1))], ['1 log.variable-changed']],
    [[file('server exist:false')], [file(`server${hashOf('a')}`)], ['14 log.config-file-added']],
    [[file(`server${hashOf('a')}`)], [file('server exist:false')], ['14 log.config-file-removed']],
    [[file(`server${hashOf('a')}`)], [], ['14 log.config-file-removed']],
    [[file(`server${hashOf('a')}`)], [file(`server${hashOf('b')}`)], ['14 log.config-file-changed']],
    [[], [file('ftpm.tar.xz exist:false')], ['14 log.event-added']],
    [[mok('a')], [mok('b')], ['14 log.machine-owner-keys-changed']],
    [[other('a')], [other('b')], ['6 log.event-changed']],
    [[other('a')], [], ['6 log.event-removed']],
    [[], [other('a')], ['6 log.event-added']],
    [
      [],
      [{ pcr: 3, type: EventType.EV_SEPARATOR, data: Buffer.from('01000000', 'hex') }],
      ['3 log.measuring-failed'],
    ],
    [[action('Entering ROM Based Setup', 1)], [], ['1 log.event-removed']],
  ];
  for (const [before, after, expected] of cases) {
    const base = { pcr: 10, type: EventType.EV_IPL, data: 'x' };
    assert.equal(codes([base, ...before], [base, ...after]), expected);
  }
});

test('an event that only moved within its PCR is a difference', () => {
  const before = [command('a'), command('b'), command('c')];
  const after = [command('b'), command('c'), command('a')];
  const { added, removed } = differingEntries(checkedLog(before), checkedLog(after));
  assert.equal(
    [added.map(({ text }) => text), removed.map(({ text }) => text)],
    [['GRUB command: a'], ['GRUB command: a']],
  );
});

test('an event that was retyped and keeps its digest is no difference', () => {
  const one = action('Exit Boot Services Invocation', 5);
  assert.equal(codes([one], [{ ...one, type: EventType.EV_ACTION }]), []);
});

test('a slot is merged only where nothing else of the command changed', () => {
  assert.equal(codes([command('linux (hd0,gpt2)/k a')], [command('linux (hd0,gpt3)/k b')]), [
    '8 log.grub-command-changed',
  ]);
  assert.equal(codes([command('linux (hd0,gpt2)/k a')], [command('linux (hd0,gpt3)/k a')]), [
    '8 log.boot-slot-changed',
  ]);
});

test('texts are short, and what differs beyond their end still counts', () => {
  const long = (slot: string, end: string) => command(`linux (hd0,${slot})/k ${'a'.repeat(5000)}${end}`);
  const [finding] = diffLogs(checkedLog([long('gpt2', 'x')]), checkedLog([long('gpt3', 'y')]));
  assert.is(finding?.code, 'log.grub-command-changed');
  for (const text of [finding?.text, finding?.before, finding?.after]) assert.ok((text ?? '').length < 2100);
});

test('long lists and long texts that have nothing in common are compared in bounded time', () => {
  const list = (name: string) => checkedLog(Array.from({ length: 19_000 }, (_, i) => command(`${name}${i}`)));
  const [before, after] = [list('a'), list('b')];
  const { added, removed } = differingEntries(before, after);
  assert.equal([added.length, removed.length], [19_000, 19_000]);
  // Every command has its own first word, so none is a change of another.
  assert.is(diffLogs(before, after).length, 38_000);

  const cmdline = (name: string): MadeEvent => {
    const text = Array.from({ length: 60_000 }, (_, i) => `${name}${i}`).join(' ');
    return { pcr: 8, type: EventType.EV_IPL, data: `grub_kernel_cmdline ${text}`, measured: text };
  };
  assert.equal(codes([cmdline('a')], [cmdline('b')]), ['8 log.kernel-cmdline-changed']);
});

test.run();
