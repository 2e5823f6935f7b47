// Requests in, replies and pushes out: the wire on one side, events and effects of the record on the other.
import {
  createHash,
  createPublicKey,
  type KeyObject,
  randomBytes,
  randomUUID,
  verify,
  X509Certificate,
} from 'node:crypto';
import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { LRUCache } from 'lru-cache';
import type { BoxPurpose } from '../formats/wire/box.ts';
import { encloseMessage, openContainer, readMessage, type Unverified } from '../formats/wire/envelope.ts';
import {
  CertsRequestSchema,
  ConfigRequestSchema,
  PushSchema,
  UuidRequestSchema,
  type ZAttestQuote,
  ZAttestQuoteSchema,
  type ZAttestReq,
  ZAttestReqSchema,
  ZAttestReqType,
  ZAttestResponseSchema,
  ZAttestRespType,
  ZInfoMsgSchema,
  ZRegisterMsgSchema,
} from '../formats/wire/eve_pb.ts';
import { decodeFrame, encodeFrame } from '../formats/wire/frame.ts';
import { formatTopic, parseTopic, type Topic } from '../formats/wire/topics.ts';
import { WireError } from '../formats/wire/wire-error.ts';
import type { Reply, RequestRef } from '../machines/device-record.ts';
import { openBox } from './box.ts';
import { Enrolment, type EnrolmentOptions } from './enrol/enrolment.ts';
import { presentedKeys } from './enrol/identity.ts';
import { EnrolmentRefused, type RegisteredDevice } from './enrol/onboarding.ts';
import { LogUnknown, presentedOf } from './evidence.ts';
import type { KnownLogs } from './known-logs.ts';
import { LogUploads } from './log-uploads.ts';
import { secretOf, signerOf } from './pki.ts';
import { certificatesMessage, problemMessage, replyMessage, statusOf } from './replies.ts';
import { StoreError } from './store/store.ts';
import { readClaims } from './verify/freshness.ts';

export interface DownlinkOptions extends EnrolmentOptions {
  logs: KnownLogs;
  publish(topic: string, bytes: Uint8Array): Promise<void>;
  /** A message that was not answered, and why. */
  onRefused?(topic: string, code: string, text: string): void;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
const largestInfo = 32 * 1024;
const deepestInfo = 32;
/** Reports of different kinds that are kept of one device. */
const mostReports = 16;
const longestKey = 100;
const certificateCache = 10_000;
const tokensKnown = 10_000;

/** What became of a request before any record saw it. */
class RequestRefused extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, text: string) {
    super(text);
    this.name = 'RequestRefused';
    this.status = status;
    this.code = code;
  }
}

export class Downlink {
  readonly #options: DownlinkOptions;
  readonly #enrolment: Enrolment;
  readonly #uploads: LogUploads;
  /** Public keys of devices; parsing one costs more than a signature. */
  readonly #keys = new Map<string, KeyObject>();
  /** Hashes of tokens, by device and box: opening a box costs more than everything else of a poll. */
  readonly #tokenHashes = new LRUCache<string, string>({ max: tokensKnown });

  constructor(options: DownlinkOptions) {
    this.#options = options;
    this.#enrolment = new Enrolment(options);
    this.#uploads = new LogUploads(options.store);
  }

