import { createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type AttestationKey,
  attestationKey,
  bareKey,
  type QuoteEvidence,
  type QuoteExpectation,
  type StatedPcrs,
  verifyQuote,
} from '../../../controller/verify/quote.ts';
import { decode, encode } from '../../../formats/tpm2/codec.ts';
import { TPM_ALG, TPM_ECC_CURVE } from '../../../formats/tpm2/constants.ts';
import { digestSize, type HashName, hashId } from '../../../formats/tpm2/hash.ts';
import { pcrDigest, pcrSelection } from '../../../formats/tpm2/pcrs.ts';
import {
  TPM2B_PUBLIC,
  type TPML_PCR_SELECTION,
  TPMS_ATTEST,
  type TPMT_PUBLIC,
  TPMT_SIGNATURE,
} from '../../../formats/tpm2/structures.ts';
import { hash } from '../../kit/eventlogs.ts';

const quotes = new URL('../../fixtures/quotes/', import.meta.url);
const ovmf = new URL('../../fixtures/eventlog/ovmf/', import.meta.url);
const read = (name: string, base = quotes) => readFileSync(new URL(name, base));
const publicArea = (name: string, base = quotes) => decode(TPM2B_PUBLIC, read(name, base));
const policy = [0, 1, 2, 3, 4, 5, 6, 7];

interface Vector {
  attest: string;
  signature: string;
  akPem: string;
  nonce: string | null;
  pcrs: Partial<Record<HashName, Record<string, string>>>;
}

/** The public areas beside the quotes; of the keys of cmc only the PEM is known. */
function keyOf(vector: Vector): AttestationKey {
  for (const name of readdirSync(quotes).filter((file) => /^ak-.*\.tpm2b$/.test(file))) {
    const key = attestationKey(publicArea(name));
    if (key.key.export({ type: 'spki', format: 'pem' }) === vector.akPem) return key;
  }
  const { n } = createPublicKey(vector.akPem).export({ format: 'jwk' });
  const template = publicArea('ak-rsa.pub.tpm2b');
  return attestationKey({ ...template, unique: Buffer.from(n ?? '', 'base64url') } as TPMT_PUBLIC);
}

function fixture(name: string): { evidence: QuoteEvidence; expected: QuoteExpectation } {
  const vector = JSON.parse(read(`${name}.json`).toString()) as Vector;
  const pcrs: StatedPcrs = {};
  for (const [bank, values] of Object.entries(vector.pcrs))
    pcrs[bank as HashName] = new Map(
      Object.entries(values).map(([pcr, value]) => [Number(pcr), new Uint8Array(Buffer.from(value, 'hex'))]),
    );
  return {
    evidence: {
      attest: Buffer.from(vector.attest, 'hex'),
      signature: Buffer.from(vector.signature, 'hex'),
      pcrs,
    },
    expected: {
      key: keyOf(vector),
      // A certify statement has none.
      qualifyingData: vector.nonce === null ? Buffer.of(0) : Buffer.from(vector.nonce, 'hex'),
      pcrs: name.startsWith('cmc') ? [1, 4] : policy,
    },
  };
}

const codes = (evidence: QuoteEvidence, expected: QuoteExpectation) => {
  const check = verifyQuote(evidence, expected);
  return check.ok ? 'accepted' : [...new Set(check.refusals.map(({ code }) => code))];
};

for (const name of ['valid-p256', 'valid-p384', 'valid-rsassa', 'valid-rsapss', 'cmc-valid'])
  test(`${name} is accepted, and states covered values alone`, () => {
    const { evidence, expected } = fixture(name);
    const check = verifyQuote(evidence, expected);
    assert.ok(check.ok);
    if (!check.ok) return;
    assert.is(check.quote.bank, 'sha256');
    assert.equal([...check.quote.pcrs.keys()], expected.pcrs);
    assert.is(check.quote.notCovered.length, name === 'cmc-valid' ? 0 : 16);
  });

test('clock, reset and restart counts, safe and firmware version are facts', () => {
  const { evidence, expected } = fixture('valid-p256');
  const check = verifyQuote(evidence, expected);
  assert.ok(check.ok);
  if (!check.ok) return;
  const { clock, resetCount, restartCount, safe, firmwareVersion } = check.quote;
  assert.equal(
    [clock, resetCount, restartCount, safe, firmwareVersion],
    [1826n, 1, 0, true, 0x2019102300163636n],
  );
});

