// EVC as a device sees it: EVE's API v2, one function an exchange. A reply counts only with EVC's signature on it and on
// what it answers.
import { createHash, verify, type X509Certificate } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { create, type DescMessage, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import type { BoxPurpose } from '../../formats/wire/box.ts';
import { encloseMessage, openContainer, readMessage, type Signer } from '../../formats/wire/envelope.ts';
import {
  AttestStorageKeysResponseCode,
  AttestVersionType,
  AttestVolumeKeyType,
  CertsRequestSchema,
  ConfigRequestSchema,
  ConfigResponseSchema,
  type EdgeDevConfig,
  InfoResponseSchema,
  ProblemSchema,
  PushSchema,
  RegisterResponseSchema,
  TpmHashAlgo,
  UuidRequestSchema,
  UuidResponseSchema,
  ZAttestReqSchema,
  ZAttestReqType,
  ZAttestResponseCode,
  ZAttestResponseSchema,
  ZCertMetaDataType,
  ZCertType,
  ZControllerCertSchema,
  ZInfoMsgSchema,
  ZInfoTypes,
  ZRegisterMsgSchema,
} from '../../formats/wire/eve_pb.ts';
import type { Frame } from '../../formats/wire/frame.ts';
import type { Endpoint } from '../../formats/wire/topics.ts';
import type { Challenge, QuoteReply } from '../../machines/attest-task.ts';
import type { Clock } from '../../machines/clock.ts';
import type { LogPart } from '../../machines/flow.ts';
import type { EdgeNodeCert, MadeQuote } from '../../machines/tpm-manager.ts';
import { sealBox } from '../box.ts';
import { Refusal } from '../refusal.ts';
import { type ControllerCertificates, checkCertificates, pointOf } from './certificates.ts';
import type { Reply, Uplink } from './uplink.ts';

export interface EvcOptions {
  uplink: Uplink;
  clock: Clock;
  /** Device id: SHA-256 of its certificate, hex. */
  device: string;
  root: X509Certificate;
  /** Signs with the device key. */
  signer: Signer;
  certificates(): ControllerCertificates | null;
  /** Keeps those that were fetched because EVC signs with others now. */
  renewed(certificates: ControllerCertificates): void;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
const status = { ok: 200, unchanged: 304 } as const;

const replyCodes: Record<number, QuoteReply['code']> = {
  [ZAttestResponseCode.ATTEST_RESPONSE_CODE_INVALID]: 'invalid',
  [ZAttestResponseCode.ATTEST_RESPONSE_CODE_SUCCESS]: 'success',
  [ZAttestResponseCode.ATTEST_RESPONSE_CODE_NONCE_MISMATCH]: 'nonceMismatch',
  [ZAttestResponseCode.ATTEST_RESPONSE_CODE_NO_CERT_FOUND]: 'noCertFound',
  [ZAttestResponseCode.ATTEST_RESPONSE_CODE_QUOTE_FAILED]: 'quoteFailed',
};

/** Signatures of nobody that is known make a device ask for certificates this often at most, ms. */
const askedEvery = 10_000;

/** Bytes of a packed log that goes with its quote, and of one piece of a larger one: brokers bound their packets. */
const largestInline = 128 * 1024;
const chunkSize = 64 * 1024;

export class Evc {
  readonly #options: EvcOptions;
  /** Of the token that was sealed last: for which key and token, as a hash. */
  /** The last box of each purpose. */
  readonly #boxes = new Map<BoxPurpose, { of: string; box: Uint8Array }>();
  #asking: Promise<void> | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(options: EvcOptions) {
    this.#options = options;
  }

  /** The only answer that is checked against the root itself, since it brings the certificates. */
  async fetchCertificates(signal: AbortSignal): Promise<ControllerCertificates> {
    const reply = await this.#send('certs', CertsRequestSchema, {}, signal);
    const opened = openContainer(reply.container);
    const answer = readMessage(ZControllerCertSchema, opened.payload, {
      topic: reply.topic,
      status: reply.status,
    });
    const certificates = checkCertificates(answer, this.#options.root, this.#options.clock.now());
    checkSignature(opened, certificates.signing);
    return certificates;
  }

  async register(
    onboarding: Signer,
    device: { certificate: string; serial: string },
    signal: AbortSignal,
  ): Promise<void> {
    const message = {
      pemCert: Buffer.from(Buffer.from(device.certificate).toString('base64')),
      serial: device.serial,
    };
    const reply = await this.#send('register', ZRegisterMsgSchema, message, signal, onboarding);
    this.#open(RegisterResponseSchema, reply);
  }

  async fetchUuid(signal: AbortSignal): Promise<{ uuid: string }> {
    const reply = await this.#send('uuid', UuidRequestSchema, {}, signal);
    const { uuid } = this.#open(UuidResponseSchema, reply);
    if (!/^[0-9a-f-]{36}$/.test(uuid)) throw new Refusal('wire.malformed', 'EVC sent a UUID that is none');
    return { uuid };
  }

  async sendCertificate(cert: EdgeNodeCert, signal: AbortSignal): Promise<{ challenge: Challenge | null }> {
    const entry = (type: ZCertType, pem: string, tpmPublic: string) => ({
      type,
      cert: Buffer.from(pem),
      attributes: { isTpm: true },
      metaDataItems: [
        { type: ZCertMetaDataType.CERT_META_DATA_TYPE_TPM2_PUBLIC, metaData: Buffer.from(tpmPublic, 'hex') },
      ],
    });
    const reply = await this.#send(
      'attest',
      ZAttestReqSchema,
      {
        reqType: ZAttestReqType.ATTEST_REQ_CERT,
        certs: [
          entry(ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, cert.akCertificate, cert.akPublic),
          entry(ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, cert.ekCertificate, cert.ekPublic),
          entry(ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, cert.ecdhCertificate, cert.ecdhPublic),
        ],
      },
      signal,
    );
    const { credential } = this.#open(ZAttestResponseSchema, reply);
    if (!credential) return { challenge: null };
    return {
      challenge: {
        id: credential.id,
        credentialBlob: base64(credential.credentialBlob),
        encryptedSecret: base64(credential.encryptedSecret),
      },
    };
  }

  async sendProof(challenge: string, proof: string, signal: AbortSignal): Promise<void> {
    const message = {
      reqType: ZAttestReqType.ATTEST_REQ_PROOF,
      proof: { challenge, proof: Buffer.from(proof, 'hex') },
    };
    this.#open(ZAttestResponseSchema, await this.#send('attest', ZAttestReqSchema, message, signal));
  }

  async requestNonce(signal: AbortSignal): Promise<{ nonce: string }> {
    const message = { reqType: ZAttestReqType.ATTEST_REQ_NONCE };
    const answer = this.#open(
      ZAttestResponseSchema,
      await this.#send('attest', ZAttestReqSchema, message, signal),
    );
    const nonce = answer.nonce?.nonce ?? new Uint8Array();
    // EVE takes 12 to 32 bytes; fewer than 16 can be guessed in time.
    if (nonce.length < 16 || nonce.length > 32) {
      throw new Refusal('wire.malformed', `EVC sent a nonce of ${nonce.length} bytes, where 16 to 32 belong`);
    }
    return { nonce: Buffer.from(nonce).toString('hex') };
  }

  /**
   * Sends evidence. A log that EVC has goes as its hash, and a large one before the quote, in pieces.
   * Throws Refusal evidence.log.unknown where EVC does not have a log of `seen`: then nothing of this attempt is used up.
   *
   * @param evidence.seen SHA-256 of logs that EVC had with a quote that it accepted, hex
   */
  async sendQuote(
    evidence: {
      quote: MadeQuote;
      claims: Uint8Array;
      versions: { image: string; firmware: string };
      logs: LogPart[];
      seen: readonly string[];
    },
    signal: AbortSignal,
  ): Promise<QuoteReply> {
    const { quote, claims, versions, logs, seen } = evidence;
    const none = { packed: new Uint8Array(), hash: new Uint8Array() };
    const sent = { bios: none, config: none };
    for (const { kind, sha256, bytes } of logs) {
      const hash = Buffer.from(sha256, 'hex');
      if (seen.includes(sha256)) sent[kind] = { ...none, hash };
      else {
        const packed = gzipSync(bytes);
        if (packed.length <= largestInline) sent[kind] = { ...none, packed };
        else {
          await this.#sendLog(hash, packed, signal);
          sent[kind] = { ...none, hash };
        }
      }
    }
    const reply = await this.#send(
      'attest',
      ZAttestReqSchema,
      {
        reqType: ZAttestReqType.ATTEST_REQ_QUOTE,
        quote: {
          attestData: Buffer.from(quote.attest, 'hex'),
          tpmtSignature: Buffer.from(quote.signature, 'hex'),
          nonce: Buffer.from(quote.nonce, 'hex'),
          pcrValues: Object.entries(quote.pcrs).map(([index, value]) => ({
            index: Number(index),
            hashAlgo: TpmHashAlgo.SHA256,
            value: Buffer.from(value, 'hex'),
          })),
          versions: [
            { versionType: AttestVersionType.EVE, version: versions.image },
            { versionType: AttestVersionType.FIRMWARE, version: versions.firmware },
          ],
          tpmBinaryEventLog: sent.bios.packed,
          tpmBinaryEventLogHash: sent.bios.hash,
          configEventLog: sent.config.packed,
          configEventLogHash: sent.config.hash,
          claims,
        },
      },
      signal,
    );
    const { quoteResp } = this.#open(ZAttestResponseSchema, reply);
    if (!quoteResp) throw new Refusal('wire.malformed', 'EVC answered a quote without a verdict');
    const [first] = quoteResp.findings;
    const [key] = quoteResp.keys;
    const code = replyCodes[quoteResp.response] ?? 'invalid';
    return {
      code,
      why:
        code === 'success' || !first
          ? null
          : {
              code: first.code,
              text: first.text,
              details: {
                findings: quoteResp.findings.map(({ $typeName: _, $unknown, ...finding }) => finding),
              },
            },
      retryAfter: reply.retryAfter,
      until: Number(quoteResp.trustedUntil),
      key: key ? { keyId: key.keyId, version: key.escrowVersion, encryptedKey: base64(key.key) } : null,
      rotate: quoteResp.rotate,
    };
  }

  /** A packed log in pieces; EVC says what it has after each. */
  async #sendLog(sha256: Uint8Array, packed: Uint8Array, signal: AbortSignal): Promise<void> {
    for (let offset = 0; offset < packed.length; ) {
      const log = { sha256, size: packed.length, offset, data: packed.subarray(offset, offset + chunkSize) };
      const message = { reqType: ZAttestReqType.ATTEST_REQ_LOG, log };
      const answer = this.#open(
        ZAttestResponseSchema,
        await this.#send('attest', ZAttestReqSchema, message, signal),
      );
      const received = answer.log?.received ?? 0;
      if (received <= offset || received > packed.length)
        throw new Refusal('wire.malformed', `EVC has ${received} bytes of the log after byte ${offset}`);
      offset = received;
    }
  }

  /** Throws Refusal with EVC's own code when it will not keep the key. */
  async storeKey(
    key: { keyId: string; encryptedKey: string; token: Uint8Array },
    signal: AbortSignal,
  ): Promise<{ keyId: string; version: number }> {
    const point = this.#exchangePoint();
    const reply = await this.#send(
      'attest',
      ZAttestReqSchema,
      {
        reqType: ZAttestReqType.ATTEST_REQ_STORE_KEYS,
        storageKeys: {
          integrityToken: this.#sealed(point, key.token, 'integrity token'),
          keys: [
            {
              keyType: AttestVolumeKeyType.VSK,
              key: this.#sealed(point, Buffer.from(key.encryptedKey, 'base64'), 'vault key in transit'),
              keyId: key.keyId,
            },
          ],
        },
      },
      signal,
    );
    const { storageKeysResp } = this.#open(ZAttestResponseSchema, reply);
    if (storageKeysResp?.response === AttestStorageKeysResponseCode.ITOKEN_MISMATCH) {
      const { code = 'token.wrong', text = 'EVC does not take the key with this token' } =
        storageKeysResp.problem ?? {};
      throw new Refusal(code, text);
    }
    if (!storageKeysResp || storageKeysResp.keyId !== key.keyId) {
      throw new Refusal('wire.malformed', 'EVC’s receipt is for another key');
    }
    return { keyId: storageKeysResp.keyId, version: storageKeysResp.escrowVersion };
  }

  /** null when the version that the device has is the newest. */
  async requestConfig(
    request: { token: Uint8Array | null; version: number },
    signal: AbortSignal,
  ): Promise<EdgeDevConfig | null> {
    const message = {
      configHash: String(request.version),
      ...(request.token
        ? { integrityToken: this.#sealed(this.#exchangePoint(), request.token, 'integrity token') }
        : {}),
    };
    const reply = await this.#send('config', ConfigRequestSchema, message, signal);
    const { config } = this.#open(ConfigResponseSchema, reply);
    if (reply.status === status.unchanged) return null;
    if (!config) throw new Refusal('wire.malformed', 'EVC sent a configuration that is none');
    return config;
  }

  async sendInfo(key: string, body: object, signal: AbortSignal): Promise<void> {
    const message = { ztype: ZInfoTypes.DEVICE, key, body: JSON.stringify(body) };
    this.#open(InfoResponseSchema, await this.#send('info', ZInfoMsgSchema, message, signal));
  }

  /**
   * Fetches EVC's certificates where a message names one as its signer that is not here: EVC has renewed them. What is fetched
   * is checked against the root; what is not, is refused as ever when the message is opened.
   */
  async learnSigner(container: Uint8Array, signal: AbortSignal): Promise<void> {
    const { certificates, clock, renewed } = this.#options;
    const known = certificates();
    if (!known) return;
    const named = Buffer.from(openContainer(container).senderHash).toString('hex');
    if (named === known.signing.fingerprint256.replaceAll(':', '').toLowerCase()) return;
    const now = clock.now();
    if (!this.#asking) {
      if (Math.abs(now - this.#askedAt) < askedEvery) return;
      this.#askedAt = now;
      this.#asking = this.fetchCertificates(signal)
        .then(renewed, () => undefined)
        .finally(() => {
          this.#asking = null;
        });
    }
    await this.#asking;
  }

  /** What EVC pushes; throws for what is not signed by it, so that nobody else can make a device busy. */
  readPush(topic: string, frame: Frame): string {
    return this.#open(PushSchema, { ...frame, topic }).what;
  }

  /** The same secret in the same box: EVC, which has opened it before, need not do so again. */
  #sealed(point: Uint8Array, secret: Uint8Array, purpose: BoxPurpose): Uint8Array {
    const of = sha256(Buffer.concat([point, secret])).toString('hex');
    const last = this.#boxes.get(purpose);
    if (last?.of === of) return last.box;
    const box = sealBox(point, secret, purpose, this.#options.device);
    this.#boxes.set(purpose, { of, box });
    return box;
  }

  #exchangePoint(): Uint8Array {
    return pointOf(this.#certificates().exchange.publicKey);
  }

  #certificates(): ControllerCertificates {
    const certificates = this.#options.certificates();
    if (!certificates) throw new Refusal('certs.missing', 'EVC’s certificates were not fetched yet');
    return certificates;
  }

  async #send<Desc extends DescMessage>(
    endpoint: Endpoint,
    schema: Desc,
    message: MessageInitShape<Desc>,
    signal: AbortSignal,
    onboarding?: Signer,
  ): Promise<Reply> {
    const { uplink, clock, signer } = this.#options;
    const reply = await uplink.request(
      endpoint,
      (topic) =>
        encloseMessage(
          schema,
          create(schema, message),
          { topic, status: 0, at: clock.now() },
          onboarding ?? signer,
          sha256,
          onboarding !== undefined,
        ),
      signal,
    );
    // That of the certificates brings its own proof.
    if (endpoint !== 'certs') await this.learnSigner(reply.container, signal);
    return reply;
  }

  #open<Desc extends DescMessage>(schema: Desc, reply: Reply): MessageShape<Desc> {
    const opened = openContainer(reply.container);
    checkSignature(opened, this.#certificates().signing);
    const where = { topic: reply.topic, status: reply.status };
    if (reply.status === 0 || reply.status === status.ok || reply.status === status.unchanged) {
      return readMessage(schema, opened.payload, where);
    }
    const { code, text } = readMessage(ProblemSchema, opened.payload, where);
    throw new Refusal(code, text, { retryAfter: reply.retryAfter, details: { status: reply.status } });
  }
}

function checkSignature(opened: ReturnType<typeof openContainer>, certificate: X509Certificate): void {
  const key = { key: certificate.publicKey, dsaEncoding: 'ieee-p1363' as const };
  if (!verify('sha256', opened.payload, key, opened.signature)) {
    throw new Refusal('wire.signature', 'a message that claims to be EVC’s is not signed by it');
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
