// Whose quote is it at all? Each reason why the key on record vouches for nothing.
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyIdentity } from '../../../controller/verify/identity.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import { objectName } from '../../../formats/tpm2/names.ts';
import { TPM2B_PUBLIC, TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { hash } from '../../kit/eventlogs.ts';

const area = (file: string) =>
  decode(TPM2B_PUBLIC, readFileSync(new URL(`../../fixtures/quotes/${file}`, import.meta.url)));
const enrolled = (publicArea: TPMT_PUBLIC) => ({
  akName: Buffer.from(objectName(hash, publicArea)).toString('hex'),
  akPublic: Buffer.from(encode(TPMT_PUBLIC, publicArea)).toString('hex'),
});
const key = enrolled(area('ak-p256.pub.tpm2b'));
const other = enrolled(area('ak-p384.pub.tpm2b'));
const codes = (given: Parameters<typeof verifyIdentity>[0]) => {
  const check = verifyIdentity(given);
  return check.ok ? 'known' : check.refusals.map(({ code }) => code);
};

test('no key is enrolled', () => {
  assert.equal(codes(null), ['evidence.identity.unknown']);
});

test('another public area than the one that was proven, and bytes that are none', () => {
  assert.equal(codes({ ...key, akPublic: other.akPublic }), ['evidence.identity.name']);
  for (const akPublic of ['', '00', key.akPublic.slice(0, -2), `${key.akPublic}00`])
    assert.equal(codes({ ...key, akPublic }), ['evidence.identity.key'], akPublic);
});

test('a key that signs what its holder likes', () => {
  assert.equal(codes(enrolled(area('unr.pub.tpm2b'))), ['evidence.identity.key']);
});

test('why a key vouches for nothing is said', () => {
  const check = verifyIdentity(enrolled(area('unr.pub.tpm2b')));
  assert.match(check.ok ? '' : (check.refusals[0]?.text ?? ''), 'not a restricted signing key');
});

test('the key that was proven, each time the same, and what is known of one is not believed of another', () => {
  const checks = [key, other, key, other].map(verifyIdentity);
  const keys = checks.map((check) => (check.ok ? check.key : null));
  assert.ok(keys.every((one) => one !== null));
  assert.is(keys[0], keys[2], 'parsed once');
  assert.is(keys[1], keys[3]);
  assert.is.not(keys[0], keys[1]);
  const { crv } = keys[1]?.key.export({ format: 'jwk' }) ?? {};
  assert.is(crv, 'P-384');
  assert.equal(codes({ akName: 'ab', akPublic: key.akPublic }), ['evidence.identity.name']);
});

test.run();
