import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { eventlogCommand } from '../../../controller/cli/eventlog.ts';
import { runCommand, type Said } from '../../kit/command.ts';
import { eventLogPath, expectedLogs, type MadeEvent, madeLog, readEventLog } from '../../kit/eventlogs.ts';
import { runToEnd } from '../../kit/process.ts';

const folder = mkdtempSync(join(tmpdir(), 'evc-eventlog-'));
test.after(() => rmSync(folder, { recursive: true }));

const run = (...args: string[]): Promise<Said> => runCommand(eventlogCommand(), args);
function file(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

interface Replayed {
  banks: Record<string, Record<string, string>>;
  startupLocality: number;
  events: number;
}

for (const [name, expected] of Object.entries(expectedLogs)) {
  if (expected.pcrs === null) continue;
  test(`replay ${name}: every bank leads to the known values`, async () => {
    const { stdout, code } = await run('replay', eventLogPath(name), '--json');
    const replayed = JSON.parse(stdout) as Replayed;
    assert.is(code, 0);
    assert.equal(replayed.banks, expected.pcrs);
    assert.equal([replayed.startupLocality, replayed.events], [expected.startupLocality, expected.events]);
  });
}

test('replay takes the logs of one boot together, gzip as it comes, and standard input', async () => {
  const bios = madeLog([{ pcr: 0, type: 4, data: new Uint8Array(4) }]);
  const config = eventLogPath('eve/measurefs_tpm_event_log');
  const packed = file('bios.gz', gzipSync(bios));
  const both = JSON.parse((await run('replay', packed, config, '--json')).stdout) as Replayed;
  assert.equal(Object.keys(both.banks.sha256 ?? {}), ['0', '14']);
  assert.is(both.events, 19);
});

test('replay says in words what it found', async () => {
  const { stdout } = await run('replay', eventLogPath('eve/measurefs_tpm_event_log'));
  assert.match(
    stdout,
    /^sha256\n {2}14 {2}90f8ca2930f70193bc5e706794473d7c39b5937c58dc5b4504a086e925966db0\n17 events, startup locality 0\n$/,
  );
});

test('replay --pcrs names the PCRs that the log does not explain', async () => {
  const boot = 'ovmf/deb2022-crb-shim-grub-sb';
  const live = eventLogPath(`${boot}/pcrs.sha256.txt`);
  const { stdout, code } = await run(
    'replay',
    eventLogPath(`${boot}/binary_bios_measurements`),
    '--pcrs',
    live,
  );
  assert.is(code, 1);
  // Linux extends PCR 10 and logs it elsewhere.
  assert.match(stdout, /sha256 PCR 10: it was extended, and the log does not say with what\n$/);
  const json = file('pcrs.json', JSON.stringify({ sha256: { 7: 'aa'.repeat(32) } }));
  const other = await run(
    'replay',
    eventLogPath(`${boot}/binary_bios_measurements`),
    '--pcrs',
    json,
    '--json',
  );
  assert.is(other.code, 1);
  const { differing } = JSON.parse(other.stdout) as { differing: { pcr: number; reason: string }[] };
  assert.equal(
    differing.map(({ pcr, reason }) => [pcr, reason]),
    [[7, 'mismatch']],
  );
});

interface Diffed {
  pcrs: number[];
  findings: { code: string; pcr: number | null; event: number | null; text: string; before: string | null }[];
}

const pairs: [before: string, after: string, pcrs: number[], codes: string[]][] = [
  [
    'eve/TpmLogs.last_good_log.bin',
    'eve/TpmLogs.last_failed_log.bin',
    [1, 8, 14],
    [
      'log.bios-setup-entered',
      'log.boot-entry-removed',
      'log.boot-order-changed',
      'log.config-file-changed',
      'log.grub-command-changed',
      'log.kernel-argument-added',
      'log.platform-tables-changed',
    ],
  ],
  [
    'eve/empty_uri.last_good_log.bin',
    'eve/empty_uri.last_failed_log.bin',
    [5, 8, 9, 13],
    [
      'log.boot-slot-changed',
      'log.gpt-changed',
      'log.grub-command-changed',
      'log.kernel-changed',
      'log.kernel-cmdline-changed',
      'log.rootfs-changed',
    ],
  ],
  [
    'ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements',
    'ovmf/deb2022-crb-shim-grub-sb-cmdline/binary_bios_measurements',
    [8, 9],
    ['log.boot-config-changed', 'log.grub-command-changed', 'log.kernel-argument-added'],
  ],
];
for (const [before, after, pcrs, codes] of pairs)
  test(`diff ${before} → ${after}: exactly these PCRs and changes`, async () => {
    const { stdout, code } = await run('diff', eventLogPath(before), eventLogPath(after), '--json');
    assert.is(code, 1);
    const diffed = JSON.parse(stdout) as Diffed;
    assert.equal(diffed.pcrs, pcrs);
    assert.equal([...new Set(diffed.findings.map((finding) => finding.code))].sort(), codes);
    for (const finding of diffed.findings)
      for (const key of ['code', 'pcr', 'event', 'text', 'before', 'after']) assert.ok(key in finding);
  });

test('diff of a log with itself finds nothing and ends with 0', async () => {
  const path = eventLogPath('eve/empty_uri.last_good_log.bin');
  const { stdout, code } = await run('diff', path, path);
  assert.equal([code, stdout], [0, 'no difference in the digests of sha256\n']);
  assert.equal(JSON.parse((await run('diff', path, path, '--json')).stdout), {
    bank: 'sha256',
    pcrs: [],
    findings: [],
  });
});

test('diff: data that differ under an equal digest are no finding, whatever they say', async () => {
  const program = (path: string): MadeEvent => ({
    pcr: 4,
    type: 0x80000003,
    data: Buffer.concat([Buffer.alloc(24), Buffer.alloc(8), Buffer.from(path)]),
    measured: 'the program',
  });
  const one = file('one', madeLog([program('a')]));
  const other = file('other', madeLog([program('b')]));
  assert.is((await run('diff', one, other)).code, 0);
});

test('diff: a new log that was cut short, and an extend that it leaves out, are findings', async () => {
  const whole = readEventLog('eve/empty_uri.last_good_log.bin');
  const path = eventLogPath('eve/empty_uri.last_good_log.bin');
  const cut = await run('diff', path, file('cut', whole.subarray(0, whole.length - 10)), '--json');
  assert.is(cut.code, 1);
  assert.ok(
    (JSON.parse(cut.stdout) as Diffed).findings.some(({ code }) => code === 'evidence.log.truncated'),
  );
  const pcrs = file('unlogged.json', JSON.stringify({ sha256: { 0: '11'.repeat(32), 15: '22'.repeat(32) } }));
  const unlogged = JSON.parse((await run('diff', path, path, '--pcrs', pcrs, '--json')).stdout) as Diffed;
  assert.equal(
    unlogged.findings.map(({ code, pcr }) => [code, pcr]),
    [
      ['evidence.log.mismatch', 0],
      ['evidence.log.pcr-without-events', 15],
    ],
  );
});

test('facts: Secure Boot and its keys, boot chain, command line; JSON has the same', async () => {
  const path = eventLogPath('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements');
  const { stdout } = await run('facts', path);
  assert.match(stdout, /^Secure Boot: on$/m);
  assert.match(
    stdout,
    /^ {2}db: Microsoft Windows Production PCA 2011; Microsoft Corporation UEFI CA 2011$/m,
  );
  assert.match(stdout, /^ {2}MokListRT: Debian Secure Boot CA$/m);
  assert.match(stdout, /^ {2}\/vmlinuz console=ttyS0 panic=-1 quiet$/m);
  const facts = JSON.parse((await run('facts', path, '--json')).stdout) as Record<string, unknown>;
  assert.equal(facts.kernelCommandLines, ['/vmlinuz console=ttyS0 panic=-1 quiet']);
  assert.is(facts.secureBoot, 'on');
});

test('show: every event, what its digest vouches for, and no more than the PCRs asked for', async () => {
  const path = eventLogPath('eve/empty_uri.last_good_log.bin');
  const { events } = JSON.parse((await run('show', path, '--json')).stdout) as {
    events: { index: number; pcr: number; vouched: string }[];
  };
  assert.is(events.length, expectedLogs['eve/empty_uri.last_good_log.bin']?.events);
  const some = JSON.parse((await run('show', path, '--pcr', '13-14', '--json')).stdout) as typeof events & {
    events: typeof events;
  };
  assert.equal([...new Set(some.events.map(({ pcr }) => pcr))].sort(), [13, 14]);
  const { stdout } = await run('show', path, '--pcr', '13');
  assert.match(stdout, /13 ✓ \S+ +EV_IPL\n +root file system with SHA-256/);
});

const unusable: [what: string, args: () => string[], code: string][] = [
  ['an absent log', () => ['replay', file('empty', '')], 'evidence.log.absent'],
  ['a text', () => ['show', file('text', 'this is no log')], 'evidence.log.malformed'],
  ['a missing file', () => ['replay', join(folder, 'nowhere')], 'input.unreadable'],
  ['a folder', () => ['facts', folder], 'input.unreadable'],
  ['a broken gzip', () => ['show', file('bad.gz', Buffer.from('1f8b0800', 'hex'))], 'input.unreadable'],
  ['a gzip bomb', () => ['show', file('bomb.gz', gzipSync(Buffer.alloc(20 << 20)))], 'input.too-large'],
  ['a huge file', () => ['show', file('huge', Buffer.alloc((16 << 20) + 1))], 'input.too-large'],
  [
    'a bank that is not there',
    () => ['show', eventLogPath('go-attestation/crypto_agile_eventlog'), '--bank', 'sha384'],
    'evidence.log.bank',
  ],
  [
    'no PCR values',
    () => ['replay', eventLogPath('tpm2-tools/event.bin'), '--pcrs', file('x', 'x')],
    'input.pcrs',
  ],
];
for (const [what, args, code] of unusable)
  test(`${what} is unusable input: ${code}`, async () => {
    const said = await run(...args());
    assert.is(said.code, 2);
    assert.match(said.stderr, `[${code}]`);
    assert.is(said.stdout, '');
  });

test('the process ends with the same codes, and reads standard input', async () => {
  const different = await runToEnd('evc', [
    'eventlog',
    'diff',
    eventLogPath('eve/empty_uri.last_good_log.bin'),
    eventLogPath('eve/empty_uri.last_failed_log.bin'),
  ]);
  assert.is(different.code, 1);
  const nothing = await runToEnd('evc', ['eventlog', 'replay']);
  assert.is(nothing.code, 2);
  assert.match(nothing.stderr, /standard input has no bytes {2}\[evidence\.log\.absent\]\nhint: /);
});

test.run();
