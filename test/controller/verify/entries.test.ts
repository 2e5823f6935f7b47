// An event as the catalogue keeps it: what it is about, and whether every boot of the version has it.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { entryOf, subjectOf } from '../../../controller/verify/entries.ts';
import { bootOrderData, handoffTableData, variableData } from '../../../formats/eventlog/build.ts';
import { configFileMeasurement } from '../../../formats/eventlog/eve-boot.ts';
import { EventType } from '../../../formats/eventlog/types.ts';
import { EFI_GLOBAL_VARIABLE } from '../../../formats/eventlog/variables.ts';

const event = (pcr: number, type: number, data: string | Uint8Array) => ({
  pcr,
  type,
  data: Buffer.from(data),
});
const ipl = (data: string, pcr = 8) => event(pcr, EventType.EV_IPL, `${data}\0`);
const command = (words: string) => ipl(`grub_cmd ${words}`);

test('the subject of an event is what may be there in its place, in other words', () => {
  const order = variableData(EFI_GLOBAL_VARIABLE, 'BootOrder', bootOrderData([1]));
  const config = configFileMeasurement('/config/server', true);
  const tables = handoffTableData('', EFI_GLOBAL_VARIABLE, 0n);
  const named = handoffTableData('SMBIOS', EFI_GLOBAL_VARIABLE, 0n);
  const subjects: [ReturnType<typeof event>, string][] = [
    [event(1, EventType.EV_EFI_VARIABLE_BOOT, order), 'variable BootOrder'],
    [event(config.pcr, config.type, config.data), '/config/server'],
    [ipl('grub_linuxefi Kernel', 9), 'kernel'],
    [ipl('/boot/fonts/unicode.pf2', 9), 'file /boot/fonts/unicode.pf2'],
    [event(1, EventType.EV_EFI_HANDOFF_TABLES2, named), 'tables SMBIOS'],
    [event(1, EventType.EV_EFI_HANDOFF_TABLES2, tables), 'tables'],
    [event(5, EventType.EV_EFI_ACTION, 'Exit Boot Services'), 'action Exit Boot Services'],
    [event(0, EventType.EV_POST_CODE, 'ACPI DATA'), 'EV_POST_CODE'],
    [event(6, EventType.EV_NONHOST_CODE, Uint8Array.of(1, 200)), 'EV_NONHOST_CODE'],
    [ipl('grub_kernel_cmdline /boot/kernel quiet'), 'kernel-command-line'],
    [event(4, EventType.EV_SEPARATOR, new Uint8Array(4)), 'separator'],
  ];
  for (const [of, subject] of subjects) assert.is(subjectOf(of), subject);
});

test('a command is about what it sets, and else about what it does', () => {
  const subjects: [string, string][] = [
    ['set root=hd0,gpt2', 'command set root'],
    ['set  timeout=5', 'command set  timeout'],
    ['export dom0_rootfs', 'command export dom0_rootfs'],
    ['set_global dom0_cmdline a=b', 'command set_global dom0_cmdline'],
    ['measurefs hd0,gpt2 --pcr 13', 'command measurefs'],
    ['settle root=a', 'command settle'],
    ['', 'command '],
  ];
  for (const [words, subject] of subjects) assert.is(subjectOf(command(words)), subject, words);
});

test('an entry has all that is known of its event; a root file system and a kernel are required, each in its PCR', () => {
  const digests = { sha256: 'aa', sha1: 'bb' };
  assert.equal(entryOf(command('set root=hd0'), digests), {
    pcr: 8,
    type: 'EV_IPL',
    subject: 'command set root',
    text: 'GRUB command: set root=hd0',
    digests,
  });
  const required = (of: ReturnType<typeof event>) => entryOf(of, digests).required;
  assert.is(required(ipl('grub_linuxefi Kernel', 9)), true);
  assert.is(required(ipl('grub_linuxefi Kernel', 8)), undefined);
  assert.is(required(ipl('grub_initrd Initrd', 9)), undefined);
  assert.is(required(event(9, EventType.EV_EFI_ACTION, 'a')), undefined);
  assert.is(required(ipl(`squash4 ${'ab'.repeat(32)}`, 13)), true);
});

test.run();
