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
  await store.put('onboarding-key', id, {
    name,
    account,
    limit,
    expires,
    devices: [],
  } satisfies OnboardingKey);
  return { id, ...made };
}

/**
 * Spends a use of the key for a device; the same device again costs nothing. The serial number is the device's from here
 * on, until it is retired.
 * Throws EnrolmentRefused enrol.unknown-key, enrol.key-expired, enrol.key-used-up, enrol.serial-taken.
 */
export async function admitDevice(
  store: Store,
  now: number,
  request: { key: Uint8Array; device: string; serial: string },
): Promise<Account> {
  const { device, serial } = request;
  const id = certificateId(request.key);
  // Before the number is taken: who has no good key takes none.
  spend(await store.get<OnboardingKey>('onboarding-key', id), device, now);
  await takeSerial(store, serial, device);
  const key = await store.update<OnboardingKey>('onboarding-key', id, (found) => spend(found, device, now));
  const account = await store.get<Account>('account', key.account);
  if (!account)
    throw new EnrolmentRefused('account.unknown', 403, 'the account of this onboarding key is gone');
  return account;
}

function spend(key: OnboardingKey | null, device: string, now: number): OnboardingKey {
  if (!key) throw new EnrolmentRefused('enrol.unknown-key', 403, 'EVC does not know this onboarding key');
  if (key.devices.includes(device)) return key;
  if (key.expires <= now)
    throw new EnrolmentRefused('enrol.key-expired', 403, 'this onboarding key has expired');
  if (key.devices.length >= key.limit) {
    throw new EnrolmentRefused(
      'enrol.key-used-up',
      403,
      `this onboarding key was good for ${key.limit} devices, and is used up`,
    );
  }
  return { ...key, devices: [...key.devices, device] };
}

interface SerialHolder {
  device: string;
}

/** In a transaction of its own, since two boards may come with the same number at the same moment. */
async function takeSerial(store: Store, serial: string, device: string): Promise<void> {
  const before = await store.get<SerialHolder>('serial', serial);
  // Retired: its number is free. One that was never recorded is just being registered.
  const gone =
    before !== null && (await store.bySerial(serial)) === null && (await store.load(before.device));
  await store.update<SerialHolder>('serial', serial, (holder) => {
    if (holder && holder.device !== device && !(gone && holder.device === before.device)) {
      throw new EnrolmentRefused(
        'enrol.serial-taken',
        409,
        `serial number ${serial} belongs to another device`,
      );
    }
    return { device };
  });
}

/** SHA-256 of a certificate in DER, hex. */
export function certificateId(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('hex');
}
