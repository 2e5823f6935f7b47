// What an image measures, from its files alone: against firmware, GRUB, Debian's tools, and boots of the same files.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, hash as nodeHash } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CatalogueError } from '../../../controller/images/error.ts';
import { measureImage } from '../../../controller/images/measure.ts';
import { authenticode } from '../../../controller/images/pe.ts';
import { entriesOfLogs } from '../../../controller/images/reference.ts';
import { rootfsHash } from '../../../controller/images/squashfs.ts';
import type { KnownEntry } from '../../../controller/verify/entries.ts';
import { createImage } from '../../../device/boot/image.ts';
import { measureBoot } from '../../../device/boot/measure.ts';
import { readRecordedBoot } from '../../../device/boot/recorded.ts';
import { referenceBoot } from '../../../device/boot/reference.ts';
import { parseLog } from '../../../formats/eventlog/parse.ts';
import { needDebian } from '../../kit/debian.ts';
import { readEventLog } from '../../kit/eventlogs.ts';
import { inFolder } from '../../kit/folders.ts';
import { buildPe, squashfsHeader } from '../../kit/pe.ts';
import { rejects } from '../../kit/rejects.ts';

const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('hex');
const keys = (entries: readonly KnownEntry[]) =>
  entries.map(({ pcr, digests, alternative = '' }) => `${pcr} ${digests.sha256} ${alternative}`).sort();

test('the files of an image say what its reference boots say, in either slot', () =>
  inFolder(async (folder) => {
    const image = join(folder, 'image');
    await createImage(image, { version: '1.2.3' });
    const { logs } = await referenceBoot({ image, slots: ['IMGA', 'IMGB'], config: folder });
    const booted = entriesOfLogs(logs);
    const slotOf: Record<string, string> = { gpt2: 'IMGA', gpt3: 'IMGB' };
    const named = booted.map((entry) =>
      entry.alternative ? { ...entry, alternative: slotOf[entry.alternative] ?? '' } : entry,
    );
    const program = (entry: KnownEntry) =>
      entry.pcr !== 4 || entry.type === 'EV_EFI_BOOT_SERVICES_APPLICATION';
    const expected = named.filter((entry) => [4, 8, 9, 13].includes(entry.pcr) && program(entry));
    const { version, entries } = await measureImage([image], { grub: 'eve' });
    assert.is(version, '1.2.3');
    assert.equal(keys(entries), keys(expected));
    assert.equal(
      entries.filter(({ required }) => required).map(({ subject }) => subject),
      ['rootfs', 'kernel'],
    );
  }));

test('/config adds its files, and what its grub.cfg changes', () =>
  inFolder(async (folder) => {
    const [directory, config] = [join(folder, 'image'), join(folder, 'config')];
    mkdirSync(join(config, 'DevicePortConfig'), { recursive: true });
    writeFileSync(join(config, 'grub.cfg'), 'set_getty\n');
    writeFileSync(join(config, 'server'), 'evc.example');
    writeFileSync(join(config, 'onboard.key.pem'), 'secret');
    writeFileSync(join(config, 'DevicePortConfig/override.json'), '{}');
    const image = await createImage(directory, { version: '1.0.0' });
    const { biosLog, configLog } = await measureBoot({
      image,
      configDirectory: config,
      slot: 'IMGA',
      banks: ['sha256'],
      extend: async () => undefined,
    });
    const { entries } = await measureImage([directory], { grub: 'eve', config });
    const known = new Set(entries.map(({ pcr, digests }) => `${pcr} ${digests.sha256}`));
    const shown = entriesOfLogs([biosLog, configLog as Uint8Array]).filter(({ pcr }) =>
      [8, 9, 13, 14].includes(pcr),
    );
    assert.equal(
      shown.filter(({ pcr, digests }) => !known.has(`${pcr} ${digests.sha256}`)),
      [],
    );
    assert.ok(
      entries.some(({ pcr, subject }) => pcr === 14 && subject === '/config/DevicePortConfig/override.json'),
    );
    assert.ok(entries.some(({ pcr, text }) => pcr === 8 && /getty$/.test(text)));
  }));

