// Certificates of endorsement keys: true ones, and each spoiled in one thing.
import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type EkJudgement, judgeEkCertificate } from '../../../controller/enrol/certificates.ts';
import { EkRoots, type VendorCertificates } from '../../../controller/enrol/ek-roots.ts';
import { decode } from '../../../formats/tpm2/codec.ts';
import { TPM2B_PUBLIC, type TPMT_PUBLIC } from '../../../formats/tpm2/structures.ts';
import { endorsementKey } from '../../../formats/tpm2/templates.ts';
import { certificatesIn } from '../../../formats/x509/parse.ts';
import {
  alternativeName,
  authority,
  constraints,
  ekCertificate,
  type Recipe,
  type Signer,
  sequence,
  usage,
} from '../../kit/ek-certificates.ts';

const now = Date.UTC(2026, 5, 1);
const day = 24 * 3600 * 1000;
const year = 365 * day;

const folders: string[] = [];
test.after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function folderOf(...certificates: Uint8Array[]): VendorCertificates {
  const folder = mkdtempSync(join(tmpdir(), 'eve-roots-'));
  folders.push(folder);
  const roots = new EkRoots(folder);
  for (const certificate of certificates) roots.add(certificate);
  return roots.read();
}

function fixture(name: string): Uint8Array {
  return readFileSync(join(import.meta.dirname, '../../fixtures/endorsement', name));
}

/** A key pair that stands for an endorsement key; its private half is of no use here. */
function eccEk(): { spki: Uint8Array; area: TPMT_PUBLIC } {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const unique = { x: Buffer.from(x, 'base64url'), y: Buffer.from(y, 'base64url') };
  return { spki: spkiOf(publicKey), area: { ...endorsementKey['L-2'], unique } };
}

function rsaEk(): { spki: Uint8Array; area: TPMT_PUBLIC } {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const { n = '' } = publicKey.export({ format: 'jwk' });
  return {
    spki: spkiOf(publicKey),
    area: { ...endorsementKey['L-1'], unique: Buffer.from(n, 'base64url') },
  };
}

function spkiOf(key: KeyObject): Uint8Array {
  return Uint8Array.from(key.export({ type: 'spki', format: 'der' }));
}

function said(judged: EkJudgement): string {
  if (judged.trust === 'refused') return `refused ${judged.why.code}`;
  if (judged.trust === 'first-use') return 'first-use';
  const { why } = judged.certificate;
  return why ? `${judged.trust} ${why.code}` : judged.trust;
}

const root = authority('Root', { now });
const issuer = authority('EK CA', { now, by: root });
const known = folderOf(root.certificate, issuer.certificate);
const ek = eccEk();
const good = ekCertificate(issuer, ek.spki, now);

test('a chain to a root in the folder: what the certificate says, and who stands behind it', () => {
  const judged = judgeEkCertificate([good], ek.area, known);
  assert.is(said(judged), 'vendor');
  if (judged.trust !== 'vendor') return;
  const { vendor, model, version, chain, issuer: by, notAfter, sent } = judged.certificate;
  assert.equal([vendor, model, version], ['Nuvoton', 'NPCT75x', '00070002']);
  assert.is(by, 'O=Test vendor, CN=EK CA');
  assert.equal(chain, ['O=Test vendor, CN=EK CA', 'O=Test vendor, CN=Root']);
  assert.is(notAfter, now + 3650 * day);
  assert.equal(sent, [Buffer.from(good).toString('base64')]);
});

test('[N45] no certificate is no vendor’s word', () => {
  assert.is(said(judgeEkCertificate([], ek.area, known)), 'first-use');
});

