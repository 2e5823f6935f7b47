// Into the catalogue and out of it: manifests and who may sign them, firmware, and allow rules.
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { systemClock } from '../../../controller/clock.ts';
import { OperatorError } from '../../../controller/decision.ts';
import { activeRules } from '../../../controller/images/allow-rules.ts';
import { Catalogue } from '../../../controller/images/catalogue.ts';
import { Curator } from '../../../controller/images/curator.ts';
import { type Envelope, keyIdOf, parseJson, seal } from '../../../controller/images/envelope.ts';
import { CatalogueError } from '../../../controller/images/error.ts';
import { payloadTypes, readManifest, writeManifest } from '../../../controller/images/manifest.ts';
import { createPki } from '../../../controller/pki.ts';
import { LibsqlStore } from '../../../controller/store/libsql.ts';
import type { KnownEntry } from '../../../controller/verify/entries.ts';
import { createImage } from '../../../device/boot/image.ts';
import { referenceBoot } from '../../../device/boot/reference.ts';
import { inFolder } from '../../kit/folders.ts';
import { rejects } from '../../kit/rejects.ts';

interface Desk {
  curator: Curator;
  store: LibsqlStore;
  folder: string;
}

/** An EVC's catalogue, and nothing else of it. */
async function withDesks(work: (...desks: [Desk, Desk]) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const desks: Desk[] = [];
    for (const name of ['one', 'two']) {
      const pki = await createPki(join(folder, name, 'pki'), ['localhost'], Date.now());
      const store = LibsqlStore.open(':memory:');
      const catalogue = new Catalogue(store, pki, join(folder, name, 'images'));
      desks.push({ curator: new Curator({ store, clock: systemClock, catalogue, pki }), store, folder });
    }
    try {
      await work(desks[0] as Desk, desks[1] as Desk);
    } finally {
      for (const { store } of desks) await store.close();
    }
  });
}

const withDesk = (work: (desk: Desk) => Promise<void>) => withDesks((desk) => work(desk));

async function logsOf(folder: string, version: string, firmwareVersion = '1.0.0'): Promise<Uint8Array[]> {
  const [image, config] = [join(folder, `${version}-${firmwareVersion}`), join(folder, 'config')];
  mkdirSync(config, { recursive: true });
  await createImage(image, { version, firmwareVersion });
  return (await referenceBoot({ image, slots: ['IMGA', 'IMGB'], config })).logs;
}

const coded =
  (code: string, says = /./) =>
  (error: { code: string; message: string }) =>
    error.code === code && says.test(error.message);
const refused = (promise: Promise<unknown>, code: string, says?: RegExp) =>
  rejects(promise, CatalogueError, coded(code, says));
const throwsCoded = (work: () => unknown, code: string, says?: RegExp) =>
  assert.throws(work, (error: unknown) => error instanceof CatalogueError && coded(code, says)(error), code);

const newKey = (namedCurve = 'P-256') => generateKeyPairSync('ec', { namedCurve }).privateKey;
const publicPem = (key: KeyObject) => createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
const digest = 'ab'.repeat(32);
const entry: KnownEntry = {
  pcr: 9,
  type: 'EV_IPL',
  subject: 'kernel',
  text: 'kernel /k',
  digests: { sha256: digest },
};
const images = [{ version: '9.0', entries: [entry] }];
const sealed = (key: KeyObject, payload = writeManifest('images', images)) =>
  seal(payloadTypes.images, payload, key);

async function withOperatorKey(work: (desk: Desk, key: KeyObject) => Promise<void>): Promise<void> {
  await withDesk(async (desk) => {
    const key = newKey();
    const wish = { name: 'builder', signs: 'images' as const, vendor: '', reason: 'our build machine' };
    await desk.curator.addSigner({ ...wish, key: publicPem(key) }, 'admin');
    await work(desk, key);
  });
}

