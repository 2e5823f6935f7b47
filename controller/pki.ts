// EVC's keys and certificates: a root that devices are installed with, and below it the signing key, the exchange key and
// the certificate of broker and HTTPS. Made once, by set-up, and kept in EVC's data folder.
import {
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Signer } from '../formats/wire/envelope.ts';
import { buildCertificate, keyUsageBits, type Name, pem } from '../formats/x509/certificate.ts';

export interface KeyPair {
  key: KeyObject;
  certificate: X509Certificate;
}

export interface Pki {
  root: X509Certificate;
  signing: KeyPair;
  exchange: KeyPair;
  /** Exchange keys from before renewals: devices that have not heard of a renewal seal for them. The newest first. */
  formerExchange: readonly KeyPair[];
  /** Certificates of signing keys from before renewals, without their keys: what they signed is EVC's own. The newest first. */
  formerSigning: readonly X509Certificate[];
  server: KeyPair;
  /** What nonces, challenges and tokens of stock devices are derived from, so that they stand nowhere. 32 bytes. */
  secret: Uint8Array;
}

export const organization = 'eve-attest';
const day = 24 * 3600 * 1000;
/** Exchange keys from before renewals that are kept: a device that was away for longer than four of them has to attest again. */
export const mostFormer = 4;
export const formerSigningFile = 'signing.former.pem';
/** Validity of a certificate, days. */
export const lives = { root: 20 * 365, signing: 5 * 365, exchange: 5 * 365, server: 397 } as const;

export function pkiExists(folder: string): boolean {
  return existsSync(join(folder, 'root.cert.pem'));
}

/** Makes everything; refuses to overwrite (TypeError). `hosts` are the names and addresses under which devices reach EVC. */
export async function createPki(folder: string, hosts: readonly string[], now: number): Promise<Pki> {
  if (pkiExists(folder)) throw new TypeError(`${folder} has keys already`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const rootKey = newKey();
  const rootName = { commonName: 'EVC root', organization };
  const rootCertificate = await certify(rootName, rootName, rootKey, rootKey, now, lives.root, {
    authority: { pathLength: 0 },
    keyUsage: [keyUsageBits.keyCertSign, keyUsageBits.cRLSign],
  });
  const root = { key: rootKey, certificate: new X509Certificate(rootCertificate) };
  for (const name of renewable) {
    const made = await issue(name, root, hosts, now);
    save(folder, name, made.key, made.certificate.raw);
  }
  writeFileSync(join(folder, 'secret'), randomBytes(32), { mode: 0o600 });
  // Last: what is there before it is not complete, and set-up starts over.
  save(folder, 'root', rootKey, rootCertificate);
  return loadPki(folder);
}

export function loadPki(folder: string): Pki {
  const formerExchange = Array.from({ length: mostFormer }, (_, i) => `exchange.${i + 1}`)
    .filter((name) => existsSync(join(folder, `${name}.key.pem`)))
    .map((name) => loadPair(folder, name));
  return {
    root: new X509Certificate(readFileSync(join(folder, 'root.cert.pem'))),
    signing: loadPair(folder, 'signing'),
    exchange: loadPair(folder, 'exchange'),
    formerExchange,
    formerSigning: certificatesIn(join(folder, formerSigningFile)),
    server: loadPair(folder, 'server'),
    secret: readFileSync(join(folder, 'secret')),
  };
}

/** One below the other; none where there is no such file. */
function certificatesIn(path: string): X509Certificate[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, 'utf8');
  return (text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (one) => new X509Certificate(one),
  );
}

/** A key and its certificate. Between the two renames of a renewal, and after a death there, the certificate is beside its place. */
export function loadPair(folder: string, name: string): KeyPair {
  const key = createPrivateKey(readFileSync(join(folder, `${name}.key.pem`)));
  const path = join(folder, `${name}.cert.pem`);
  const certificate = new X509Certificate(readFileSync(path));
  if (certificate.checkPrivateKey(key)) return { key, certificate };
  const next = new X509Certificate(readFileSync(`${path}.new`));
  if (next.checkPrivateKey(key)) return { key, certificate: next };
  throw new TypeError(`${path} is not of the key beside it`);
}

