import { createPublicKey, generateKeyPairSync, randomBytes, type X509Certificate } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPki, type Pki } from '../../../controller/pki.ts';
import { certificatesMessage } from '../../../controller/replies.ts';
import {
  checkCertificates,
  loadCertificates,
  pointOf,
  storeCertificates,
} from '../../../device/link/certificates.ts';
import { readServer } from '../../../device/link/dial.ts';
import { Outbox } from '../../../device/link/outbox.ts';
import { StateFolder } from '../../../device/state.ts';
import { ZCertType, ZControllerCertSchema } from '../../../formats/wire/eve_pb.ts';
import { inFolder } from '../../kit/folders.ts';
import { refusal } from '../../kit/rejects.ts';

const now = Date.now();
const year = 365 * 24 * 3600 * 1000;
const { CERT_TYPE_CONTROLLER_SIGNING: signing, CERT_TYPE_CONTROLLER_ECDH_EXCHANGE: exchange } = ZCertType;

const pki = await inFolder((folder) => createPki(folder, ['localhost'], now));
const other = await inFolder((folder) => createPki(folder, ['localhost'], now));

type Cert = { type: ZCertType; cert: Uint8Array };
const certOf = (type: ZCertType, certificate: X509Certificate | string): Cert => ({
  type,
  cert: Buffer.from(certificate.toString()),
});
const answer = (certs: Cert[]) => create(ZControllerCertSchema, { certs });
const good = [certOf(signing, pki.signing.certificate), certOf(exchange, pki.exchange.certificate)];

const check = (certs: Cert[], at = now, root = pki.root) =>
  refusal(() => checkCertificates(answer(certs), root, at));

test('EVC’s own answer is taken', () => {
  const { message } = certificatesMessage(pki as Pki);
  const taken = checkCertificates(
    create(ZControllerCertSchema, message as MessageInitShape<typeof ZControllerCertSchema>),
    pki.root,
    now,
  );
  assert.equal(
    [taken.signing.fingerprint256, taken.exchange.fingerprint256],
    [pki.signing.certificate.fingerprint256, pki.exchange.certificate.fingerprint256],
  );
});

test('certificates that are missing, there twice, or of another kind', () => {
  const [one, two] = good as [Cert, Cert];
  assert.is(check([]), 'certs.incomplete');
  assert.is(check([one]), 'certs.incomplete');
  assert.is(check([two]), 'certs.incomplete');
  assert.is(check([one, two, one]), 'certs.incomplete');
  assert.is(check([one, { ...two, type: ZCertType.CERT_TYPE_CONTROLLER_INTERMEDIATE }]), 'certs.incomplete');
  // What comes after the tenth is not looked at, however many there are.
  const many = Array.from({ length: 10_000 }, () => ({
    type: ZCertType.CERT_TYPE_NONE,
    cert: randomBytes(10),
  }));
  assert.is(check([...many, ...good]), 'certs.incomplete');
  assert.is(check([...good, ...many]), 'none');
});

test('certificates of another root, and what is no certificate', () => {
  const [one, two] = good as [Cert, Cert];
  assert.is(check([certOf(signing, other.signing.certificate), two]), 'certs.untrusted');
  assert.is(check([one, certOf(exchange, other.exchange.certificate)]), 'certs.untrusted');
  assert.is(check(good, now, other.root), 'certs.untrusted');
  assert.is(check([certOf(signing, 'rubbish'), two]), 'certs.untrusted');
  assert.is(check([{ type: signing, cert: new Uint8Array() }, two]), 'certs.untrusted');
});

test('certificates outside their time, with both times in the text', () => {
  assert.is(check(good, now - 2 * year), 'certs.expired');
  assert.is(check(good, now + 6 * year), 'certs.expired');
  assert.is(check(good, now + 4 * year), 'none');
  try {
    checkCertificates(answer(good), pki.root, 0);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /the clock of this device says 1970-01-01T00:00:00/);
  }
});

