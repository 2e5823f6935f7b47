// EVC alone, with devices that exist as keys: what is sent to it, and what it answers.
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { tpmId } from '../../controller/enrol/identity.ts';
import { Evc } from '../../controller/evc.ts';
import { createPki, signRaw } from '../../controller/pki.ts';
import type { RunnerEvent } from '../../controller/record/runner.ts';
import type { Presented } from '../../controller/verify/verify.ts';
import { sealBox } from '../../device/box.ts';
import { pointOf } from '../../device/link/certificates.ts';
import { activateCredential } from '../../device/tpm/activate.ts';
import { encloseMessage, openContainer } from '../../formats/wire/envelope.ts';
import {
  ConfigRequestSchema,
  ConfigResponseSchema,
  ProblemSchema,
  TpmHashAlgo,
  ZAttestReqSchema,
  ZAttestReqType,
  ZAttestResponseSchema,
  ZCertMetaDataType,
  ZCertType,
  ZRegisterMsgSchema,
} from '../../formats/wire/eve_pb.ts';
import { decodeFrame, encodeFrame, type Frame } from '../../formats/wire/frame.ts';
import { type Endpoint, formatTopic } from '../../formats/wire/topics.ts';
import type { Account } from '../../machines/device-record.ts';
import { SimulatedClock } from './clock.ts';
import { type LabBoard, sha256 } from './evidence.ts';
import type { SoftDevice } from './logins.ts';

export const account: Account = {
  id: 'factory',
  kind: 'manufacturing',
  locationLock: false,
  radius: 100,
  moved: 'report',
};
const day = 24 * 3600 * 1000;

/** One answer of EVC, its signature not looked at. */
export interface Answer extends Frame {
  topic: string;
  payload: Uint8Array;
}

/** How a request is made, where it should not be made as an honest device makes it. */
export interface Crooked {
  /** Signs instead of the device. */
  by?: SoftDevice;
  /** The topic that is signed, where it is another than the one that is sent on. */
  boundTo?: string;
  status?: number;
  withCertificate?: boolean;
  patience?: number;
  /** Changes the bytes of the container. */
  change?(container: Uint8Array): Uint8Array;
  kind?: Frame['kind'];
}

export class EvcBench {
  readonly clock: SimulatedClock;
  readonly folder = mkdtempSync(join(tmpdir(), 'eve-evc-'));
  readonly answers: Answer[] = [];
  readonly refused: string[] = [];
  evc!: Evc;
  /** Told every step. */
  watch: (step: RunnerEvent) => void = () => undefined;
  #requests = 0;

  private constructor(start: number) {
    this.clock = new SimulatedClock(start);
  }

  /** @param start ms since the epoch */
  static async open(start = Date.UTC(2026, 5, 1)): Promise<EvcBench> {
    const bench = new EvcBench(start);
    await createPki(join(bench.folder, 'pki'), ['localhost'], bench.clock.now());
    await bench.start();
    await bench.evc.accounts.add(account);
    return bench;
  }

  async start(): Promise<void> {
    this.evc = await Evc.open({
      data: this.folder,
      clock: this.clock,
      imageBase: () => 'https://localhost:1',
      publish: async (topic, bytes) => {
        const frame = decodeFrame(bytes);
        this.answers.push({ ...frame, topic, payload: openContainer(frame.container).payload });
      },
      onRefused: (_, code, text) => this.refused.push(`${code}: ${text}`),
      watch: (step) => this.watch(step),
    });
  }

