// EVC's certificates, as a device keeps and believes them: each chains to the root that the device was installed with.
import { type KeyObject, X509Certificate } from 'node:crypto';
import { ZCertType, type ZControllerCert } from '../../formats/wire/eve_pb.ts';
import { Refusal } from '../refusal.ts';
import type { StateFolder } from '../state.ts';

export interface ControllerCertificates {
  signing: X509Certificate;
  /** What EVC opens sealed boxes with. */
  exchange: X509Certificate;
  /** What EVC signed with before: images that it announced then are still on their way. */
  formerSigning: X509Certificate | null;
}

const file = 'checkpoint/controllercerts';
const mostCertificates = 10;

/**
 * Picks EVC's two certificates out of its answer and checks them against the root.
 * Throws Refusal certs.incomplete, certs.untrusted, certs.expired.
 */
export function checkCertificates(
  answer: ZControllerCert,
  root: X509Certificate,
  now: number,
): ControllerCertificates {
  const find = (type: ZCertType, what: string) => {
    const found = answer.certs.slice(0, mostCertificates).filter((cert) => cert.type === type);
    const [first] = found;
    if (!first || found.length > 1) {
      throw new Refusal(
        'certs.incomplete',
        `EVC sent ${found.length} ${what} certificates, where one belongs`,
      );
    }
    return checkCertificate(parse(first.cert), root, now, what);
  };
  return {
    signing: find(ZCertType.CERT_TYPE_CONTROLLER_SIGNING, 'signing'),
    exchange: find(ZCertType.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE, 'key exchange'),
    formerSigning: null,
  };
}

export function storeCertificates(state: StateFolder, certificates: ControllerCertificates): void {
  const signing = certificates.signing.toString();
  const before = restore(state);
  const former = before?.signing === signing ? before.former : before?.signing;
  state.checkpoint(file, {
    signing,
    exchange: certificates.exchange.toString(),
    ...(former === undefined ? {} : { former }),
  } satisfies Stored);
}

interface Stored {
  signing: string;
  exchange: string;
  former?: string;
}

/** What is damaged is fetched again. */
function restore(state: StateFolder): Stored | null {
  try {
    return state.restore<Stored>(file);
  } catch (error) {
    if (error instanceof Refusal) return null;
    throw error;
  }
}

/** What was stored, checked again; null when there is nothing usable, so that it is fetched. */
export function loadCertificates(
  state: StateFolder,
  root: X509Certificate,
  now: number,
): ControllerCertificates | null {
  try {
    const stored = restore(state);
    if (!stored) return null;
    const signing = chained(stored.signing, root, 'signing');
    const exchange = chained(stored.exchange, root, 'key exchange');
    checkValidity(signing, now, 'signing');
    checkValidity(exchange, now, 'key exchange');
    return { signing, exchange, formerSigning: formerOf(stored, root, now) };
  } catch (error) {
    if (error instanceof Refusal) return null;
    throw error;
  }
}

function formerOf({ former }: Stored, root: X509Certificate, now: number): X509Certificate | null {
  if (former === undefined) return null;
  try {
    const certificate = chained(former, root, 'former signing');
    checkValidity(certificate, now, 'former signing');
    return certificate;
  } catch (error) {
    if (error instanceof Refusal) return null;
    throw error;
  }
}

/** Every message needs these two; checking a chain costs more than the signature of the message. */
const chains = new Map<string, X509Certificate>();
const chainsKept = 1000;

function chained(text: string, root: X509Certificate, what: string): X509Certificate {
  const id = `${root.fingerprint256} ${text}`;
  let certificate = chains.get(id);
  if (!certificate) {
    certificate = parse(Buffer.from(text));
    checkChain(certificate, root, what);
    if (chains.size >= chainsKept) chains.clear();
    chains.set(id, certificate);
  }
  return certificate;
}

/** The uncompressed point of a P-256 public key, 65 bytes. */
export function pointOf(key: KeyObject): Uint8Array {
  const { x = '', y = '' } = key.export({ format: 'jwk' });
  return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}

function parse(pem: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new Refusal('certs.untrusted', 'EVC sent something that is no certificate', { cause });
  }
}

function checkCertificate(
  certificate: X509Certificate,
  root: X509Certificate,
  now: number,
  what: string,
): X509Certificate {
  checkChain(certificate, root, what);
  checkValidity(certificate, now, what);
  return certificate;
}

function checkChain(certificate: X509Certificate, root: X509Certificate, what: string): void {
  if (!certificate.checkIssued(root) || !certificate.verify(root.publicKey)) {
    throw new Refusal('certs.untrusted', `EVC’s ${what} certificate is not signed by this device’s root`);
  }
}

function checkValidity(certificate: X509Certificate, now: number, what: string): void {
  const { validFrom, validTo } = certificate;
  if (now >= Date.parse(validFrom) && now <= Date.parse(validTo)) return;
  throw new Refusal(
    'certs.expired',
    `EVC’s ${what} certificate is valid from ${validFrom} to ${validTo}, and the clock of this device says ${new Date(now).toISOString()}`,
  );
}
