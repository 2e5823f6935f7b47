// A vendor of TPMs for tests: root, intermediate, and certificates for endorsement keys, each spoiled as a test likes.
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import forge from 'node-forge';

const { asn1 } = forge;
type Asn1 = forge.asn1.Asn1;

const day = 24 * 3600 * 1000;
const oids = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  sha256WithRsa: '1.2.840.113549.1.1.11',
  md5WithRsa: '1.2.840.113549.1.1.4',
  ekCertificate: '2.23.133.8.1',
} as const;

/** What a certificate is made of; every part can be another than it should be. */
export interface Recipe {
  subject: readonly [id: string, value: string][];
  issuer: readonly [id: string, value: string][];
  notBefore: number;
  notAfter: number;
  /** SubjectPublicKeyInfo, DER. */
  publicKey: Uint8Array;
  extensions: readonly Extension[];
  /** One set for all attributes of a name, in the order given: no DER, and what Nuvoton does. */
  unsortedNames?: boolean;
  serial?: Uint8Array;
  /** Signed with MD5; RSA alone. */
  md5?: boolean;
}

export interface Extension {
  id: string;
  /** Undefined leaves the default out; false writes it, which DER forbids. */
  critical?: boolean;
  value: Asn1;
}

/** Somebody who signs certificates. */
export interface Signer {
  name: readonly [id: string, value: string][];
  key: KeyObject;
  /** Key identifier. */
  id: Uint8Array;
  certificate: Uint8Array;
}

export interface AuthorityOptions {
  by?: Signer;
  now: number;
  notBefore?: number;
  notAfter?: number;
  authority?: boolean;
  pathLength?: number;
  keyUsage?: readonly number[];
  /** Without subject and authority key identifiers. */
  anonymous?: boolean;
  rsa?: boolean;
  /** See Recipe. */
  unsortedNames?: boolean;
  /** Whose key it has, instead of a new one. */
  of?: Signer;
  /** Bytes of an extension that nobody reads. */
  padding?: number;
}

/** A certificate authority; its own root unless somebody else signs. */
export function authority(commonName: string, options: AuthorityOptions): Signer {
  const { now, by, authority: is = true, pathLength, keyUsage = [5, 6], anonymous = false } = options;
  const key = options.of?.key ?? newKey(options.rsa ?? false);
  const name: Signer['name'] = [
    [oids.organization, 'Test vendor'],
    [oids.commonName, commonName],
  ];
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const id = createHash('sha1').update(spki).digest();
  const self: Signer = { name, key, id, certificate: new Uint8Array() };
  const certificate = issue(by ?? self, {
    subject: name,
    issuer: (by ?? self).name,
    notBefore: options.notBefore ?? now - 3650 * day,
    notAfter: options.notAfter ?? now + 3650 * day,
    publicKey: spki,
    unsortedNames: options.unsortedNames ?? false,
    extensions: [
      { id: '2.5.29.19', critical: true, value: constraints(is, pathLength) },
      { id: '2.5.29.15', critical: true, value: bits(keyUsage) },
      ...(anonymous ? [] : identifiers(id, (by ?? self).id)),
      ...(options.padding ? [{ id: '1.2.3', value: octets(new Uint8Array(options.padding)) }] : []),
    ],
  });
  return { ...self, certificate };
}

