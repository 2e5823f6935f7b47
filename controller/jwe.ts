// JSON Web Encryption [RFC 7516], compact, for a key that EVC has not: any JOSE tool opens it. A256GCM; the key by ECDH-ES on P-256,
// P-384, P-521 or X25519 [RFC 7518 4.6, RFC 8037], or by RSA-OAEP-256.
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';

/** `key`: no key for this. `form`: no JWE of ours. `other`: made for another key, or changed. */
export class JweError extends Error {
  readonly code: 'key' | 'form' | 'other';
  constructor(code: JweError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'JweError';
    this.code = code;
  }
}

const curves: Record<string, string> = { prime256v1: 'P-256', secp384r1: 'P-384', secp521r1: 'P-521' };
const shortestRsa = 2048;
const longestHeader = 2048;
const ivSize = 12;
const tagSize = 16;

/** The public key of a PEM: of a key, or of a certificate. Throws JweError key. */
export function recipientOf(pem: string): KeyObject {
  return checked(() => createPublicKey(pem));
}

/** Throws JweError key. @param passphrase where the PEM is encrypted */
export function openerOf(pem: string, passphrase?: string): KeyObject {
  return checked(() => createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) }));
}

function checked(read: () => KeyObject): KeyObject {
  let key: KeyObject;
  try {
    key = read();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why =
      code === 'ERR_MISSING_PASSPHRASE'
        ? 'it needs its passphrase'
        : 'it is no key in PEM, or has another passphrase';
    throw new JweError('key', why, { cause });
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  const strong = type === 'rsa' && (details?.modulusLength ?? 0) >= shortestRsa;
  if (strong || type === 'x25519' || curves[details?.namedCurve ?? ''] !== undefined) return key;
  throw new JweError(
    'key',
    `it is ${type} ${details?.namedCurve ?? details?.modulusLength ?? ''}, where RSA from ${shortestRsa} bits, P-256, P-384, P-521 or X25519 is wanted`,
  );
}

interface Header {
  alg: string;
  enc: string;
  epk?: Record<string, string>;
}

/** Encrypts for the holder of the key of `recipient`, as `recipientOf` gives it. */
export function encryptJwe(recipient: KeyObject, plain: Uint8Array): string {
  const { key, wrapped, header } = agreed(recipient);
  const head = base64url(Buffer.from(JSON.stringify(header)));
  const iv = randomBytes(ivSize);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(head));
  const data = Buffer.concat([cipher.update(plain), cipher.final()]);
  key.fill(0);
  return [head, ...[wrapped, iv, data, cipher.getAuthTag()].map(base64url)].join('.');
}

/** Throws JweError form, other. @param key as `openerOf` gives it */
export function decryptJwe(key: KeyObject, jwe: string): Buffer {
  const parts = jwe.split('.');
  const [head = '', ...rest] = parts;
  const [wrapped, iv, data, tag] = rest.map((part) => Buffer.from(part, 'base64url'));
  if (parts.length !== 5 || !wrapped || !data || iv?.length !== ivSize || tag?.length !== tagSize)
    throw new JweError('form', 'it is no JWE in compact form');
  const header = headerOf(head);
  try {
    const content = contentKey(key, header, wrapped);
    const decipher = createDecipheriv('aes-256-gcm', content, iv, { authTagLength: tagSize });
    content.fill(0);
    decipher.setAAD(Buffer.from(head)).setAuthTag(tag);
    return Buffer.concat([decipher.update(data), decipher.final()]);
  } catch (cause) {
    throw new JweError('other', 'it was encrypted for another key, or was changed', { cause });
  }
}

function agreed(recipient: KeyObject): { key: Buffer; wrapped: Buffer; header: Header } {
  const enc = 'A256GCM';
  if (recipient.asymmetricKeyType === 'rsa') {
    const key = randomBytes(32);
    return { key, wrapped: publicEncrypt(oaep(recipient), key), header: { alg: 'RSA-OAEP-256', enc } };
  }
  const { namedCurve = '' } = recipient.asymmetricKeyDetails ?? {};
  const { publicKey, privateKey } =
    recipient.asymmetricKeyType === 'x25519'
      ? generateKeyPairSync('x25519')
      : generateKeyPairSync('ec', { namedCurve });
  const key = concatKdf(diffieHellman({ privateKey, publicKey: recipient }), enc, 32);
  const epk = publicKey.export({ format: 'jwk' }) as Record<string, string>;
  return { key, wrapped: Buffer.alloc(0), header: { alg: 'ECDH-ES', enc, epk } };
}

function contentKey(key: KeyObject, { alg, epk }: Header, wrapped: Buffer): Buffer {
  if (alg === 'RSA-OAEP-256') {
    const content = privateDecrypt(oaep(key), wrapped);
    if (content.length !== 32) throw new RangeError('a key of another size');
    return content;
  }
  // Refuses a point that is not on the curve, and one of another.
  const publicKey = createPublicKey({ key: epk ?? {}, format: 'jwk' });
  return concatKdf(diffieHellman({ privateKey: key, publicKey }), 'A256GCM', 32);
}

function headerOf(text: string): Header {
  let header: Partial<Header> & { crit?: unknown; zip?: unknown };
  try {
    if (text.length > longestHeader) throw new RangeError('too long');
    header = JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as Header;
  } catch (cause) {
    throw new JweError('form', 'its header cannot be read', { cause });
  }
  const { alg = '', enc = '', epk, crit, zip } = header ?? {};
  const known = (alg === 'ECDH-ES' && typeof epk === 'object') || alg === 'RSA-OAEP-256';
  if (!known || enc !== 'A256GCM' || crit !== undefined || zip !== undefined)
    throw new JweError('form', 'it is encrypted in a way that EVC does not');
  return { alg, enc, ...(epk ? { epk } : {}) };
}

const oaep = (key: KeyObject) => ({
  key,
  padding: constants.RSA_PKCS1_OAEP_PADDING,
  oaepHash: 'sha256',
});

/**
 * The Concat KDF of ECDH-ES, one round of SHA-256 [RFC 7518 4.6.2].
 * @param size of the key, bytes, 32 at the most
 */
export function concatKdf(
  z: Uint8Array,
  algorithm: string,
  size: number,
  { apu = '', apv = '' }: { apu?: string; apv?: string } = {},
): Buffer {
  const counter = Buffer.of(0, 0, 0, 1);
  const bits = Buffer.alloc(4);
  bits.writeUInt32BE(size * 8);
  const info = [algorithm, apu, apv].map(prefixed);
  return createHash('sha256')
    .update(Buffer.concat([counter, z, ...info, bits]))
    .digest()
    .subarray(0, size);
}

function prefixed(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}
