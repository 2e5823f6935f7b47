// The programs of a platform: what they say, how they fail, and what is done about those that do not end.
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PlatformSlots } from '../../device/baseos/platform-slots.ts';
import { SlotStore } from '../../device/baseos/slots.ts';
import { Platform, type PlatformProgram, requiredPrograms } from '../../device/platform.ts';
import { Refusal } from '../../device/refusal.ts';
import { StateFolder } from '../../device/state.ts';
import type { BaseOsConfig } from '../../machines/flow.ts';
import { inFolder } from '../kit/folders.ts';
import { projectRoot } from '../kit/root.ts';

const grub = fileURLToPath(new URL('device/platform/grub', projectRoot));

function program(folder: string, name: string, script: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, name), 0o755);
}

async function refusalOf(work: Promise<unknown>): Promise<Refusal> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

test('a program is told its arguments and the folders of the device, and its first line is what it says', () =>
  inFolder(async (folder) => {
    program(folder, 'slot-write', 'echo "$1 $2 $3 $EVE_PERSIST"; echo more; echo noise >&2');
    const platform = new Platform(folder, { EVE_PERSIST: '/p' });
    assert.is(await platform.run('slot-write', 'IMGB', '/a b', '1.0'), 'IMGB /a b 1.0 /p');
  }));

