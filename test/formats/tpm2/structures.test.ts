import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FormatError } from '../../../formats/format-error.ts';
import { type Codec, decode, encode } from '../../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_GENERATED_VALUE, TPM_ST } from '../../../formats/tpm2/constants.ts';
import { selectedPcrs } from '../../../formats/tpm2/pcrs.ts';
import * as structures from '../../../formats/tpm2/structures.ts';
import { TPM2B_PUBLIC, TPMS_ATTEST, TPMT_PUBLIC, TPMT_SIGNATURE } from '../../../formats/tpm2/structures.ts';
import * as templates from '../../../formats/tpm2/templates.ts';
import { hex, toHex } from '../../kit/bytes.ts';

const quotes = new URL('../../fixtures/quotes/', import.meta.url);
const ovmf = new URL('../../fixtures/eventlog/ovmf/', import.meta.url);
const names = [
  'valid-p256',
  'valid-p384',
  'valid-rsassa',
  'valid-rsapss',
  'cmc-valid',
  'cmc-invalid-signature',
  'other-nonce',
  'fewer-pcrs',
  'certify',
  'sha1-only-bank',
];
const boots = ['deb2022-crb-shim-grub-sb', 'deb2022-crb-shim-grub-sb-cmdline', 'deb2022-tis-direct-nosb'];

interface QuoteFixture {
  attest: string;
  signature: string;
  nonce: string | null;
  parsed?: {
    magic: string;
    type: string;
    extraData: string;
    clock: number;
    resetCount: number;
    restartCount: number;
    safe: number;
    firmwareVersion: string;
  };
}

function fixture(name: string): QuoteFixture {
  return JSON.parse(readFileSync(new URL(`${name}.json`, quotes), 'utf8'));
}

function file(url: URL): Uint8Array {
  return Uint8Array.from(readFileSync(url));
}

for (const name of names)
  test(`quote ${name}: decodes to what its maker states, encodes to the same bytes`, () => {
    const { attest, signature, nonce, parsed } = fixture(name);
    const decoded = decode(TPMS_ATTEST, hex(attest));
    assert.is(toHex(encode(TPMS_ATTEST, decoded)), attest);
    assert.is(decoded.magic, TPM_GENERATED_VALUE);
    if (nonce !== null && name !== 'other-nonce') assert.is(toHex(decoded.extraData), nonce);
    if (parsed) {
      assert.is(decoded.type, Number(parsed.type));
      assert.is(toHex(decoded.extraData), parsed.extraData);
      assert.is(decoded.clockInfo.clock, BigInt(parsed.clock));
      assert.is(decoded.clockInfo.resetCount, parsed.resetCount);
      assert.is(decoded.clockInfo.safe, parsed.safe === 1);
      assert.is(decoded.firmwareVersion, BigInt(parsed.firmwareVersion));
    }
    const decodedSignature = decode(TPMT_SIGNATURE, hex(signature));
    assert.is(toHex(encode(TPMT_SIGNATURE, decodedSignature)), signature);
  });