test('real ones: swtpm’s, from the NV of its TPM, RSA and P-384', () => {
  const vendor = folderOf(fixture('issuercert.pem'), fixture('swtpm-localca-rootca-cert.pem'));
  const rsa = decode(TPM2B_PUBLIC, fixture('ek-rsa.tpm2b_public'));
  const judged = judgeEkCertificate([fixture('ekcert-rsa.der')], rsa, vendor);
  assert.is(said(judged), 'vendor');
  if (judged.trust === 'vendor') {
    assert.is(judged.certificate.vendor, 'IBM (software TPM)');
    assert.is(judged.certificate.serial, '02');
    assert.equal(judged.certificate.chain, ['CN=swtpm-localca', 'CN=swtpm-localca-rootca']);
  }
  assert.is(
    said(judgeEkCertificate([fixture('ekcert-ecc384.der')], rsa, vendor)),
    'refused enrol.ek-other-key',
  );
  // The root alone: the link to it is missing, and is named.
  const half = judgeEkCertificate(
    [fixture('ekcert-rsa.der')],
    rsa,
    folderOf(fixture('swtpm-localca-rootca-cert.pem')),
  );
  assert.is(said(half), 'unknown-vendor enrol.ek-unknown-issuer');
  assert.match(
    half.trust === 'unknown-vendor' ? (half.certificate.why?.text ?? '') : '',
    'CN=swtpm-localca”',
  );
  // The link alone: the root is missing.
  const other = judgeEkCertificate([fixture('ekcert-rsa.der')], rsa, folderOf(fixture('issuercert.pem')));
  assert.match(
    other.trust === 'unknown-vendor' ? (other.certificate.why?.text ?? '') : '',
    'CN=swtpm-localca-rootca”',
  );
  // The link from the device, the root from the operator.
  const [link = new Uint8Array()] = certificatesIn(fixture('issuercert.pem'), 1);
  const sent = judgeEkCertificate(
    [fixture('ekcert-rsa.der'), link],
    rsa,
    folderOf(fixture('swtpm-localca-rootca-cert.pem')),
  );
  assert.is(said(sent), 'vendor');
  assert.is(sent.trust === 'vendor' ? sent.certificate.sent.length : 0, 2);
});

interface Vector {
  what: string;
  expected: string;
  /** Of the key's own certificate. */
  spoil?: (recipe: Recipe) => Recipe;
  by?: Signer;
  /** After it was signed. */
  bytes?: (certificate: Uint8Array) => Uint8Array;
  /** What the device sends beside it. */
  beside?: Uint8Array[];
  roots?: VendorCertificates;
  key?: { spki: Uint8Array; area: TPMT_PUBLIC };
  certified?: Uint8Array;
}

function without(...ids: string[]) {
  return (recipe: Recipe): Recipe => ({
    ...recipe,
    extensions: recipe.extensions.filter(({ id }) => !ids.includes(id)),
  });
}

function instead(extension: Recipe['extensions'][number]) {
  return (recipe: Recipe): Recipe => ({
    ...recipe,
    extensions: [...recipe.extensions.filter(({ id }) => id !== extension.id), extension],
  });
}

const stranger = authority('EK CA', { now, by: authority('Other root', { now }) });
/** The name of our issuer and none of its identifiers: the certificate claims to be of ours. */
const impostor: Signer = { ...issuer, key: stranger.key };
const noAuthority = authority('EK CA', { now, by: root, authority: false });
const noSigner = authority('EK CA', { now, by: root, keyUsage: [0] });
const shortPath = authority('Root', { now, pathLength: 0 });
const belowShort = authority('EK CA', { now, by: shortPath });
const ended = authority('EK CA', { now, by: root, notBefore: now - 10 * year, notAfter: now - 2 * year });
const endedSince = authority('EK CA', { now, by: root, notBefore: now - 5 * year, notAfter: now - day });
const tomorrow = authority('EK CA', { now, by: root, notBefore: now, notAfter: now + year });
const rsaRoot = authority('RSA root', { now, rsa: true });
const nameless = authority('EK CA', { now, by: root, anonymous: true });
const nuvoton = authority('Nuvoton-like', { now, unsortedNames: true });
const oldStyle = rsaEk();
const oaep = Uint8Array.from(oldStyle.spki);
oaep[Buffer.from(oaep).indexOf(Buffer.from('2a864886f70d010101', 'hex')) + 8] = 7;

