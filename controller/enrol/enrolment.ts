// Enrolment: a device registers with an onboarding key, presents the keys of its TPM, and proves that they are in one TPM.
import { createHash, createHmac, randomUUID, type X509Certificate } from 'node:crypto';
import type { Clock } from '../../machines/clock.ts';
import type { RequestRef } from '../../machines/device-record.ts';
import { tpmTaken } from '../../machines/record/enrolment.ts';
import { proves } from '../../machines/record/judgement.ts';
import { type Pki, secretOf } from '../pki.ts';
import type { RecordRunner } from '../record/runner.ts';
import type { Store } from '../store/store.ts';
import type { EkRoots } from './ek-roots.ts';
import {
  credentialFor,
  holderOf,
  identityOf,
  type PresentedKeys,
  takeTpm,
  tpmId,
  tpmIdOf,
} from './identity.ts';
import { admitDevice, certificateId, EnrolmentRefused, type RegisteredDevice } from './onboarding.ts';

export interface EnrolmentOptions {
  store: Store;
  runner(): RecordRunner;
  pki: Pki;
  clock: Clock;
  /** Whom EVC believes what a TPM is. */
  ekRoots: EkRoots;
}

/** What a device registers with; the request is signed with the onboarding key. */
export interface Registration {
  /** Certificate of the onboarding key. */
  key: X509Certificate;
  certificate: X509Certificate;
  serial: string;
}

const longestSerial = 100;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

export class Enrolment {
  readonly #options: EnrolmentOptions;

  constructor(options: EnrolmentOptions) {
    this.#options = options;
  }

  /** Throws EnrolmentRefused. */
  async register(device: string, request: RequestRef, registration: Registration): Promise<void> {
    const { store, clock, runner } = this.#options;
    const { key, certificate } = registration;
    if (certificateId(certificate.raw) !== device) {
      throw new EnrolmentRefused(
        'enrol.other-device',
        403,
        'the certificate is not that of the device that sends it',
      );
    }
    if (!isP256(certificate) || !certificate.verify(certificate.publicKey)) {
      throw new EnrolmentRefused(
        'enrol.certificate',
        403,
        'the device certificate is not of a P-256 key that signed it itself',
      );
    }
    const serial = registration.serial.trim();
    // People read it and terminals show it.
    if (!/^[\x20-\x7e]+$/.test(serial) || serial.length > longestSerial) {
      throw new EnrolmentRefused(
        'wire.malformed',
        422,
        `a serial number has 1 to ${longestSerial} printable characters`,
      );
    }
    const known = await store.get<RegisteredDevice>('device', device);
    const account = await admitDevice(store, clock.now(), {
      key: key.raw,
      device,
      // A device has the number that it first came with; another one would be another board's.
      serial: known?.serial ?? serial,
    });
    const uuid = known?.uuid ?? randomUUID();
    if (!known) {
      const registered = {
        certificate: certificate.raw.toString('base64'),
        serial,
        account: account.id,
        uuid,
      };
      await store.put('device', device, registered satisfies RegisteredDevice);
    }
    const settings = { hostname: `eve-${uuid.slice(0, 8)}`, account: account.id };
    await runner().send(device, { type: 'device.registered', request, uuid, serial, account, settings });
  }

  /** Makes a credential for the keys that a device presents, unless they are none to be enrolled with. */
  async certify(device: string, request: RequestRef, keys: PresentedKeys): Promise<void> {
    const { pki, store, ekRoots } = this.#options;
    const runner = this.#options.runner();
    const { ekName, akName } = keys;
    const judged = identityOf(keys, ekRoots.read());
    if ('refused' in judged) {
      const refused = { type: 'certificate.refused', request, status: 'forbidden' } as const;
      await runner.send(device, { ...refused, ekName, akName, why: judged.refused });
      return;
    }
    const challenge = randomUUID();
    const secret = secretOf(pki.secret, 'challenge', device, challenge);
    const { credentialBlob, encryptedSecret } = credentialFor(keys, secret);
    const proof = createHmac('sha256', secret).update(challenge).digest();
    await runner.send(device, {
      type: 'certificate.received',
      request,
      identity: judged.identity,
      taken: (await holderOf(store, (id) => runner.read(id), tpmId(keys.ek), device)) !== null,
      challenge: {
        id: challenge,
        credentialBlob: Buffer.from(credentialBlob).toString('base64'),
        encryptedSecret: Buffer.from(encryptedSecret).toString('base64'),
      },
      proofHash: sha256(proof),
    });
  }

  /**
   * The TPM is taken before the record counts the proof, so that no two devices can prove the same one.
   * @param proofHash SHA-256 of what the device sent, hex.
   */
  async prove(device: string, request: RequestRef, challenge: string, proofHash: string): Promise<void> {
    const { store, clock } = this.#options;
    const runner = this.#options.runner();
    const event = { type: 'proof.received', request, challenge, proofHash } as const;
    const context = (await runner.read(device))?.context;
    if (context?.pending && proves(context, { ...event, at: clock.now(), dice: 0 })) {
      const { ekName, akName, ekPublic = '' } = context.pending.identity;
      if (!(await takeTpm(store, (id) => runner.read(id), tpmIdOf(ekPublic), device))) {
        const refused = { type: 'certificate.refused', request, status: 'conflict' } as const;
        await runner.send(device, { ...refused, ekName, akName, why: tpmTaken });
        return;
      }
    }
    await runner.send(device, event);
  }
}

/** What nobody can sign with here must not use an onboarding key up. */
function isP256({ publicKey }: X509Certificate): boolean {
  return publicKey.asymmetricKeyType === 'ec' && publicKey.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}