test('one kernel is in every boot, and of two only one', () =>
  inFolder(async (folder) => {
    const required = async (...names: string[]) => {
      for (const name of names) writeFileSync(join(folder, name), name);
      const paths = names.map((name) => join(folder, name));
      const { entries } = await measureImage(paths, { grub: 'upstream' });
      return entries.filter((entry) => entry.required).length;
    };
    assert.is(await required('vmlinuz-1', 'initrd.img'), 1);
    assert.is(await required('vmlinuz-1', 'vmlinuz-2', 'initrd.img'), 0);
  }));

test('large files are read in pieces, and each bank in the same pass', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'initrd.img');
    writeFileSync(path, createHash('shake256', { outputLength: 5_000_000 }).update('x').digest());
    const told: [string, number][] = [];
    const { entries } = await measureImage([path], {
      grub: 'upstream',
      progress: (...what) => told.push(what),
    });
    const [entry] = entries;
    const bytes = readFileSync(path);
    assert.equal(
      [entry?.pcr, entry?.subject, entry?.digests],
      [
        9,
        'initrd',
        {
          sha1: nodeHash('sha1', bytes),
          sha256: nodeHash('sha256', bytes),
          sha384: nodeHash('sha384', bytes),
        },
      ],
    );
    assert.equal(told, [[path, 5_000_000]]);
  }));

// A boot of Debian 12 under OVMF (test/fixtures/eventlog/ovmf), and the very file that its GRUB read.
test('upstream GRUB: a script, its menu and the command line as a real boot measured them', () =>
  inFolder(async (folder) => {
    const { events } = parseLog(readEventLog('ovmf/deb2022-crb-shim-grub-sb/binary_bios_measurements'));
    const measured = events.map((event) => `${event.pcr} ${hex(event.digest('sha256'))}`);
    const script = join(folder, 'grub.cfg');
    writeFileSync(
      script,
      "set timeout=0\nmenuentry 'debian' {\n  linux /vmlinuz console=ttyS0 panic=-1 quiet \n  initrd /initrd.gz\n}\n",
    );
    const { entries } = await measureImage([script], { grub: 'upstream' });
    assert.equal(
      entries.filter(({ pcr }) => pcr === 8).map(({ text }) => text.split('\n')[0]),
      [
        'GRUB command: set timeout=0',
        'GRUB command: menuentry debian {',
        'GRUB command: setparams debian',
        'GRUB command: linux /vmlinuz console=ttyS0 panic=-1 quiet',
        'kernel command line: /vmlinuz console=ttyS0 panic=-1 quiet',
        'GRUB command: initrd /initrd.gz',
      ],
    );
    // The file itself in PCR 9, and every command in PCR 8: all of it is in the log of that boot, in this order.
    const places = entries.map(({ pcr, digests }) => measured.indexOf(`${pcr} ${digests.sha256}`));
    assert.equal(
      places,
      [...places].sort((a, b) => a - b),
    );
    assert.ok(!places.includes(-1), `${places}`);
    const cmdline = await measureImage([], {
      grub: 'upstream',
      cmdlines: ['/vmlinuz console=ttyS0 panic=-1 quiet'],
    });
    assert.ok(measured.includes(`8 ${cmdline.entries[0]?.digests.sha256}`));
  }));

const evesWay = `
function set_global { set $1="$2"; export $1 ; }
function do_if_args {
  if [ -n "$2" ]; then
    "$@"
  fi
}
function set_to_existing_file { if [ -f "$2" ]; then set_global "$1" "$2"; fi ; }
set timeout=5
if [ "$arch" == "riscv64"]; then echo never; else
  smbios -t 1 -s 0 --set smb_vendor
  if [ "$smb_vendor" == QEMU ]; then set_global grub_virt qemu
  elif [ "$smb_vendor" == Google ]; then set_global grub_virt qemu
  else set_global grub_virt baremetal; fi
fi
set self_dev="$root"
regexp --set self_drive "^([^,]*,)gpt" "$self_dev"
search.part_label CONFIG config_part "$self_drive"
set_to_existing_file config_grub_cfg "($config_part)/grub.cfg"
set_to_existing_file devicetree "($config_part)/eve.dtb"
do_if_args source $efi_grub_cfg
do_if_args source $config_grub_cfg
set_global load_initrd_cmd initrd
set_global ucode /boot/ucode.img # what a node with an Intel board has
menuentry "Boot $title" {
  do_if_args $load_devicetree_cmd $devicetree
  do_if_args $load_initrd_cmd $ucode
  do_if_args $load_initrd_cmd $initrd
}
`;