  async close(): Promise<void> {
    await this.evc.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Bytes as they come from the broker, and what EVC published until all was settled. */
  async receive(topic: string, bytes: Uint8Array): Promise<Answer[]> {
    const before = this.answers.length;
    this.evc.receive(topic, bytes);
    await this.evc.settled();
    return this.answers.slice(before);
  }

  topic(device: SoftDevice, endpoint: Endpoint): string {
    return formatTopic({ device: device.id, direction: 'up', endpoint, request: `r${this.#requests++}` });
  }

  /** A request and its answer; fails when there is none, or more than one. */
  async ask<Desc extends DescMessage>(
    device: SoftDevice,
    endpoint: Endpoint,
    schema: Desc,
    message: MessageInitShape<Desc>,
    crooked: Crooked = {},
  ): Promise<Answer> {
    const topic = this.topic(device, endpoint);
    const answers = await this.receive(topic, await this.frame(device, topic, schema, message, crooked));
    const [answer] = answers;
    if (!answer || answers.length > 1) throw new Error(`${answers.length} answers to ${endpoint}`);
    if (answer.topic !== topic.replace('/up/', '/down/'))
      throw new Error(`the answer went to ${answer.topic}`);
    return answer;
  }

  async frame<Desc extends DescMessage>(
    device: SoftDevice,
    topic: string,
    schema: Desc,
    message: MessageInitShape<Desc>,
    crooked: Crooked = {},
  ): Promise<Uint8Array> {
    const {
      by = device,
      boundTo = topic,
      status = 0,
      withCertificate = false,
      patience = 0,
      kind = 'request',
    } = crooked;
    const container = await encloseMessage(
      schema,
      create(schema, message),
      { topic: boundTo, status, at: this.clock.now() },
      { certificate: by.certificate, sign: (payload) => signRaw(by.key, payload) },
      sha256,
      withCertificate,
    );
    return encodeFrame({
      kind,
      status: 0,
      retryAfter: 0,
      patience,
      container: crooked.change?.(container) ?? container,
    });
  }

  /** A key that devices register with. */
  async onboardingKey(options: { limit?: number; expires?: number } = {}): Promise<SoftDevice> {
    const { limit = 1, expires = this.clock.now() + day } = options;
    const { createPrivateKey, X509Certificate } = await import('node:crypto');
    const made = await this.evc.keys.add({ name: 'test', account: account.id, limit, expires });
    const certificate = new X509Certificate(made.certificate).raw;
    return { id: sha256(certificate).toString('hex'), key: createPrivateKey(made.key), certificate };
  }

  register(
    device: SoftDevice,
    key: SoftDevice,
    serial: string,
    crooked: Crooked & { shown?: Uint8Array } = {},
  ): Promise<Answer> {
    const pem = `-----BEGIN CERTIFICATE-----\n${Buffer.from(crooked.shown ?? device.certificate).toString('base64')}\n-----END CERTIFICATE-----\n`;
    const message = { pemCert: Buffer.from(Buffer.from(pem).toString('base64')), serial };
    return this.ask(device, 'register', ZRegisterMsgSchema, message, {
      by: key,
      withCertificate: true,
      ...crooked,
    });
  }

  /** What is sealed for EVC, as a device does it. */
  sealed(
    device: SoftDevice,
    plain: Uint8Array,
    purpose: Parameters<typeof sealBox>[2] = 'integrity token',
  ): Uint8Array {
    return sealBox(pointOf(this.evc.pki.exchange.certificate.publicKey), plain, purpose, device.id);
  }

  /** @param ekCertificates PEM or DER. */
  async certs(
    board: LabBoard,
    ekCertificates: Uint8Array = new Uint8Array(),
  ): Promise<MessageInitShape<typeof ZAttestReqSchema>['certs'] & object> {
    const { ak, ek, ecdh } = await board.keys();
    return [
      certOf(ZCertType.CERT_TYPE_DEVICE_RESTRICTED_SIGNING, ak.publicBytes),
      { ...certOf(ZCertType.CERT_TYPE_DEVICE_ENDORSEMENT_RSA, ek.publicBytes), cert: ekCertificates },
      certOf(ZCertType.CERT_TYPE_DEVICE_ECDH_EXCHANGE, ecdh.publicBytes),
    ];
  }

  attest(
    device: SoftDevice,
    message: MessageInitShape<typeof ZAttestReqSchema>,
    crooked?: Crooked,
  ): Promise<Answer> {
    return this.ask(device, 'attest', ZAttestReqSchema, message, crooked);
  }

  /** One board serves several devices of a test, where EVC takes a TPM for one device alone: it changes hands. */
  async lend(board: LabBoard, device: SoftDevice): Promise<void> {
    const { ek } = await board.keys();
    await this.evc.store.put('tpm', tpmId(ek.public), { device: device.id });
  }

  /** Certificate, challenge and proof, as an honest device. */
  async certify(device: SoftDevice, board: LabBoard, ekCertificates?: Uint8Array): Promise<void> {
    await this.lend(board, device);
    const answer = await this.attest(device, {
      reqType: ZAttestReqType.ATTEST_REQ_CERT,
      certs: await this.certs(board, ekCertificates),
    });
    const { credential } = bodyOf(ZAttestResponseSchema, answer);
    if (!credential) throw new Error('no credential');
    const { ak, ek, srk } = await board.keys();
    const secret = await activateCredential(board.tpm, { ak, ek, salt: srk }, credential);
    const proof = createHmac('sha256', secret).update(credential.id).digest();
    const proven = await this.attest(device, {
      reqType: ZAttestReqType.ATTEST_REQ_PROOF,
      proof: { challenge: credential.id, proof },
    });
    if (proven.status !== 200) throw new Error(`the proof was answered ${proven.status}`);
  }

  async nonce(device: SoftDevice): Promise<Uint8Array> {
    const answer = await this.attest(device, { reqType: ZAttestReqType.ATTEST_REQ_NONCE });
    return bodyOf(ZAttestResponseSchema, answer).nonce?.nonce ?? new Uint8Array();
  }

  /** A whole attestation; returns the token that EVC confirmed. */
  async trusted(device: SoftDevice, board: LabBoard): Promise<Uint8Array> {
    const token = sha256(Buffer.from(`token ${this.#requests}`));
    const nonce = await this.nonce(device);
    const presented = await board.present({ nonce, claims: board.claims({ tokenHash: sha256(token) }) });
    const answer = await this.attest(device, {
      reqType: ZAttestReqType.ATTEST_REQ_QUOTE,
      quote: quoteOf(presented),
    });
    const { quoteResp } = bodyOf(ZAttestResponseSchema, answer);
    if (quoteResp?.response !== 1)
      throw new Error(`not trusted: ${JSON.stringify(quoteResp?.findings.map(({ code }) => code))}`);
    return token;
  }

  config(device: SoftDevice, token: Uint8Array | null): Promise<Answer> {
    const integrityToken = token ? this.sealed(device, token) : new Uint8Array();
    return this.ask(device, 'config', ConfigRequestSchema, { configHash: '0', integrityToken });
  }
}

export function certOf(type: ZCertType, metaData: Uint8Array) {
  return { type, metaDataItems: [{ type: ZCertMetaDataType.CERT_META_DATA_TYPE_TPM2_PUBLIC, metaData }] };
}

/** Evidence on the wire. */
export function quoteOf({ attest, signature, nonce, claims, pcrs, boot }: Presented) {
  const log = (kind: 'bios' | 'config'): Uint8Array =>
    gzipSync(boot.logs.find((part) => part.kind === kind)?.bytes ?? new Uint8Array());
  return {
    attestData: attest,
    tpmtSignature: signature,
    nonce,
    claims: claims ?? new Uint8Array(),
    pcrValues: [...pcrs].map(([index, value]) => ({ index, hashAlgo: TpmHashAlgo.SHA256, value })),
    tpmBinaryEventLog: log('bios'),
    configEventLog: log('config'),
  };
}

/** A device that is trusted gives a key of its vault: what EVC keeps of it. */
export async function escrowKey({ evc }: EvcBench, { id }: SoftDevice, keyId: string): Promise<Uint8Array> {
  const box = sealBox(
    pointOf(evc.pki.exchange.certificate.publicKey),
    Buffer.from('a key'),
    'vault key for the TPM',
    keyId,
  );
  const { token } = (await evc.runner.read(id))?.context ?? {};
  const request = { endpoint: 'attest', id: 'r' } as const;
  await evc.runner.send(
    id,
    { type: 'key.received', request, tokenHash: token?.hash ?? '', keyId, version: 1 },
    { escrow: { device: id, version: 1, keyId, box, at: 7 } },
  );
  return box;
}

export function bodyOf<Desc extends DescMessage>(schema: Desc, { payload }: Answer): MessageShape<Desc> {
  return fromBinary(schema, payload);
}

/** `status code`, the code being that of the problem, if it is one. */
export function saidOf(answer: Answer): string {
  const { status } = answer;
  if (status === 200 || status === 304) return String(status);
  return `${status} ${bodyOf(ProblemSchema, answer).code}`;
}

export function configOf(answer: Answer) {
  return bodyOf(ConfigResponseSchema, answer).config;
}
