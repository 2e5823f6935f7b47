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
  server: KeyPair;
  /** What nonces, challenges and tokens of stock devices are derived from, so that they stand nowhere. 32 bytes. */
  secret: Uint8Array;
}

const organization = 'eve-attest';
const day = 24 * 3600 * 1000;
const lives = { root: 20 * 365, signing: 5 * 365, exchange: 5 * 365, server: 397 } as const;

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
  const below = (commonName: string, key: KeyObject, days: number, more: Extra) =>
    certify({ commonName, organization }, rootName, key, rootKey, now, days, more);
  const signing = newKey();
  const exchange = newKey();
  const server = newKey();
  save(
    folder,
    'signing',
    signing,
    await below('EVC signing', signing, lives.signing, { keyUsage: [keyUsageBits.digitalSignature] }),
  );
  save(
    folder,
    'exchange',
    exchange,
    await below('EVC exchange', exchange, lives.exchange, { keyUsage: [keyUsageBits.keyAgreement] }),
  );
  save(
    folder,
    'server',
    server,
    await below(hosts[0] ?? 'localhost', server, lives.server, {
      keyUsage: [keyUsageBits.digitalSignature],
      serverAuth: true,
      hosts,
    }),
  );
  writeFileSync(join(folder, 'secret'), randomBytes(32), { mode: 0o600 });
  // Last: what is there before it is not complete, and set-up starts over.
  save(folder, 'root', rootKey, rootCertificate);
  return loadPki(folder);
}

export function loadPki(folder: string): Pki {
  const certificate = (name: string) => new X509Certificate(readFileSync(join(folder, `${name}.cert.pem`)));
  const pair = (name: string): KeyPair => ({
    key: createPrivateKey(readFileSync(join(folder, `${name}.key.pem`))),
    certificate: certificate(name),
  });
  return {
    root: certificate('root'),
    signing: pair('signing'),
    exchange: pair('exchange'),
    server: pair('server'),
    secret: readFileSync(join(folder, 'secret')),
  };
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