  /**
   * Takes one message of a device. Never throws: what is wrong with it is answered, or dropped with a reason.
   *
   * @param arrived when EVC had it, ms since the epoch: how long it has waited here says EVC's clock, and never that of the device
   */
  async receive(text: string, payload: Uint8Array, arrived: number): Promise<void> {
    let topic: Topic;
    try {
      topic = parseTopic(text);
      if (topic.direction !== 'up') throw new WireError('wire.topic', 'a device asks, and EVC answers');
    } catch (error) {
      this.#dropped(text, error);
      return;
    }
    try {
      const frame = decodeFrame(payload);
      if (frame.kind !== 'request') throw new WireError('wire.frame', 'a device sends requests');
      // Nobody waits for this answer any more, and the work would be for nothing.
      if (frame.patience > 0 && this.#options.clock.now() - arrived > frame.patience) return;
      await this.#handle(topic, text, openContainer(frame.container));
    } catch (error) {
      await this.#answerError(topic, text, error);
    }
  }

  /** Answers a request that nobody looked at: there is too much to do. Never rejects. */
  async putOff(text: string, retryAfter: number): Promise<void> {
    const why = { code: 'limit.overload', text: 'EVC has more to do than it can; the same again later' };
    const problem = problemMessage(why);
    const topic = formatTopic({ ...parseTopic(text), direction: 'down' });
    await this.#publish(topic, problem.schema, problem.message, {
      kind: 'reply',
      status: 503,
      retryAfter,
    }).catch(() => undefined);
  }

  /** Sends the reply that a record decided on. */
  async reply(device: string, reply: Reply): Promise<void> {
    const { store, pki } = this.#options;
    const topic = formatTopic({
      device,
      direction: 'down',
      endpoint: reply.request.endpoint,
      request: reply.request.id,
    });
    const { schema, message } = await replyMessage(reply, {
      nonceOf: (salt) => nonceOf(pki.secret, device, salt),
      escrowed: (version) => store.escrowed(device, version),
    });
    const retryAfter = reply.body?.kind === 'verdict' ? reply.body.retryAfter : 0;
    await this.#publish(topic, schema, message, {
      kind: 'reply',
      status: statusOf(reply.status),
      retryAfter,
    });
  }

  async push(device: string, what: string): Promise<void> {
    const request = randomBytes(6).toString('hex');
    const topic = formatTopic({ device, direction: 'down', endpoint: 'push', request });
    await this.#publish(topic, PushSchema, create(PushSchema, { what }), {
      kind: 'push',
      status: 0,
      retryAfter: 0,
    });
  }

  async #handle(topic: Topic, text: string, opened: Unverified): Promise<void> {
    const { device, endpoint, request } = topic;
    const where = { topic: text, status: 0 };
    if (endpoint === 'certs') {
      // Public, and asked for before EVC knows the device: the answer carries its own proof.
      readMessage(CertsRequestSchema, opened.payload, where);
      return this.#sendCertificates(topic);
    }
    const ref: RequestRef = { endpoint: endpoint as RequestRef['endpoint'], id: request };
    if (endpoint === 'register') return this.#register(device, ref, opened, text);
    await this.#authenticate(device, opened);
    const runner = this.#options.runner();
    switch (endpoint) {
      case 'uuid':
        readMessage(UuidRequestSchema, opened.payload, where);
        await runner.send(device, { type: 'uuid.requested', request: ref });
        return;
      case 'attest':
        return this.#attest(device, ref, readMessage(ZAttestReqSchema, opened.payload, where));
      case 'config': {
        const message = readMessage(ConfigRequestSchema, opened.payload, where);
        const version = Number(message.configHash);
        await runner.send(device, {
          type: 'config.requested',
          request: ref,
          tokenHash: this.#tokenHash(device, message.integrityToken),
          version: Number.isSafeInteger(version) ? version : 0,
        });
        return;
      }
      case 'info': {
        const { key, body } = readMessage(ZInfoMsgSchema, opened.payload, where);
        const { info = {} } = (await runner.read(device))?.context ?? {};
        const added = !Object.hasOwn(info, key);
        if (key.length > longestKey || (added && Object.keys(info).length >= mostReports)) {
          throw new WireError(
            'wire.malformed',
            `a device has ${mostReports} reports, each named with ${longestKey} characters at most`,
          );
        }
        await runner.send(device, { type: 'info.received', request: ref, key, body: readInfo(body) });
        return;
      }
      default:
        throw new WireError('wire.topic', `no request goes to ${endpoint}`);
    }
  }

  async #register(device: string, ref: RequestRef, opened: Unverified, text: string): Promise<void> {
    const key = certificateOf(opened.senderCertificate, 'onboarding');
    checkSignature(opened, key.publicKey);
    const message = readMessage(ZRegisterMsgSchema, opened.payload, { topic: text, status: 0 });
    const certificate = certificateOf(
      Buffer.from(Buffer.from(message.pemCert).toString(), 'base64'),
      'device',
    );
    await this.#enrolment.register(device, ref, { key, certificate, serial: message.serial });
  }

  async #attest(device: string, ref: RequestRef, message: ZAttestReq): Promise<void> {
    const { clock, pki, store, logs } = this.#options;
    const runner = this.#options.runner();
    switch (message.reqType) {
      case ZAttestReqType.ATTEST_REQ_CERT:
        return this.#enrolment.certify(device, ref, presentedKeys(message.certs));
      case ZAttestReqType.ATTEST_REQ_PROOF: {
        const { challenge = '', proof = new Uint8Array() } = message.proof ?? {};
        return this.#enrolment.prove(device, ref, challenge.slice(0, 100), sha256(proof).toString('hex'));
      }
      case ZAttestReqType.ATTEST_REQ_NONCE: {
        const salt = randomBytes(16).toString('hex');
        const nonceHash = sha256(nonceOf(pki.secret, device, salt)).toString('hex');
        await runner.send(device, { type: 'nonce.requested', request: ref, salt, nonceHash });
        return;
      }
      case ZAttestReqType.ATTEST_REQ_QUOTE: {
        const { quote } = message;
        if (!quote) throw new WireError('wire.malformed', 'a quote request without a quote');
        // Read once before it counts: evidence that cannot be read does not use the nonce up.
        await this.#insertUploads(device, quote);
        const presented = await presentedOf(quote, (sha256) => logs.find(sha256));
        const claims = presented.claims ? readClaims(presented.claims) : null;
        const id = randomUUID();
        const attempt = {
          id,
          nonceHash: sha256(presented.nonce).toString('hex'),
          tokenHash: claims?.tokenHash ?? '',
          request: ref,
          at: clock.now(),
        };
        const bytes = toBinary(ZAttestQuoteSchema, quote);
        await runner.send(device, { type: 'quote.received', attempt }, { evidence: { id, bytes } });
        return;
      }
      case ZAttestReqType.ATTEST_REQ_LOG: {
        if (!message.log) throw new WireError('wire.malformed', 'a piece of a log without the piece');
        const received = await this.#uploads.take(device, message.log);
        return this.#sendReceived(device, ref, received);
      }
      case ZAttestReqType.ATTEST_REQ_STORE_KEYS: {
        const { integrityToken = new Uint8Array(), keys = [] } = message.storageKeys ?? {};
        const tokenHash = this.#tokenHash(device, integrityToken);
        if (tokenHash === null) {
          // A quote without claims proposes no token, and an empty one must not pass for it.
          throw new RequestRefused(403, 'token.missing', 'the request bears no integrity token');
        }
        const [key] = keys;
        if (!key || keys.length > 1) throw new WireError('wire.malformed', 'one key is escrowed at a time');
        const keyId = key.keyId.slice(0, 64);
        const { escrow = [] } = (await runner.read(device))?.context ?? {};
        // The same key again, after a reboot or a lost receipt, keeps its version, and what EVC has of it.
        const held = escrow[0]?.keyId === keyId ? escrow[0].version : 0;
        const version = held || (await store.lastEscrow(device)) + 1;
        const opened = () => this.#openBox(key.key, 'vault key in transit', device);
        const stored = held ? {} : { escrow: { device, version, keyId, box: opened(), at: clock.now() } };
        await runner.send(
          device,
          {
            type: 'key.received',
            request: ref,
            tokenHash,
            keyId,
            version,
          },
          stored,
        );
        return;
      }
      default:
        throw new WireError('wire.malformed', `no attest request has the type ${message.reqType}`);
    }
  }

  /** A device that seals for a key from before a renewal is understood, and told to fetch the new certificates. */
  #openBox(box: Uint8Array, purpose: BoxPurpose, device: string): Uint8Array {
    const { exchange, formerExchange } = this.#options.pki;
    try {
      return openBox(exchange.key, box, purpose, device);
    } catch (error) {
      for (const { key } of formerExchange) {
        try {
          const opened = openBox(key, box, purpose, device);
          void this.push(device, 'certificates').catch(() => undefined);
          return opened;
        } catch {
          // For another one, or for none.
        }
      }
      throw error;
    }
  }

  /** The hash of the token in a box, null when there is none; a box that is not ours counts as a wrong token. */
  #tokenHash(device: string, box: Uint8Array): string | null {
    if (box.length === 0) return null;
    // A device sends its token with each poll, in the same box.
    const { exchange } = this.#options.pki;
    const known = `${exchange.certificate.fingerprint256} ${device} ${sha256(box).toString('base64')}`;
    const hash =
      this.#tokenHashes.get(known) ?? sha256(this.#openBox(box, 'integrity token', device)).toString('hex');
    this.#tokenHashes.set(known, hash);
    return hash;
  }

  /** A log that EVC has only from this device, in pieces, takes its place in the quote. */
  async #insertUploads(device: string, quote: ZAttestQuote): Promise<void> {
    const { logs } = this.#options;
    const of = async (hash: Uint8Array) => {
      if (hash.length !== 32 || (await logs.find(Buffer.from(hash).toString('hex')))) return null;
      return this.#uploads.complete(device, hash);
    };
    const bios = await of(quote.tpmBinaryEventLogHash);
    if (bios) Object.assign(quote, { tpmBinaryEventLog: bios, tpmBinaryEventLogHash: new Uint8Array() });
    const config = await of(quote.configEventLogHash);
    if (config) Object.assign(quote, { configEventLog: config, configEventLogHash: new Uint8Array() });
  }

  async #sendReceived(device: string, { endpoint, id }: RequestRef, received: number): Promise<void> {
    const topic = formatTopic({ device, direction: 'down', endpoint, request: id });
    const message = { respType: ZAttestRespType.ATTEST_RESP_LOG, log: { received } };
    await this.#publish(topic, ZAttestResponseSchema, create(ZAttestResponseSchema, message), {
      kind: 'reply',
      status: 200,
      retryAfter: 0,
    });
  }

  async #authenticate(device: string, opened: Unverified): Promise<void> {
    let key = this.#keys.get(device);
    if (!key) {
      const registered = await this.#options.store.get<RegisteredDevice>('device', device);
      if (!registered) {
        throw new RequestRefused(
          400,
          'enrol.unknown-device',
          'EVC does not know this device; it has to register first',
        );
      }
      key = createPublicKey(
        new X509Certificate(Buffer.from(registered.certificate, 'base64')).publicKey.export({
          type: 'spki',
          format: 'pem',
        }),
      );
      if (this.#keys.size >= certificateCache) this.#keys.clear();
      this.#keys.set(device, key);
    }
    checkSignature(opened, key);
  }

  async #sendCertificates({ device, request }: Topic): Promise<void> {
    const topic = formatTopic({ device, direction: 'down', endpoint: 'certs', request });
    const { schema, message } = certificatesMessage(this.#options.pki);
    await this.#publish(topic, schema, message, { kind: 'reply', status: 200, retryAfter: 0 });
  }

  async #answerError(topic: Topic, text: string, error: unknown): Promise<void> {
    const { status, code, message, retryAfter } = describe(error);
    this.#options.onRefused?.(text, code, message);
    const down = formatTopic({ ...topic, direction: 'down' });
    const problem = problemMessage({ code, text: message });
    await this.#publish(down, problem.schema, problem.message, { kind: 'reply', status, retryAfter }).catch(
      () => undefined,
    );
  }

  #dropped(topic: string, error: unknown): void {
    const { code, message } = describe(error);
    this.#options.onRefused?.(topic, code, message);
  }

  async #publish<Desc extends DescMessage>(
    topic: string,
    schema: Desc,
    message: MessageInitShape<Desc> | MessageShape<Desc>,
    frame: { kind: 'reply' | 'push'; status: number; retryAfter: number },
  ): Promise<void> {
    const { pki, clock, publish } = this.#options;
    const container = await encloseMessage(
      schema,
      create(schema, message as MessageInitShape<Desc>),
      { topic, status: frame.status, at: clock.now() },
      signerOf(pki.signing),
      sha256,
    );
    await publish(topic, encodeFrame({ ...frame, patience: 0, container }));
  }
}

