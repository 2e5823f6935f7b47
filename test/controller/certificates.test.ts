// Renewal of EVC's certificates, in simulated time, and a death at any step of it.
import { X509Certificate } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CertificateKeeper } from '../../controller/certificate-keeper.ts';
import {
  CertificateError,
  certificateViews,
  endingWithin,
  renew,
  renewedBefore,
} from '../../controller/certificates.ts';
import { createPki, loadPki, mostFormer, type Pki, renewable } from '../../controller/pki.ts';
import { inFolder } from '../kit/folders.ts';
import { rejects as refused } from '../kit/rejects.ts';

const day = 86_400_000;
const rejects = (promise: Promise<unknown>, code: string) =>
  refused(promise, CertificateError, (error) => error.code === code);
const start = Date.UTC(2026, 5, 1);
const prints = (pki: Pki) => renewable.map((name) => pki[name].certificate.fingerprint256);

/** A keeper whose time a test sets, and what it said: names that were renewed, or the code of why not. */
function keeping(folder: string, pki: Pki, live: Pki) {
  const told: string[] = [];
  const time = { now: start };
  const keeper = new CertificateKeeper({
    folder,
    pki,
    live,
    hosts: ['localhost'],
    now: () => time.now,
    onRenewed: (names) => told.push(names.join(' ')),
    onFailed: (code) => told.push(code),
  });
  return { keeper, told, time };
}

test('new keys below the same root; the exchange key from before is kept, four at most', () =>
  inFolder(async (folder) => {
    const first = await createPki(folder, ['localhost', '127.0.0.1'], start);
    let now = start;
    const exchanges = [first.exchange.certificate.fingerprint256];
    for (let i = 0; i < mostFormer + 2; i++) {
      now += 100 * day;
      const views = await renew(folder, renewable, ['localhost'], now);
      const pki = loadPki(folder);
      assert.is(pki.root.fingerprint256, first.root.fingerprint256);
      for (const name of renewable) {
        assert.ok(pki[name].certificate.verify(first.root.publicKey), name);
        assert.ok(pki[name].certificate.checkPrivateKey(pki[name].key), name);
      }
      assert.is(pki.server.certificate.subjectAltName, 'DNS:localhost');
      const former = pki.formerExchange.map(({ certificate }) => certificate.fingerprint256);
      assert.equal(former, exchanges.slice(0, mostFormer));
      exchanges.unshift(pki.exchange.certificate.fingerprint256);
      assert.equal(views, certificateViews(pki));
    }
    assert.is(new Set(exchanges).size, exchanges.length);
  }));

test('what ends is found in time, and no certificate outlives the root', () =>
  inFolder(async (folder) => {
    const pki = await createPki(folder, ['localhost'], start);
    assert.equal(endingWithin(pki, renewedBefore, start), []);
    assert.equal(endingWithin(pki, renewedBefore, start + 340 * day), ['server']);
    const late = start + 19.9 * 365 * day;
    await renew(folder, renewable, ['localhost'], late);
    const renewed = loadPki(folder);
    for (const name of renewable)
      assert.ok(Date.parse(renewed[name].certificate.validTo) <= Date.parse(renewed.root.validTo), name);
    await rejects(renew(folder, ['server'], [], start + 20 * 365 * day), 'certificates.root-ends');
  }));

test('by a clock that was not set nothing is made, and nothing that devices seal for is dropped', () =>
  inFolder(async (folder) => {
    const pki = await createPki(folder, ['localhost'], start);
    const live = loadPki(folder);
    const before = prints(live);
    const { keeper, told, time } = keeping(folder, pki, live);
    try {
      time.now = 0;
      await keeper.renewEnding();
      time.now = start - 2 * day;
      await keeper.renewEnding();
      assert.equal(told, ['certificates.clock', 'certificates.clock']);
      assert.equal(prints(loadPki(folder)), before);
      assert.equal(loadPki(folder).formerExchange, []);
      told.length = 0;
      time.now = start + 340 * day;
      await keeper.renewEnding();
      assert.equal(told, ['server']);
    } finally {
      keeper.close();
    }
  }));

test('without the key of the root, and beside another renewal, nothing is renewed', () =>
  inFolder(async (folder) => {
    const before = prints(await createPki(folder, ['localhost'], start));
    const lock = join(folder, 'renewing');
    writeFileSync(lock, '1');
    await rejects(renew(folder, renewable, [], start), 'certificates.busy');
    // Of one that died.
    utimesSync(lock, 0, 0);
    renameSync(join(folder, 'root.key.pem'), join(folder, 'away'));
    await rejects(renew(folder, renewable, [], start), 'certificates.no-root-key');
    assert.equal(prints(loadPki(folder)), before);
    renameSync(join(folder, 'away'), join(folder, 'root.key.pem'));
    await renew(folder, renewable, ['localhost'], start);
    assert.not(existsSync(lock));
  }));

test('a death between key and certificate leaves a pair that fits, and the next renewal goes on', () =>
  inFolder(async (folder) => {
    await createPki(folder, ['localhost'], start);
    const path = (name: string) => join(folder, name);
    copyFileSync(path('signing.cert.pem'), path('old'));
    await renew(folder, ['signing'], [], start + day);
    const renewed = readFileSync(path('signing.cert.pem'));
    // The key was renamed, and its certificate was not.
    renameSync(path('signing.cert.pem'), path('signing.cert.pem.new'));
    renameSync(path('old'), path('signing.cert.pem'));
    assert.is(
      loadPki(folder).signing.certificate.fingerprint256,
      new X509Certificate(renewed).fingerprint256,
    );
    await renew(folder, ['signing'], [], start + 2 * day);
    const { key, certificate } = loadPki(folder).signing;
    assert.ok(certificate.checkPrivateKey(key));
    rmSync(path('signing.cert.pem'));
    assert.throws(() => loadPki(folder));
  }));

test('what ends with the root is renewed once, and not again and again', () =>
  inFolder(async (folder) => {
    const pki = await createPki(folder, ['localhost'], start);
    const now = Date.parse(pki.root.validTo) - 50 * day;
    assert.equal(endingWithin(pki, renewedBefore, now), ['server', 'signing', 'exchange']);
    await renew(folder, ['server', 'signing', 'exchange'], ['localhost'], now);
    const renewed = loadPki(folder);
    assert.equal(endingWithin(renewed, renewedBefore, now), []);
    assert.equal(endingWithin(renewed, renewedBefore, now + 45 * day), []);
  }));

test('a running EVC renews by itself, once and in time, and takes over what the command made', () =>
  inFolder(async (folder) => {
    const pki = await createPki(folder, ['localhost'], start);
    const live = loadPki(folder);
    const { keeper, told, time } = keeping(folder, pki, live);
    try {
      for (; time.now < start + 3 * 365 * day; time.now += 10 * day) await keeper.renewEnding();
      // 397 days less 60, three times.
      assert.equal(told, ['server', 'server', 'server']);
      assert.is(endingWithin(live, renewedBefore - 10 * day, time.now).length, 0);
      await renew(folder, ['signing', 'exchange'], ['localhost'], time.now);
      keeper.look();
      keeper.look();
      assert.equal(told.slice(3), ['signing exchange']);
      assert.equal(prints(live), prints(loadPki(folder)));
      assert.equal(prints(pki), prints(live));
      renameSync(join(folder, 'root.key.pem'), join(folder, 'away'));
      time.now += 390 * day;
      await keeper.renewEnding();
      assert.equal(told.slice(4), ['certificates.no-root-key']);
    } finally {
      keeper.close();
    }
  }));

test.run();