test('what one EVC exports another imports, once its key was added', () =>
  withDesks(async (one, two) => {
    await one.curator.addImage({ version: '1.0.0', logs: await logsOf(one.folder, '1.0.0') });
    await one.curator.addImage({ version: '2.0.0', logs: await logsOf(one.folder, '2.0.0') });
    const envelope = await one.curator.exportImages([]);
    await refused(two.curator.importImages(envelope), 'manifest.signer', /names key [0-9a-f]{16}/);
    const { publicKey, id } = one.curator.ownSigner();
    assert.is(envelope.signatures[0]?.keyid, id);
    // Not even its own, unless somebody said so.
    await refused(one.curator.importImages(envelope), 'manifest.signer');
    await two.curator.addSigner(
      { name: 'factory', signs: 'images', vendor: '', key: publicKey, reason: 'the factory’s EVC' },
      'admin',
    );
    const added = await two.curator.importImages(JSON.parse(JSON.stringify(envelope)));
    assert.equal(
      added.map(({ version, source }) => [version, source]),
      ['1.0.0', '2.0.0'].map((version) => [version, { kind: 'manifest', signer: 'factory' }]),
    );
    assert.equal((await two.curator.image('2.0.0')).entries, (await one.curator.image('2.0.0')).entries);
    // One of them, by name, and one that is not there.
    assert.is((await two.curator.importImages(await one.curator.exportImages(['1.0.0']))).length, 1);
    await refused(one.curator.exportImages(['1.0.0', '7']), 'image.unknown');
    await two.curator.removeSigner('factory', 'admin', 'the factory closed');
    await refused(two.curator.importImages(envelope), 'manifest.signer');
    assert.is((await two.curator.signers())[0]?.removed?.reason, 'the factory closed');
  }));

test('a manifest that anybody touched is refused: payload, type, signature, other key', () =>
  withOperatorKey(async ({ curator }, key) => {
    const good = sealed(key);
    const changed = (change: Partial<Envelope>) => curator.importImages({ ...good, ...change });
    const sig = (bytes: (sig: Buffer) => Buffer) =>
      good.signatures.map((one) => ({
        ...one,
        sig: bytes(Buffer.from(one.sig, 'base64')).toString('base64'),
      }));
    const other = Buffer.from(writeManifest('images', [{ version: '9.1', entries: [entry] }])).toString(
      'base64',
    );
    await refused(changed({ payload: other }), 'manifest.signature', /changed after it was signed/);
    await refused(changed({ signatures: sig((bytes) => bytes.subarray(0, -1)) }), 'manifest.signature');
    await refused(changed({ signatures: sig(() => Buffer.alloc(0)) }), 'manifest.signature');
    await refused(changed({ payloadType: payloadTypes.firmware }), 'manifest.malformed', /holds .*firmware/);
    await refused(curator.importImages(sealed(newKey())), 'manifest.signer');
    // Another key under the name of one that may.
    const forged = {
      ...sealed(newKey()),
      signatures: sealed(newKey()).signatures.map((one) => ({
        ...one,
        keyid: keyIdOf(createPublicKey(key)),
      })),
    };
    await refused(curator.importImages(forged), 'manifest.signature');
    // The signature covers the type: bytes signed as something else are no manifest.
    const elsewhere = seal('text/plain', Buffer.from(good.payload, 'base64'), key);
    await refused(
      curator.importImages({ ...elsewhere, payloadType: payloadTypes.images }),
      'manifest.signature',
    );
    assert.equal(await curator.images(), []);
    // Nameless, as other tools write it, and beside a signature of a stranger.
    const [mine] = good.signatures;
    const nameless = { ...good, signatures: [...sealed(newKey()).signatures, { ...mine, keyid: '' }] };
    assert.is((await curator.importImages(nameless)).length, 1);
  }));

test('a manifest that nobody signed is refused, as envelope and bare', () =>
  withOperatorKey(async ({ curator }, key) => {
    await refused(curator.importImages({ ...sealed(key), signatures: [] }), 'manifest.unsigned');
    await refused(curator.importImages(parseJson(writeManifest('images', images))), 'manifest.unsigned');
    for (const nothing of [null, [], 'x', {}, { payloadType: 1 }, { ...sealed(key), payload: '*' }])
      await refused(curator.importImages(nothing), 'manifest.malformed');
    const many = { ...sealed(key), signatures: Array.from({ length: 9 }, () => sealed(key).signatures[0]) };
    await refused(curator.importImages(many), 'manifest.malformed');
  }));