const failures: [what: string, script: string | null, code: string, text: RegExp][] = [
  ['is not there', null, 'platform.missing', /there is no program .*slot-commit$/],
  [
    'fails with words',
    'echo first >&2; echo "no space left" >&2; exit 3',
    'platform.failed',
    /slot-commit ended with exit code 3: no space left$/,
  ],
  ['fails silently', 'exit 1', 'platform.failed', /slot-commit ended with exit code 1$/],
  ['is killed', 'kill -KILL $$', 'platform.failed', /slot-commit ended with SIGKILL$/],
  ['draws on terminals', 'printf "\\033[2Jred\\n" >&2; exit 1', 'platform.failed', /: \[2Jred$/],
  ['says a book', 'head -c 300000 /dev/zero | tr "\\0" x >&2; exit 1', 'platform.failed', /^.{100,400}$/],
  ['never ends', 'sleep 100 & sleep 100', 'platform.timeout', /slot-commit took longer than 0\.3 s/],
  ['is no program', '\0', 'platform.failed', /slot-commit /],
];

for (const [what, script, code, text] of failures)
  test(`a program that ${what} is ${code}`, () =>
    inFolder(async (folder) => {
      if (script !== null) program(folder, 'slot-commit', script);
      if (script === '\0') writeFileSync(join(folder, 'slot-commit'), '\x7fELF nonsense');
      const refused = await refusalOf(
        new Platform(folder, {}, { 'slot-commit': 300 }).run('slot-commit', 'IMGA'),
      );
      assert.is(refused.code, code);
      assert.match(refused.message, text);
    }));

test('what a program leaves running neither holds it up nor ends with it', () =>
  inFolder(async (folder) => {
    program(folder, 'reboot', `(sleep 0.3; echo late >${folder}/late) & echo now`);
    assert.is(await new Platform(folder).run('reboot', 'update'), 'now');
    for (let tries = 0; tries < 100; tries++) {
      try {
        assert.is(readFileSync(join(folder, 'late'), 'utf8'), 'late\n');
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    assert.unreachable('what it left running was ended');
  }));

// ---- Slots by these programs

const wanted: BaseOsConfig = {
  version: '2.0',
  url: '',
  sha256: '',
  size: 0,
  signature: '',
  testWindow: 10,
  retryCounter: 1,
};

/** A platform that notes what it is told, and says that IMGA runs. */
async function withPlatform(
  work: (slots: PlatformSlots, folder: string, said: () => string[]) => Promise<void>,
): Promise<void> {
  await inFolder(async (folder) => {
    for (const name of requiredPrograms) program(folder, name, `echo "${name} $*" >>${folder}/said`);
    program(folder, 'slot-current', 'echo IMGA');
    const slots = new PlatformSlots(
      new SlotStore(new StateFolder(join(folder, 'persist'))),
      new Platform(folder),
    );
    assert.is(await slots.begin('1.0', 'boot 1', 0), 'IMGA');
    await work(slots, folder, () => readFileSync(join(folder, 'said'), 'utf8').trim().split('\n'));
  });
}

test('an upgrade: written, activated, on trial, committed', () =>
  withPlatform(async (slots, folder, said) => {
    await slots.write('/images/x', wanted);
    assert.is((await slots.stage(wanted)).other.state, 'updating');
    await slots.reboot('update');
    program(folder, 'slot-current', 'echo IMGB');
    await slots.begin('2.0', 'boot 2', 100);
    await slots.selfTest();
    assert.equal((await slots.commit()).current, { label: 'IMGB', version: '2.0', state: 'active' });
    assert.equal(said(), [
      'slot-write IMGB /images/x 2.0',
      'slot-activate IMGB',
      'reboot update',
      'slot-commit IMGB',
    ]);
  }));

test('a write that fails leaves no image to be tried', () =>
  withPlatform(async (slots, folder) => {
    program(folder, 'slot-write', 'echo "disk is full" >&2; exit 1');
    const refused = await refusalOf(slots.write('/images/x', wanted));
    assert.equal([refused.code, /disk is full/.test(refused.message)], ['platform.failed', true]);
    assert.is(
      (await refusalOf(Promise.resolve().then(() => slots.stage(wanted)))).code,
      'baseos.image-missing',
    );
  }));

test('a commit that the boot loader did not take is not written down either', () =>
  withPlatform(async (slots, folder) => {
    await slots.write('/images/x', wanted);
    await slots.stage(wanted);
    program(folder, 'slot-current', 'echo IMGB');
    await slots.begin('2.0', 'boot 2', 100);
    program(folder, 'slot-commit', 'exit 1');
    assert.is((await refusalOf(Promise.resolve().then(() => slots.commit()))).code, 'platform.failed');
    assert.is(slots.read().current.state, 'inprogress');
  }));

test('a self-test that fails says its last words', () =>
  withPlatform(async (slots, folder) => {
    program(folder, 'self-test', 'echo "no camera"; exit 1');
    const refused = await refusalOf(slots.selfTest());
    assert.is(refused.code, 'baseos.self-test');
    assert.match(refused.message, /no camera/);
  }));

for (const answer of ['IMGC', '', '../IMGA'])
  test(`a current slot called ${JSON.stringify(answer)} is none`, () =>
    withPlatform(async (slots, folder) => {
      program(folder, 'slot-current', `echo '${answer}'`);
      assert.is((await refusalOf(slots.begin('1.0', 'boot 2', 0))).code, 'platform.failed');
    }));

test('without a platform a machine keeps its image: nothing is written, and nothing reboots', () =>
  inFolder(async (folder) => {
    const slots = new PlatformSlots(new SlotStore(new StateFolder(folder)), null);
    assert.is(await slots.begin('1.0', 'boot 1', 0), 'IMGA');
    assert.is(slots.read().current.version, '1.0');
    for (const work of [slots.write('/x', wanted), slots.reboot('update')])
      assert.is((await refusalOf(work)).code, 'platform.missing');
  }));

// ---- The GRUB example

/** GRUB's side of it, as device/platform/grub/grub.cfg has it. */
function grubBoots(esp: string): string {
  const slotIn = (name: string) => {
    const block = readFileSync(join(esp, 'eve', name), 'latin1');
    assert.is(block.length, 1024, `${name} is an environment block`);
    assert.match(block, /^# GRUB Environment Block\nslot=IMG[AB]\n#+$/);
    return /^slot=(.*)$/m.exec(block)?.[1] ?? '';
  };
  const boots = slotIn('next.env');
  writeFileSync(join(esp, 'eve/next.env'), readFileSync(join(esp, 'eve/fallback.env')));
  return boots;
}

test('the GRUB platform tries a slot once, and goes back unless it was committed', () =>
  inFolder(async (esp) => {
    const folder = join(esp, 'programs');
    cpSync(grub, folder, { recursive: true });
    mkdirSync(join(esp, 'eve'));
    const platform = new Platform(folder, { EVE_ESP: esp });
    const run = (name: PlatformProgram, ...args: string[]) => platform.run(name, ...args);
    await run('slot-commit', 'IMGA');
    assert.is(grubBoots(esp), 'IMGA');
    await run('slot-activate', 'IMGB');
    assert.equal([grubBoots(esp), grubBoots(esp)], ['IMGB', 'IMGA']);
    await run('slot-activate', 'IMGB');
    assert.is(grubBoots(esp), 'IMGB');
    await run('slot-commit', 'IMGB');
    assert.equal([grubBoots(esp), grubBoots(esp)], ['IMGB', 'IMGB']);
  }));

test('the GRUB platform writes an image that is whole, and keeps the old one where it is not', () =>
  inFolder(async (esp) => {
    const { create } = await import('tar');
    const platform = new Platform(grub, { EVE_ESP: esp });
    const image = join(esp, 'image');
    mkdirSync(image);
    for (const name of ['vmlinuz', 'initrd.img', 'grub.cfg']) writeFileSync(join(image, name), `${name} 1`);
    const file = join(esp, 'image.tar');
    await create({ file, cwd: image }, ['vmlinuz', 'initrd.img', 'grub.cfg']);
    await platform.run('slot-write', 'IMGB', file, '1.0');
    const written = () => readFileSync(join(esp, 'slots/IMGB/vmlinuz'), 'utf8');
    assert.is(written(), 'vmlinuz 1');
    await create({ file, cwd: image }, ['vmlinuz', 'grub.cfg']);
    const refused = await refusalOf(platform.run('slot-write', 'IMGB', file, '2.0'));
    assert.match(refused.message, /image 2\.0 has no initrd\.img/);
    assert.is(written(), 'vmlinuz 1');
  }));

test.run();