function ladder(length: number): { signer: Signer; certificates: Uint8Array[]; root: Uint8Array } {
  const top = authority('Top', { now });
  const certificates: Uint8Array[] = [];
  let signer = top;
  for (let at = 0; at < length; at++) {
    signer = authority(`Link ${at}`, { now, by: signer });
    certificates.push(signer.certificate);
  }
  return { signer, certificates, root: top.certificate };
}
const six = ladder(6);
const seven = ladder(7);

const vectors: Vector[] = [
  // Refused: it contradicts the key, or itself.
  { what: '[N40] of another key', expected: 'refused enrol.ek-other-key', certified: eccEk().spki },
  { what: '[N40] of a key of another kind', expected: 'refused enrol.ek-other-key', certified: rsaEk().spki },
  {
    what: 'one bit of the signature',
    expected: 'refused enrol.ek-signature',
    bytes: (bytes) => bytes.with(bytes.length - 3, (bytes.at(-3) ?? 0) ^ 1),
  },
  {
    what: 'one bit of what is signed',
    expected: 'refused enrol.ek-signature',
    bytes: (bytes) => {
      const at = Buffer.from(bytes).indexOf('NPCT75x');
      return bytes.with(at, (bytes[at] ?? 0) ^ 1);
    },
  },
  {
    what: '[N45] signed by an impostor of the issuer',
    expected: 'refused enrol.ek-signature',
    by: impostor,
  },
  {
    what: 'an issuer that is no authority, sent by the device',
    expected: 'refused enrol.ek-issuer',
    by: noAuthority,
    beside: [noAuthority.certificate],
    roots: folderOf(root.certificate),
  },
  {
    what: 'an issuer whose key may not sign certificates',
    expected: 'refused enrol.ek-issuer',
    by: noSigner,
    roots: folderOf(root.certificate, noSigner.certificate),
  },
  {
    what: 'a root that allows no authority below it',
    expected: 'refused enrol.ek-issuer',
    by: belowShort,
    roots: folderOf(shortPath.certificate, belowShort.certificate),
  },
  {
    what: '[N45] an authority that had ended when it signed',
    expected: 'refused enrol.ek-issuer',
    by: ended,
    roots: folderOf(root.certificate, ended.certificate),
  },
  {
    what: 'an authority that was not valid yet when it signed',
    expected: 'refused enrol.ek-issuer',
    by: tomorrow,
    roots: folderOf(root.certificate, tomorrow.certificate),
  },
  { what: '[N34] an empty list of uses', expected: 'refused enrol.ek-usage', spoil: instead(usage([])) },
  {
    what: 'another use: a server',
    expected: 'refused enrol.ek-usage',
    spoil: instead(usage(['1.3.6.1.5.5.7.3.1'])),
  },
  {
    what: 'the certificate of an authority',
    expected: 'refused enrol.ek-usage',
    spoil: instead({ id: '2.5.29.19', critical: true, value: constraints(true) }),
  },
  {
    what: 'a critical extension that nobody knows',
    expected: 'refused enrol.ek-usage',
    spoil: instead({ id: '1.2.3.4', critical: true, value: sequence() }),
  },
  {
    what: '[N34] an alternative name of a hundred parts',
    expected: 'refused enrol.ek-unreadable',
    spoil: instead(alternativeName(Array.from({ length: 100 }, (_, at) => ['2.23.133.2.1', `id:${at}`]))),
  },
  {
    what: '[N34] an alternative name of 20 kB',
    expected: 'refused enrol.ek-unreadable',
    spoil: instead(alternativeName([['2.23.133.2.1', 'x'.repeat(20_000)]])),
  },
  {
    what: '[N34] cut short',
    expected: 'refused enrol.ek-unreadable',
    bytes: (bytes) => bytes.subarray(0, bytes.length - 1),
  },
  {
    what: '[N34] lengths that lead nowhere',
    expected: 'refused enrol.ek-unreadable',
    bytes: (bytes) => bytes.with(6, 0xff).with(7, 0xff),
  },
  {
    what: '[N34] no ASN.1 at all',
    expected: 'refused enrol.ek-unreadable',
    bytes: () => Buffer.alloc(500, 0x30),
  },
  {
    what: '[N34] nested ten thousand times',
    expected: 'refused enrol.ek-unreadable',
    bytes: () => Buffer.concat(Array.from({ length: 2000 }, () => Buffer.of(0x30, 0x80))),
  },
  {
    what: 'garbage beside it',
    expected: 'refused enrol.ek-unreadable',
    beside: [new Uint8Array(100)],
  },
  {
    what: 'more certificates than a chain has',
    expected: 'refused enrol.ek-unreadable',
    beside: Array.from({ length: 8 }, () => issuer.certificate),
  },
  {
    what: 'a chain of nine',
    expected: 'refused enrol.ek-issuer',
    by: seven.signer,
    roots: folderOf(seven.root, ...seven.certificates),
  },

  // Nothing is wrong, and nobody vouches for it.
  { what: '[N45] an unknown authority', expected: 'unknown-vendor enrol.ek-unknown-issuer', by: stranger },
  {
    what: '[N45] an unknown authority that comes along, root and all',
    expected: 'unknown-vendor enrol.ek-unknown-issuer',
    by: rsaRoot,
    beside: [rsaRoot.certificate],
  },
  {
    what: '[N45] no roots at all',
    expected: 'unknown-vendor enrol.ek-unknown-issuer',
    roots: folderOf(),
  },
  { what: 'no list of uses', expected: 'unknown-vendor enrol.ek-usage', spoil: without('2.5.29.37') },

  // As they are in the field.
  {
    what: 'padded as NV is',
    expected: 'vendor',
    bytes: (bytes) => Buffer.concat([bytes, Buffer.alloc(700, 0xff)]),
  },
  {
    what: '[N45] sets unsorted and defaults written out, as Nuvoton does',
    expected: 'vendor',
    by: nuvoton,
    roots: folderOf(nuvoton.certificate),
    spoil: (recipe) => ({
      ...recipe,
      unsortedNames: true,
      issuer: [...recipe.issuer].reverse(),
      extensions: recipe.extensions.map((one) => ({ ...one, critical: one.critical ?? false })),
    }),
  },
  {
    what: 'an issuer’s name in other letters',
    expected: 'vendor',
    spoil: (recipe) => ({
      ...recipe,
      issuer: recipe.issuer.map(([id, value]) => [id, value.toUpperCase().replace(' ', '  ')]),
    }),
  },
  { what: 'run out', expected: 'vendor', spoil: (recipe) => ({ ...recipe, notAfter: now - day }) },
  {
    what: 'an authority that ended after it signed',
    expected: 'vendor',
    by: endedSince,
    roots: folderOf(root.certificate, endedSince.certificate),
  },
  { what: 'a key that is named for RSAES-OAEP', expected: 'vendor', key: oldStyle, certified: oaep },
  { what: 'a root with an RSA key', expected: 'vendor', by: rsaRoot, roots: folderOf(rsaRoot.certificate) },
  {
    what: 'no key identifiers anywhere',
    expected: 'vendor',
    by: nameless,
    spoil: without('2.5.29.35'),
    roots: folderOf(root.certificate, nameless.certificate),
  },
  {
    what: 'another authority of the same name in the folder',
    expected: 'vendor',
    roots: folderOf(stranger.certificate, root.certificate, issuer.certificate),
  },
  { what: 'no alternative name', expected: 'vendor', spoil: without('2.5.29.17') },
  {
    what: 'a serial number of 20 bytes',
    expected: 'vendor',
    spoil: (one) => ({ ...one, serial: Buffer.alloc(20, 0x7f) }),
  },
  {
    what: 'a chain of eight, from the device',
    expected: 'vendor',
    by: six.signer,
    beside: [...six.certificates].reverse(),
    roots: folderOf(six.root),
  },
];