test('signed is not enough: newer versions and what is malformed are refused with the place', () =>
  withOperatorKey(async ({ curator }, key) => {
    const base = { format: 'eve-attest images', version: 1, images };
    const written = (value: unknown) => sealed(key, Buffer.from(JSON.stringify(value)));
    const one = (change: object) => ({
      ...base,
      images: [{ version: '9.0', entries: [{ ...entry, ...change }] }],
    });
    const cases: [value: unknown, code: string, says?: RegExp][] = [
      [{ ...base, version: 2 }, 'manifest.version', /version 2, and this EVC reads 1/],
      [{ ...base, version: 0 }, 'manifest.version'],
      [{ ...base, version: '1' }, 'manifest.malformed', /no manifest of images/],
      [{ ...base, format: 'eve-attest firmware' }, 'manifest.malformed'],
      [{ ...base, more: 1 }, 'manifest.malformed'],
      [{ ...base, images: [] }, 'manifest.malformed'],
      [{ ...base, images: [...images, ...images] }, 'manifest.malformed', /9\.0 is there twice/],
      [
        { ...base, images: [{ version: '../x', entries: [entry] }] },
        'manifest.malformed',
        /images\.0\.version/,
      ],
      [{ ...base, images: [{ version: '9.0', entries: [] }] }, 'manifest.malformed', /images\.0\.entries/],
      [one({ pcr: 24 }), 'manifest.malformed', /images\.0\.entries\.0\.pcr/],
      [one({ pcr: 1.5 }), 'manifest.malformed'],
      [one({ digests: { sha256: digest.slice(1) } }), 'manifest.malformed', /digests\.sha256/],
      [one({ digests: {} }), 'manifest.malformed'],
      [one({ text: 'x'.repeat(3000) }), 'manifest.malformed', /text/],
      [one({ required: 'yes' }), 'manifest.malformed'],
      [one({ surprise: 1 }), 'manifest.malformed'],
      [Array.from({ length: 3 }), 'manifest.malformed'],
    ];
    for (const [value, code, says] of cases) await refused(curator.importImages(written(value)), code, says);
    assert.equal(await curator.images(), []);
  }));

test('bombs: too long, too deep, too many', () => {
  throwsCoded(() => parseJson(Buffer.alloc(6 * 1024 * 1024 + 1, 0x20)), 'manifest.too-large');
  for (const bomb of ['['.repeat(1_000_000), '{"a":'.repeat(500_000), `${'['.repeat(17)}${']'.repeat(17)}`])
    throwsCoded(() => parseJson(Buffer.from(bomb)), 'manifest.malformed', /nested deeper/);
  for (const text of ['', '{', 'nul', '{"a":1,}', '\ufeff{', Buffer.from([0x22, 0xff, 0x22])])
    throwsCoded(() => parseJson(Buffer.from(text as string)), 'manifest.malformed', /no JSON/);
  // Brackets inside a text open nothing.
  assert.equal(parseJson(Buffer.from(`["${'['.repeat(100)}\\"["]`)), [`${'['.repeat(100)}"[`]);
  const many = Array.from({ length: 1001 }, (_, i) => ({ version: `v${i}`, entries: [entry] }));
  throwsCoded(() => readManifest('images', writeManifest('images', many)), 'manifest.malformed', /images/);
  const events = Array.from({ length: 5001 }, () => entry);
  throwsCoded(
    () => readManifest('images', writeManifest('images', [{ version: '1', entries: events }])),
    'manifest.malformed',
    /entries/,
  );
});

test('a manifest changes nothing that is known without a word, and all of it or nothing', () =>
  withOperatorKey(async ({ curator }, key) => {
    await curator.importImages(sealed(key));
    await curator.importImages(sealed(key));
    const other = { ...entry, digests: { sha256: 'cd'.repeat(32) } };
    const more = writeManifest('images', [
      { version: '8.0', entries: [entry] },
      { version: '9.0', entries: [other] },
    ]);
    await refused(curator.importImages(sealed(key, more)), 'manifest.exists', /image 9\.0/);
    assert.equal(
      (await curator.images()).map(({ version }) => version),
      ['9.0'],
    );
    await curator.importImages(sealed(key, more), true);
    assert.equal((await curator.image('9.0')).entries, [other]);
  }));

