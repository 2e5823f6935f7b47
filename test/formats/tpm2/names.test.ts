import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hash } from '../../../device/tpm/hash.ts';
import { decode } from '../../../formats/tpm2/codec.ts';
import { TPM_RH } from '../../../formats/tpm2/constants.ts';
import { handleName, nvName, objectName, qualifiedName } from '../../../formats/tpm2/names.ts';
import { pcrDigest, pcrSelection, selectedPcrs, selectedPcrsOf } from '../../../formats/tpm2/pcrs.ts';
import { TPM2B_PUBLIC, TPMS_ATTEST, TPMS_NV_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { hex, toHex } from '../../kit/bytes.ts';

const quotes = new URL('../../fixtures/quotes/', import.meta.url);

function publicArea(name: string) {
  return decode(TPM2B_PUBLIC, readFileSync(new URL(`${name}.pub.tpm2b`, quotes)));
}
function quote(name: string) {
  return JSON.parse(readFileSync(new URL(`${name}.json`, quotes), 'utf8'));
}

test('[TPM2 P1 16] the name of an object is what its TPM states', () => {
  assert.is(toHex(objectName(hash, publicArea('ak-p256'))), quote('valid-p256').akPublic.name);
  assert.is(toHex(objectName(hash, publicArea('ak-rsa'))), quote('valid-rsassa').akPublic.name);
});

test('the qualified name of a key under the EK is the qualifiedSigner of its quotes', () => {
  const ek = objectName(hash, publicArea('ek'));
  const ekQualified = qualifiedName(hash, handleName(TPM_RH.ENDORSEMENT), ek);
  const ak = qualifiedName(hash, ekQualified, objectName(hash, publicArea('ak-p256')));
  assert.equal(ak, decode(TPMS_ATTEST, hex(quote('valid-p256').attest)).qualifiedSigner);
});

test('a nameAlg that cannot be computed here is said to be one', () => {
  assert.throws(
    () => objectName(hash, { ...publicArea('ek'), nameAlg: 0x12 }),
    (error: unknown) => error instanceof RangeError && error.message === 'cannot name with algorithm 0x12',
  );
});

test('the name of an NV index covers its attributes', () => {
  const area = decode(TPMS_NV_PUBLIC, hex('01800000 000b 02040002 0000 0020'));
  const written = decode(TPMS_NV_PUBLIC, hex('01800000 000b 22040002 0000 0020'));
  assert.is(nvName(hash, area).length, 34);
  assert.not.equal(nvName(hash, area), nvName(hash, written));
});

test('handles are their own names', () => {
  assert.is(toHex(handleName(0x4000000b)), '4000000b');
  assert.is(toHex(handleName(7)), '00000007');
});

test('PCR selections and digests', () => {
  const selection = pcrSelection('sha256', [14, 0, 8, 0, 23]);
  assert.is(toHex(selection.pcrSelect), '014180');
  assert.equal(selectedPcrs(selection), [0, 8, 14, 23]);
  assert.equal(
    selectedPcrsOf('sha256', [pcrSelection('sha1', [1]), selection, pcrSelection('sha256', [2])]),
    [0, 2, 8, 14, 23],
  );
  for (const bad of [-1, 24, 1.5, Number.NaN]) assert.throws(() => pcrSelection('sha256', [bad]), TypeError);

  for (const name of ['valid-p256', 'valid-rsassa', 'valid-p384']) {
    const { attest, pcrs, sigHash: algorithm } = quote(name);
    const decoded = decode(TPMS_ATTEST, hex(attest));
    if (decoded.type !== 0x8018) throw new Error('not a quote');
    const values = new Map(
      Object.entries(pcrs.sha256 as Record<string, string>).map(([n, v]) => [Number(n), hex(v)]),
    );
    assert.equal(
      pcrDigest(hash, algorithm, decoded.attested.pcrSelect, { sha256: values }),
      decoded.attested.pcrDigest,
      name,
    );
    values.delete(3);
    assert.throws(
      () => pcrDigest(hash, algorithm, decoded.attested.pcrSelect, { sha256: values }),
      /no sha256 value of PCR 3/,
    );
  }
});

test.run();