const refused: [string, string][] = [
  ['other-nonce', 'evidence.quote.nonce'],
  ['fewer-pcrs', 'evidence.quote.selection'],
  ['certify', 'evidence.quote.type'],
  ['sha1-only-bank', 'evidence.quote.bank'],
  ['cmc-invalid-signature', 'evidence.quote.signature'],
];
for (const [name, code] of refused)
  test(`${name} is refused for ${code} alone`, () => {
    const { evidence, expected } = fixture(name);
    assert.equal(codes(evidence, expected), [code]);
  });

test('[N02] each PCR that the policy needs and the quote does not cover is named', () => {
  const { evidence, expected } = fixture('fewer-pcrs');
  const check = verifyQuote(evidence, expected);
  assert.equal(check.ok ? [] : check.refusals.map(({ pcr }) => pcr), [1, 2, 3, 4, 5, 6, 7]);
});

for (const boot of readdirSync(ovmf).filter((name) => name.startsWith('deb2022')))
  test(`quotes of the machine ovmf/${boot}`, () => {
    const base = new URL(`${boot}/`, ovmf);
    const key = attestationKey(publicArea('ak.tpm2b_public', base));
    const pcrs: StatedPcrs = {};
    for (const bank of ['sha1', 'sha256', 'sha384'] as const)
      pcrs[bank] = new Map(
        read(`pcrs.${bank}.txt`, base)
          .toString()
          .trim()
          .split('\n')
          .map((line) => line.split(' ') as [string, string])
          .map(([pcr, value]) => [Number(pcr), new Uint8Array(Buffer.from(value, 'hex'))]),
      );
    const qualifyingData = Buffer.from(read('nonce.hex', base).toString().trim(), 'hex');
    for (const [quote, banks] of [
      ['sha256', undefined],
      ['mixed', undefined],
      ['mixed', ['sha384']],
    ] as const) {
      const evidence = {
        attest: read(`quote.${quote}.msg`, base),
        signature: read(`quote.${quote}.sig`, base),
        pcrs,
      };
      const wanted = quote === 'mixed' && !banks ? [0, 7] : [0, 1, 4, 7];
      const check = verifyQuote(evidence, { key, qualifyingData, pcrs: wanted, ...(banks ? { banks } : {}) });
      assert.ok(check.ok, JSON.stringify(check.ok ? '' : check.refusals));
      if (check.ok) assert.is(check.quote.bank, banks ? 'sha384' : 'sha256');
    }
  });

// Quotes made here, with a key of ours that claims to be in a TPM: they can be anything but forged.

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = pair.publicKey.export({ format: 'jwk' });
const template = publicArea('ak-p256.pub.tpm2b');
const coordinate = (value: string | undefined) => Buffer.from(value ?? '', 'base64url');
const ourArea = { ...template, unique: { x: coordinate(jwk.x), y: coordinate(jwk.y) } } as TPMT_PUBLIC;
const ourKey = attestationKey(ourArea);
const nonce = createHash('sha256').update('nonce').digest();
const value = (bank: HashName, pcr: number) => new Uint8Array(digestSize(bank)).fill(pcr + 1);
const stated = (bank: HashName, pcrs: readonly number[]) =>
  new Map(pcrs.map((pcr) => [pcr, value(bank, pcr)]));

interface Made {
  selections: TPML_PCR_SELECTION;
  pcrs: StatedPcrs;
  digest?: Uint8Array;
  extraData?: Uint8Array;
  signatureHash?: HashName;
  change?: (attest: Buffer) => void;
}

const usual: Made = {
  selections: [pcrSelection('sha256', policy)],
  pcrs: { sha256: stated('sha256', policy) },
};