test("EVE's GRUB: functions, branches and what the machine says, as a real node measured them", () =>
  inFolder(async (folder) => {
    const log = entriesOfLogs([await readRecordedBoot('bios-setup.before')]);
    const known = new Set(log.map(({ pcr, digests }) => `${pcr} ${digests.sha256}`));
    const [script, machine] = [join(folder, 'grub.cfg'), join(folder, 'machine.json')];
    writeFileSync(script, evesWay);
    writeFileSync(join(folder, 'empty.cfg'), '');
    const title =
      log.find(({ text }) => text.startsWith('GRUB command: setparams Boot '))?.text.slice(29) ?? '';
    const variables = {
      arch: 'x86_64',
      root: 'hd1,gpt2',
      smb_vendor: 'Intel(R) Client Systems',
      config_part: 'hd1,gpt4',
      title,
    };
    const files = { '(hd1,gpt4)/grub.cfg': 'empty.cfg', '(hd1,gpt4)/eve.dtb': null };
    writeFileSync(machine, JSON.stringify({ variables, files }));
    const { entries } = await measureImage([script], { grub: 'eve', machine });
    const commands = entries.filter(({ pcr }) => pcr === 8);
    assert.ok(commands.length > 30);
    // The text of the menu is this script's, and so is no command of that node.
    const strange = commands.filter(({ pcr, digests }) => !known.has(`${pcr} ${digests.sha256}`));
    assert.equal(
      strange.map(({ text }) => text.slice(0, 31)),
      ['GRUB command: menuentry Boot 0.'],
    );
    // Its command line: measured as it is, without the NUL of commands.
    const line = log.find(({ subject }) => subject === 'kernel-command-line');
    const cmdlines = [line?.text.replace('kernel command line: ', '') ?? ''];
    const alone = await measureImage([], { grub: 'eve', cmdlines });
    assert.is(alone.entries[0]?.digests.sha256, line?.digests.sha256);
    // What was not said is asked for, and not guessed.
    for (const [what, says] of [
      [
        { variables: { ...variables, smb_vendor: undefined }, files },
        /line 12: only the machine knows \$smb_vendor/,
      ],
      [{ variables: { ...variables, root: undefined }, files }, /only the machine knows \$root/],
      [{ variables, files: {} }, /only the machine knows whether there is a file \(hd1,gpt4\)\/grub\.cfg/],
    ] as const) {
      writeFileSync(machine, JSON.stringify(what));
      await rejects(
        measureImage([script], { grub: 'eve', machine }),
        CatalogueError,
        ({ code, message }) => code === 'image.grub' && says.test(message),
      );
    }
    for (const broken of ['{', '7', '{"variables":{"a":1}}', '{"more":1}', '{"files":{"/x":"nowhere"}}']) {
      writeFileSync(machine, broken);
      await rejects(
        measureImage([script], { grub: 'eve', machine }),
        CatalogueError,
        ({ code }) => code === 'image.file',
      );
    }
  }));

test('what cannot be measured is refused by file and place', () =>
  inFolder(async (folder) => {
    const refused = async (paths: string[], why: RegExp) =>
      rejects(
        measureImage(paths, { grub: 'eve' }),
        CatalogueError,
        ({ code, message }) => code === 'image.file' && why.test(message),
      );
    const file = (name: string, bytes: Uint8Array | string) => {
      writeFileSync(join(folder, name), bytes);
      return join(folder, name);
    };
    await refused([], /nothing to measure/);
    await refused([join(folder, 'none')], /none cannot be read \(ENOENT\)/);
    await refused([folder], /is no file/);
    await refused([file('cut.efi', buildPe().bytes.subarray(0, 900))], /cut\.efi: PE\.\S+ at byte \d+/);
    await refused([file('mz', 'MZ')], /mz: PE\.e_lfanew/);
    await refused(
      [file('cut.squashfs', squashfsHeader(5000n))],
      /cut\.squashfs: SquashFS\.bytes_used.*cut short/,
    );
    const image = join(folder, 'image');
    await createImage(image, { version: '1.0.0' });
    writeFileSync(join(image, 'rootfs.img'), 'no file system');
    await refused([image], /rootfs\.img: SquashFS\.super block/);
    writeFileSync(join(image, 'image.json'), '{"version":"../x"}');
    await refused([image], /image\.json does not describe an image, see version/);
  }));

