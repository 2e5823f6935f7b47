// Who a device says it is: the keys that it presents, what its vendor says of them, and the credential that makes it prove
// them. Nothing of it counts before the proof.
import { createHash } from 'node:crypto';
import { FormatError } from '../../formats/format-error.ts';
import { decode, encode } from '../../formats/tpm2/codec.ts';
import { objectName } from '../../formats/tpm2/names.ts';
import { publicJwk } from '../../formats/tpm2/spki.ts';
import { TPMT_PUBLIC } from '../../formats/tpm2/structures.ts';
import { type ZCert, ZCertMetaDataType, ZCertType } from '../../formats/wire/eve_pb.ts';
import { certificatesIn } from '../../formats/x509/parse.ts';
import type { DeviceRecordSnapshot, Identity } from '../../machines/device-record.ts';
import type { Why } from '../../machines/waiting.ts';
import type { Store } from '../store/store.ts';
import { hash } from '../verify/hash.ts';
import { attestationKey } from '../verify/quote.ts';
import { type EkJudgement, judgeEkCertificate, longestChain } from './certificates.ts';
import { type MadeCredential, makeCredential } from './credential.ts';
import type { VendorCertificates } from './ek-roots.ts';
import { EnrolmentRefused } from './onboarding.ts';

/** The keys of a device as it sent them; names are computed here. */
export interface PresentedKeys {
  /** Hex. */
  akName: string;
  akPublic: string;
  ekName: string;
  ecdhPublic: string;
  ek: TPMT_PUBLIC;
  /** What came in the place of the endorsement key's certificate: PEM or DER, or nothing. */
  ekCertificates: Uint8Array;
}

/** Throws EnrolmentRefused evidence.identity.key, wire.malformed; FormatError. */
export function presentedKeys(certs: readonly ZCert[]): PresentedKeys {
  const entry = (type: ZCertType, what: string) => {
    const found = certs.filter((cert) => cert.type === type);
    const item = found[0]?.metaDataItems.find(
      (candidate) => candidate.type === ZCertMetaDataType.CERT_META_DATA_TYPE_TPM2_PUBLIC,
    );
    if (!item || found.length > 1)
      throw new EnrolmentRefused('wire.malformed', 422, `one ${what} with its public area belongs here`);
    const bytes = Uint8Array.from(item.metaData);
    return { bytes, area: decode(TPMT_PUBLIC, bytes), cert: found[0]?.cert ?? new Uint8Array() };
  };
  const ak = entry(ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, 'attestation key');
  const ek = entry(ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, 'endorsement key');
  const ecdh = entry(ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, 'ECDH key');
  try {
    attestationKey(ak.area);
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unusable';
    throw new EnrolmentRefused('evidence.identity.key', 422, `the attestation key is ${why}`);
  }
  return {
    akName: nameOf(ak.area),
    akPublic: hex(ak.bytes),
    ekName: nameOf(ek.area),
    ecdhPublic: hex(ecdh.bytes),
    ek: ek.area,
    ekCertificates: ek.cert,
  };
}

/** The identity that a proof would give these keys, or why there can be none. */
export function identityOf(
  { akName, akPublic, ekName, ecdhPublic, ek, ekCertificates }: PresentedKeys,
  known: VendorCertificates,
): { identity: Identity } | { refused: Why } {
  let certificates: Uint8Array[] = [];
  try {
    if (ekCertificates.length > 0) certificates = certificatesIn(ekCertificates, longestChain);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { refused: { code: 'enrol.ek-unreadable', text: `the endorsement key’s ${error.message}` } };
  }
  const judged = judgeEkCertificate(certificates, ek, known);
  if (judged.trust === 'refused') return { refused: judged.why };
  const keys = { akName, akPublic, ekName, ekPublic: hex(encode(TPMT_PUBLIC, ek)), ecdhPublic };
  return { identity: { ...keys, ...endorsementOf(judged) } };
}

/**
 * What the roots as they stand now make of an identity that was proven before; null where that is nothing new. What would
 * be refused today is a vendor’s word no more, and the keys stay proven.
 */
