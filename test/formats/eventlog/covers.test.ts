import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { alwaysMeasured, type Cover, coverOf } from '../../../formats/eventlog/covers.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { EventType, eventTypeName } from '../../../formats/eventlog/types.ts';
import { expectedLogs, hash, readEventLog } from '../../kit/eventlogs.ts';

const strongest = (banks: readonly string[] | null) => (banks?.includes('sha256') ? 'sha256' : 'sha1');

/** Types whose digest is never of the data, so nobody hashes it. */
const neverData = new Set(['EV_EFI_BOOT_SERVICES_APPLICATION', 'EV_EFI_BOOT_SERVICES_DRIVER']);

for (const [name, expected] of Object.entries(expectedLogs)) {
  if (!expected.banks) continue;
  const bank = strongest(expected.banks);
  test(`${name}: as many digests cover the whole data as were counted`, () => {
    const counted: Record<string, [number, number]> = {};
    for (const event of parseLog(readEventLog(name)).events) {
      const digest = event.digest(bank);
      if (!event.extends || !digest) continue;
      const type = eventTypeName(event.type);
      const entry = counted[type] ?? [0, 0];
      counted[type] = entry;
      entry[0]++;
      if (coverOf(event, digest, bank, hash) === 'data') entry[1]++;
    }
    for (const type of neverData)
      if (counted[type]) assert.is(expected.digestEqualsHashOfData?.[type]?.[1], 0);
    assert.equal(counted, expected.digestEqualsHashOfData);
  });

  test(`${name}: what firmware always measures whole is covered`, () => {
    for (const event of parseLog(readEventLog(name)).events) {
      const digest = event.digest(bank);
      if (!event.extends || !digest || !alwaysMeasured(event)) continue;
      assert.ok(coverOf(event, digest, bank, hash), `event ${event.index}`);
    }
  });
}

test('the rule that a digest follows is named, in every bank', () => {
  const rules = new Map<string, Set<Cover | undefined>>();
  for (const [name, expected] of Object.entries(expectedLogs)) {
    const log = parseLog(readEventLog(name));
    for (const bank of expected.banks ?? [])
      for (const event of log.events) {
        const digest = event.digest(bank);
        if (!event.extends || !digest) continue;
        const type = eventTypeName(event.type);
        rules.set(type, (rules.get(type) ?? new Set()).add(coverOf(event, digest, bank, hash)));
      }
  }
  const seen = (type: string) => [...(rules.get(type) ?? [])].map(String).sort();
  assert.equal(seen('EV_EFI_VARIABLE_BOOT'), ['data', 'variable-data']);
  assert.equal(seen('EV_EFI_VARIABLE_AUTHORITY'), ['data', 'without-last-byte']);
  assert.equal(seen('EV_IPL'), ['data', 'grub-text', 'rootfs-hash', 'undefined', 'with-nul']);
  assert.equal(seen('EV_EFI_GPT_EVENT'), ['data']);
  assert.equal(seen('EV_EFI_BOOT_SERVICES_APPLICATION'), ['undefined']);
  assert.equal(seen('EV_EFI_HANDOFF_TABLES2'), ['undefined']);
});

const ipl = (data: string, measured: string | Uint8Array) =>
  coverOf(
    { type: EventType.EV_IPL, data: Buffer.from(data) },
    hash('sha256', typeof measured === 'string' ? Buffer.from(measured) : measured),
    'sha256',
    hash,
  );

test("EVE's GRUB measures a command with its NUL, a command line without, a root file system as raw hash", () => {
  const root = Buffer.alloc(32, 0xab);
  assert.is(ipl('grub_cmd set a=b\0', 'set a=b\0'), 'grub-text');
  assert.is(ipl('grub_cmd set a=b\0', 'set a=b'), undefined);
  assert.is(ipl('grub_kernel_cmdline /boot/kernel quiet\0', '/boot/kernel quiet'), 'grub-text');
  assert.is(ipl('grub_cmd: set a=b\0', 'set a=b'), 'grub-text');
  assert.is(ipl(`squash4 ${root.toString('hex')}\0`, root), 'rootfs-hash');
  assert.is(ipl(`squash4 ${root.toString('hex')}\0`, Buffer.alloc(32, 0xac)), undefined);
});

test('a command cannot be passed off as the command line: a NUL inside the text is none of GRUB', () => {
  assert.is(ipl('grub_kernel_cmdline evil\0\0', 'evil\0'), undefined);
});

test('data that was edited is no longer covered, event by event', () => {
  const name = 'eve/empty_uri.last_good_log.bin';
  for (const event of parseLog(readEventLog(name)).events) {
    const digest = event.digest('sha256');
    if (!event.extends || !digest || event.data.length === 0) continue;
    const data = Buffer.from(event.data);
    const at = data.length > 2 ? data.length - 2 : 0;
    data[at] = (data[at] as number) ^ 1;
    assert.is(coverOf({ type: event.type, data }, digest, 'sha256', hash), undefined, `event ${event.index}`);
  }
});

test.run();
