// Somebody who owns a device, root and all: it has the device's keys and TPM at hand, and sends what it likes.
import { createHash } from 'node:crypto';
import { duplexPair } from 'node:stream';
import { create, toBinary } from '@bufbuild/protobuf';
import mqtt from 'mqtt';
import { login } from '../../device/link/dial.ts';
import { Evc } from '../../device/link/evc.ts';
import { controllerCertificates, type Node, rootCertificate } from '../../device/node.ts';
import { type QuoteResult, quote } from '../../device/tpm/quote.ts';
import { AttestGPSInput, AttestVersionType, ClaimsSchema } from '../../formats/wire/eve_pb.ts';
import type { QuoteReply } from '../../machines/attest-task.ts';
import type { LogPart, Versions } from '../../machines/flow.ts';
import { eveQuotePcrs } from '../../machines/pcrs.ts';
import type { World, WorldDevice } from './world.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** Evidence before it is sent; spoil what you like. */
export interface Draft {
  nonce: Uint8Array;
  claims: Uint8Array;
  quote: { attest: Uint8Array; signature: Uint8Array; pcrs: Map<number, Uint8Array> };
  logs: LogPart[];
  versions: Versions;
  tokenHash: string;
}

export interface Plan {
  /** The nonce to quote over, instead of a fresh one of EVC. */
  nonce?: Uint8Array;
  versions?: Versions;
  pcrs?: readonly number[];
  /** Another device whose TPM makes the quote. */
  quoteOf?: WorldDevice;
  spoil?(draft: Draft): void;
}

export class Attacker {
  readonly #world: World;
  readonly #device: WorldDevice;
  readonly token = Buffer.alloc(32, 7);

  constructor(world: World, device: WorldDevice) {
    this.#world = world;
    this.#device = device;
  }

  get node(): Node {
    const { node } = this.#device.node;
    if (!node) throw new TypeError('the device is off');
    return node;
  }

  /** Runs a request to its end: time stands still unless the world moves. */
  async during<Value>(request: Promise<Value>): Promise<Value> {
    let over = false;
    const end = request.finally(() => {
      over = true;
    });
    end.catch(() => undefined);
    while (!over) await this.#world.quiet();
    return end;
  }

  async nonce(): Promise<Uint8Array> {
    const evc = await this.node.evc();
    const { nonce } = await this.during(evc.requestNonce(new AbortController().signal));
    return Buffer.from(nonce, 'hex');
  }

  claims(versions: Versions, tokenHash: string, place?: { latitude: number; longitude: number }): Uint8Array {
    return toBinary(
      ClaimsSchema,
      create(ClaimsSchema, {
        versions: [
          { versionType: AttestVersionType.EVE, version: versions.image },
          { versionType: AttestVersionType.FIRMWARE, version: versions.firmware },
        ],
        location: place
          ? { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_PRESENT, ...place, accuracy: 10, at: 1n }
          : { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_ABSENT },
        tokenHash: Buffer.from(tokenHash, 'hex'),
      }),
    );
  }

  /** True evidence, but for what the plan spoils. */
  async draft(plan: Plan = {}): Promise<Draft> {
    const { node } = this;
    const nonce = plan.nonce ?? (await this.nonce());
    const versions = plan.versions ?? node.boot.versions;
    const tokenHash = createHash('sha256').update(this.token).digest('hex');
    const claims = this.claims(versions, tokenHash);
    const qualifyingData = createHash('sha256').update(nonce).update(claims).digest();
    const { tpm } = plan.quoteOf?.node.node ?? node;
    const { ak } = await tpm.keys();
    const made: QuoteResult = await quote(tpm.tpm, ak, {
      qualifyingData,
      bank: 'sha256',
      pcrs: plan.pcrs ?? eveQuotePcrs,
    });
    const draft: Draft = {
      nonce,
      claims,
      quote: {
        attest: Uint8Array.from(made.attest),
        signature: Uint8Array.from(made.signature),
        pcrs: new Map(made.pcrs),
      },
      logs: node.boot.logs.map((part) => ({ ...part, bytes: Uint8Array.from(part.bytes) })),
      versions,
      tokenHash,
    };
    plan.spoil?.(draft);
    return draft;
  }

  async send(draft: Draft): Promise<QuoteReply> {
    const evc = await this.node.evc();
    const { nonce, claims, versions, logs } = draft;
    const { attest, signature, pcrs } = draft.quote;
    const made = {
      nonce: hex(nonce),
      attest: hex(attest),
      signature: hex(signature),
      pcrs: Object.fromEntries([...pcrs].map(([pcr, value]) => [String(pcr), hex(value)])),
    };
    return this.during(
      evc.sendQuote({ quote: made, claims, versions, logs, seen: [] }, new AbortController().signal),
    );
  }

  async attempt(plan: Plan = {}): Promise<QuoteReply> {
    return this.send(await this.draft(plan));
  }

  /** A config request with any token, or none; resolves with `full`, `partial`, `unchanged` or EVC's reason. */
  async config(token: Uint8Array | null, version = 0): Promise<string> {
    const evc = await this.node.evc();
    try {
      const config = await this.during(evc.requestConfig({ token, version }, new AbortController().signal));
      return config ? (config.partial ? 'partial' : 'full') : 'unchanged';
    } catch (error) {
      return (error as { code: string }).code;
    }
  }

  /** Logs in as this device once more, and publishes bytes as they are; resolves when the broker has ended the connection. */
  async publishRaw(topic: string, bytes: Uint8Array): Promise<void> {
    const { node } = this;
    const identity = await node.identity();
    const password = await login(identity, null, (payload) => node.tpm.sign(payload), node.clock);
    const [near, far] = duplexPair();
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
    this.#world.broker.accept(far);
    const client = new mqtt.MqttClient(() => near, {
      clientId: `${identity.device}:attacker`,
      username: identity.device,
      password,
      protocolVersion: 4,
      reconnectPeriod: 0,
      keepalive: 0,
    });
    client.on('error', () => undefined);
    await new Promise<void>((resolve) => client.once('connect', () => resolve()));
    const closed = new Promise<void>((resolve) => client.once('close', () => resolve()));
    client.publish(topic, Buffer.from(bytes), { qos: 1 });
    await closed;
    await client.endAsync(true);
  }

  /** EVC's API in this device's name, signed by somebody else. */
  async evcSignedBy(sign: (payload: Uint8Array) => Promise<Uint8Array>): Promise<Evc> {
    const { node } = this;
    const identity = await node.identity();
    return new Evc({
      uplink: await node.uplink(),
      clock: node.clock,
      device: identity.device,
      root: rootCertificate(node.config).certificate,
      signer: { certificate: identity.certificate, sign },
      certificates: () => controllerCertificates(node),
      renewed: () => undefined,
    });
  }
}
