// Certificates of others: what their bytes say, as values. Endorsement keys have certificates from twenty years and as many
// encoders, so this reads more than DER allows (unsorted sets, defaults that are written out, padding after the end), and
// bounds all of it. Nothing is verified here: whoever checks a signature does it over the bytes as they came.
import forge from 'node-forge';
import { FormatError } from '../format-error.ts';
import { TPM_ECC_CURVE } from '../tpm2/constants.ts';
import { coordinateSize, eccJwk, type PublicJwk, rsaJwk } from '../tpm2/spki.ts';

const { asn1 } = forge;
type Asn1 = forge.asn1.Asn1;
/** Its types lack the options. */
const fromDer = asn1.fromDer as unknown as (bytes: string, options: object) => Asn1;

/** Bytes of one certificate: the largest known of a TPM has 2,100. */
export const largestCertificate = 8192;
/** Attributes of one name, and characters of one value. */
const mostAttributes = 32;
const longestValue = 256;
const mostExtensions = 32;

export interface DistinguishedName {
  /** For people: `CN=…, O=…`, in the order of the certificate. */
  text: string;
  /** Equal for names that are the same, whatever string types and order they were written with [RFC 5280, 7.1]. */
  key: string;
  /** By object identifier; the first of each. */
  attributes: ReadonlyMap<string, string>;
}

/** A certificate, nothing of it verified [RFC 5280, 4]. */
export interface Certificate {
  /** The certificate alone: what came after its end is not part of it. */
  bytes: Uint8Array;
  /** 1 or 3. */
  version: number;
  /** Hex. */
  serial: string;
  /** Object identifier of the algorithm that it is signed with. */
  signatureAlgorithm: string;
  issuer: DistinguishedName;
  subject: DistinguishedName;
  /** ms since the epoch. */
  notBefore: number;
  notAfter: number;
  /** Null for a key that is neither RSA nor on a NIST curve. */
  key: PublicJwk | null;
  /** basicConstraints; null where the certificate has none. */
  constraints: { authority: boolean; pathLength: number | null } | null;
  /** Bits of keyUsage; null where the certificate has none. */
  keyUsage: ReadonlySet<number> | null;
  /** Object identifiers of extendedKeyUsage; null where the certificate has none. */
  extendedKeyUsage: readonly string[] | null;
  /** The directory name among its alternative names. */
  alternativeName: DistinguishedName | null;
  /** Hex. */
  subjectKeyIdentifier: string | null;
  authorityKeyIdentifier: string | null;
  /** Critical extensions that are none of these: whoever does not know them must not rely on the certificate. */
  unknownCritical: readonly string[];
}

const extensions = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  alternativeName: '2.5.29.17',
  constraints: '2.5.29.19',
  policies: '2.5.29.32',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const;
const known = new Set<string>(Object.values(extensions));

const attributeNames: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
};

// The key of an old endorsement certificate says that it is for RSAES-OAEP; it is an RSA key all the same.
const rsaKeys = new Set(['1.2.840.113549.1.1.1', '1.2.840.113549.1.1.7', '1.2.840.113549.1.1.10']);
const eccKey = '1.2.840.10045.2.1';
const curves: Readonly<Record<string, number>> = {
  '1.2.840.10045.3.1.7': TPM_ECC_CURVE.NIST_P256,
  '1.3.132.0.34': TPM_ECC_CURVE.NIST_P384,
  '1.3.132.0.35': TPM_ECC_CURVE.NIST_P521,
};

/**
 * The length of the certificate that these bytes start with: NV indices are often longer than what is in them.
 * @throws FormatError unless they start with a sequence that is all there and not too long.
 */
export function certificateLength(bytes: Uint8Array): number {
  const fault = (reason: string) => new FormatError('Certificate', 0, reason);
  if (bytes[0] !== 0x30) throw fault('starts with no SEQUENCE');
  const first = bytes[1] ?? 0;
  const count = first < 0x80 ? 0 : first & 0x7f;
  if (first === 0x80 || count > 2) throw fault('has no length that a certificate has');
  let length = count === 0 ? first : 0;
  for (let at = 0; at < count; at++) length = (length << 8) | (bytes[2 + at] ?? 0);
  const whole = 2 + count + length;
  if (whole > largestCertificate) throw fault(`has ${whole} bytes, where ${largestCertificate} are the most`);
  if (whole > bytes.length) throw fault(`has ${whole} bytes, and ${bytes.length} are there`);
  return whole;
}

const armour = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----/g;

/**
 * The certificates in PEM, however many, or the one in DER; in DER, not parsed.
 * @throws FormatError for more than `most`, or for bytes that are neither.
 */