export function judgedAgain(
  { ekPublic, ekTrust, ekCertificate }: Identity,
  known: VendorCertificates,
): Pick<Identity, 'ekTrust' | 'ekCertificate'> | null {
  if (ekPublic === undefined || ekCertificate === undefined) return null;
  const sent = ekCertificate.sent.map((certificate) => Buffer.from(certificate, 'base64'));
  const judged = judgeEkCertificate(sent, decode(TPMT_PUBLIC, Buffer.from(ekPublic, 'hex')), known);
  const next = endorsementOf(
    judged.trust === 'refused'
      ? { trust: 'unknown-vendor', certificate: { ...ekCertificate, why: judged.why } }
      : judged,
  );
  const same =
    next.ekTrust === ekTrust &&
    next.ekCertificate?.why?.text === ekCertificate.why?.text &&
    next.ekCertificate?.chain.join() === ekCertificate.chain.join();
  return same ? null : next;
}

/**
 * A credential that opens only in the TPM that has this endorsement key *and* this attestation key.
 * Throws EnrolmentRefused evidence.identity.key for an endorsement key that nothing can be encrypted for.
 */
export function credentialFor({ ek, akName }: PresentedKeys, secret: Uint8Array): MadeCredential {
  try {
    return makeCredential({ ekPublic: ek, akName: Buffer.from(akName, 'hex'), secret });
  } catch {
    throw new EnrolmentRefused(
      'evidence.identity.key',
      422,
      'the endorsement key is no restricted decryption key that EVC can encrypt for',
    );
  }
}

interface TpmHolder {
  device: string;
}

/** Reads the record of a device. */
type ReadRecord = (device: string) => Promise<DeviceRecordSnapshot | null>;

/**
 * What tells one TPM from another: its endorsement key itself. The rest of the public area is what the device says of it,
 * and a credential opens whatever is said; of a point, one coordinate is enough for that. A TPM makes as many endorsement
 * keys as its owner likes, so it takes a vendor’s certificate to say that there is no other TPM behind this one.
 */
export function tpmId(ek: TPMT_PUBLIC): string {
  const jwk = publicJwk(ek);
  const key = jwk.kty === 'RSA' ? [jwk.kty, jwk.n] : [jwk.kty, jwk.crv, jwk.x];
  return createHash('sha256').update(JSON.stringify(key)).digest('hex');
}

/**
 * The other device that this TPM is proven to be in; null when there is none. One that is retired, or has another TPM now,
 * holds it no more.
 */
export async function holderOf(
  store: Store,
  read: ReadRecord,
  tpm: string,
  device: string,
): Promise<string | null> {
  const holder = await store.get<TpmHolder>('tpm', tpm);
  if (!holder || holder.device === device) return null;
  const context = (await read(holder.device))?.context;
  // It took the TPM with the right proof, which its record may count a moment later: what is pending holds it as well.
  const held = [context?.identity, context?.pending?.identity].some(
    (identity) => identity?.ekPublic && tpmIdOf(identity.ekPublic) === tpm,
  );
  return context?.active && held ? holder.device : null;
}

/**
 * Notes that this TPM is the one of this device, once it is proven. False if another device was faster: one TPM that answers
 * for two devices is a relay, whoever of them has it.
 */
export async function takeTpm(store: Store, read: ReadRecord, tpm: string, device: string): Promise<boolean> {
  const before = await store.get<TpmHolder>('tpm', tpm);
  if ((await holderOf(store, read, tpm, device)) !== null) return false;
  // In a transaction of its own, since two devices may prove the same TPM at the same moment.
  const after = await store.update<TpmHolder>('tpm', tpm, (holder) =>
    !holder || holder.device === before?.device ? { device } : holder,
  );
  return after.device === device;
}

/** @param ekPublic TPMT_PUBLIC, hex. */
export function tpmIdOf(ekPublic: string): string {
  return tpmId(decode(TPMT_PUBLIC, Buffer.from(ekPublic, 'hex')));
}

function endorsementOf(
  judged: Exclude<EkJudgement, { trust: 'refused' }>,
): Pick<Identity, 'ekTrust' | 'ekCertificate'> {
  return judged.trust === 'first-use'
    ? { ekTrust: 'first-use' }
    : { ekTrust: judged.trust, ekCertificate: judged.certificate };
}

function nameOf(area: TPMT_PUBLIC): string {
  return hex(objectName(hash, area));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