test('an image of 2 GiB is refused: GRUB would measure nothing of it', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'rootfs.squashfs');
    writeFileSync(path, squashfsHeader(2n ** 31n));
    truncateSync(path, 2 ** 31 + 4096); // sparse
    await rejects(rootfsHash(path), CatalogueError, ({ message }) =>
      /measures nothing of an image of 2 GiB/.test(message),
    );
  }));

test('the hash of a file system is that of the bytes in use', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'rootfs.squashfs');
    const used = Buffer.concat([squashfsHeader(100_000n), Buffer.alloc(100_000 - 96, 7)]);
    writeFileSync(path, Buffer.concat([used, Buffer.alloc(4096 - (used.length % 4096))]));
    assert.is(hex(await rootfsHash(path)), nodeHash('sha256', used));
    const { entries } = await measureImage([path], { grub: 'eve' });
    // The digest is of the raw hash, and the words are EVE's.
    assert.equal(
      entries.map(({ pcr, text, required, digests }) => [pcr, text, required, digests.sha256]),
      [
        [
          13,
          `root file system with SHA-256 ${nodeHash('sha256', used)}`,
          true,
          nodeHash('sha256', Buffer.from(nodeHash('sha256', used), 'hex')),
        ],
      ],
    );
  }));

test('an image that mksquashfs made', () =>
  inFolder(async (folder) => {
    if (!(await needDebian(['squashfs-tools'], ['mksquashfs']))) return;
    mkdirSync(join(folder, 'root'));
    writeFileSync(
      join(folder, 'root/file'),
      createHash('shake256', { outputLength: 300_000 }).update('f').digest(),
    );
    const path = join(folder, 'rootfs.img');
    execFileSync('mksquashfs', [join(folder, 'root'), path, '-quiet', '-noappend', '-comp', 'gzip'], {
      stdio: 'ignore',
    });
    const bytes = readFileSync(path);
    const used = Number(bytes.readBigUInt64LE(40));
    assert.ok(used < bytes.length, 'there is padding');
    assert.is(hex(await rootfsHash(path)), nodeHash('sha256', bytes.subarray(0, used)));
  }));

test('programs: pesign, sbsign and osslsigncode agree, before and after signing', () =>
  inFolder(async (folder) => {
    if (
      !(await needDebian(
        ['pesign', 'sbsigntool', 'osslsigncode', 'openssl'],
        ['pesign', 'sbsign', 'osslsigncode', 'openssl'],
      ))
    )
      return;
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-keyout',
        key,
        '-out',
        certificate,
        '-subj',
        '/CN=test',
        '-days',
        '2',
      ],
      { stdio: 'ignore' },
    );
    const programs = [{}, { narrow: true }, { sections: [4096, 512, 8] }, { trailing: 16 }];
    for (const [i, options] of programs.entries()) {
      const [path, signed] = [join(folder, `${i}.efi`), join(folder, `${i}.signed.efi`)];
      writeFileSync(path, buildPe(options).bytes);
      const ours = await authenticode(path);
      for (const bank of ['sha1', 'sha256'] as const) {
        const theirs = execFileSync('pesign', ['-h', '-d', bank, '-i', path], { encoding: 'utf8' });
        assert.is(
          /[0-9a-f]{40,}/.exec(theirs)?.[0],
          hex(ours[bank]),
          `${bank} of ${JSON.stringify(options)}`,
        );
      }
      execFileSync('sbsign', ['--key', key, '--cert', certificate, '--output', signed, path], {
        stdio: 'ignore',
      });
      assert.is.not(readFileSync(signed).length, readFileSync(path).length);
      assert.is(hex((await authenticode(signed)).sha256), hex(ours.sha256));
      const { stdout } = spawnSync('osslsigncode', ['verify', '-in', signed], { encoding: 'utf8' });
      assert.is(
        /Calculated message digest *: ([0-9A-F]+)/.exec(stdout)?.[1]?.toLowerCase(),
        hex(ours.sha256),
      );
    }
  }));

test.run();