export function certificatesIn(bytes: Uint8Array, most: number): Uint8Array[] {
  const fault = (reason: string) => new FormatError('certificates', 0, reason);
  if (bytes[0] === 0x30) return [bytes.subarray(0, certificateLength(bytes))];
  const found: Uint8Array[] = [];
  for (const [, base64 = ''] of new TextDecoder().decode(bytes).matchAll(armour)) {
    if (found.length >= most) throw fault(`there are more than ${most}`);
    try {
      found.push(bytesOf(atob(base64.replace(/\s/g, ''))));
    } catch (cause) {
      throw new FormatError('certificates', 0, 'is no base64', { cause });
    }
  }
  if (found.length === 0) throw fault('there is neither PEM nor DER');
  return found;
}

/** @throws FormatError with the field that cannot be read. */
export function parseCertificate(input: Uint8Array): Certificate {
  const bytes = Uint8Array.from(input.subarray(0, certificateLength(input)));
  const [tbs, signatureAlgorithm] = children(read(bytes, 'Certificate'), 'Certificate', 3);
  const fields = children(tbs, 'tbsCertificate', 6);
  // [0] EXPLICIT version DEFAULT v1.
  const tagged = fields[0]?.tagClass === asn1.Class.CONTEXT_SPECIFIC && fields[0].type === 0;
  const version = tagged ? number(children(fields[0], 'version', 1)[0], 'version') + 1 : 1;
  const [serial, , issuer, validity, subject, spki, ...rest] = tagged ? fields.slice(1) : fields;
  const [notBefore, notAfter] = children(validity, 'validity', 2);
  const explicit = rest.find(
    ({ tagClass, type }) => tagClass === asn1.Class.CONTEXT_SPECIFIC && (type as number) === 3,
  );
  return {
    bytes,
    version,
    serial: hex(string(serial, 'serialNumber', asn1.Type.INTEGER)),
    signatureAlgorithm: oid(children(signatureAlgorithm, 'signatureAlgorithm')[0], 'signatureAlgorithm'),
    issuer: name(issuer, 'issuer'),
    subject: name(subject, 'subject'),
    notBefore: time(notBefore, 'notBefore'),
    notAfter: time(notAfter, 'notAfter'),
    key: subjectKey(spki),
    ...extensionFields(explicit),
  };
}

type ExtensionFields = Pick<
  Certificate,
  | 'constraints'
  | 'keyUsage'
  | 'extendedKeyUsage'
  | 'alternativeName'
  | 'subjectKeyIdentifier'
  | 'authorityKeyIdentifier'
  | 'unknownCritical'
>;

function extensionFields(explicit: Asn1 | undefined): ExtensionFields {
  const list = explicit ? children(children(explicit, 'extensions', 1)[0], 'extensions') : [];
  if (list.length > mostExtensions) throw new FormatError('extensions', 0, `there are ${list.length}`);
  const values = new Map<string, Uint8Array>();
  const unknownCritical: string[] = [];
  for (const item of list) {
    const parts = children(item, 'extension', 2);
    const id = oid(parts[0], 'extnID');
    if (values.has(id)) throw new FormatError(id, 0, 'the extension is there twice');
    values.set(id, bytesOf(string(parts.at(-1), id, asn1.Type.OCTETSTRING)));
    const critical = parts.length > 2 && string(parts[1], 'critical', asn1.Type.BOOLEAN) !== '\0';
    if (critical && !known.has(id)) unknownCritical.push(id);
  }
  const value = <T>(id: string, parse: (content: Asn1) => T): T | null => {
    const found = values.get(id);
    return found ? parse(read(found, id)) : null;
  };
  return {
    unknownCritical,
    constraints: value(extensions.constraints, (content) => {
      const parts = children(content, 'basicConstraints');
      const authority = parts[0]?.type === asn1.Type.BOOLEAN && parts[0].value !== '\0';
      const length = parts.find(({ type }) => type === asn1.Type.INTEGER);
      return { authority, pathLength: length ? number(length, 'pathLenConstraint') : null };
    }),
    keyUsage: value(extensions.keyUsage, (content) => {
      const text = string(content, 'keyUsage', asn1.Type.BITSTRING);
      const bits = new Set<number>();
      for (let bit = 0; bit < 8 * (text.length - 1); bit++)
        if (text.charCodeAt(1 + (bit >> 3)) & (0x80 >> (bit & 7))) bits.add(bit);
      return bits;
    }),
    extendedKeyUsage: value(extensions.extendedKeyUsage, (content) =>
      children(content, 'extKeyUsage').map((id) => oid(id, 'extKeyUsage')),
    ),
    alternativeName: value(extensions.alternativeName, (content) => {
      // directoryName [4], EXPLICIT since a Name is a CHOICE.
      const found = children(content, 'subjectAltName').find(({ type }) => (type as number) === 4);
      return found ? name(children(found, 'directoryName', 1)[0], 'directoryName') : null;
    }),
    subjectKeyIdentifier: value(extensions.subjectKeyIdentifier, (content) =>
      hex(string(content, 'subjectKeyIdentifier', asn1.Type.OCTETSTRING)),
    ),
    authorityKeyIdentifier: value(extensions.authorityKeyIdentifier, (content) => {
      const found = children(content, 'authorityKeyIdentifier').find(({ type }) => (type as number) === 0);
      return found ? hex(string(found, 'keyIdentifier')) : null;
    }),
  };
}