function made(changes: Partial<Made> = {}): QuoteEvidence {
  const { selections, pcrs, digest, extraData, signatureHash = 'sha256', change } = { ...usual, ...changes };
  const attest = Buffer.from(
    encode(TPMS_ATTEST, {
      ...(decode(TPMS_ATTEST, fixture('valid-p256').evidence.attest) as Extract<
        TPMS_ATTEST,
        { type: 0x8018 }
      >),
      extraData: extraData ?? nonce,
      attested: {
        pcrSelect: selections,
        pcrDigest: digest ?? pcrDigest(hash, signatureHash, selections, pcrs),
      },
    }),
  );
  change?.(attest);
  const raw = sign(signatureHash, attest, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' });
  const signature = encode(TPMT_SIGNATURE, {
    sigAlg: TPM_ALG.ECDSA,
    signature: {
      hash: hashId(signatureHash),
      signatureR: raw.subarray(0, 32),
      signatureS: raw.subarray(32),
    },
  } as TPMT_SIGNATURE);
  return { attest, signature, pcrs };
}

const expected: QuoteExpectation = { key: ourKey, qualifyingData: nonce, pcrs: policy };

test('a quote made here is accepted before it is spoilt', () => {
  assert.is(codes(made(), expected), 'accepted');
});

test('[N01, N02, N09] selections that a policy may not take', () => {
  const sha256 = pcrSelection('sha256', policy);
  const empty = { selections: [], pcrs: {}, digest: createHash('sha256').digest() };
  assert.equal(codes(made(empty), expected), ['evidence.quote.bank']);
  const nothing = {
    selections: [{ ...sha256, pcrSelect: new Uint8Array(3) }],
    digest: createHash('sha256').digest(),
  };
  assert.equal(codes(made(nothing), expected), ['evidence.quote.selection']);
  assert.equal(codes(made({ selections: [sha256, sha256] }), expected), ['evidence.quote.bank']);
  const split = [pcrSelection('sha256', [0, 1, 2, 3]), pcrSelection('sha256', [4, 5, 6, 7])];
  assert.equal(codes(made({ selections: split }), expected), ['evidence.quote.bank']);
  const beyond = [{ ...sha256, pcrSelect: Uint8Array.of(0xff, 0, 0, 1) }];
  const pcrs = { sha256: stated('sha256', [...policy, 24]) };
  assert.equal(codes(made({ selections: beyond, pcrs }), expected), ['evidence.quote.selection']);
});

test('[N02] PCRs that were relabelled: the signed selection counts, not what is sent beside it', () => {
  const selections = [pcrSelection('sha256', [16, 23])];
  const digest = pcrDigest(hash, 'sha256', [pcrSelection('sha256', [0, 7])], usual.pcrs);
  assert.equal(codes(made({ selections, digest }), { ...expected, pcrs: [0, 7] }), [
    'evidence.quote.selection',
    'evidence.quote.digest',
  ]);
});

test('two banks: one of them covers the whole policy, or none does', () => {
  const selections = [pcrSelection('sha384', policy), pcrSelection('sha256', [0, 7])];
  const pcrs = { sha384: stated('sha384', policy), sha256: stated('sha256', policy) };
  const check = verifyQuote(made({ selections, pcrs }), expected);
  assert.ok(check.ok && check.quote.bank === 'sha384');
  const halves = [pcrSelection('sha384', [0, 1, 2, 3]), pcrSelection('sha256', [4, 5, 6, 7])];
  assert.equal(codes(made({ selections: halves, pcrs }), expected), ['evidence.quote.selection']);
});

test('[N06] a strong bank beside SHA-1 is taken, a bank the policy does not take is not', () => {
  const selections = [pcrSelection('sha1', policy), pcrSelection('sha256', policy)];
  const pcrs = { sha1: stated('sha1', policy), sha256: stated('sha256', policy) };
  assert.is(codes(made({ selections, pcrs }), expected), 'accepted');
  assert.equal(codes(made({ selections, pcrs }), { ...expected, banks: ['sha512'] }), [
    'evidence.quote.bank',
  ]);
});

test('values that are not the signed ones, of another size, or missing', () => {
  const other = new Map(stated('sha256', policy)).set(4, new Uint8Array(32));
  assert.equal(codes({ ...made(), pcrs: { sha256: other } }, expected), ['evidence.quote.digest']);
  const short = new Map(stated('sha256', policy)).set(4, new Uint8Array(31));
  assert.equal(codes({ ...made(), pcrs: { sha256: short } }, expected), ['evidence.quote.digest']);
  assert.equal(codes({ ...made(), pcrs: {} }, expected), ['evidence.quote.digest']);
});

test('[N11] another nonce, a longer one, none', () => {
  for (const extraData of [
    Buffer.alloc(32),
    Buffer.concat([nonce, Buffer.of(0)]),
    nonce.subarray(0, 31),
    new Uint8Array(),
  ])
    assert.equal(codes(made({ extraData }), expected), ['evidence.quote.nonce']);
});

test('[N04, N05] another magic, another type', () => {
  assert.equal(codes(made({ change: (attest) => attest.writeUInt32BE(0xff544348, 0) }), expected), [
    'evidence.quote.magic',
  ]);
  for (const type of [0x8014, 0x8015, 0x8016, 0x8017, 0x8019, 0x801a, 0x801c, 0x0000])
    assert.equal(codes(made({ change: (attest) => attest.writeUInt16BE(type, 4) }), expected), [
      'evidence.quote.type',
    ]);
});

test('[N08, N09] no quote, bytes too many, bytes too few', () => {
  const { attest, signature, pcrs } = made();
  assert.equal(codes({ attest: new Uint8Array(), signature, pcrs }, expected), ['evidence.quote.absent']);
  assert.equal(codes({ attest: Buffer.concat([attest, Buffer.of(0)]), signature, pcrs }, expected), [
    'evidence.quote.malformed',
  ]);
  assert.equal(codes({ attest, signature: Buffer.concat([signature, Buffer.of(0)]), pcrs }, expected), [
    'evidence.quote.malformed',
  ]);
  assert.equal(codes({ attest, signature: new Uint8Array(), pcrs }, expected), ['evidence.quote.malformed']);
  for (let length = 6; length < attest.length; length++)
    assert.equal(codes({ attest: attest.subarray(0, length), signature, pcrs }, expected), [
      'evidence.quote.malformed',
    ]);
});

test('[N03] any bit of the quote or of the signature flipped is refused', () => {
  const good = made();
  const flip = (bytes: Uint8Array, bit: number) => {
    const copy = Buffer.from(bytes);
    copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
    return copy;
  };
  const settings = { seed: 20261123, numRuns: 300 };
  fc.assert(
    fc.property(
      fc.nat(good.attest.length * 8 - 1),
      (bit) => codes({ ...good, attest: flip(good.attest, bit) }, expected) !== 'accepted',
    ),
    settings,
  );
  fc.assert(
    fc.property(
      fc.nat(good.signature.length * 8 - 1),
      (bit) => codes({ ...good, signature: flip(good.signature, bit) }, expected) !== 'accepted',
    ),
    settings,
  );
});

test('[N03] signatures that are none: zeros, too wide, of another quote, by another key, in DER', () => {
  const { attest, signature, pcrs } = made();
  const ecdsa = (signatureR: Uint8Array, signatureS: Uint8Array) =>
    encode(TPMT_SIGNATURE, {
      sigAlg: TPM_ALG.ECDSA,
      signature: { hash: TPM_ALG.SHA256, signatureR, signatureS },
    } as TPMT_SIGNATURE);
  const zero = new Uint8Array(32);
  const ones = new Uint8Array(32).fill(0xff);
  for (const wrong of [
    ecdsa(zero, zero),
    ecdsa(new Uint8Array(), new Uint8Array()),
    ecdsa(ones, ones),
    ecdsa(new Uint8Array(66).fill(1), zero),
    made({ extraData: Buffer.of(1) }).signature,
    fixture('valid-p256').evidence.signature,
    ecdsa(sign('sha256', attest, pair.privateKey), new Uint8Array(1)),
  ])
    assert.equal(codes({ attest, signature: wrong, pcrs }, expected), ['evidence.quote.signature']);
  assert.equal(codes({ attest, signature, pcrs }, { ...expected, key: fixture('valid-p256').expected.key }), [
    'evidence.quote.signature',
  ]);
});

test('a coordinate of the signature without its leading zeros is the same number', () => {
  for (;;) {
    const evidence = made();
    const parsed = decode(TPMT_SIGNATURE, evidence.signature) as Extract<TPMT_SIGNATURE, { sigAlg: 0x0018 }>;
    const { signatureR } = parsed.signature;
    if (signatureR[0] !== 0) continue;
    const shorter = { ...parsed, signature: { ...parsed.signature, signatureR: signatureR.subarray(1) } };
    assert.is(codes({ ...evidence, signature: encode(TPMT_SIGNATURE, shorter) }, expected), 'accepted');
    return;
  }
});

test("[N03] an algorithm that is not the key's, SHA-1, no signature at all", () => {
  const { attest, pcrs } = made();
  const rsa = fixture('valid-rsassa').evidence.signature;
  assert.equal(codes({ attest, signature: rsa, pcrs }, expected), ['evidence.quote.algorithm']);
  const none = encode(TPMT_SIGNATURE, { sigAlg: TPM_ALG.NULL } as TPMT_SIGNATURE);
  assert.equal(codes({ attest, signature: none, pcrs }, expected), ['evidence.quote.algorithm']);
  assert.equal(codes(made({ signatureHash: 'sha1' }), expected), ['evidence.quote.algorithm']);
  const pss = fixture('valid-rsapss');
  const { key } = fixture('valid-rsassa').expected;
  assert.equal(codes(pss.evidence, { ...pss.expected, key }), ['evidence.quote.algorithm']);
});

test('[N44] only a restricted signing key of a TPM makes quotes', () => {
  const attributes = template.objectAttributes;
  for (const change of [
    { restricted: false },
    { sign: false },
    { decrypt: true },
    { fixedTPM: false },
    { fixedParent: false },
    { sensitiveDataOrigin: false },
  ])
    assert.throws(
      () => attestationKey({ ...ourArea, objectAttributes: { ...attributes, ...change } }),
      /restricted signing key/,
    );
  assert.throws(() => attestationKey(publicArea('unr.pub.tpm2b')), /restricted signing key/);
  const large = generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey.export({ format: 'jwk' });
  const p521 = {
    ...ourArea,
    parameters: { ...ourArea.parameters, curveID: TPM_ECC_CURVE.NIST_P521 },
    unique: { x: coordinate(large.x), y: coordinate(large.y) },
  } as TPMT_PUBLIC;
  assert.throws(() => attestationKey(p521), /secp521r1 is not supported/);
  const rsa = publicArea('ak-rsa.pub.tpm2b');
  const { n } = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
  assert.throws(
    () => attestationKey({ ...rsa, unique: coordinate(n) } as TPMT_PUBLIC),
    /1024 bits is too short/,
  );
});

test('a name of SHA-1 and a small exponent make no attestation key', () => {
  const sha1 = { ...ourArea, nameAlg: hashId('sha1') } as TPMT_PUBLIC;
  assert.throws(() => attestationKey(sha1), /hash that is too weak/);
  const rsa = publicArea('ak-rsa.pub.tpm2b') as Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA }>;
  const small = { ...rsa, parameters: { ...rsa.parameters, exponent: 3 } } as TPMT_PUBLIC;
  assert.throws(() => attestationKey(small), /exponent of 3/);
});

