import { createECDH, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../../formats/tpm2/codec.ts';
import { coordinateSize, fixedWidth, publicJwk } from '../../../formats/tpm2/spki.ts';
import { TPM2B_PUBLIC, type TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { attestationKey, endorsementKey, sealedObject } from '../../../formats/tpm2/templates.ts';
import { hex } from '../../kit/bytes.ts';

const quotes = new URL('../../fixtures/quotes/', import.meta.url);

function pem(area: TPMT_PUBLIC): string {
  return createPublicKey({ key: publicJwk(area), format: 'jwk' })
    .export({ type: 'spki', format: 'pem' })
    .toString();
}

test('public areas become the key that their TPM exported as PEM', () => {
  const pairs = {
    'ak-p256': 'valid-p256',
    'ak-p384': 'valid-p384',
    'ak-rsa': 'valid-rsassa',
    'ak-rsapss': 'valid-rsapss',
  };
  for (const [area, quote] of Object.entries(pairs)) {
    const decoded = decode(TPM2B_PUBLIC, readFileSync(new URL(`${area}.pub.tpm2b`, quotes)));
    assert.is(pem(decoded), JSON.parse(readFileSync(new URL(`${quote}.json`, quotes), 'utf8')).akPem, area);
  }
});

/** A P-256 public key from a small private one. */
function point(privateKey: number): { x: Uint8Array; y: Uint8Array; spki: string } {
  const ecdh = createECDH('prime256v1');
  const scalar = Buffer.alloc(32);
  scalar.writeUInt32BE(privateKey, 28);
  ecdh.setPrivateKey(scalar);
  const q = ecdh.getPublicKey();
  const prefix = hex('3059301306072a8648ce3d020106082a8648ce3d030107034200');
  const spki = createPublicKey({ key: Buffer.concat([prefix, q]), format: 'der', type: 'spki' });
  return {
    x: q.subarray(1, 33),
    y: q.subarray(33),
    spki: spki.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

function stripped(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(bytes.findIndex((byte) => byte !== 0));
}

test('coordinates that start with a zero byte keep their width, whether or not the TPM sent it', () => {
  if (attestationKey.type !== 0x23) throw new Error('not ECC');
  // 379: x starts with zero; 43: y does.
  for (const [privateKey, coordinate] of [
    [379, 'x'],
    [43, 'y'],
  ] as const) {
    const { x, y, spki } = point(privateKey);
    assert.is((coordinate === 'x' ? x : y)[0], 0, 'the point has its leading zero');
    assert.is(pem({ ...attestationKey, unique: { x, y } }), spki);
    assert.is(pem({ ...attestationKey, unique: { x: stripped(x), y: stripped(y) } }), spki);
    const widened = new Uint8Array(40);
    widened.set(x, 8);
    assert.is(pem({ ...attestationKey, unique: { x: widened, y } }), spki);
  }
});

test('RSA: modulus and exponent, the default one too', () => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = publicKey.export({ format: 'jwk' });
  const unique = Uint8Array.from(Buffer.from(jwk.n ?? '', 'base64url'));
  const area = endorsementKey['L-1'];
  if (area.type !== 1) throw new Error('not RSA');
  assert.equal(publicJwk({ ...area, unique }), { kty: 'RSA', n: jwk.n, e: 'AQAB' });
  assert.equal(publicJwk({ ...area, unique, parameters: { ...area.parameters, exponent: 3 } }), {
    kty: 'RSA',
    n: jwk.n,
    e: 'Aw',
  });
});

test('base64url of every length', () => {
  const area = endorsementKey['L-1'];
  if (area.type !== 1) throw new Error('not RSA');
  for (let length = 1; length < 40; length++) {
    const unique = randomBytes(length);
    unique[0] = 0x80;
    const jwk = publicJwk({ ...area, unique });
    assert.is(jwk.kty === 'RSA' && jwk.n, unique.toString('base64url'));
  }
});

test('what has no public key here says so', () => {
  const ecc = attestationKey;
  if (ecc.type !== 0x23) throw new Error('not ECC');
  const { parameters } = ecc;
  assert.throws(
    () => publicJwk({ ...ecc, parameters: { ...parameters, curveID: 0x10 } }),
    (e: unknown) => e instanceof RangeError && e.message === 'no JSON Web Key for curve 0x10',
  );
  assert.throws(
    () => publicJwk(sealedObject(new Uint8Array(32))),
    (e: unknown) => e instanceof RangeError && e.message === 'a public area of type 0x8 has no public key',
  );
  assert.throws(
    () => publicJwk({ ...ecc, unique: { x: new Uint8Array(33).fill(1), y: new Uint8Array(32) } }),
    (e: unknown) => e instanceof RangeError && e.message === 'a number of 33 bytes, room for 32',
  );
});

test('fixed width', () => {
  assert.equal(fixedWidth(hex(''), 2), hex('0000'));
  assert.equal(fixedWidth(hex('05'), 2), hex('0005'));
  assert.equal(fixedWidth(hex('00000102'), 2), hex('0102'));
  assert.is(coordinateSize(3), 32);
  assert.is(coordinateSize(5), 66);
  assert.is(coordinateSize(0x20), undefined);
});

test.run();
