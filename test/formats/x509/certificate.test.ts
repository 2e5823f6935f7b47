import { createHash, generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildCertificate, ecdsaToDer, keyUsageBits, pem } from '../../../formats/x509/certificate.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const raw = (tbs: Uint8Array) => sign('sha256', tbs, { key: privateKey, dsaEncoding: 'ieee-p1363' });
const fields = {
  serial: Uint8Array.of(0x80, 1, 2),
  issuer: { commonName: 'EVE root', organization: 'Test' },
  subject: { commonName: 'EVE root', organization: 'Test' },
  notBefore: new Date('2026-01-01T00:00:00Z'),
  notAfter: new Date('2056-01-01T00:00:00Z'),
  publicKey: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
  authority: { pathLength: 0 },
  keyUsage: [keyUsageBits.keyCertSign, keyUsageBits.digitalSignature],
  hosts: ['localhost', '127.0.0.1'],
};

test('a certificate that node reads and verifies', async () => {
  const certificate = new X509Certificate(await buildCertificate(fields, raw));
  assert.ok(certificate.verify(publicKey));
  assert.is(certificate.serialNumber, '800102');
  assert.ok(certificate.ca);
  assert.is(certificate.subject, 'O=Test\nCN=EVE root');
  assert.is(certificate.subjectAltName, 'DNS:localhost, IP Address:127.0.0.1');
  assert.is(new Date(certificate.validTo).toISOString(), '2056-01-01T00:00:00.000Z');
});

test('PEM reads back to the same bytes', async () => {
  const der = await buildCertificate(fields, raw);
  assert.equal(new Uint8Array(new X509Certificate(pem('CERTIFICATE', der)).raw), der);
});

test('another key does not verify it', async () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = new X509Certificate(await buildCertificate(fields, raw));
  assert.not(certificate.verify(other.publicKey));
});

test('r and s are the shortest positive integers [X.690 8.3]', () => {
  const signature = new Uint8Array(64);
  signature[31] = 1;
  signature[32] = 0x80;
  assert.is(Buffer.from(ecdsaToDer(signature)).toString('hex').slice(0, 14), '30260201010221');
  assert.is(createHash('sha256').update(ecdsaToDer(signature)).digest().length, 32);
});

test.run();
