// What a record decided to answer, as EVE's API says it.
import { create, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AttestStorageKeysResponseCode,
  AttestVolumeKeyType,
  ConfigResponseSchema,
  HashAlgorithm,
  InfoResponseSchema,
  ProblemSchema,
  RegisterResponseSchema,
  UuidResponseSchema,
  ZAttestResponseCode,
  ZAttestResponseSchema,
  ZAttestRespType,
  ZCertType,
  ZControllerCertSchema,
} from '../formats/wire/eve_pb.ts';
import type { Reply, Status, VerdictCode } from '../machines/device-record.ts';
import type { BaseOsConfig, Finding } from '../machines/flow.ts';
import { explain } from '../machines/reasons.ts';
import type { KeyPair, Pki } from './pki.ts';
import type { EscrowRow } from './store/store.ts';

/** A message and the schema that it follows. */
export interface Encodable {
  schema: DescMessage;
  message: MessageInitShape<DescMessage>;
}

/** EVE's API speaks HTTP's numbers. */
const statuses: Record<Status, number> = {
  ok: 200,
  unchanged: 304,
  unknown: 400,
  forbidden: 403,
  conflict: 409,
};

export function statusOf(status: Status): number {
  return statuses[status];
}

const verdictCodes: Record<VerdictCode, ZAttestResponseCode> = {
  invalid: ZAttestResponseCode.ATTEST_RESPONSE_CODE_INVALID,
  success: ZAttestResponseCode.ATTEST_RESPONSE_CODE_SUCCESS,
  nonceMismatch: ZAttestResponseCode.ATTEST_RESPONSE_CODE_NONCE_MISMATCH,
  noCertFound: ZAttestResponseCode.ATTEST_RESPONSE_CODE_NO_CERT_FOUND,
  quoteFailed: ZAttestResponseCode.ATTEST_RESPONSE_CODE_QUOTE_FAILED,
};

export async function replyMessage(
  { body, request }: Reply,
  secrets: { nonceOf(salt: string): Uint8Array; escrowed(version: number): Promise<EscrowRow | null> },
): Promise<Encodable> {
  if (!body) return encodable(request.endpoint === 'config' ? ConfigResponseSchema : InfoResponseSchema, {});
  switch (body.kind) {
    case 'registered':
      return encodable(RegisterResponseSchema, {});
    case 'uuid':
      return encodable(UuidResponseSchema, {
        uuid: body.uuid,
        manufacturer: 'eve-attest',
        productName: 'edge node',
      });
    case 'certificate':
      return encodable(ZAttestResponseSchema, {
        respType: ZAttestRespType.ATTEST_RESP_CERT,
        ...(body.challenge
          ? {
              credential: {
                id: body.challenge.id,
                credentialBlob: Buffer.from(body.challenge.credentialBlob, 'base64'),
                encryptedSecret: Buffer.from(body.challenge.encryptedSecret, 'base64'),
              },
            }
          : {}),
      });
    case 'nonce':
      return encodable(ZAttestResponseSchema, {
        respType: ZAttestRespType.ATTEST_RESP_NONCE,
        nonce: { nonce: secrets.nonceOf(body.salt) },
      });
    case 'verdict': {
      const held = body.key ? await secrets.escrowed(body.key.version) : null;
      return encodable(ZAttestResponseSchema, {
        respType: ZAttestRespType.ATTEST_RESP_QUOTE_RESP,
        quoteResp: {
          response: verdictCodes[body.code],
          findings: (body.findings.length > 0 ? body.findings : body.why ? [body.why] : []).map(finding),
          trustedUntil: BigInt(body.until),
          rotate: body.rotate,
          keys: held
            ? [
                {
                  keyType: AttestVolumeKeyType.VSK,
                  key: held.box,
                  keyId: held.keyId,
                  escrowVersion: held.version,
                },
              ]
            : [],
        },
      });
    }
    case 'config':
      return encodable(ConfigResponseSchema, {
        config: {
          id: { version: String(body.version) },
          partial: body.partial,
          settings: body.settings,
          ...(body.baseOs ? { baseos: baseOs(body.baseOs) } : {}),
          ...(body.why ? { problem: { code: body.why.code, text: body.why.text } } : {}),
        },
        configHash: String(body.version),
      });
    case 'stored':
      return encodable(ZAttestResponseSchema, {
        respType: ZAttestRespType.ATTEST_RESP_STORE_KEYS,
        storageKeysResp: {
          response: AttestStorageKeysResponseCode.SUCCESS,
          keyId: body.keyId,
          escrowVersion: body.version,
        },
      });
    case 'notStored':
      return encodable(ZAttestResponseSchema, {
        respType: ZAttestRespType.ATTEST_RESP_STORE_KEYS,
        storageKeysResp: {
          response: AttestStorageKeysResponseCode.ITOKEN_MISMATCH,
          keyId: body.keyId,
          problem: { code: body.why.code, text: body.why.text },
        },
      });
    case 'noted':
      return encodable(InfoResponseSchema, {});
    case 'refused':
      return problemMessage(body.why);
  }
}

export function problemMessage(why: { code: string; text: string }): Encodable {
  return encodable(ProblemSchema, { code: why.code, text: why.text });
}

export function certificatesMessage(pki: Pki): Encodable {
  const entry = (type: ZCertType, { certificate }: KeyPair) => ({
    hashAlgo: HashAlgorithm.SHA256_32BYTES,
    certHash: Buffer.from(certificate.fingerprint256.replaceAll(':', ''), 'hex'),
    type,
    cert: Buffer.from(certificate.toString()),
  });
  return encodable(ZControllerCertSchema, {
    certs: [
      entry(ZCertType.CERT_TYPE_CONTROLLER_SIGNING, pki.signing),
      entry(ZCertType.CERT_TYPE_CONTROLLER_ECDH_EXCHANGE, pki.exchange),
    ],
  });
}

function encodable<Desc extends DescMessage>(schema: Desc, message: MessageInitShape<Desc>): Encodable {
  return { schema, message: create(schema, message) as MessageInitShape<DescMessage> };
}

function finding({ code, text, ...where }: Finding) {
  const { pcr, event, seen = '', allowed = '', remedy = explain(code).remedy } = where;
  return {
    code,
    text,
    seen,
    allowed,
    remedy,
    ...(pcr === undefined ? {} : { pcr }),
    ...(event === undefined ? {} : { event }),
  };
}

function baseOs({ version, url, sha256, size, signature, testWindow, retryCounter }: BaseOsConfig) {
  return {
    activate: true,
    baseOsVersion: version,
    url,
    sha256: Buffer.from(sha256, 'hex'),
    size: BigInt(size),
    signature: Buffer.from(signature, 'base64'),
    testWindow,
    retryUpdate: { counter: retryCounter },
  };
}
