import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../formats/format-error.ts';
import { pem } from '../../../formats/x509/certificate.ts';
import { tpmModelOf } from '../../../formats/x509/endorsement.ts';
import { certificateLength, certificatesIn, parseCertificate } from '../../../formats/x509/parse.ts';
import { alternativeName, authority, ekCertificate, type Recipe } from '../../kit/ek-certificates.ts';

const now = Date.UTC(2026, 5, 1);
const by = authority('EK CA', { now });
const { publicKey } = await import('node:crypto').then(({ generateKeyPairSync }) =>
  generateKeyPairSync('ec', { namedCurve: 'P-384' }),
);
const spki = Uint8Array.from(publicKey.export({ type: 'spki', format: 'der' }));
const made = ekCertificate(by, spki, now);
const folder = join(import.meta.dirname, '../../fixtures');
const fixture = (name: string) => readFileSync(join(folder, name));

const failure = (work: () => unknown): FormatError => {
  try {
    work();
  } catch (error) {
    assert.instance(error, FormatError);
    return error as FormatError;
  }
  throw new Error('it was read');
};

test('every field of a certificate', () => {
  const certificate = parseCertificate(made);
  assert.equal(certificate.bytes, made);
  assert.is(certificate.version, 3);
  assert.is(certificate.subject.text, '');
  assert.is(certificate.issuer.text, 'O=Test vendor, CN=EK CA');
  assert.is(certificate.notBefore, now - 365 * 24 * 3600 * 1000);
  assert.equal(certificate.key, publicKey.export({ format: 'jwk' }));
  assert.equal(certificate.constraints, { authority: false, pathLength: null });
  assert.equal([...(certificate.keyUsage ?? [])], [4]);
  assert.equal(certificate.extendedKeyUsage, ['2.23.133.8.1']);
  assert.is(certificate.authorityKeyIdentifier, Buffer.from(by.id).toString('hex'));
  assert.is(certificate.subjectKeyIdentifier, null);
  assert.equal(certificate.unknownCritical, []);
  assert.equal(tpmModelOf(certificate), { vendor: 'Nuvoton', model: 'NPCT75x', version: '00070002' });
  assert.is(tpmModelOf(parseCertificate(by.certificate)), null);
});

test('real ones of swtpm and of cmc', () => {
  const rsa = parseCertificate(fixture('endorsement/ekcert-rsa.der'));
  assert.is(rsa.key?.kty, 'RSA');
  assert.is(rsa.notAfter, Date.UTC(9999, 11, 31, 23, 59, 59));
  assert.equal(parseCertificate(fixture('endorsement/ekcert-ecc384.der')).key?.kty, 'EC');
  const [ak = new Uint8Array()] = certificatesIn(fixture('quotes/cmc-ak-cert.pem'), 1);
  const { subject, extendedKeyUsage } = parseCertificate(ak);
  assert.match(subject.text, /^C=DE, ST=BY, .*CN=de\.test\.ak\.device0$/);
  assert.is(extendedKeyUsage, null);
});

test('a manufacturer that the registry does not have is shown as it is written', () => {
  const model = (value: string) => {
    const spoil = (recipe: Recipe) => ({
      ...recipe,
      extensions: [alternativeName([['2.23.133.2.1', value]])],
    });
    return tpmModelOf(parseCertificate(ekCertificate(by, spki, now, spoil)))?.vendor;
  };
  assert.is(model('id:49465800'), 'Infineon');
  assert.is(model('id:53544D20'), 'STMicroelectronics');
  assert.is(model('id:494E5443'), 'Intel');
  assert.is(model('id:58595A00'), 'id:58595A00');
  assert.is(model('Acme'), 'Acme');
});

test('[N34] any prefix ends with a FormatError, and so does any byte that is changed, or it is read', () => {
  for (let length = 0; length < made.length; length++)
    assert.ok(failure(() => parseCertificate(made.subarray(0, length))).message.length > 0);
  for (let at = 0; at < made.length; at++)
    for (const bit of [0x01, 0x80]) {
      try {
        parseCertificate(made.with(at, (made[at] ?? 0) ^ bit));
      } catch (error) {
        assert.instance(error, FormatError, `byte ${at}`);
      }
    }
});

test('[N34] nested as deep as 8 kB allow', () => {
  let bytes: Uint8Array = new Uint8Array();
  while (bytes.length < 8000) {
    const { length } = bytes;
    bytes = Buffer.concat([Buffer.from([0x30, 0x82, length >> 8, length & 0xff]), bytes]);
  }
  assert.match(failure(() => parseCertificate(bytes)).message, 'is not ASN.1');
});

test('padding is not part of it; a length that lies is refused', () => {
  const padded = Buffer.concat([made, Buffer.alloc(500)]);
  assert.is(certificateLength(padded), made.length);
  assert.equal(parseCertificate(padded).bytes, made);
  assert.match(failure(() => certificateLength(Buffer.from([0x30, 0x84, 1, 0, 0, 0]))).message, 'no length');
  assert.match(
    failure(() => certificateLength(Buffer.from([0x30, 0x82, 0xff, 0xff]))).message,
    '65539 bytes',
  );
  assert.match(failure(() => certificateLength(new Uint8Array())).message, 'no SEQUENCE');
});

test('PEM, however many, up to a bound; DER; and neither', () => {
  const text = Buffer.from(`# root\r\n${pem('CERTIFICATE', made)}${pem('CERTIFICATE', by.certificate)}`);
  assert.equal(certificatesIn(text, 2), [made, by.certificate]);
  assert.match(failure(() => certificatesIn(text, 1)).message, 'more than 1');
  assert.equal(
    certificatesIn(Buffer.concat([made, Buffer.alloc(9)]), 1).map(({ length }) => length),
    [made.length],
  );
  assert.match(failure(() => certificatesIn(Buffer.from('text'), 1)).message, 'neither PEM nor DER');
});

test.run();
