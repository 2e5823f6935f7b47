import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createImage, ImageError, imageFiles, readImage } from '../../../device/boot/image.ts';

let directory: string;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'eve-image-'));
});
test.after(() => rm(directory, { recursive: true }));

async function problemOf(work: Promise<unknown>): Promise<ImageError> {
  const error = await work.then(
    () => undefined,
    (problem) => problem,
  );
  assert.instance(error, ImageError);
  return error as ImageError;
}

test('an image that was made reads back', async () => {
  const made = await createImage(join(directory, 'a'), { version: '14.4.0', cmdline: 'quiet' });
  assert.equal(await readImage(join(directory, 'a')), made);
  assert.equal([made.version, made.firmwareVersion, made.cmdline], ['14.4.0', '1.0.0', 'quiet']);
  assert.equal(Object.keys(made.files), [...imageFiles]);
});

test('the same version has the same bytes, another one another kernel and root file system', async () => {
  const bytes = async (name: string, version: string) => {
    const image = await createImage(join(directory, name), { version });
    return Object.fromEntries(
      await Promise.all(
        imageFiles.map(async (file) => [file, (await readFile(image.files[file].path)).toString('hex')]),
      ),
    ) as Record<string, string>;
  };
  const [one, again, next] = [
    await bytes('b1', '14.4.0'),
    await bytes('b2', '14.4.0'),
    await bytes('b3', '14.5.0'),
  ];
  assert.equal(one, again);
  assert.equal(
    imageFiles.filter((file) => one[file] !== next[file]),
    ['kernel', 'initrd', 'rootfs.img'],
  );
});

test('what is missing, empty or no image is named', async () => {
  const path = join(directory, 'c');
  const spoil = async (file: string, content: string | null) => {
    await createImage(path, { version: '14.4.0' });
    if (content === null) await rm(join(path, file));
    else await writeFile(join(path, file), content);
    const { message } = await problemOf(readImage(path));
    return message.replace(`${path}/`, '');
  };
  assert.is(await spoil('kernel', null), 'kernel: is missing');
  assert.is(await spoil('rootfs.img', ''), 'rootfs.img: is empty');
  assert.is(await spoil('image.json', null), 'image.json: is missing');
  assert.is(await spoil('image.json', '{'), 'image.json: is no JSON');
  assert.is(
    await spoil('image.json', '[]'),
    'image.json: needs version, a text like ^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$',
  );
  assert.match(
    await spoil('image.json', '{"version":"../x","firmwareVersion":"1","cmdline":""}'),
    /needs version/,
  );
  assert.match(
    await spoil('image.json', '{"version":"1","firmwareVersion":1,"cmdline":""}'),
    /needs firmwareVersion/,
  );
  assert.match(
    await spoil('image.json', '{"version":"1","firmwareVersion":"1","cmdline":"a\\nb"}'),
    /needs cmdline/,
  );
  assert.match(await spoil('image.json', ' '.repeat(70_000)), /at most 65536/);
  assert.match(await spoil('grub.cfg', ' '.repeat(300_000)), /at most 262144/);
});

test.run();