for (const {
  what,
  expected,
  spoil,
  by = issuer,
  bytes,
  beside = [],
  roots = known,
  key = ek,
  certified,
} of vectors)
  test(`${what}: ${expected}`, () => {
    const made = ekCertificate(by, certified ?? key.spki, now, spoil);
    assert.is(said(judgeEkCertificate([bytes?.(made) ?? made, ...beside], key.area, roots)), expected);
  });

test('[N45] a certificate of another purpose, under its own authority and under a wrong one', () => {
  // Of an attestation key, from another project: its chain holds, and it says nothing of an endorsement key.
  const quotes = (name: string) => readFileSync(join(import.meta.dirname, '../../fixtures/quotes', name));
  const [certificate = new Uint8Array()] = certificatesIn(quotes('cmc-ak-cert.pem'), 1);
  const { n = '' } = new X509Certificate(certificate).publicKey.export({ format: 'jwk' });
  const area = { ...endorsementKey['L-1'], unique: Buffer.from(n, 'base64url') };
  const under = (name: string) => said(judgeEkCertificate([certificate], area, folderOf(quotes(name))));
  assert.is(under('cmc-ca.pem'), 'unknown-vendor enrol.ek-usage');
  assert.is(under('cmc-wrong-ca.pem'), 'unknown-vendor enrol.ek-unknown-issuer');
});

