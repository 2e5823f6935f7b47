// Certificates of endorsement keys: does a vendor of TPMs vouch for this key? A chain is looked for from the certificate of
// the key to a root in the folder of roots. node:crypto verifies every signature; what the certificates say is parsed by
// formats/x509.
//
// On time: a TPM outlives its certificate, and nothing about its key changes on the day that it runs out. So a signature
// counts if its maker's certificate was good when it was made (the chain model), and what has run out since is only shown.
// A root that is not to be trusted any more is taken out of the folder.
import { createHash, X509Certificate } from 'node:crypto';
import { FormatError } from '../../formats/format-error.ts';
import { publicJwk, sameJwk } from '../../formats/tpm2/spki.ts';
import type { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import { endorsementKeyUsage, tpmModelOf } from '../../formats/x509/endorsement.ts';
import { type Certificate, parseCertificate } from '../../formats/x509/parse.ts';
import type { EkCertificate } from '../../machines/device-record.ts';
import type { Why } from '../../machines/waiting.ts';
import { signedBy, type VendorCertificate, type VendorCertificates } from './ek-roots.ts';

/** From the certificate of the key to the root, both counted. */
export const longestChain = 8;
/** Bytes of all certificates that a device sends: they are kept in its record. */
const mostBytes = 16 * 1024;
/** Clocks of factories differ, and some write dates without hours. */
const clockSkew = 24 * 3600 * 1000;
const longestText = 200;
const keyCertSign = 5;
/** Collisions are made on a desk: md2WithRSAEncryption, md5WithRSAEncryption. */
const brokenAlgorithms = new Set(['1.2.840.113549.1.1.2', '1.2.840.113549.1.1.4']);

/**
 * - `vendor`: a chain leads to a root in the folder.
 * - `unknown-vendor`: nothing is wrong, and no root in the folder vouches for it; `certificate.why` says what is missing.
 * - `first-use`: there is no certificate.
 * - `refused`: it contradicts the key, or itself.
 */
export type EkJudgement =
  | { trust: 'vendor' | 'unknown-vendor'; certificate: EkCertificate }
  | { trust: 'first-use' }
  | { trust: 'refused'; why: Why };

interface Link {
  certificate: Certificate;
  x509: X509Certificate;
  /** Where it is from: the folder, or the device. */
  known: VendorCertificate | null;
}

/** What became of the search for a root: links to it from the issuer of the key's certificate on, or the best reason. */
type Path = { chain: Link[] } | { fault: Why; chain: Link[] } | { missing: string; chain: Link[] };

/**
 * Judges the certificates that came with an endorsement key, the key's own first. Never throws for what they are.
 * @param ek public area that the credential is made for: the certificate has to be of this key, and no other.
 */
export function judgeEkCertificate(
  presented: readonly Uint8Array[],
  ek: TPMT_PUBLIC,
  { certificates: known }: VendorCertificates,
): EkJudgement {
  if (presented.length === 0) return { trust: 'first-use' };
  if (presented.length > longestChain)
    return refused('enrol.ek-unreadable', `the chain has ${presented.length} certificates`);
  const size = presented.reduce((sum, { length }) => sum + length, 0);
  if (size > mostBytes) return refused('enrol.ek-unreadable', `the certificates have ${size} bytes together`);
  let links: Link[];
  try {
    links = presented.map(linkOf);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return refused('enrol.ek-unreadable', `the certificate of the endorsement key: ${error.message}`);
  }
  const [own, ...others] = links as [Link, ...Link[]];
  if (!isFor(own.certificate, ek))
    return refused('enrol.ek-other-key', 'the certificate is for another key than the endorsement key');
  const misuse = misuseOf(own.certificate);
  if (misuse) return { trust: 'refused', why: misuse };

  const path = pathFrom(own, poolOf(known, others), []);
  if ('fault' in path) return { trust: 'refused', why: path.fault };
  const facts = factsOf(own, path.chain);
  if ('missing' in path) {
    const text = `no certificate of “${cut(path.missing)}” is among the roots of vendors`;
    return unvouched(facts, 'enrol.ek-unknown-issuer', text);
  }
  if (own.certificate.extendedKeyUsage === null) {
    // A vendor certifies other keys as well; nothing says that this one is of a TPM.
    return unvouched(
      facts,
      'enrol.ek-usage',
      'the certificate does not say that it is for an endorsement key',
    );
  }
  return { trust: 'vendor', certificate: facts };
}

/** Where issuers are looked for. */
interface Pool {
  links: readonly Link[];
  /** Each signature is checked once, on however many paths it is: a device chooses what leads to what. */
  signed(link: Link, issuer: Link): boolean;
}

function poolOf(known: readonly VendorCertificate[], others: readonly Link[]): Pool {
  const checked = new Map<Link, Map<Link, boolean>>();
  return {
    links: [...known.map((one) => ({ certificate: one.certificate, x509: one.x509, known: one })), ...others],
    signed(link, issuer) {
      const of = checked.get(link) ?? new Map<Link, boolean>();
      checked.set(link, of);
      const is = of.get(issuer) ?? signs(link, issuer);
      of.set(issuer, is);
      return is;
    },
  };
}

function signs({ certificate, x509 }: Link, issuer: Link): boolean {
  return !brokenAlgorithms.has(certificate.signatureAlgorithm) && signedBy(x509, issuer.x509);
}

/** All paths to a root, the first that holds; else the reason that says most. Bounded by the length of a chain. */
function pathFrom(link: Link, pool: Pool, below: readonly Link[]): Path {
  const { certificate } = link;
  const { issuer } = certificate;
  const chain = [...below, link];
  // The certificate of the key is no link of its chain of issuers.
  const issuers = chain.slice(1);
  if (chain.length >= longestChain)
    return { fault: why('enrol.ek-issuer', `the chain is longer than ${longestChain}`), chain: issuers };
  let best: Path = { missing: issuer.text, chain: issuers };
  for (const candidate of pool.links) {
    if (!mayBeIssuer(candidate.certificate, certificate) || chain.includes(candidate)) continue;
    const found = pool.signed(link, candidate)
      ? through(candidate, pool, chain)
      : unsigned(candidate, issuers);
    if (!found) continue;
    if (!('fault' in found) && !('missing' in found)) return found;
    if (!('fault' in best) && ('fault' in found || found.chain.length > best.chain.length)) best = found;
  }
  return best;
}

/** A signature that the operator's certificate of this very name did not make. Of what a device sends, it is only no link. */
function unsigned({ known, certificate }: Link, chain: Link[]): Path | null {
  if (!known) return null;
  const text = `“${cut(certificate.subject.text)}” did not sign the certificate that names it as its issuer`;
  return { fault: why('enrol.ek-signature', text), chain };
}

function through(issuer: Link, pool: Pool, chain: readonly Link[]): Path {
  const fault = issuerFault(issuer, chain);
  const issuers = [...chain.slice(1), issuer];
  if (fault) return { fault, chain: issuers };
  if (issuer.known?.root) return { chain: issuers };
  // A device may send its root along; that does not make it trusted.
  const { subject, issuer: next } = issuer.certificate;
  if (subject.key === next.key) return { missing: subject.text, chain: issuers };
  return pathFrom(issuer, pool, chain);
}

/** Why somebody may not have signed the last certificate of this chain [RFC 5280, 6.1.4]. */
function issuerFault({ certificate, known }: Link, chain: readonly Link[]): Why | null {
  const { subject, constraints, keyUsage, notBefore, notAfter, unknownCritical, version } = certificate;
  const fault = (text: string) => why('enrol.ek-issuer', `“${cut(subject.text)}” ${text}`);
  // A root of version 1 cannot say what it is; whoever put it into the folder did.
  const said = constraints?.authority ?? (known?.root === true && version === 1);
  if (!said || (keyUsage && !keyUsage.has(keyCertSign))) return fault('may sign no certificates');
  // Certificates of the same name on both sides do not count [RFC 5280, 4.2.1.9].
  const between = chain.slice(1).filter((one) => one.certificate.subject.key !== one.certificate.issuer.key);
  if (constraints?.pathLength != null && between.length > constraints.pathLength)
    return fault(`may have ${constraints.pathLength} authorities below it, and has ${between.length}`);
  const [unknown] = unknownCritical;
  if (unknown) return fault(`has the critical extension ${unknown}, which is unknown here`);
  const made = chain.at(-1)?.certificate.notBefore ?? 0;
  if (made + clockSkew < notBefore || made - clockSkew > notAfter)
    return fault('signed at a time at which its own certificate was not valid');
  return null;
}

/** By name, and by the identifiers of keys where both have them: vendors have several authorities of one name. */
function mayBeIssuer(candidate: Certificate, of: Certificate): boolean {
  if (of.issuer.key === '' || candidate.subject.key !== of.issuer.key) return false;
  const { subjectKeyIdentifier: has } = candidate;
  const { authorityKeyIdentifier: wants } = of;
  return has === null || wants === null || has === wants;
}

/** What a certificate says about its key that an endorsement key cannot be. */
function misuseOf({ extendedKeyUsage, constraints, unknownCritical }: Certificate): Why | null {
  if (extendedKeyUsage && !extendedKeyUsage.includes(endorsementKeyUsage))
    return why('enrol.ek-usage', 'the certificate is for other uses than an endorsement key');
  if (constraints?.authority)
    return why('enrol.ek-usage', 'the certificate is that of an authority, and not of an endorsement key');
  const [unknown] = unknownCritical;
  return unknown
    ? why('enrol.ek-usage', `the certificate has the critical extension ${unknown}, which is unknown here`)
    : null;
}

function isFor({ key }: Certificate, ek: TPMT_PUBLIC): boolean {
  try {
    return key !== null && sameJwk(key, publicJwk(ek));
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** @throws FormatError */
function linkOf(der: Uint8Array): Link {
  const certificate = parseCertificate(der);
  try {
    return { certificate, x509: new X509Certificate(certificate.bytes), known: null };
  } catch (cause) {
    throw new FormatError('Certificate', 0, 'OpenSSL cannot read it', { cause });
  }
}

function factsOf(own: Link, chain: readonly Link[]): EkCertificate {
  const { certificate } = own;
  const { vendor, model, version } = tpmModelOf(certificate) ?? { vendor: '', model: '', version: '' };
  return {
    vendor: cut(vendor),
    model: cut(model),
    version: cut(version),
    serial: certificate.serial,
    issuer: cut(certificate.issuer.text),
    chain: chain.map((link) => cut(link.certificate.subject.text)),
    notAfter: certificate.notAfter,
    sha256: createHash('sha256').update(certificate.bytes).digest('hex'),
    // Enough to judge it again when the folder changes.
    sent: [own, ...chain.filter(({ known }) => !known)].map((link) =>
      Buffer.from(link.certificate.bytes).toString('base64'),
    ),
  };
}

function unvouched(facts: EkCertificate, code: string, text: string): EkJudgement {
  return { trust: 'unknown-vendor', certificate: { ...facts, why: why(code, text) } };
}

function refused(code: string, text: string): EkJudgement {
  return { trust: 'refused', why: why(code, text) };
}

function why(code: string, text: string): Why {
  return { code, text };
}

function cut(text: string): string {
  return text.length > longestText ? `${text.slice(0, longestText)}…` : text;
}