test('keys: only public ones of ECDSA P-256, each name and key once', () =>
  withDesk(async ({ curator }) => {
    const key = newKey();
    const add = (pem: string, more: object = {}) =>
      curator.addSigner(
        { name: 'a', signs: 'images', vendor: '', reason: 'test', key: pem, ...more },
        'admin',
      );
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    await refused(add('no key'), 'signer.key', /no public key or certificate/);
    await refused(add(rsa.export({ type: 'spki', format: 'pem' }).toString()), 'signer.key', /P-256/);
    await refused(add(publicPem(newKey('P-384'))), 'signer.key');
    await refused(add(key.export({ type: 'pkcs8', format: 'pem' }).toString()), 'signer.key', /private key/);
    await refused(add(publicPem(key), { name: '../a' }), 'signer.name');
    await refused(add(publicPem(key), { vendor: 'Acme' }), 'signer.name', /firmware/);
    await rejects(add(publicPem(key), { reason: ' ' }), OperatorError, coded('reason.missing'));
    await add(publicPem(key));
    await refused(add(publicPem(newKey())), 'signer.exists');
    await refused(add(publicPem(key), { name: 'b' }), 'signer.exists');
    await refused(curator.removeSigner('b', 'admin', 'x'), 'signer.unknown');
    await curator.removeSigner('a', 'admin', 'lost');
    await refused(curator.removeSigner('a', 'admin', 'x'), 'signer.unknown');
    await add(publicPem(newKey()));
  }));

test('firmware by name: its own PCRs alone, and signed by its vendor', () =>
  withDesks(async (one, two) => {
    const name = 'Acme-2.1-03/14/2026';
    const logs = await logsOf(one.folder, '1.0.0', '2.1');
    const added = await one.curator.addFirmware({ firmware: name, vendor: 'Acme', logs });
    assert.ok(added.entries.length > 5 && added.entries.every(({ pcr }) => [0, 1, 2, 3, 6, 7].includes(pcr)));
    assert.not(added.entries.some(({ required, alternative }) => required || alternative));
    await refused(
      one.curator.addFirmware({ firmware: name, vendor: 'Other', logs }),
      'firmware.name',
      /begin with/,
    );
    await refused(one.curator.addFirmware({ firmware: ' x', vendor: '', logs }), 'firmware.name');
    await refused(one.curator.firmware('none'), 'firmware.unknown');

    const key = newKey();
    const wish = {
      name: 'acme',
      signs: 'firmware' as const,
      vendor: 'Acme',
      reason: 'their key',
      key: publicPem(key),
    };
    await two.curator.addSigner(wish, 'admin');
    const of = (firmware: string, vendor: string) =>
      seal(
        payloadTypes.firmware,
        writeManifest('firmware', [{ firmware, vendor, entries: added.entries }]),
        key,
      );
    await refused(
      two.curator.importFirmware(of('Other-1', 'Other')),
      'manifest.signer',
      /firmware of Acme, and not of Other-1/,
    );
    await refused(
      two.curator.importFirmware(of('Other-1', 'Acme')),
      'manifest.malformed',
      /begin with its vendor/,
    );
    // A key for firmware says nothing of images.
    await refused(two.curator.importImages(sealed(key)), 'manifest.signer');
    await two.curator.importFirmware(of(name, 'Acme'));
    const known = await two.curator.firmware(name);
    assert.equal([known.vendor, known.source], ['Acme', { kind: 'manifest', signer: 'acme' }]);
    assert.equal(known.entries, added.entries);
    // And what one EVC knows of firmware goes to another the same way.
    await two.curator.addSigner(
      { ...wish, name: 'factory', vendor: '', key: one.curator.ownSigner().publicKey },
      'admin',
    );
    assert.is((await two.curator.importFirmware(await one.curator.exportFirmware([]))).length, 1);
  }));

test('what was measured of files is added by the operator without a signature, for the version that it names', () =>
  withDesk(async ({ curator, folder }) => {
    const measured = writeManifest('images', images);
    const added = await curator.addImage({ version: '9.0', measured });
    assert.equal([added.source, added.entries], [{ kind: 'files' }, [entry]]);
    await refused(
      curator.addImage({ version: '9.1', measured }),
      'manifest.malformed',
      /another version than 9\.1/,
    );
    await refused(curator.addImage({ version: '9.2' }), 'catalogue.nothing');
    await refused(curator.addImage({ version: '../x', measured }), 'image.version');
    // More of it: what was known stays, and what comes later is not required of boots that were good before.
    const more = await curator.addImage({ version: '9.0', logs: await logsOf(folder, '9.0'), more: true });
    assert.equal(more.entries[0], entry);
    assert.ok(more.entries.length > 20 && more.entries.every(({ required }) => !required));
  }));

