// What is asked of EVC about a fleet: pages of devices, one of them whole, roll-outs, images, what people did; and the few things
// that the page decides.
import type { Decision } from './acceptance.ts';
import type {
  AccountDetails,
  AuditEntry,
  Caller,
  Changes,
  DeviceDetails,
  DeviceRow,
  DeviceSettings,
  Image,
  JournalEntry,
  Lock,
  Rollout,
  RolloutDevices,
  TrialPage,
} from './answers.ts';
import type { RolloutPlan } from './rollout-wish.ts';
import { change, getJson, getTagged, post, steps, token } from './source.ts';
import type { TrialWish } from './trial.ts';

/** Rows of one page where all are wanted. */
const pageRows = 1000;

const pathOf = (id: string, what = '') => `api/v1/devices/${encodeURIComponent(id)}${what}`;

/** A page in the order of ids; `next` is `after` of the one behind it, and null at the end. */
export function devicePage(
  wish: { filter?: string; after?: string; limit: number },
  signal?: AbortSignal,
): Promise<{ devices: DeviceRow[]; next: string | null }> {
  return getJson(devicesPath(wish), signal);
}

function devicesPath({ filter = '', after = '', limit }: Parameters<typeof devicePage>[0]): string {
  const query = new URLSearchParams({ limit: String(limit) });
  if (filter !== '') query.set('filter', filter);
  if (after !== '') query.set('after', after);
  return `api/v1/devices?${query}`;
}

/** Rows that the table asks for first. */
export const firstRows = 100;

/** Where `devicePage` finds them. */
export const firstDevices = (filter: string) => devicesPath({ filter, limit: firstRows });

export const device = (id: string, signal?: AbortSignal) => getJson<DeviceDetails>(pathOf(id), signal);

export const changes = (id: string) => getJson<Changes>(pathOf(id, '/changes'));

export async function journal(id: string, limit: number): Promise<JournalEntry[]> {
  return (await getJson<{ journal: JournalEntry[] }>(pathOf(id, `/journal?limit=${limit}`))).journal;
}

/** The newest first; `next` is `before` of the page behind it. */
export function audit(wish: {
  device?: string;
  before?: string;
  limit: number;
}): Promise<{ entries: AuditEntry[]; next: string | null }> {
  const query = new URLSearchParams({ limit: String(wish.limit) });
  if (wish.device) query.set('device', wish.device);
  if (wish.before) query.set('before', wish.before);
  return getJson(`api/v1/audit?${query}`);
}

export async function rollouts(): Promise<Rollout[]> {
  return (await getJson<{ rollouts: Rollout[] }>('api/v1/rollouts')).rollouts;
}

export const rollout = (id: string) => getJson<RolloutDevices>(`api/v1/rollouts/${encodeURIComponent(id)}`);

/** All devices of a filter, or the first of them. Rejects with SourceError. */
export async function devicesOf(filter: string, most: number, signal: AbortSignal): Promise<DeviceRow[]> {
  const all: DeviceRow[] = [];
  for (let after: string | null = ''; after !== null && all.length < most; ) {
    const page: Awaited<ReturnType<typeof devicePage>> = await devicePage(
      { filter, after, limit: pageRows },
      signal,
    );
    all.push(...page.devices);
    after = page.next;
  }
  return all;
}

/** Begins a roll-out to exactly these. Rejects with SourceError. @param key so that it is begun once however often it is sent */
export function startRollout(
  wish: RolloutPlan & { devices: string[]; reason: string },
  key: string,
): Promise<Rollout> {
  return post('api/v1/rollouts', wish, { 'idempotency-key': key });
}

export type RolloutTurn = 'stop' | 'resume' | 'cancel';

/** Rejects with SourceError. */
export function turnRollout(id: string, turn: RolloutTurn, reason: string, key: string): Promise<Rollout> {
  return post(`api/v1/rollouts/${encodeURIComponent(id)}/${turn}`, { reason }, { 'idempotency-key': key });
}

/** Judges kept evidence by a change, and does nothing. Rejects with SourceError. */
export function tryPage(
  wish: TrialWish & { after: string; limit: number },
  signal: AbortSignal,
): Promise<TrialPage> {
  return post('api/v1/trials', wish, {}, signal);
}

export async function accounts(): Promise<AccountDetails[]> {
  return (await getJson<{ accounts: AccountDetails[] }>('api/v1/accounts')).accounts;
}

const accountPath = (id: string) => `api/v1/accounts/${encodeURIComponent(id)}`;

/** `tag` is another one for each change of it. */
export async function account(id: string): Promise<{ account: AccountDetails; tag: string }> {
  const { value, tag } = await getTagged<AccountDetails>(accountPath(id));
  return { account: value, tag };
}

/** Rejects with SourceError: precondition.failed where it is not what was looked at any more. */
export function changeAccount(
  id: string,
  wish: Partial<AccountDetails>,
  tag: string,
): Promise<AccountDetails> {
  return change('PATCH', accountPath(id), wish, tag);
}

export const settings = (id: string) => getJson<DeviceSettings>(pathOf(id, '/settings'));

/** All of them. Rejects with SourceError, as `changeLock` does: precondition.failed where the record has moved on. */
export function changeSettings(
  id: string,
  wish: Readonly<Record<string, string>>,
  revision: number,
): Promise<DeviceDetails> {
  return change('PUT', pathOf(id, '/settings'), { settings: wish }, `"${revision}"`);
}

/** @param wish empty: as its account */
export function changeLock(id: string, wish: Partial<Lock>, revision: number): Promise<DeviceDetails> {
  return change('PUT', pathOf(id, '/lock'), wish, `"${revision}"`);
}

export async function images(): Promise<Image[]> {
  return (await getJson<{ images: Image[] }>('api/v1/images')).images;
}

let asked = '';
let answered: Promise<Caller> | null = null;

/** Whose token this tab has; asked once for each. */
export function caller(): Promise<Caller> {
  const now = token.get();
  if (!answered || asked !== now) {
    asked = now;
    answered = getJson<Caller>('api/v1/whoami');
    answered.catch(() => {
      answered = null;
    });
  }
  return answered;
}

/** Rejects with SourceError: what EVC refuses, with its code. */
export function decide({ path, body, tag }: Decision, key: string): Promise<DeviceDetails> {
  return post(path, body, { 'if-match': tag, 'idempotency-key': key });
}

/** ms before EVC is asked again after it was gone. */
const again = 2000;

/**
 * Calls `moved` whenever records may have moved, until the signal: with the device, or with null when it may be any, as after a
 * connection that came back.
 *
 * @param id of this device alone
 */
export async function follow(
  signal: AbortSignal,
  moved: (device: string | null) => void,
  id?: string,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const step of steps(signal, id))
        moved(step !== 'ready' && 'device' in step ? step.device : null);
    } catch {
      // It is gone, or does not let us in; the question that is asked meanwhile says why.
    }
    if (signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, again));
    moved(null);
  }
}
