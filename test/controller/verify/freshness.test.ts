import { createHash } from 'node:crypto';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readClaims, verifyFreshness } from '../../../controller/verify/freshness.ts';
import { AttestGPSInput, AttestVersionType, ClaimsSchema } from '../../../formats/wire/eve_pb.ts';

const nonce = Buffer.alloc(32, 5);
const nonceHash = createHash('sha256').update(nonce).digest('hex');
const tokenHash = Buffer.alloc(32, 6);
const claims = (fields: MessageInitShape<typeof ClaimsSchema>) =>
  toBinary(ClaimsSchema, create(ClaimsSchema, { tokenHash, ...fields }));
const present = {
  gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_PRESENT,
  latitude: 1,
  longitude: 2,
  accuracy: 3,
  at: 4n,
};

test('the qualifying data is the nonce, or the hash that binds the claims to it', () => {
  const plain = verifyFreshness(nonce, nonceHash, null);
  assert.ok(plain.ok && plain.claims === null && Buffer.compare(plain.qualifyingData, nonce) === 0);
  const bytes = claims({});
  const bound = verifyFreshness(nonce, nonceHash, bytes);
  assert.ok(bound.ok);
  if (!bound.ok) return;
  assert.is(
    Buffer.from(bound.qualifyingData).toString('hex'),
    createHash('sha256').update(nonce).update(bytes).digest('hex'),
  );
  assert.is(bound.claims?.tokenHash, tokenHash.toString('hex'));
});

test('another nonce, and none', () => {
  for (const other of [Buffer.alloc(32, 4), nonce.subarray(0, 31), new Uint8Array()]) {
    const check = verifyFreshness(other, nonceHash, null);
    assert.equal(check.ok ? [] : check.refusals.map(({ code }) => code), ['evidence.nonce.other']);
  }
});

test('versions are taken by their type, and cut', () => {
  const read = readClaims(
    claims({
      versions: [
        { versionType: AttestVersionType.FIRMWARE, version: 'f' },
        { versionType: AttestVersionType.EVE, version: 'v'.repeat(500) },
        { versionType: AttestVersionType.EVE, version: 'second' },
      ],
    }),
  );
  assert.equal(read?.versions, { image: 'v'.repeat(200), firmware: 'f' });
  assert.equal(readClaims(claims({}))?.versions, { image: '', firmware: '' });
});

const nowhere: [string, object][] = [
  ['absent', { ...present, gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_ABSENT }],
  ['invalid', { ...present, gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_INVALID }],
  ['north of the pole', { ...present, latitude: 90.1 }],
  ['beyond the antimeridian', { ...present, longitude: -180.1 }],
  ['no number', { ...present, latitude: Number.NaN }],
  ['no number, eastwards', { ...present, longitude: Number.NaN }],
  ['of negative accuracy', { ...present, accuracy: -1 }],
  ['of no accuracy', { ...present, accuracy: Number.NaN }],
  ['of endless accuracy', { ...present, accuracy: Number.POSITIVE_INFINITY }],
  ['as wide as the earth', { ...present, accuracy: 30_000_000 }],
  ['a metre too wide', { ...present, accuracy: 100_001 }],
];
for (const [what, location] of nowhere)
  test(`a fix that is ${what} is no fix`, () => assert.is(readClaims(claims({ location }))?.location, null));

test('a fix on earth', () => {
  assert.equal(readClaims(claims({ location: present }))?.location, {
    latitude: 1,
    longitude: 2,
    accuracy: 3,
    at: 4,
  });
});

const edges: [string, object][] = [
  ['at a pole', { ...present, latitude: -90 }],
  ['at the other pole', { ...present, latitude: 90 }],
  ['on the antimeridian', { ...present, longitude: 180 }],
  ['of a perfect receiver', { ...present, accuracy: 0 }],
  ['as wide as it may be', { ...present, accuracy: 100_000 }],
];
for (const [what, location] of edges)
  test(`a fix ${what} is one`, () =>
    assert.equal(readClaims(claims({ location }))?.location, {
      ...{ latitude: 1, longitude: 2, accuracy: 3, at: 4 },
      ...Object.fromEntries(Object.entries(location).filter(([name]) => name !== 'gpsInput')),
      at: 4,
    }));

test('claims have 2048 bytes and no more', () => {
  // The head of a field, its length, and the token hash beside it.
  const around = claims({ versions: [{ version: 'x'.repeat(1000) }] }).length - 1000;
  const of = (size: number) => claims({ versions: [{ version: 'x'.repeat(size - around) }] });
  assert.is(of(2048).length, 2048);
  assert.ok(readClaims(of(2048)));
  assert.is(of(2049).length, 2049);
  assert.is(readClaims(of(2049)), null);
});

test('a token hash of another length, too many bytes, and bytes of anybody are no claims', () => {
  assert.is(readClaims(claims({ tokenHash: tokenHash.subarray(1) })), null);
  assert.is(readClaims(claims({ versions: [{ version: 'x'.repeat(2100) }] })), null);
  const bytes = claims({ location: present });
  for (let length = 0; length < bytes.length; length++)
    assert.is(readClaims(bytes.subarray(0, length)), null);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (random) => {
      const read = readClaims(random);
      assert.ok(read === null || read.tokenHash.length === 64);
    }),
  );
});

test.run();