const reason = 'the desk has a USB stick';
const bootOrder = { kind: 'event', type: 'EV_EFI_VARIABLE_BOOT', subject: 'BootOrder' } as const;
const rule = { account: null, pcr: 1, match: bootOrder, removal: false, reason };

test('a rule that would allow code, or anything wide, is refused when it is added', () =>
  withDesk(async ({ curator }) => {
    for (const pcr of [0, 4, 7, 9, 13])
      await refused(curator.addRule({ ...rule, pcr }, 'admin'), 'allow.too-wide', /only exact digests/);
    const digests = { kind: 'digests', sha256: [digest] } as const;
    const wide: [change: object, says: RegExp][] = [
      [{ pcr: 10 }, /not judged/],
      [{ pcr: 23 }, /not judged/],
      [{ match: { ...bootOrder, subject: '' } }, /1 to 512/],
      [{ match: { ...bootOrder, subject: 'x'.repeat(513) } }, /1 to 512/],
      [{ match: { ...bootOrder, type: 'EV_EFI_HANDOFF_TABLES2' } }, /no digest vouches/],
      [{ match: { ...bootOrder, type: 'EV_POST_CODE' } }, /no digest vouches/],
      [{ pcr: 5, match: { ...bootOrder, type: 'EV_EFI_GPT_EVENT' } }, /no digest vouches/],
      [{ pcr: 4, match: { kind: 'slot-attributes' } }, /PCR 5/],
      [{ pcr: 5, match: { kind: 'slot-attributes' }, removal: true }, /nothing may be missing/],
      [{ pcr: 13, match: digests, removal: true }, /nothing may be missing/],
      [{ match: { kind: 'digests', sha256: [] } }, /1 to 64/],
      [{ match: { kind: 'digests', sha256: Array(65).fill(digest) } }, /1 to 64/],
      [{ match: { kind: 'digests', sha256: [digest.toUpperCase()] } }, /64 hex digits/],
    ];
    for (const [change, says] of wide)
      await refused(curator.addRule({ ...rule, ...change }, 'admin'), 'allow.too-wide', says);
    await refused(curator.addRule({ ...rule, account: 'none' }, 'admin'), 'allow.account');
    await rejects(curator.addRule({ ...rule, reason: '' }, 'admin'), OperatorError, coded('reason.missing'));
    assert.equal(
      (await curator.rules()).map(({ id }) => id),
      ['slots'],
    );
    await curator.addRule({ ...rule, pcr: 4, match: digests }, 'admin');
  }));

test('rules hold for all or for one account, until they are removed; who and why is kept', () =>
  withDesk(async ({ curator, store }) => {
    await store.put('account', 'factory', { id: 'factory' });
    const all = await curator.addRule(rule, 'admin');
    const one = await curator.addRule({ ...rule, account: 'factory' }, 'admin');
    const ids = async (account: string | null) => (await activeRules(store, account)).map(({ id }) => id);
    assert.equal((await ids('factory')).sort(), ['slots', all.id, one.id].sort());
    assert.equal((await ids('other')).sort(), ['slots', all.id].sort());
    assert.equal((await ids(null)).sort(), ['slots', all.id].sort());
    await curator.removeRule(all.id, 'admin', 'the stick is gone');
    await curator.removeRule('slots', 'admin', 'we look at every table ourselves');
    assert.equal(await ids('factory'), [one.id]);
    await refused(curator.removeRule('slots', 'admin', 'again'), 'allow.unknown');
    await refused(curator.removeRule('nobody', 'admin', 'x'), 'allow.unknown');
    const kept = await store.get<{ reason: string; by: string; removed: { reason: string } }>(
      'allow-rule',
      all.id,
    );
    assert.equal([kept?.reason, kept?.by, kept?.removed.reason], [reason, 'admin', 'the stick is gone']);
    assert.is((await store.audits({ limit: 10 })).length, 4);
  }));

test.run();