function name(node: Asn1 | undefined, path: string): DistinguishedName {
  const attributes = new Map<string, string>();
  const texts: string[] = [];
  const sets: string[] = [];
  for (const set of children(node, path)) {
    const keys: string[] = [];
    for (const pair of children(set, path)) {
      if (texts.length >= mostAttributes) throw new FormatError(path, 0, 'the name has too many parts');
      const [type, content] = children(pair, path, 2);
      const id = oid(type, path);
      const value = textOf(content, path);
      if (!attributes.has(id)) attributes.set(id, value);
      texts.push(`${attributeNames[id] ?? id}=${value}`);
      keys.push(JSON.stringify([id, value.trim().replace(/\s+/g, ' ').toLowerCase()]));
    }
    sets.push(keys.sort().join('+'));
  }
  return { text: texts.join(', '), key: sets.join(','), attributes };
}

function textOf(node: Asn1 | undefined, path: string): string {
  const raw = string(node, path);
  const text = node?.type === asn1.Type.UTF8 ? utf8(raw) : raw;
  if (text.length > longestValue) throw new FormatError(path, 0, `a value has ${text.length} characters`);
  return text;
}

function utf8(raw: string): string {
  try {
    return forge.util.decodeUtf8(raw);
  } catch {
    return raw;
  }
}

function subjectKey(spki: Asn1 | undefined): PublicJwk | null {
  const path = 'subjectPublicKeyInfo';
  const [algorithm, bits] = children(spki, path, 2);
  const [id, parameters] = children(algorithm, path);
  const kind = oid(id, path);
  const key = bytesOf(string(bits, path, asn1.Type.BITSTRING).slice(1));
  if (rsaKeys.has(kind)) {
    const [modulus, exponent] = children(read(key, path), path, 2);
    const integer = (node: Asn1 | undefined) => bytesOf(string(node, path, asn1.Type.INTEGER));
    return rsaJwk(integer(modulus), integer(exponent));
  }
  if (kind !== eccKey || parameters?.type !== asn1.Type.OID) return null;
  const curve = curves[oid(parameters, path)];
  const size = curve === undefined ? undefined : coordinateSize(curve);
  if (curve === undefined || size === undefined) return null;
  if (key[0] !== 4 || key.length !== 1 + 2 * size)
    throw new FormatError(path, 0, 'is no uncompressed point of its curve');
  return eccJwk(curve, key.subarray(1, 1 + size), key.subarray(1 + size));
}

function time(node: Asn1 | undefined, path: string): number {
  const text = string(node, path);
  let at = Number.NaN;
  try {
    at = (
      node?.type === asn1.Type.UTCTIME ? asn1.utcTimeToDate(text) : asn1.generalizedTimeToDate(text)
    ).getTime();
  } catch {
    // Said below.
  }
  if (!Number.isFinite(at)) throw new FormatError(path, 0, 'is no time');
  return at;
}

/** One value; forge bounds how deep it nests. */
function read(bytes: Uint8Array, path: string): Asn1 {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  try {
    return fromDer(text, { strict: false, parseAllBytes: false, decodeBitStrings: false });
  } catch (cause) {
    const { byteCount = 0, remaining = 0 } = cause as { byteCount?: number; remaining?: number };
    throw new FormatError(path, Math.max(0, byteCount - remaining), 'is not ASN.1', { cause });
  }
}

function children(node: Asn1 | undefined, path: string, least = 0): Asn1[] {
  if (!node || !Array.isArray(node.value)) throw new FormatError(path, 0, 'is no structure');
  if (node.value.length < least) throw new FormatError(path, 0, `has ${node.value.length} parts`);
  return node.value;
}

/** The contents of a primitive value, one character a byte. */
function string(node: Asn1 | undefined, path: string, type?: forge.asn1.Type): string {
  if (!node || typeof node.value !== 'string' || (type !== undefined && node.type !== type))
    throw new FormatError(path, 0, 'is not of the type that belongs there');
  return node.value;
}

function number(node: Asn1 | undefined, path: string): number {
  const digits = bytesOf(string(node, path, asn1.Type.INTEGER));
  if (digits.length === 0 || digits.length > 4) throw new FormatError(path, 0, 'is too large a number');
  return digits.reduce((value, byte) => value * 256 + byte, 0);
}

function oid(node: Asn1 | undefined, path: string): string {
  const text = string(node, path, asn1.Type.OID);
  if (text.length === 0 || text.length > 64) throw new FormatError(path, 0, 'is no object identifier');
  return asn1.derToOid(text);
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function hex(text: string): string {
  return Array.from(text, (character) => character.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}
