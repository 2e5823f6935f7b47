import { createHash, randomBytes, verify } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { reload, renew } from '../../../controller/certificates.ts';
import { Catalogue, type CatalogueImage } from '../../../controller/images/catalogue.ts';
import { CatalogueError } from '../../../controller/images/error.ts';
import { entriesOfLogs } from '../../../controller/images/reference.ts';
import { createPki, type Pki } from '../../../controller/pki.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import { createImage } from '../../../device/boot/image.ts';
import { referenceBoot } from '../../../device/boot/reference.ts';
import { imageManifest } from '../../../formats/wire/image-manifest.ts';
import { inFolder } from '../../kit/folders.ts';
import { rejects } from '../../kit/rejects.ts';

interface Bench {
  catalogue: Catalogue;
  pki: Pki;
  store: LibsqlStore;
  folder: string;
  key: Parameters<typeof verify>[2];
  /** Logs of a reference boot in both slots. */
  logsOf(version: string): Promise<Uint8Array[]>;
  add(version: string, added: number, file?: { path: string }): Promise<CatalogueImage>;
}

function withCatalogue(work: (bench: Bench) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const pki = await createPki(join(folder, 'pki'), ['localhost'], Date.now());
    const store = LibsqlStore.open(':memory:');
    const catalogue = new Catalogue(store, pki, join(folder, 'images'));
    const config = join(folder, 'config');
    mkdirSync(config);
    const logsOf = async (version: string) => {
      const image = join(folder, version);
      await createImage(image, { version });
      return (await referenceBoot({ image, slots: ['IMGA', 'IMGB'], config })).logs;
    };
    try {
      await work({
        pki,
        folder,
        store,
        catalogue,
        key: { key: pki.signing.certificate.publicKey, dsaEncoding: 'ieee-p1363' },
        logsOf,
        add: async (version, added, file) =>
          catalogue.add(
            { version, entries: entriesOfLogs(await logsOf(version)), source: { kind: 'log' }, added },
            file,
          ),
      });
    } finally {
      await store.close();
    }
  });
}

test('an image is known by what it measures, in either slot', () =>
  withCatalogue(async ({ catalogue, logsOf, add }) => {
    const image = await add('1.0.0', 5);
    assert.equal([image.version, image.added, image.sha256, image.size], ['1.0.0', 5, '', 0]);
    assert.equal(await catalogue.get('1.0.0'), image);
    assert.equal(await catalogue.versions(), ['1.0.0']);
    const entries = await catalogue.entries('1.0.0');
    assert.ok(entries.length > 20);
    for (const { digests } of entries) assert.match(digests.sha256, /^[0-9a-f]{64}$/);
    assert.ok(entries.every(({ text, type }) => text.length > 0 && type.startsWith('EV_')));
    // PCR 14 is of the device's /config.
    assert.not(entries.some(({ pcr }) => pcr === 14));
    const [one] = await logsOf('1.0.0');
    assert.ok(entriesOfLogs([one as Uint8Array]).length < entries.length);
  }));

test('what boots is required, and what names a slot is of that slot', () =>
  withCatalogue(async ({ logsOf }) => {
    const entries = entriesOfLogs(await logsOf('1.0.0'));
    assert.equal(
      entries.filter(({ required }) => required).map(({ pcr, subject }) => `${pcr} ${subject}`),
      ['13 rootfs', '9 kernel'],
    );
    const slots = entries.filter(({ alternative }) => alternative !== undefined);
    assert.equal(new Set(slots.map(({ alternative }) => alternative)), new Set(['gpt2', 'gpt3']));
    assert.ok(slots.every(({ pcr, text }) => pcr === 8 && /gpt[23]|PARTUUID/.test(text)));
    // One boot has no alternatives, and no log names a slot that it did not boot from.
    const [one] = await logsOf('1.0.0');
    assert.not(entriesOfLogs([one as Uint8Array]).some(({ alternative }) => alternative));
  }));

test('versions differ in what they measure', () =>
  withCatalogue(async ({ catalogue, add }) => {
    await add('1.0.0', 0);
    await add('2.0.0', 0);
    const [one, two] = [await catalogue.entries('1.0.0'), await catalogue.entries('2.0.0')];
    const old = new Set(one.map(({ digests }) => digests.sha256));
    const fresh = two.filter(({ digests }) => !old.has(digests.sha256)).map(({ pcr }) => pcr);
    assert.ok(fresh.includes(9) && fresh.includes(13));
    assert.equal([await catalogue.entries('3.0.0'), await catalogue.firmware('x')], [[], null]);
  }));

