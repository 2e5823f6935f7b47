// X.509 certificates with elliptic curve keys. node-forge knows no EC keys, so it serves here as the DER layer alone, and
// whoever holds the key signs: a KeyObject of EVC, or a key that never leaves a TPM. Nothing is verified here.
import forge from 'node-forge';

const { asn1 } = forge;
type Asn1 = forge.asn1.Asn1;

export interface CertificateFields {
  /** Positive, at most 20 bytes, big-endian. */
  serial: Uint8Array;
  issuer: Name;
  subject: Name;
  notBefore: Date;
  notAfter: Date;
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Uint8Array;
  /** Whether it may sign other certificates; with how many between it and the end. */
  authority?: { pathLength: number };
  /** RFC 5280 4.2.1.3; bits from 0 (digitalSignature). */
  keyUsage: readonly number[];
  serverAuth?: boolean;
  /** DNS names and IPv4 addresses. */
  hosts?: readonly string[];
  /** RFC 5280 4.2.1.1 and 4.2.1.2: names of its key and of its issuer's, for those that build chains. */
  keyIdentifiers?: { subject: Uint8Array; authority: Uint8Array };
}

export interface Name {
  commonName: string;
  organization: string;
}

export const keyUsageBits = { digitalSignature: 0, keyAgreement: 4, keyCertSign: 5, cRLSign: 6 } as const;

const oids = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  subjectAltName: '2.5.29.17',
  subjectKeyIdentifier: '2.5.29.14',
  authorityKeyIdentifier: '2.5.29.35',
} as const;

/**
 * Builds a certificate that is signed with ECDSA and SHA-256.
 * `sign` gets the TBSCertificate in DER and returns the raw signature r ‖ s. Returns DER.
 */
export async function buildCertificate(
  fields: CertificateFields,
  sign: (tbs: Uint8Array) => Uint8Array | Promise<Uint8Array>,
): Promise<Uint8Array> {
  const tbs = sequence(
    explicit(0, [integer(Uint8Array.of(2))]),
    integer(fields.serial),
    sequence(oid(oids.ecdsaWithSha256)),
    name(fields.issuer),
    sequence(time(fields.notBefore), time(fields.notAfter)),
    name(fields.subject),
    asn1.fromDer(binary(fields.publicKey)),
    explicit(3, [sequence(...extensions(fields))]),
  );
  const tbsBytes = bytes(asn1.toDer(tbs).getBytes());
  const signature = ecdsaToDer(await sign(tbsBytes));
  const certificate = sequence(tbs, sequence(oid(oids.ecdsaWithSha256)), bitString(signature));
  return bytes(asn1.toDer(certificate).getBytes());
}

/** Raw r ‖ s as SEQUENCE { r INTEGER, s INTEGER }. */
export function ecdsaToDer(raw: Uint8Array): Uint8Array {
  const half = raw.length / 2;
  const pair = sequence(integer(raw.subarray(0, half)), integer(raw.subarray(half)));
  return bytes(asn1.toDer(pair).getBytes());
}

export function pem(label: string, der: Uint8Array): string {
  const lines = (btoa(binary(der)).match(/.{1,64}/g) ?? []).join('\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

function extensions(fields: CertificateFields): Asn1[] {
  const { authority, hosts, keyIdentifiers } = fields;
  const list = [
    extension(
      oids.basicConstraints,
      true,
      authority ? sequence(boolean(true), integer(Uint8Array.of(authority.pathLength))) : sequence(),
    ),
    extension(oids.keyUsage, true, bits(fields.keyUsage)),
  ];
  if (fields.serverAuth) list.push(extension(oids.extendedKeyUsage, false, sequence(oid(oids.serverAuth))));
  if (hosts?.length) list.push(extension(oids.subjectAltName, false, sequence(...hosts.map(generalName))));
  if (keyIdentifiers) {
    const { subject, authority: issuer } = keyIdentifiers;
    const octets = asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OCTETSTRING, false, binary(subject));
    const keyIdentifier = asn1.create(
      asn1.Class.CONTEXT_SPECIFIC,
      0 as forge.asn1.Type,
      false,
      binary(issuer),
    );
    list.push(extension(oids.subjectKeyIdentifier, false, octets));
    list.push(extension(oids.authorityKeyIdentifier, false, sequence(keyIdentifier)));
  }
  return list;
}

/** RFC 5280 4.2.1.6: iPAddress [7] or dNSName [2]. */
function generalName(host: string): Asn1 {
  const ip = /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
  const value = ip ? String.fromCharCode(...host.split('.').map(Number)) : host;
  return asn1.create(asn1.Class.CONTEXT_SPECIFIC, (ip ? 7 : 2) as forge.asn1.Type, false, value);
}

function extension(id: string, critical: boolean, value: Asn1): Asn1 {
  const der = asn1.toDer(value).getBytes();
  const parts = critical ? [oid(id), boolean(true)] : [oid(id)];
  return sequence(...parts, asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OCTETSTRING, false, der));
}

function name({ commonName, organization }: Name): Asn1 {
  const attribute = (id: string, value: string) =>
    asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SET, true, [
      sequence(
        oid(id),
        asn1.create(asn1.Class.UNIVERSAL, asn1.Type.UTF8, false, forge.util.encodeUtf8(value)),
      ),
    ]);
  return sequence(attribute(oids.organization, organization), attribute(oids.commonName, commonName));
}

/** RFC 5280 4.1.2.5: UTCTime until 2049, GeneralizedTime from then on. */
function time(date: Date): Asn1 {
  return date.getUTCFullYear() < 2050
    ? asn1.create(asn1.Class.UNIVERSAL, asn1.Type.UTCTIME, false, asn1.dateToUtcTime(date))
    : asn1.create(asn1.Class.UNIVERSAL, asn1.Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
}

/** A positive INTEGER from big-endian bytes, in DER's shortest form. */
function integer(value: Uint8Array): Asn1 {
  let start = 0;
  while (start < value.length - 1 && value[start] === 0) start++;
  const trimmed = value.subarray(start);
  const padded = (trimmed[0] ?? 0) & 0x80 ? Uint8Array.of(0, ...trimmed) : trimmed;
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.INTEGER, false, binary(padded));
}

function bits(set: readonly number[]): Asn1 {
  const last = Math.max(...set);
  const body = new Uint8Array(Math.floor(last / 8) + 1);
  for (const bit of set) body[bit >> 3] = (body[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  const unused = 7 - (last & 7);
  return asn1.create(
    asn1.Class.UNIVERSAL,
    asn1.Type.BITSTRING,
    false,
    binary(Uint8Array.of(unused, ...body)),
  );
}

function bitString(value: Uint8Array): Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.BITSTRING, false, `\0${binary(value)}`);
}

function boolean(value: boolean): Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.BOOLEAN, false, value ? '\xff' : '\0');
}

function oid(dotted: string): Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OID, false, asn1.oidToDer(dotted).getBytes());
}

function sequence(...parts: Asn1[]): Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SEQUENCE, true, parts);
}

function explicit(tag: number, parts: Asn1[]): Asn1 {
  return asn1.create(asn1.Class.CONTEXT_SPECIFIC, tag as forge.asn1.Type, true, parts);
}

/** forge keeps bytes in strings, one character each. */
function binary(value: Uint8Array): string {
  let text = '';
  for (const byte of value) text += String.fromCharCode(byte);
  return text;
}

function bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