/** What stands below the root, and is renewed. */
export const renewable = ['server', 'signing', 'exchange'] as const;
export type Renewable = (typeof renewable)[number];

/** A new key with its certificate, which ends with the root at the latest. `hosts` are of the server. */
export async function issue(
  name: Renewable,
  root: KeyPair,
  hosts: readonly string[],
  now: number,
): Promise<KeyPair> {
  const more: Record<Renewable, Extra> = {
    server: { keyUsage: [keyUsageBits.digitalSignature], serverAuth: true, hosts },
    signing: { keyUsage: [keyUsageBits.digitalSignature] },
    exchange: { keyUsage: [keyUsageBits.keyAgreement] },
  };
  const commonName = name === 'server' ? (hosts[0] ?? 'localhost') : `EVC ${name}`;
  const left = Math.floor((Date.parse(root.certificate.validTo) - now) / day);
  const key = newKey();
  const der = await certify(
    { commonName, organization },
    { commonName: 'EVC root', organization },
    key,
    root.key,
    now,
    Math.min(lives[name], left),
    more[name],
  );
  return { key, certificate: new X509Certificate(der) };
}

/** A key that a device registers with, and its certificate; both in PEM. Nobody but the device needs the key. */
export async function createOnboardingKey(
  name: string,
  now: number,
): Promise<{ key: string; certificate: string }> {
  const key = newKey();
  const subject = { commonName: name, organization };
  const der = await certify(subject, subject, key, key, now, lives.signing, {
    keyUsage: [keyUsageBits.digitalSignature],
  });
  return {
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: pem('CERTIFICATE', der),
  };
}

export function signerOf({ key, certificate }: KeyPair): Signer {
  return { certificate: certificate.raw, sign: (payload) => signRaw(key, payload) };
}

/** ECDSA P-256 over SHA-256(payload), raw r ‖ s. */
export function signRaw(key: KeyObject, payload: Uint8Array): Uint8Array {
  return sign('sha256', payload, { key, dsaEncoding: 'ieee-p1363' });
}

type Extra = Pick<Parameters<typeof buildCertificate>[0], 'keyUsage' | 'hosts' | 'serverAuth' | 'authority'>;

function certify(
  subject: Name,
  issuer: Name,
  key: KeyObject,
  issuerKey: KeyObject,
  now: number,
  days: number,
  extra: Extra,
): Promise<Uint8Array> {
  return buildCertificate(
    {
      serial: Uint8Array.of(1, ...randomBytes(15)),
      issuer,
      subject,
      notBefore: new Date(now - day),
      notAfter: new Date(now + days * day),
      publicKey: spkiOf(key),
      keyIdentifiers: { subject: keyIdentifier(key), authority: keyIdentifier(issuerKey) },
      ...extra,
    },
    (tbs) => signRaw(issuerKey, tbs),
  );
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

/** The leftmost 160 bits of a SHA-256 [RFC 7093 2, method 4]. */
function keyIdentifier(key: KeyObject): Uint8Array {
  return createHash('sha256').update(spkiOf(key)).digest().subarray(0, 20);
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

function save(folder: string, name: string, key: KeyObject, certificate: Uint8Array): void {
  writeFileSync(join(folder, `${name}.key.pem`), key.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600,
  });
  writeFileSync(join(folder, `${name}.cert.pem`), pem('CERTIFICATE', certificate));
}

/** A secret for one use, device and id, that stands nowhere: it is derived whenever it is needed. */
export function secretOf(secret: Uint8Array, use: string, device: string, id: string): Uint8Array {
  return createHmac('sha256', secret).update(`eve-attest ${use}\0${device}\0${id}`).digest();
}