test('a log that is not whole is no reference', () =>
  withCatalogue(async ({ logsOf }) => {
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
        (async () => entriesOfLogs(logs))(),
        CatalogueError,
        ({ code, message }) => code === 'catalogue.log' && /log of a reference boot/.test(message),
      );
  }));

test('what an earlier EVC stored is read as it was meant', () =>
  withCatalogue(async ({ catalogue, store }) => {
    const digest = 'ab'.repeat(32);
    const old = { version: '1.0.0', sha256: '', size: 0, signature: '', added: 7 };
    await store.put('image', '1.0.0', { ...old, entries: [{ entry: `9:${digest}`, text: 'kernel' }] });
    assert.equal(await catalogue.get('1.0.0'), {
      ...old,
      entries: [{ pcr: 9, type: '', subject: '', text: 'kernel', digests: { sha256: digest } }],
      source: { kind: 'log' },
    });
  }));

test('the file of an image is kept under its hash, and signed', () =>
  withCatalogue(async ({ catalogue, folder, key, add }) => {
    const path = join(folder, 'image.tar');
    const bytes = randomBytes(300_000);
    writeFileSync(path, bytes);
    const image = await add('1.0.0', 0, { path });
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

test('what EVC signed before its key was renewed is signed anew, and what it never signed is not', () =>
  withCatalogue(async ({ catalogue, store, folder, pki, add }) => {
    const path = join(folder, 'image.tar');
    writeFileSync(path, 'image');
    const { signature } = await add('1.0.0', 0, { path });
    const forged = await add('2.0.0', 0, { path });
    await store.put('image', '2.0.0', { ...forged, signature: signature.replace(/^.{8}/, 'AAAAAAAA') });
    const names = ['signing'] as const;
    for (let i = 0; i < 2; i++) await renew(join(folder, 'pki'), names, ['localhost'], Date.now());
    assert.ok(reload(pki, join(folder, 'pki')));
    const anew = await catalogue.baseOs('1.0.0', '', 0, 0);
    const key = { key: pki.signing.certificate.publicKey, dsaEncoding: 'ieee-p1363' as const };
    assert.ok(verify('sha256', imageManifest(anew), key, Buffer.from(anew.signature, 'base64')));
    assert.is(
      (await catalogue.baseOs('1.0.0', '', 0, 0)).signature,
      anew.signature,
      'and the same from then on',
    );
    assert.match((await catalogue.baseOs('2.0.0', '', 0, 0)).signature, /^AAAAAAAA/);
  }));

test('new measurements leave the file of an image where it is', () =>
  withCatalogue(async ({ catalogue, folder, add }) => {
    const path = join(folder, 'image.tar');
    writeFileSync(path, 'image');
    const { sha256, signature } = await add('1.0.0', 0, { path });
    const again = await add('1.0.0', 1);
    assert.equal([again.sha256, again.signature, again.size], [sha256, signature, 5]);
    assert.is((await catalogue.baseOs('1.0.0', '', 0, 0)).sha256, sha256);
  }));

test('an image without a file, and one that is unknown, cannot be fetched', () =>
  withCatalogue(async ({ catalogue, folder, add }) => {
    await add('1.0.0', 0);
    await rejects(
      catalogue.baseOs('1.0.0', '', 0, 0),
      CatalogueError,
      ({ code, message }) => code === 'image.no-file' && /evc image add 1\.0\.0 --file/.test(message),
    );
    await rejects(
      catalogue.baseOs('2.0.0', '', 0, 0),
      CatalogueError,
      ({ code, message }) => code === 'image.unknown' && /evc image add 2\.0\.0/.test(message),
    );
    await rejects(add('2.0.0', 0, { path: join(folder, 'none.tar') }), Error, ({ message }) =>
      /ENOENT/.test(message),
    );
    assert.equal(await catalogue.versions(), ['1.0.0']);
    assert.equal(readdirSync(join(folder, 'images')), []);
  }));

test.run();
