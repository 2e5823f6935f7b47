// A device that is nothing but its protocol: the real link and the real exchange with EVC, with keys and a log of this
// process in the place of a TPM. EVC cannot tell; it costs a hundredth of a device, so that two cores can load EVC.
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { signRaw } from '../../controller/pki.ts';
import { systemClock } from '../../device/clock.ts';
import type { ControllerCertificates } from '../../device/link/certificates.ts';
import { dialTls, login } from '../../device/link/dial.ts';
import { Evc } from '../../device/link/evc.ts';
import { Uplink } from '../../device/link/uplink.ts';
import { AttestGPSInput, AttestVersionType, ClaimsSchema } from '../../formats/wire/eve_pb.ts';
import type { LogPart } from '../../machines/flow.ts';
import { SoftQuoter, sha256 } from './soft-quote.ts';

/** How a device of the load is kept: hex, PEM and base64. */
export interface SoftDeviceFile {
  id: string;
  /** PKCS#8 of the device key, base64. */
  key: string;
  /** DER, base64. */
  certificate: string;
}

/** What the devices of a load share: they have booted alike, and one attestation key costs as much as many. */
export interface FleetFile {
  devices: SoftDeviceFile[];
  /** Of the attestation key, PKCS#8 in base64. */
  attestationKey: string;
  versions: { image: string; firmware: string };
}

export const recordedLog = (): Uint8Array =>
  new Uint8Array(readFileSync(new URL('../../device/boot/recorded/four-banks.bin', import.meta.url)));

export function privateKey(base64: string): KeyObject {
  return createPrivateKey({ key: Buffer.from(base64, 'base64'), format: 'der', type: 'pkcs8' });
}

export class Fleet {
  readonly quoter: SoftQuoter;
  readonly logs: LogPart[];
  readonly versions: FleetFile['versions'];
  readonly root: X509Certificate;
  readonly server: { host: string; port: number };
  certificates: ControllerCertificates | null = null;

  constructor(file: FleetFile, root: string, server: { host: string; port: number }) {
    const log = recordedLog();
    const key = privateKey(file.attestationKey);
    this.quoter = new SoftQuoter(log, { privateKey: key, publicKey: createPublicKey(key) });
    this.logs = [{ kind: 'bios', bytes: log, sha256: sha256(log).toString('hex') }];
    this.versions = file.versions;
    this.root = new X509Certificate(root);
    this.server = server;
  }
}

export class Attester {
  readonly device: SoftDeviceFile;
  readonly #fleet: Fleet;
  readonly #uplink: Uplink;
  readonly #evc: Evc;
  readonly #stop = new AbortController();
  #seen: string[] = [];

  constructor(fleet: Fleet, device: SoftDeviceFile) {
    const key = privateKey(device.key);
    const certificate = new Uint8Array(Buffer.from(device.certificate, 'base64'));
    const sign = (payload: Uint8Array) => signRaw(key, payload);
    this.#fleet = fleet;
    this.device = device;
    const identity = { device: device.id, serial: '', certificate, certificatePem: '' };
    this.#uplink = new Uplink({
      device: device.id,
      name: 'load',
      dial: () => dialTls(fleet.server, fleet.root.toString()),
      login: (channel) => login(identity, channel, async (payload) => sign(payload), systemClock),
      clock: systemClock,
      onPush: () => undefined,
    });
    this.#evc = new Evc({
      uplink: this.#uplink,
      clock: systemClock,
      device: device.id,
      root: fleet.root,
      signer: { certificate, sign },
      certificates: () => fleet.certificates,
      renewed: () => undefined,
    });
  }

  get connected(): boolean {
    return this.#uplink.connected;
  }

  /** Rejects with a Refusal of the link or of EVC. */
  async fetchCertificates(): Promise<void> {
    this.#fleet.certificates = await this.#evc.fetchCertificates(this.#stop.signal);
  }

  /** Nonce, quote, verdict, token, key into escrow, config. Rejects with a Refusal, or Error for a verdict that is none. */
  async attest(): Promise<void> {
    const { signal } = this.#stop;
    const { quoter, logs, versions } = this.#fleet;
    const token = randomBytes(32);
    const { nonce } = await this.#evc.requestNonce(signal);
    const claims = claimsOf(versions, sha256(token));
    const quoted = quoter.quote(sha256(Buffer.from(nonce, 'hex'), claims));
    const reply = await this.#evc.sendQuote(
      {
        quote: {
          attest: Buffer.from(quoted.attest).toString('hex'),
          signature: Buffer.from(quoted.signature).toString('hex'),
          nonce,
          pcrs: Object.fromEntries(
            [...quoter.pcrs].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')]),
          ),
        } as never,
        claims,
        versions,
        logs,
        seen: this.#seen,
      },
      signal,
    );
    if (reply.code !== 'success')
      throw new Error(`the verdict is ${reply.code}: ${JSON.stringify(reply.why)}`);
    this.#seen = logs.map(({ sha256: hash }) => hash);
    const keyId = `key-${this.device.id.slice(0, 8)}`;
    await this.#evc.storeKey({ keyId, encryptedKey: escrowed, token }, signal);
    await this.#evc.requestConfig({ token, version: 0 }, signal);
  }

  /** One request and its answer, of which nothing is looked at. */
  async ping(): Promise<void> {
    await this.#uplink.request('uuid', async () => empty, this.#stop.signal);
  }

  async close(): Promise<void> {
    this.#stop.abort(new Error('the load ends'));
    await this.#uplink.close();
  }
}

/** As long as the requests of a device are on the average. */
const empty = new Uint8Array(400);

/** As large as the box that a device makes of its key. */
const escrowed = Buffer.alloc(200, 7).toString('base64');

function claimsOf(versions: FleetFile['versions'], tokenHash: Uint8Array): Uint8Array {
  return toBinary(
    ClaimsSchema,
    create(ClaimsSchema, {
      versions: [
        { versionType: AttestVersionType.EVE, version: versions.image },
        { versionType: AttestVersionType.FIRMWARE, version: versions.firmware },
      ],
      location: { gpsInput: AttestGPSInput.ATTEST_GPS_INPUT_ABSENT },
      tokenHash,
    }),
  );
}

export function fleetFileIn(folder: string): string {
  return join(folder, 'fleet.json');
}