function newKey(rsa: boolean): KeyObject {
  return rsa
    ? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

/** What the certificate of an endorsement key has: empty subject, critical alternative name, and its usage. */
export function ekRecipe(by: Signer, publicKey: Uint8Array, now: number): Recipe {
  return {
    subject: [],
    issuer: by.name,
    notBefore: now - 365 * day,
    notAfter: now + 3650 * day,
    publicKey,
    extensions: [
      { id: '2.5.29.19', critical: true, value: sequence() },
      { id: '2.5.29.15', critical: true, value: bits([4]) },
      usage([oids.ekCertificate]),
      alternativeName([
        ['2.23.133.2.1', 'id:4E544300'],
        ['2.23.133.2.2', 'NPCT75x'],
        ['2.23.133.2.3', 'id:00070002'],
      ]),
      ...identifiers(null, by.id),
    ],
  };
}

/** A good certificate for an endorsement key, but for what `spoil` changes. */
export function ekCertificate(
  by: Signer,
  publicKey: Uint8Array,
  now: number,
  spoil: (recipe: Recipe) => Recipe = (recipe) => recipe,
): Uint8Array {
  return issue(by, spoil(ekRecipe(by, publicKey, now)));
}

export function issue({ key }: Pick<Signer, 'key'>, recipe: Recipe): Uint8Array {
  const rsa = key.asymmetricKeyType === 'rsa';
  const { unsortedNames = false, serial = Uint8Array.of(1, ...randomBytes(8)), md5 = false } = recipe;
  const algorithm = sequence(
    oid(rsa ? (md5 ? oids.md5WithRsa : oids.sha256WithRsa) : oids.ecdsaWithSha256),
    ...(rsa ? [nothing()] : []),
  );
  const tbs = sequence(
    asn1.create(asn1.Class.CONTEXT_SPECIFIC, 0 as forge.asn1.Type, true, [
      primitive(asn1.Type.INTEGER, '\x02'),
    ]),
    primitive(asn1.Type.INTEGER, binary(serial)),
    algorithm,
    name(recipe.issuer, unsortedNames),
    sequence(time(recipe.notBefore), time(recipe.notAfter)),
    name(recipe.subject, unsortedNames),
    asn1.fromDer(binary(recipe.publicKey)),
    asn1.create(asn1.Class.CONTEXT_SPECIFIC, 3 as forge.asn1.Type, true, [
      sequence(...recipe.extensions.map(extension)),
    ]),
  );
  const bytes = der(tbs);
  const signature = sign(md5 ? 'md5' : 'sha256', bytes, key);
  return der(
    sequence(
      asn1.fromDer(binary(bytes)),
      algorithm,
      primitive(asn1.Type.BITSTRING, `\0${binary(signature)}`),
    ),
  );
}

export function usage(purposes: readonly string[]): Extension {
  return { id: '2.5.29.37', value: sequence(...purposes.map(oid)) };
}

export function alternativeName(attributes: readonly [id: string, value: string][]): Extension {
  const directory = asn1.create(asn1.Class.CONTEXT_SPECIFIC, 4 as forge.asn1.Type, true, [
    name(attributes, true),
  ]);
  return { id: '2.5.29.17', critical: true, value: sequence(directory) };
}

export function constraints(authority: boolean, pathLength?: number): Asn1 {
  return sequence(
    ...(authority ? [primitive(asn1.Type.BOOLEAN, '\xff')] : []),
    ...(pathLength === undefined ? [] : [primitive(asn1.Type.INTEGER, String.fromCharCode(pathLength))]),
  );
}

function identifiers(subject: Uint8Array | null, issuer: Uint8Array): Extension[] {
  const keyIdentifier = asn1.create(asn1.Class.CONTEXT_SPECIFIC, 0 as forge.asn1.Type, false, binary(issuer));
  return [
    ...(subject ? [{ id: '2.5.29.14', value: octets(subject) }] : []),
    { id: '2.5.29.35', value: sequence(keyIdentifier) },
  ];
}

function extension({ id, critical, value }: Extension): Asn1 {
  const content = primitive(asn1.Type.OCTETSTRING, asn1.toDer(value).getBytes());
  if (critical === undefined) return sequence(oid(id), content);
  return sequence(oid(id), primitive(asn1.Type.BOOLEAN, critical ? '\xff' : '\0'), content);
}

/** Names of TPMs are one set in many certificates, and the set is not sorted. */
function name(attributes: readonly [id: string, value: string][], oneSet: boolean): Asn1 {
  const pairs = attributes.map(([id, value]) =>
    sequence(oid(id), primitive(asn1.Type.UTF8, forge.util.encodeUtf8(value))),
  );
  const set = (parts: Asn1[]) => asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SET, true, parts);
  if (oneSet && pairs.length > 0) return sequence(set(pairs));
  return sequence(...pairs.map((pair) => set([pair])));
}

function time(at: number): Asn1 {
  return primitive(asn1.Type.GENERALIZEDTIME, asn1.dateToGeneralizedTime(new Date(at)));
}

function bits(set: readonly number[]): Asn1 {
  const byte = set.reduce((value, bit) => value | (0x80 >> bit), 0);
  return primitive(asn1.Type.BITSTRING, `\0${String.fromCharCode(byte)}`);
}

export function sequence(...parts: Asn1[]): Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SEQUENCE, true, parts);
}

function octets(bytes: Uint8Array): Asn1 {
  return primitive(asn1.Type.OCTETSTRING, binary(bytes));
}

function oid(dotted: string): Asn1 {
  return primitive(asn1.Type.OID, asn1.oidToDer(dotted).getBytes());
}

function nothing(): Asn1 {
  return primitive(asn1.Type.NULL, '');
}

function primitive(type: forge.asn1.Type, value: string): Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, type, false, value);
}

function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

function der(value: Asn1): Uint8Array {
  return Uint8Array.from(Buffer.from(asn1.toDer(value).getBytes(), 'latin1'));
}