test('a key without its public area: the kinds and sizes that quotes are believed with, and no other', () => {
  const evidence = made();
  assert.is(codes(evidence, { ...expected, key: bareKey(pair.publicKey) }), 'accepted');
  for (const other of [
    generateKeyPairSync('ec', { namedCurve: 'P-521' }),
    generateKeyPairSync('ed25519'),
    generateKeyPairSync('rsa', { modulusLength: 1024 }),
  ])
    assert.throws(() => bareKey(other.publicKey), /not supported|signs no quotes|too short/);
});

test('an expectation that would let anything pass is a mistake of the caller', () => {
  assert.throws(
    () => verifyQuote(made(), { ...expected, qualifyingData: new Uint8Array() }),
    TypeErrorLike(/qualifying data/),
  );
  assert.throws(() => verifyQuote(made(), { ...expected, pcrs: [] }), TypeErrorLike(/needs PCRs/));
  assert.throws(() => verifyQuote(made(), { ...expected, banks: ['sha1'] }), TypeErrorLike(/SHA-1/));
});

test('one weak bank among strong ones is a mistake of the caller, too', () => {
  assert.throws(
    () => verifyQuote(made(), { ...expected, banks: ['sha256', 'sha1'] }),
    TypeErrorLike(/SHA-1/),
  );
});

