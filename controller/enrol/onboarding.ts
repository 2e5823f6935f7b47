// Onboarding keys: who may register a device, into which account, how often, and until when.
import { createHash, X509Certificate } from 'node:crypto';
import type { Clock } from '../../machines/clock.ts';
import type { Account } from '../../machines/device-record.ts';
import { createOnboardingKey } from '../pki.ts';
import type { Store } from '../store/store.ts';

export interface OnboardingKey {
  name: string;
  account: string;
  /** Devices that it may register. */
  limit: number;
  /** Devices that it did, by id. */
  devices: string[];
  /** ms since the epoch. */
  expires: number;
}

/** A device as it was registered. */
export interface RegisteredDevice {
  /** DER, base64. */
  certificate: string;
  serial: string;
  account: string;
  uuid: string;
}

export class EnrolmentRefused extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, status: number, text: string) {
    super(text);
    this.name = 'EnrolmentRefused';
    this.code = code;
    this.status = status;
  }
}

/** Makes a key for an account; the caller hands key and certificate (PEM) to whoever installs devices. */
export async function addOnboardingKey(
  store: Store,
  clock: Clock,
  wanted: { name: string; account: string; limit: number; expires: number },
): Promise<{ id: string; key: string; certificate: string }> {
  if (!(await store.get('account', wanted.account))) {
    throw new EnrolmentRefused('account.unknown', 404, `there is no account ${wanted.account}`);
  }
  const made = await createOnboardingKey(wanted.name, clock.now());
  const id = certificateId(new X509Certificate(made.certificate).raw);
  const { name, account, limit, expires } = wanted;
  await store.put('onboarding-key', id, { name, account, limit, expires, devices: [] } satisfies OnboardingKey);
  return { id, ...made };
}

/**
 * Spends a use of the key for a device; the same device again costs nothing.
 * Throws EnrolmentRefused enrol.unknown-key, enrol.key-expired, enrol.key-used-up, enrol.serial-taken.
 */
export async function admitDevice(
  store: Store,
  now: number,
  request: { key: Uint8Array; device: string; serial: string },
): Promise<Account> {
  const id = certificateId(request.key);
  if (!(await store.get('onboarding-key', id))) {
    throw new EnrolmentRefused('enrol.unknown-key', 403, 'EVC does not know this onboarding key');
  }
  const holder = await store.bySerial(request.serial);
  if (holder !== null && holder !== request.device) {
    throw new EnrolmentRefused('enrol.serial-taken', 409, `serial number ${request.serial} belongs to another device`);
  }
  const key = await store.update<OnboardingKey>('onboarding-key', id, (found) => {
    if (!found) throw new EnrolmentRefused('enrol.unknown-key', 403, 'EVC does not know this onboarding key');
    if (found.devices.includes(request.device)) return found;
    if (found.expires <= now) throw new EnrolmentRefused('enrol.key-expired', 403, 'this onboarding key has expired');
    if (found.devices.length >= found.limit) {
      throw new EnrolmentRefused('enrol.key-used-up', 403, `this onboarding key was good for ${found.limit} devices, and is used up`);
    }
    return { ...found, devices: [...found.devices, request.device] };
  });
  const account = await store.get<Account>('account', key.account);
  if (!account) throw new EnrolmentRefused('account.unknown', 403, `the account of this onboarding key is gone`);
  return account;
}

/** SHA-256 of a certificate in DER, hex. */
export function certificateId(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex');
}