test('what was stored is checked again when it is used', () =>
  inFolder((folder) => {
    const state = new StateFolder(folder);
    assert.is(loadCertificates(state, pki.root, now), null);
    storeCertificates(state, {
      signing: pki.signing.certificate,
      exchange: pki.exchange.certificate,
      formerSigning: null,
    });
    assert.is(
      loadCertificates(state, pki.root, now)?.signing.fingerprint256,
      pki.signing.certificate.fingerprint256,
    );
    assert.is(
      loadCertificates(state, pki.root, now)?.exchange.fingerprint256,
      pki.exchange.certificate.fingerprint256,
    );
    // Another root was installed, or the time has come: they are fetched anew.
    assert.is(loadCertificates(state, other.root, now), null);
    assert.is(loadCertificates(state, pki.root, now + 6 * year), null);
    assert.ok(loadCertificates(state, pki.root, now));
  }));

test('damaged certificates are fetched anew', () =>
  inFolder((folder) => {
    const state = new StateFolder(folder);
    storeCertificates(state, {
      signing: pki.signing.certificate,
      exchange: pki.exchange.certificate,
      formerSigning: null,
    });
    storeCertificates(state, {
      signing: pki.signing.certificate,
      exchange: pki.exchange.certificate,
      formerSigning: null,
    });
    const path = join(folder, 'checkpoint');
    for (const name of readdirSync(path)) writeFileSync(join(path, name), 'damaged');
    assert.is(loadCertificates(state, pki.root, now), null);
    storeCertificates(state, {
      signing: pki.signing.certificate,
      exchange: pki.exchange.certificate,
      formerSigning: null,
    });
    assert.ok(loadCertificates(state, pki.root, now));
  }));

test('the point of a key is 65 bytes, leading zeros and all', () => {
  for (let i = 0; i < 600; i++) {
    const point = pointOf(createPublicKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey));
    assert.equal([point.length, point[0]], [65, 4]);
    if (point[1] === 0 || point[33] === 0) return;
  }
});

test('the address of EVC’s broker', () =>
  inFolder((folder) => {
    const path = join(folder, 'server');
    const read = (text: string) => {
      writeFileSync(path, text);
      return readServer(path);
    };
    assert.is(
      refusal(() => readServer(path)),
      'config.no-server',
    );
    assert.equal(read('mqtts://evc.example.com:9000\n'), { host: 'evc.example.com', port: 9000 });
    assert.equal(read(' mqtts://10.0.0.1 '), { host: '10.0.0.1', port: 8883 });
    for (const text of [
      '',
      'evc.example.com',
      'mqtt://evc',
      'mqtts://evc:99999',
      'mqtts://evc:',
      'mqtts://a b',
      'mqtts://evc/path',
      'mqtts://user@evc',
    ])
      assert.is(
        refusal(() => read(text)),
        'config.no-server',
        text,
      );
  }));

test('reports wait on disk, the newest of each key', () =>
  inFolder((folder) => {
    const outbox = new Outbox(new StateFolder(folder));
    assert.equal(outbox.load(), {});
    outbox.keep('status', { n: 1 });
    outbox.keep('status', { n: 2 });
    outbox.keep('../odd key', { n: 3 });
    const again = () => new Outbox(new StateFolder(folder));
    assert.equal(again().load(), { status: { n: 2 }, '../odd key': { n: 3 } });
    outbox.drop('status');
    outbox.drop('unknown');
    assert.equal(again().load(), { '../odd key': { n: 3 } });
  }));

test('a damaged report is dropped, and holds nothing up', () =>
  inFolder((folder) => {
    const outbox = new Outbox(new StateFolder(folder));
    outbox.keep('a', { n: 1 });
    const path = join(folder, 'outbox');
    for (const name of readdirSync(path)) writeFileSync(join(path, name), 'damaged');
    mkdirSync(join(path, 'something'));
    outbox.keep('b', { n: 2 });
    assert.equal(outbox.load(), { b: { n: 2 } });
    assert.is(readdirSync(path).filter((name) => /^[0-9a-f]{64}$/.test(name)).length, 1);
  }));

test.run();