test('covered values are those of the signed selection alone, in every bank of it', () => {
  const pcrs: StatedPcrs = {
    sha256: stated('sha256', [...policy, 8, 9]),
    sha384: stated('sha384', [0, 1, 2]),
  };
  const both = [pcrSelection('sha256', policy), pcrSelection('sha384', [1])];
  const check = verifyQuote(made({ selections: both, pcrs }), expected);
  assert.ok(check.ok);
  if (!check.ok) return;
  assert.equal([...(check.quote.covered.sha256?.keys() ?? [])], policy);
  assert.equal([...(check.quote.covered.sha384?.keys() ?? [])], [1]);
  assert.equal(check.quote.notCovered, [8, 9]);
  // A bank of which nothing is selected, and nothing sent.
  const empty = verifyQuote(
    made({ selections: [pcrSelection('sha256', policy), pcrSelection('sha384', [])] }),
    expected,
  );
  assert.ok(empty.ok && empty.quote.covered.sha384?.size === 0);
});

test('what was seen and what is allowed is said, where there is something to say', () => {
  const refusal = (evidence: QuoteEvidence, wanted = expected) => {
    const check = verifyQuote(evidence, wanted);
    return check.ok ? undefined : check.refusals[0];
  };
  const { attest, signature, pcrs } = made();
  const change = (at: number) => {
    const other = Buffer.from(attest);
    other[at] = (other[at] as number) ^ 1;
    return refusal({ attest: other, signature, pcrs });
  };
  assert.equal([change(0)?.seen, change(0)?.allowed], ['0xfe544347', '0xff544347']);
  assert.equal([change(5)?.seen, change(5)?.allowed], ['0x8019', '0x8018']);
  const absent = refusal({ attest: new Uint8Array(), signature, pcrs });
  assert.equal(Object.keys(absent ?? {}), ['code', 'text']);
  const { signature: rsa } = fixture('valid-rsassa').evidence;
  assert.is(refusal({ attest, signature: rsa, pcrs })?.seen, '0x0014 with sha256');
  const none = encode(TPMT_SIGNATURE, { sigAlg: TPM_ALG.NULL } as TPMT_SIGNATURE);
  assert.is(refusal({ attest, signature: none, pcrs })?.seen, '0x0010');
});