/** Derived, so that a nonce stands nowhere before its device has it, and a repeated effect sends the same one. */
export function nonceOf(secret: Uint8Array, device: string, salt: string): Uint8Array {
  return secretOf(secret, 'nonce', device, salt);
}

function checkSignature({ payload, signature }: Unverified, publicKey: KeyObject): void {
  const key = { key: publicKey, dsaEncoding: 'ieee-p1363' as const };
  if (publicKey.asymmetricKeyType !== 'ec' || !verify('sha256', payload, key, signature)) {
    throw new RequestRefused(401, 'wire.signature', 'the message is not signed by the key that it claims');
  }
}

function certificateOf(bytes: Uint8Array, what: string): X509Certificate {
  try {
    return new X509Certificate(bytes);
  } catch {
    throw new RequestRefused(422, 'wire.malformed', `the ${what} certificate cannot be read`);
  }
}

function readInfo(body: string): Record<string, unknown> {
  if (body.length > largestInfo)
    throw new WireError('wire.malformed', `a report of ${body.length} characters`);
  try {
    const value: unknown = JSON.parse(body);
    if (deeperThan(value, deepestInfo))
      throw new WireError('wire.malformed', `a report of more than ${deepestInfo} objects in each other`);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch (error) {
    if (error instanceof WireError) throw error;
    // Said below.
  }
  throw new WireError('wire.malformed', 'a report is a JSON object');
}

/** Whatever looks at a report later follows it down: as deep as it is, and never deeper than this asks. */
function deeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return depth === 0 || Object.values(value).some((part) => deeperThan(part, depth - 1));
}

/** An error as the device is told of it; what is not meant for it is only named. */
function describe(error: unknown): { status: number; code: string; message: string; retryAfter: number } {
  if (error instanceof RequestRefused || error instanceof EnrolmentRefused) {
    return { status: error.status, code: error.code, message: error.message, retryAfter: 0 };
  }
  if (error instanceof LogUnknown)
    return { status: 404, code: error.code, message: error.message, retryAfter: 0 };
  if (error instanceof WireError)
    return { status: 422, code: error.code, message: error.message, retryAfter: 0 };
  if (error instanceof Error && error.name === 'FormatError') {
    return { status: 422, code: 'wire.malformed', message: error.message, retryAfter: 0 };
  }
  if (error instanceof StoreError) {
    return {
      status: 503,
      code: `store.${error.code}`,
      message:
        error.code === 'ahead'
          ? 'a newer controller has this record, and will answer; try again'
          : 'EVC cannot store anything at the moment',
      retryAfter: 5000,
    };
  }
  return {
    status: 503,
    code: 'internal.error',
    message: 'EVC failed on this request; try again',
    retryAfter: 5000,
  };
}