for (const boot of boots)
  test(`${boot}: quotes verify over the raw bytes and over their re-encoding`, () => {
    const at = (name: string) => new URL(`${boot}/${name}`, ovmf);
    const key = createPublicKey(readFileSync(at('ak.pem')));
    for (const bank of ['sha256', 'mixed']) {
      const raw = file(at(`quote.${bank}.msg`));
      const attest = decode(TPMS_ATTEST, raw);
      assert.equal(encode(TPMS_ATTEST, attest), raw);
      assert.is(attest.type, TPM_ST.ATTEST_QUOTE);
      assert.equal(attest.extraData, hex(readFileSync(at('nonce.hex'), 'utf8')));
      const signature = decode(TPMT_SIGNATURE, file(at(`quote.${bank}.sig`)));
      if (signature.sigAlg !== TPM_ALG.ECDSA) throw new Error('not ECDSA');
      const { signatureR: r, signatureS: s } = signature.signature;
      const rs = Buffer.concat([Buffer.alloc(32 - r.length), r, Buffer.alloc(32 - s.length), s]);
      assert.ok(verify('sha256', raw, { key, dsaEncoding: 'ieee-p1363' }, rs));
    }
    const mixed = decode(TPMS_ATTEST, file(at('quote.mixed.msg')));
    if (mixed.type !== TPM_ST.ATTEST_QUOTE) throw new Error('not a quote');
    assert.is(mixed.attested.pcrSelect.length, 2);
    for (const name of ['ak', 'ek-rsa']) {
      const area = file(at(`${name}.tpm2b_public`));
      const decoded = decode(TPM2B_PUBLIC, area);
      assert.equal(encode(TPM2B_PUBLIC, decoded), area);
    }
    const ak = decode(TPM2B_PUBLIC, file(at('ak.tpm2b_public')));
    const name = createHash('sha256').update(encode(TPMT_PUBLIC, ak)).digest('hex');
    assert.is(toHex(file(at('ak.name'))), `000b${name}`);
    assert.ok(ak.objectAttributes.restricted && ak.objectAttributes.sign && !ak.objectAttributes.decrypt);
  });

test('public areas of other TPMs encode to the same bytes', () => {
  for (const name of ['ak-p256', 'ak-p384', 'ak-rsa', 'ak-rsapss', 'ek', 'unr']) {
    const bytes = file(new URL(`${name}.pub.tpm2b`, quotes));
    assert.equal(encode(TPM2B_PUBLIC, decode(TPM2B_PUBLIC, bytes)), bytes);
  }
  const ek = decode(TPM2B_PUBLIC, file(new URL('ek.pub.tpm2b', quotes)));
  const template = templates.endorsementKey['L-2'];
  assert.equal(
    { ...ek, unique: null },
    { ...template, unique: null },
    'swtpm makes its EK from the same template',
  );
});

test('a quote cut short names the field, the byte and what is missing', () => {
  const attest = hex(fixture('valid-p256').attest);
  assert.throws(
    () => decode(TPMS_ATTEST, attest.subarray(0, 142)),
    (error: unknown) =>
      error instanceof FormatError &&
      error.message === 'TPMS_ATTEST.attested.pcrDigest at byte 113: need 32 bytes, have 29' &&
      error.path === 'TPMS_ATTEST.attested.pcrDigest' &&
      error.offset === 113,
  );
  const long = new Uint8Array(attest.length + 1);
  long.set(attest);
  assert.throws(
    () => decode(TPMS_ATTEST, long),
    (error: unknown) =>
      error instanceof FormatError && error.message === 'TPMS_ATTEST at byte 145: 1 bytes left over',
  );
});

test('PCR selections: bit order, several banks, sizes', () => {
  const decoded = decode(structures.TPML_PCR_SELECTION, hex('00000002 000b 03 910080 0004 02 0180'));
  assert.equal(decoded.map(selectedPcrs), [
    [0, 4, 7, 23],
    [0, 15],
  ]);
  assert.throws(
    () => decode(structures.TPML_PCR_SELECTION, hex('00000001 000b 05 0000000000')),
    /TPML_PCR_SELECTION\[0\]\.pcrSelect at byte 6: size is 5, must be 1 to 4/,
  );
});