test('a quote that covers no bank of the policy is told with the banks that it does cover', () => {
  const banksOf = (selections: TPML_PCR_SELECTION) => {
    const { attest, signature, pcrs } = made({ selections, digest: createHash('sha256').digest() });
    const check = verifyQuote({ attest, signature, pcrs }, expected);
    return check.ok ? undefined : check.refusals.find(({ code }) => code === 'evidence.quote.bank');
  };
  const sm3 = { ...pcrSelection('sha256', policy), hash: TPM_ALG.SM3_256 };
  const several = banksOf([pcrSelection('sha1', policy), sm3]);
  assert.equal([several?.seen, several?.allowed], ['sha1, 0x0012', 'sha256, sha384, sha512']);
  assert.is(banksOf([])?.seen, 'none');
});

test('a key without a scheme takes those of its kind, and no others', () => {
  const { attest, pcrs } = made();
  const bare = { ...expected, key: bareKey(pair.publicKey) };
  const { signature: rsa } = fixture('valid-rsassa').evidence;
  assert.equal(codes({ attest, signature: rsa, pcrs }, bare), ['evidence.quote.algorithm']);
  const area = publicArea('ak-rsa.pub.tpm2b') as Extract<TPMT_PUBLIC, { type: typeof TPM_ALG.RSA }>;
  const free = {
    ...area,
    parameters: { ...area.parameters, scheme: { scheme: TPM_ALG.NULL } },
  } as TPMT_PUBLIC;
  assert.is(attestationKey(free).scheme, null);
  assert.is(attestationKey(area).scheme, TPM_ALG.RSASSA);
});

test('an error that is not of the format is ours, and passes through', () => {
  const { attest, pcrs } = made();
  const signature = undefined as unknown as Uint8Array;
  assert.throws(() => verifyQuote({ attest, signature, pcrs }, expected), TypeErrorLike(/./));
});

function TypeErrorLike(message: RegExp) {
  return (error: unknown) => error instanceof TypeError && message.test(error.message);
}

test.run();
