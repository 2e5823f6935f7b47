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
  /** The last devices that it did, by id, `lastUses` of them and one more. */
  devices: string[];
  /** How many before them, each with an `onboarding-use` of its own. */
  used?: number;
  /** ms since the epoch. */
  expires: number;
  /** A person lets each device in; absent: only where the account says so. */
  approval?: boolean;
  /** Devices that wait for that, by id. */
  waiting?: string[];
}

/** So that a key costs the same for its first device and for its millionth. */
const lastUses = 64;

/** Devices that a key let in. */
export const usesOf = ({ used = 0, devices }: OnboardingKey): number => used + devices.length;

/** A device that asks to be let in. */
export interface WaitingDevice {
  device: string;
  serial: string;
  account: string;
  /** Id of its onboarding key. */
  key: string;
  /** ms since the epoch: when it asked first. */
  since: number;
  state: 'waiting' | 'approved' | 'refused';
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
  wanted: { name: string; account: string; limit: number; expires: number; approval?: boolean },
): Promise<{ id: string; key: string; certificate: string }> {
  if (!(await store.get('account', wanted.account))) {
    throw new EnrolmentRefused('account.unknown', 404, `there is no account ${wanted.account}`);
  }
  const made = await createOnboardingKey(wanted.name, clock.now());
  const id = certificateId(new X509Certificate(made.certificate).raw);
  const { name, account, limit, expires, approval } = wanted;
  await store.put('onboarding-key', id, {
    name,
    account,
    limit,
    expires,
    devices: [],
    ...(approval ? { approval } : {}),
  } satisfies OnboardingKey);
  return { id, ...made };
}

/**
 * Spends a use of the key for a device; the same device again costs nothing. The serial number is the device's from here
 * on, until it is retired.
 * Throws EnrolmentRefused enrol.unknown-key, enrol.key-expired, enrol.key-used-up, enrol.serial-taken,
 * enrol.awaits-approval, enrol.not-approved.
 */
export async function admitDevice(
  store: Store,
  now: number,
  request: { key: Uint8Array; device: string; serial: string },
): Promise<Account> {
  const { device, serial } = request;
  const id = certificateId(request.key);
  const found = await store.get<OnboardingKey>('onboarding-key', id);
  const again = found !== null && (await store.get('onboarding-use', useId(id, device))) !== null;
  // Before the number is taken: who has no good key takes none.
  const shown = again ? found : spend(found, device, now);
  const owner = await store.get<Account>('account', shown.account);
  if (shown.approval || owner?.approval) await awaitApproval(store, now, shown.account, id, request);
  await takeSerial(store, serial, device);
  if (!again) await spendUse(store, id, device, now);
  const account = await store.get<Account>('account', shown.account);
  if (!account)
    throw new EnrolmentRefused('account.unknown', 403, 'the account of this onboarding key is gone');
  await store.remove('enrolment', device);
  return account;
}

/** Returns once a person let the device in; a key has no more devices waiting than it may register. */
async function awaitApproval(
  store: Store,
  now: number,
  account: string,
  key: string,
  { device, serial }: { device: string; serial: string },
): Promise<void> {
  // What has registered once was let in.
  if (await store.get('device', device)) return;
  // Who has asked before has its place, or the answer.
  if (!(await store.get('enrolment', device))) await takePlace(store, key, device);
  const { state } = await store.update<WaitingDevice>(
    'enrolment',
    device,
    (found) => found ?? { device, serial, account, key, since: now, state: 'waiting' },
  );
  if (state === 'refused')
    throw new EnrolmentRefused('enrol.not-approved', 403, 'a person decided not to let this device in');
  if (state === 'waiting')
    throw new EnrolmentRefused(
      'enrol.awaits-approval',
      403,
      'a person has to let this device in first; it is on the list, and may ask again',
    );
}

async function takePlace(store: Store, id: string, device: string): Promise<void> {
  const before = await store.get<OnboardingKey>('onboarding-key', id);
  const full = before !== null && (before.waiting ?? []).length >= before.limit;
  // Whom a person refused gives its place up to the next: or a few of them would use a key up that let nobody in.
  const refused = full ? await refusedDevices(store) : new Set<string>();
  await store.update<OnboardingKey>('onboarding-key', id, (found) => {
    const key = letIn(found as OnboardingKey);
    const { limit } = key;
    const waiting = (key.waiting ?? []).filter((one) => !refused.has(one));
    if (waiting.includes(device)) return key;
    if (waiting.length >= limit)
      throw new EnrolmentRefused(
        'enrol.key-used-up',
        403,
        `as many devices wait with this onboarding key as it is good for (${limit})`,
      );
    return { ...key, waiting: [...waiting, device] };
  });
}

async function refusedDevices(store: Store): Promise<Set<string>> {
  const asked = await store.all<WaitingDevice>('enrolment');
  return new Set(asked.filter(({ body }) => body.state === 'refused').map(({ id }) => id));
}

const useId = (key: string, device: string) => `${key}:${device}`;

/** One document after the other, and none lets the count forget a device: a use leaves the list when it stands by itself. */
async function spendUse(store: Store, id: string, device: string, now: number): Promise<void> {
  const { devices } = await store.update<OnboardingKey>('onboarding-key', id, (found) =>
    spend(found, device, now),
  );
  if (devices.length <= lastUses) return;
  const older = devices.slice(0, -lastUses);
  for (const one of older) await store.put('onboarding-use', useId(id, one), {});
  await store.update<OnboardingKey>('onboarding-key', id, (found) => {
    const key = letIn(found as OnboardingKey);
    const left = key.devices.filter((one) => !older.includes(one));
    return { ...key, devices: left, used: usesOf(key) - left.length };
  });
}

function spend(key: OnboardingKey | null, device: string, now: number): OnboardingKey {
  if (!key) throw new EnrolmentRefused('enrol.unknown-key', 403, 'EVC does not know this onboarding key');
  if (key.devices.includes(device)) return key;
  if (key.expires <= now)
    throw new EnrolmentRefused('enrol.key-expired', 403, 'this onboarding key has expired');
  if (usesOf(key) >= key.limit) {
    throw new EnrolmentRefused(
      'enrol.key-used-up',
      403,
      `this onboarding key was good for ${key.limit} devices, and is used up`,
    );
  }
  return letIn({ ...key, devices: [...key.devices, device] });
}

/** Who was let in waits no more; in a document of before it was still among them. */
function letIn(key: OnboardingKey): OnboardingKey {
  if (!key.waiting) return key;
  return { ...key, waiting: key.waiting.filter((one) => !key.devices.includes(one)) };
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
