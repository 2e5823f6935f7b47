import { spawnSync } from 'node:child_process';
import { createPublicKey, verify, X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createOnboardingKey, createPki, loadPki, pkiExists, signerOf } from '../../controller/pki.ts';
import { needDebian } from '../kit/debian.ts';
import { inFolder } from '../kit/folders.ts';
import { rejects } from '../kit/rejects.ts';

const now = Date.now();
const day = 24 * 3600 * 1000;

test('a root and three certificates below it, each for its own use', () =>
  inFolder(async (folder) => {
    const pki = await createPki(folder, ['evc.example', '127.0.0.1'], now);
    assert.ok(pki.root.ca && pki.root.verify(pki.root.publicKey));
    const uses = { signing: 'EVC signing', exchange: 'EVC exchange', server: 'evc.example' } as const;
    for (const [name, subject] of Object.entries(uses)) {
      const { key, certificate } = pki[name as keyof typeof uses];
      assert.ok(certificate.checkIssued(pki.root) && certificate.verify(pki.root.publicKey), name);
      assert.ok(certificate.checkPrivateKey(key), name);
      assert.not(certificate.ca, name);
      assert.match(certificate.subject, new RegExp(`CN=${subject}$`));
      assert.ok(
        Date.parse(certificate.validFrom) <= now && Date.parse(certificate.validTo) >= now + 396 * day,
        name,
      );
    }
    assert.ok(pki.server.certificate.checkHost('evc.example') && pki.server.certificate.checkIP('127.0.0.1'));
    assert.is(pki.server.certificate.checkHost('other.example'), undefined);
    // What browsers and TLS stacks take at most.
    assert.ok(Date.parse(pki.server.certificate.validTo) <= now + 398 * day);
    const serials = [pki.root, pki.signing.certificate, pki.exchange.certificate, pki.server.certificate].map(
      ({ serialNumber }) => serialNumber,
    );
    assert.is(new Set(serials).size, 4);
    assert.is(pki.secret.length, 32);
  }));

test('what was made is read back, and is its owner’s alone', () =>
  inFolder(async (folder) => {
    const made = await createPki(folder, ['localhost'], now);
    const read = loadPki(folder);
    assert.is(read.root.fingerprint256, made.root.fingerprint256);
    assert.equal(read.secret, made.secret);
    assert.ok(pkiExists(folder));
    const secret = readdirSync(folder).filter((name) => name.endsWith('.key.pem') || name === 'secret');
    assert.is(secret.length, 5);
    for (const name of secret) assert.is(statSync(join(folder, name)).mode & 0o777, 0o600, name);
  }));

test('keys are never written over', () =>
  inFolder(async (folder) => {
    const { root } = await createPki(folder, ['localhost'], now);
    await rejects(createPki(folder, ['localhost'], now), TypeError, ({ message }) =>
      /has keys already/.test(message),
    );
    assert.is(loadPki(folder).root.fingerprint256, root.fingerprint256);
  }));

test('a set-up that was cut short starts over', () =>
  inFolder(async (folder) => {
    writeFileSync(join(folder, 'signing.key.pem'), 'half a k');
    assert.not(pkiExists(folder));
    const { signing } = await createPki(folder, ['localhost'], now);
    assert.ok(signing.certificate.checkPrivateKey(signing.key));
  }));

test('EVC signs as its certificate says', () =>
  inFolder(async (folder) => {
    const { signing } = await createPki(folder, ['localhost'], now);
    const signature = await signerOf(signing).sign(Buffer.from('payload'));
    assert.is(signature.length, 64);
    const key = { key: signing.certificate.publicKey, dsaEncoding: 'ieee-p1363' as const };
    assert.ok(verify('sha256', Buffer.from('payload'), key, signature));
  }));

test('an onboarding key is its own certificate', async () => {
  const { key, certificate } = await createOnboardingKey('batch 7', now);
  const parsed = new X509Certificate(certificate);
  assert.ok(parsed.verify(parsed.publicKey));
  assert.is(
    createPublicKey(key).export({ type: 'spki', format: 'pem' }),
    parsed.publicKey.export({ type: 'spki', format: 'pem' }),
  );
});

test('openssl verifies the chain', async () => {
  if (!(await needDebian(['openssl'], ['openssl']))) return;
  await inFolder(async (folder) => {
    await createPki(folder, ['evc.example'], now);
    const root = join(folder, 'root.cert.pem');
    for (const [name, purpose] of [
      ['signing', 'any'],
      ['exchange', 'any'],
      ['server', 'sslserver'],
    ] as const) {
      const file = join(folder, `${name}.cert.pem`);
      const run = spawnSync(
        'openssl',
        ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', root, file],
        { encoding: 'utf8' },
      );
      assert.is(`${run.stdout}${run.stderr}`.trim(), `${file}: OK`);
    }
    const text = spawnSync(
      'openssl',
      [
        'x509',
        '-noout',
        '-ext',
        'keyUsage,extendedKeyUsage,subjectAltName',
        '-in',
        join(folder, 'server.cert.pem'),
      ],
      { encoding: 'utf8' },
    ).stdout;
    assert.match(text, /Digital Signature\n/);
    assert.match(text, /TLS Web Server Authentication/);
    assert.match(text, /DNS:evc\.example/);
    assert.match(readFileSync(root, 'utf8'), /^-----BEGIN CERTIFICATE-----/);
  });
});

test.run();
