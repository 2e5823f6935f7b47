// What a machine says of itself, in files below another root.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { machineBootId, machineVersions } from '../../../device/boot/versions.ts';
import { inFolder } from '../../kit/folders.ts';

const dmi = {
  'sys/class/dmi/id/bios_vendor': 'Dell Inc.\n',
  'sys/class/dmi/id/bios_version': '2.4.1\n',
  'sys/class/dmi/id/bios_date': '05/12/2026\n',
};

const machines: [what: string, files: Record<string, string>, image: string, firmware: string][] = [
  ['nothing', {}, '', ''],
  [
    'EVE',
    { 'etc/eve-release': '12.0.4-kvm-amd64\n', 'etc/os-release': 'ID=alpine', ...dmi },
    '12.0.4-kvm-amd64',
    'Dell Inc.-2.4.1-05/12/2026',
  ],
  ['EVE as it runs', { 'run/eve-release': '13\n', 'etc/eve-release': '12\n' }, '13', ''],
  [
    'an image',
    { 'etc/os-release': 'ID=debian\nVERSION_ID="12"\nIMAGE_VERSION=\'2026.11\'\n' },
    '2026.11',
    '',
  ],
  [
    'Debian',
    { 'etc/os-release': 'PRETTY_NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n' },
    'debian-12',
    '',
  ],
  ['a rolling one', { 'usr/lib/os-release': 'ID=arch\nBUILD_ID=rolling\n' }, 'arch-rolling', ''],
  [
    'a board without a date',
    {
      'sys/class/dmi/id/bios_vendor': 'SeaBIOS\n',
      'sys/class/dmi/id/bios_version': '1.16\n',
      'sys/class/dmi/id/bios_date': ' \n',
    },
    '',
    'SeaBIOS-1.16',
  ],
  ['one that draws', { 'etc/eve-release': '\x1b[2J1\x00.0\u202e\n' }, '[2J1 .0', ''],
  ['one that talks', { 'etc/eve-release': '9'.repeat(100_000) }, '9'.repeat(128), ''],
  ['a folder in its place', { 'etc/os-release/x': '' }, '', ''],
];

for (const [what, files, image, firmware] of machines)
  test(`${what}: ${JSON.stringify(image.slice(0, 20))} on ${JSON.stringify(firmware)}`, () =>
    inFolder(async (root) => {
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(dirname(join(root, path)), { recursive: true });
        writeFileSync(join(root, path), content);
      }
      const versions = await machineVersions({ root });
      // What is invisible became a blank.
      assert.equal({ ...versions, image: versions.image.replace(/\s+/g, ' ') }, { image, firmware });
    }));

test('the id of this boot is the kernel’s', async () => {
  const id = await machineBootId();
  assert.match(id ?? '', /^[0-9a-f-]{36}$/);
  assert.is(await machineBootId(), id);
  await inFolder(async (root) => assert.is(await machineBootId({ root }), null));
});

test.run();
