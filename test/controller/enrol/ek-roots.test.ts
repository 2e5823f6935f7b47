import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EkRoots } from '../../../controller/enrol/ek-roots.ts';
import { EnrolmentRefused } from '../../../controller/enrol/onboarding.ts';
import { pem } from '../../../formats/x509/certificate.ts';
import { authority, ekCertificate } from '../../kit/ek-certificates.ts';

const now = Date.UTC(2026, 5, 1);
const root = authority('Root', { now });
const issuer = authority('EK CA', { now, by: root });
const other = authority('Other', { now });
const pemOf = (...certificates: Uint8Array[]) =>
  Buffer.from(certificates.map((certificate) => pem('CERTIFICATE', certificate)).join('\n# a comment\n'));

const folders = suite<{ folder: string; roots: EkRoots }>('the folder of roots');
folders.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'eve-roots-'));
  context.roots = new EkRoots(join(context.folder, 'ek-roots'));
  context.folder = join(context.folder, 'ek-roots');
});
folders.after.each(({ folder }) => rmSync(join(folder, '..'), { recursive: true }));

function refused(work: () => unknown, code: string, status: number): void {
  try {
    work();
  } catch (error) {
    assert.instance(error, EnrolmentRefused);
    const { code: is, status: with_ } = error as EnrolmentRefused;
    assert.equal([is, with_], [code, status]);
    return;
  }
  assert.unreachable(`not refused: ${code}`);
}

const subjects = (roots: EkRoots) =>
  roots.read().certificates.map(({ certificate }) => certificate.subject.text);

folders('is made, and empty', ({ roots, folder }) => {
  assert.equal(roots.read().certificates, []);
  assert.equal(readdirSync(folder), []);
});

folders('files that an operator puts there count at once: PEM, DER, several in one', ({ roots, folder }) => {
  writeFileSync(join(folder, 'vendor.pem'), pemOf(root.certificate, issuer.certificate));
  writeFileSync(join(folder, 'other.cer'), other.certificate);
  const { certificates, unusable } = roots.read();
  assert.equal(
    certificates.map(({ file, root: isRoot, certificate }) => [file, isRoot, certificate.subject.text]),
    [
      ['other.cer', true, 'O=Test vendor, CN=Other'],
      ['vendor.pem', true, 'O=Test vendor, CN=Root'],
      ['vendor.pem', false, 'O=Test vendor, CN=EK CA'],
    ],
  );
  assert.equal(unusable, []);
  rmSync(join(folder, 'other.cer'));
  assert.is(roots.read().certificates.length, 2);
  assert.is(roots.read(), roots.read(), 'what did not change is not read again');
});

folders('a file of no use is named with the reason, and harms no other', ({ roots, folder }) => {
  const forged = root.certificate.with(root.certificate.length - 3, (root.certificate.at(-3) ?? 0) ^ 1);
  const leaf = ekCertificate(issuer, publicKey(), now);
  const bad: [name: string, bytes: Uint8Array, why: RegExp][] = [
    ['a-text.pem', Buffer.from('hello'), /neither PEM nor DER/],
    ['b-empty.pem', Buffer.alloc(0), /neither PEM nor DER/],
    ['c-cut.der', root.certificate.subarray(0, 100), /are there/],
    [
      'd-base64.pem',
      Buffer.from('-----BEGIN CERTIFICATE-----\nA=A=\n-----END CERTIFICATE-----'),
      /no base64/,
    ],
    ['e-forged.der', forged, /not signed by the key that it names/],
    ['f-leaf.der', leaf, /sign no certificates/],
    ['g-large.pem', Buffer.alloc(5 * 1024 * 1024), /has 5242880 bytes/],
  ];
  for (const [file, bytes] of bad) writeFileSync(join(folder, file), bytes);
  mkdirSync(join(folder, 'h-folder'));
  writeFileSync(join(folder, 'good.pem'), pemOf(root.certificate));
  const { unusable } = roots.read();
  assert.equal(subjects(roots), ['O=Test vendor, CN=Root']);
  assert.equal(
    unusable.map(({ file }) => file),
    [...bad.map(([file]) => file), 'h-folder'],
  );
  for (const [at, [, , why]] of bad.entries()) assert.match(unusable[at]?.why ?? '', why);
});

folders('adds all or none, and each once', ({ roots, folder }) => {
  refused(() => roots.add(pemOf(root.certificate, root.certificate.with(20, 0xff))), 'roots.unusable', 422);
  refused(() => roots.add(Buffer.from('nothing')), 'roots.unusable', 422);
  refused(() => roots.add(ekCertificate(issuer, publicKey(), now)), 'roots.unusable', 422);
  assert.equal(readdirSync(folder), []);
  assert.is(roots.add(pemOf(root.certificate, issuer.certificate)).length, 2);
  assert.is(roots.add(root.certificate).length, 1);
  assert.is(readdirSync(folder).length, 2);
  assert.equal(subjects(new EkRoots(folder)).sort(), ['O=Test vendor, CN=EK CA', 'O=Test vendor, CN=Root']);
});

folders('takes one out of whatever files it is in, and leaves the others there', ({ roots, folder }) => {
  writeFileSync(join(folder, 'all.pem'), pemOf(root.certificate, issuer.certificate));
  writeFileSync(join(folder, 'copy.der'), root.certificate);
  const id = roots.read().certificates.find(({ root: isRoot }) => isRoot)?.id ?? '';
  refused(() => roots.remove('ffffffffffff'), 'roots.unknown', 404);
  refused(() => roots.remove(''), 'roots.unknown', 404);
  assert.is(roots.remove(id.slice(0, 12)).id, id);
  assert.equal(subjects(roots), ['O=Test vendor, CN=EK CA']);
  assert.equal(readdirSync(folder), ['all.pem']);
  assert.match(readFileSync(join(folder, 'all.pem'), 'utf8'), /^-----BEGIN/);
  refused(() => roots.remove(id), 'roots.unknown', 404);
});

folders('an id that fits several is refused', ({ roots }) => {
  for (let at = 0; at < 20; at++) roots.add(authority(`CA ${at}`, { now }).certificate);
  const firsts = roots.read().certificates.map(({ id }) => id.slice(0, 1));
  const twice = firsts.find((first, at) => firsts.indexOf(first) !== at) ?? '';
  refused(() => roots.remove(twice), 'roots.unknown', 409);
});

function publicKey(): Uint8Array {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'der' });
}

folders.run();