test('no bit of a certificate can be another', () => {
  const accepted: string[] = [];
  for (let at = 0; at < good.length; at++)
    for (let bit = 1; bit < 256; bit <<= 1)
      if (said(judgeEkCertificate([good.with(at, (good[at] ?? 0) ^ bit)], ek.area, known)) === 'vendor')
        accepted.push(`byte ${at}, bit ${bit}`);
  assert.equal(accepted, []);
});

test('authorities that vouch for each other lead nowhere', () => {
  // One key under two names, each issued by the other, again and again.
  const a = authority('A', { now });
  const b: Signer = { ...a, name: authority('B', { now }).name };
  const ring = [0, 1, 2].flatMap(() => [
    authority('A', { now, by: b, of: a }).certificate,
    authority('B', { now, by: a, of: a }).certificate,
  ]);
  const judged = judgeEkCertificate([ekCertificate(a, ek.spki, now), ...ring], ek.area, known);
  assert.is(said(judged), 'unknown-vendor enrol.ek-unknown-issuer');
});

test('[N45] a certificate signed with MD5, by a known authority', () => {
  const md5 = ekCertificate(rsaRoot, ek.spki, now, (recipe) => ({ ...recipe, md5: true }));
  const judged = judgeEkCertificate([md5], ek.area, folderOf(rsaRoot.certificate));
  assert.is(said(judged), 'refused enrol.ek-signature');
});

test('what a device sends is bounded as a whole', () => {
  const large = authority('x'.repeat(200), { now, by: root, padding: 4000 });
  const certificate = ekCertificate(large, ek.spki, now);
  const judged = judgeEkCertificate([certificate, ...Array(4).fill(large.certificate)], ek.area, known);
  assert.is(said(judged), 'refused enrol.ek-unreadable');
  assert.is(said(judgeEkCertificate([certificate, large.certificate], ek.area, known)), 'vendor');
});

test('the text for people is bounded, whatever a certificate is called', () => {
  const long = authority('x'.repeat(250), { now });
  const judged = judgeEkCertificate([ekCertificate(long, ek.spki, now)], ek.area, known);
  assert.is(said(judged), 'unknown-vendor enrol.ek-unknown-issuer');
  if (judged.trust === 'unknown-vendor') assert.ok((judged.certificate.why?.text.length ?? 0) < 300);
});

test.run();