// One good encoding of each structure; what follows spoils it in every way.
const samples: [Codec<unknown>, Uint8Array][] = [
  ...names.flatMap((name): [Codec<unknown>, Uint8Array][] => [
    [TPMS_ATTEST, hex(fixture(name).attest)],
    [TPMT_SIGNATURE, hex(fixture(name).signature)],
  ]),
  ...[
    ...Object.values(templates.endorsementKey),
    templates.attestationKey,
    templates.sealedObject(new Uint8Array(32)),
  ].map((template): [Codec<unknown>, Uint8Array] => [TPM2B_PUBLIC, encode(TPM2B_PUBLIC, template)]),
  [structures.TPMT_HA, hex(`000c ${'11'.repeat(48)}`)],
  [structures.TPMS_NV_PUBLIC, hex('01c0000a 000b 62072001 0000 0200')],
  [structures.TPMS_CONTEXT, hex('0000000000000009 80000000 40000001 0003 aabbcc')],
  [
    structures.TPMS_CREATION_DATA,
    hex('00000001 000b 03 810000 0002 aabb 01 000b 0002 cccc 0002 dddd 0001 ee'),
  ],
  [structures.TPMT_SENSITIVE, hex('0023 0000 0002 aabb 0002 0102')],
  [structures.TPMT_SYM_DEF, hex('0006 0080 0043')],
  [structures.TPMT_SYM_DEF, hex('0010')],
  [structures.TPMT_SYM_DEF, hex('000a 000b')],
  [structures.TPMS_TIME_INFO, hex('ffffffffffffffff fffffffffffffffe 00000001 00000002 01')],
  [structures.TPMS_CAPABILITY_DATA, hex('00000005 00000001 000b 03 ffffff')],
  [structures.TPMS_CAPABILITY_DATA, hex('00000006 00000002 00000105 49465800 0000012c 00000400')],
  [structures.TPMS_CAPABILITY_DATA, hex('00000002 00000001 04400120')],
  [structures.TPMT_TK_CREATION, hex('8021 40000001 0002 aabb')],
  [structures.TPMS_AUTH_COMMAND, hex('40000009 0000 01 0000')],
];

test('every truncation, every extra byte and every single changed byte is a FormatError or the same bytes again', () => {
  for (const [codec, bytes] of samples) {
    assert.is(toHex(encode(codec, decode(codec, bytes))), toHex(bytes), codec.name);
    for (let length = 0; length < bytes.length; length++)
      assert.throws(
        () => decode(codec, bytes.subarray(0, length)),
        (e: unknown) => e instanceof FormatError,
        codec.name,
      );
    const long = new Uint8Array(bytes.length + 1);
    long.set(bytes);
    assert.throws(
      () => decode(codec, long),
      (e: unknown) => e instanceof FormatError,
    );
    for (let at = 0; at < bytes.length; at++)
      for (const flip of [0x01, 0x80, 0xff]) {
        const changed = bytes.slice();
        changed[at] = (changed[at] as number) ^ flip;
        try {
          assert.equal(encode(codec, decode(codec, changed)), changed);
        } catch (error) {
          assert.instance(error, FormatError, `${codec.name} byte ${at}: ${error}`);
        }
      }
  }
});

test('random bytes never do worse than a FormatError, in any structure', () => {
  const codecs = Object.values(structures) as Codec<unknown>[];
  assert.ok(codecs.length > 50);
  fc.assert(
    fc.property(fc.constantFrom(...codecs), fc.uint8Array({ maxLength: 80 }), (codec, bytes) => {
      try {
        assert.equal(encode(codec, decode(codec, bytes)), bytes);
      } catch (error) {
        assert.instance(error, FormatError);
      }
    }),
    { numRuns: 10_000 },
  );
});

test('attributes: as the specification numbers them, reserved bits refused', () => {
  const encoded = encode(structures.TPMA_OBJECT, templates.endorsementKey['L-1'].objectAttributes);
  assert.is(toHex(encoded), '000300b2');
  assert.is(toHex(encode(structures.TPMA_OBJECT, templates.storageRootKey.objectAttributes)), '00030472');
  assert.is(toHex(encode(structures.TPMA_OBJECT, templates.attestationKey.objectAttributes)), '00050472');
  assert.throws(() => decode(structures.TPMA_OBJECT, hex('00000001')), /reserved bits 0x1 are set/);
  const nv = decode(structures.TPMA_NV, hex('62072001'));
  assert.ok(
    nv.PPWRITE && nv.WRITEDEFINE && nv.PPREAD && nv.OWNERREAD && nv.AUTHREAD && nv.NO_DA && nv.PLATFORMCREATE,
  );
  assert.ok(nv.WRITTEN);
  assert.is(nv.TPM_NT, 0);
  assert.is(decode(structures.TPMA_NV, hex('00000014')).TPM_NT, 1);
});

test.run();
