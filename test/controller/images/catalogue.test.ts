import { createHash, randomBytes, verify } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Catalogue, CatalogueError } from '../../../controller/images/catalogue.ts';
import { createPki } from '../../../controller/pki.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { createImage } from '../../../device/boot/image.ts';
import { referenceBoot } from '../../../device/boot/reference.ts';
import { imageManifest } from '../../../formats/wire/image-manifest.ts';
import { inFolder } from '../../kit/folders.ts';
import { rejects } from '../../kit/rejects.ts';

interface Bench {
  catalogue: Catalogue;
  folder: string;
  key: Parameters<typeof verify>[2];
  /** Logs of a reference boot in both slots. */
  logsOf(version: string): Promise<Uint8Array[]>;
}

function withCatalogue(work: (bench: Bench) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const pki = await createPki(join(folder, 'pki'), ['localhost'], Date.now());
    const store = LibsqlStore.open(':memory:');
    const config = join(folder, 'config');
    mkdirSync(config);
    try {
      await work({
        folder,
        catalogue: new Catalogue(store, pki, join(folder, 'images')),
        key: { key: pki.signing.certificate.publicKey, dsaEncoding: 'ieee-p1363' },
        async logsOf(version) {
          const image = join(folder, version);
          await createImage(image, { version });
          return (await referenceBoot({ image, slots: ['IMGA', 'IMGB'], config })).logs;
        },
      });
    } finally {
      await store.close();
    }
  });
}

test('an image is known by what it measures, in either slot', () =>
  withCatalogue(async ({ catalogue, logsOf }) => {
    const image = await catalogue.add('1.0.0', 5, await logsOf('1.0.0'));
    assert.equal([image.version, image.added, image.sha256, image.size], ['1.0.0', 5, '', 0]);
    assert.equal(await catalogue.get('1.0.0'), image);
    assert.equal(await catalogue.versions(), ['1.0.0']);
    const entries = await catalogue.entries('1.0.0');
    assert.ok(entries.size > 20);
    for (const entry of entries) assert.match(entry, /^\d{1,2}:[0-9a-f]{64}$/);
    assert.ok(image.entries.every(({ text }) => text.length > 0));
    // PCR 14 is of the device's /config, and PCR 5 differs by slot.
    assert.not([...entries].some((entry) => entry.startsWith('14:')));
    const [one] = await logsOf('1.0.0');
    const alone = await catalogue.add('one-slot', 6, [one as Uint8Array]);
    assert.ok(new Set(alone.entries.map(({ entry }) => entry)).size < entries.size);
  }));

test('versions differ in what they measure', () =>
  withCatalogue(async ({ catalogue, logsOf }) => {
    await catalogue.add('1.0.0', 0, await logsOf('1.0.0'));
    await catalogue.add('2.0.0', 0, await logsOf('2.0.0'));
    const [one, two] = [await catalogue.entries('1.0.0'), await catalogue.entries('2.0.0')];
    const fresh = [...two].filter((entry) => !one.has(entry)).map((entry) => entry.split(':')[0]);
    assert.ok(fresh.includes('9') && fresh.includes('13'));
    assert.equal(
      [(await catalogue.entries('3.0.0')).size, (await catalogue.firmwareEntries('x')).size],
      [0, 0],
    );
  }));

test('a log that is not whole is no reference, and nothing is added', () =>
  withCatalogue(async ({ catalogue, logsOf }) => {
    const [log, other] = (await logsOf('1.0.0')) as [Uint8Array, Uint8Array];
    for (const logs of [
      [],
      [new Uint8Array()],
      [randomBytes(500)],
      [log.subarray(0, log.length - 1)],
      [log, other.subarray(0, 2000)],
      [log.subarray(0, 69)],
    ])
      await rejects(
        catalogue.add('1.0.0', 0, logs),
        CatalogueError,
        ({ code, message }) => code === 'catalogue.log' && /no log of a reference boot/.test(message),
      );
    assert.equal(await catalogue.versions(), []);
  }));

test('the file of an image is kept under its hash, and signed', () =>
  withCatalogue(async ({ catalogue, folder, key, logsOf }) => {
    const path = join(folder, 'image.tar');
    const bytes = randomBytes(300_000);
    writeFileSync(path, bytes);
    const image = await catalogue.add('1.0.0', 0, await logsOf('1.0.0'), { path });
    assert.is(image.sha256, createHash('sha256').update(bytes).digest('hex'));
    assert.equal(readFileSync(catalogue.file(image.sha256)), bytes);
    assert.equal(readdirSync(join(folder, 'images')), [image.sha256]);
    const baseOs = await catalogue.baseOs('1.0.0', 'https://evc', 3, 60_000);
    assert.equal(
      [baseOs.url, baseOs.size, baseOs.retryCounter, baseOs.testWindow],
      [`https://evc/images/${image.sha256}`, 300_000, 3, 60_000],
    );
    assert.ok(verify('sha256', imageManifest(baseOs), key, Buffer.from(baseOs.signature, 'base64')));
    assert.not(
      verify(
        'sha256',
        imageManifest({ ...baseOs, version: '9.9.9' }),
        key,
        Buffer.from(baseOs.signature, 'base64'),
      ),
    );
  }));

test('an image without a file, and one that is unknown, cannot be fetched', () =>
  withCatalogue(async ({ catalogue, folder, logsOf }) => {
    await catalogue.add('1.0.0', 0, await logsOf('1.0.0'));
    await rejects(catalogue.baseOs('1.0.0', '', 0, 0), CatalogueError, ({ message }) =>
      /measurements and no file/.test(message),
    );
    await rejects(catalogue.baseOs('2.0.0', '', 0, 0), CatalogueError, ({ message }) =>
      /evc image add 2\.0\.0/.test(message),
    );
    await rejects(
      catalogue.add('2.0.0', 0, await logsOf('2.0.0'), { path: join(folder, 'none.tar') }),
      Error,
      ({ message }) => /ENOENT/.test(message),
    );
    assert.equal(await catalogue.versions(), ['1.0.0']);
    assert.equal(readdirSync(join(folder, 'images')), []);
  }));

test.run();
