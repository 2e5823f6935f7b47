// Webhooks: others are told what happens. The journal is the outbox: each webhook has a place in it, so nothing is lost with a
// controller, and what was told twice has the same id. Whoever cannot be reached is tried again, later each time; what nobody took
// after many tries is set aside and shown, and the others go on.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../machines/clock.ts';
import { type Decision, OperatorError } from '../decision.ts';
import { type Pki, secretOf } from '../pki.ts';
import type { Store } from '../store/store.ts';
import { deliver, patience, secretText } from './deliver.ts';
import { cloudEvent, type DeviceEntry, toldEvents } from './event.ts';

export interface WebhookWish {
  url: string;
  /** Names of events. */
  events: readonly string[];
  /** Of these accounts alone; null: of all. */
  accounts: readonly string[] | null;
}

/** An event that nobody took. */
export interface DeadLetter {
  /** Its number in the journal. */
  seq: number;
  /** When it was given up, ms since the epoch. */
  at: number;
  event: string;
  device: string;
  why: string;
}

export interface WebhookView extends WebhookWish {
  id: string;
  by: string;
  created: number;
  delivered: number;
  /** Tries of the event that is next. */
  tries: number;
  /** Why the last of them failed; empty when it did not. */
  why: string;
  deadLetters: DeadLetter[];
}

interface Kept extends WebhookView {
  /** Number of the last line of the journal that is dealt with. */
  cursor: number;
  /** Not before, ms since the epoch. */
  next: number;
  leased: number;
}

export interface WebhooksOptions {
  store: Store;
  clock: Clock;
  pki: Pki;
  signal: AbortSignal;
}

const mostWebhooks = 50;
const mostTries = 20;
const mostDead = 100;
const batch = 100;
const lease = 120_000;
/** No delivery begins later than this before the lease ends, so that it and what it came to are told and stored within it, ms. */
const leaseRest = 2 * patience;
/**
 * A line with a lower number may come into sight this much later, ms: far longer than a step takes from its number to its end. A
 * number that is missing for longer was given to a step that failed, or its line was cut from the journal.
 */
const settle = 10_000;
const backoff = { base: 1000, cap: 3_600_000 } as const;
const loopback = new Set(['localhost', '127.0.0.1', '[::1]']);

export class Webhooks {
  readonly #options: WebhooksOptions;
  readonly #source: string;
  /** Looks under way, by webhook. Each tells one thing at a time, so `mostWebhooks` bounds the connections. */
  readonly #looking = new Map<string, Promise<void>>();
  /** The end of the journal, and when it was seen, by this controller's clock: the times in the lines are those of others, too. */
  #end: { seq: number; at: number } | null = null;
  /** Up to here no line comes into sight any more. */
  #settled = 0;

  constructor(options: WebhooksOptions) {
    this.#options = options;
    this.#source = sourceOf(options.pki);
  }

  /**
   * Tells this address from now on. The secret that receivers check with is told here and stands nowhere.
   * Throws OperatorError webhook.url, webhook.event, webhook.too-many, account.unknown.
   */
  async add(wish: WebhookWish, { by }: Decision): Promise<{ webhook: WebhookView; secret: string }> {
    const { store, clock, pki } = this.#options;
    const { events, accounts } = wish;
    const url = checkUrl(wish.url);
    const strange = events.find((one) => !toldEvents.includes(one));
    if (strange !== undefined || events.length === 0)
      throw new OperatorError(
        'webhook.event',
        422,
        `${strange ?? 'nothing'} is no event that is told; known: ${toldEvents.join(', ')}`,
      );
    if ((await store.ids('webhook')).length >= mostWebhooks)
      throw new OperatorError('webhook.too-many', 409, `EVC tells ${mostWebhooks} addresses at most`);
    for (const account of accounts ?? [])
      if (!(await store.get('account', account)))
        throw new OperatorError('account.unknown', 404, `there is no account ${account}`);
    const id = randomUUID().slice(0, 8);
    const kept: Kept = {
      ...{
        id,
        url,
        events: [...events],
        accounts,
        by,
        created: clock.now(),
        delivered: 0,
        tries: 0,
        why: '',
      },
      ...{ deadLetters: [], cursor: await store.journalEnd(), next: 0, leased: 0 },
    };
    await store.put('webhook', id, kept);
    await this.#audit(by, 'webhook.added', id, '', null, auditedOf(kept));
    return { webhook: viewOf(kept), secret: secretText(secretOf(pki.secret, 'webhook', id, id)) };
  }

  async list(): Promise<WebhookView[]> {
    return (await this.#options.store.all<Kept>('webhook')).map(({ body }) => viewOf(body));
  }

  /** Throws OperatorError webhook.unknown. */
  async remove(id: string, { by, reason = '' }: Decision): Promise<WebhookView> {
    const kept = await this.#options.store.get<Kept>('webhook', id);
    if (!kept || !(await this.#options.store.remove('webhook', id))) throw unknown(id);
    await this.#audit(by, 'webhook.removed', id, reason, auditedOf(kept), null);
    return viewOf(kept);
  }

  /** Tells what was set aside once more, as far as the journal has it still. Throws OperatorError webhook.unknown. */
  async retry(id: string): Promise<WebhookView> {
    const { store, signal } = this.#options;
    const kept = await store.get<Kept>('webhook', id);
    if (!kept) throw unknown(id);
    const taken = new Set<number>();
    for (const { seq } of kept.deadLetters) {
      const [entry] = await store.journalAfter(seq - 1, 1);
      const why = entry?.seq === seq ? await this.#tell(kept, entry, signal) : null;
      if (why === null) taken.add(seq);
    }
    const after = await store.update<Kept>('webhook', id, (found) => {
      if (!found) throw unknown(id);
      const deadLetters = found.deadLetters.filter(({ seq }) => !taken.has(seq));
      // Whoever takes these is there again for the others, too.
      return {
        ...found,
        deadLetters,
        delivered: found.delivered + taken.size,
        ...(taken.size > 0 ? { next: 0 } : {}),
      };
    });
    return viewOf(after);
  }

  /** Tells what there is to tell, to each address for itself and one look at a time. Resolves when all are told; never rejects. */
  async look(): Promise<void> {
    const { store, signal } = this.#options;
    if (signal.aborted) return;
    try {
      await this.#settle();
      for (const id of await store.ids('webhook')) this.#begin(id);
    } catch {
      // The store is out of reach: the next look finds what is there.
    }
    await Promise.all(this.#looking.values());
  }

  #begin(id: string): void {
    if (this.#looking.has(id)) return;
    const look = this.#lookAt(id)
      .catch(() => undefined)
      .finally(() => this.#looking.delete(id));
    this.#looking.set(id, look);
  }

  async #settle(): Promise<void> {
    const { store, clock } = this.#options;
    const end = this.#end;
    const age = end ? clock.now() - end.at : 0;
    // Of a clock that was set back nobody knows how long ago it was.
    if (end && age >= 0 && age < settle) return;
    const seq = await store.journalEnd();
    if (end && age >= settle) this.#settled = Math.max(this.#settled, end.seq);
    this.#end = { seq, at: clock.now() };
  }

  /** The next lines behind a place, up to the first one that another one may come into sight before. */
  async #linesAfter(cursor: number): Promise<readonly DeviceEntry[]> {
    // What is settled later may be missing in what is read now.
    const settled = this.#settled;
    const entries = await this.#options.store.journalAfter(cursor, batch);
    const gap = entries.findIndex(
      ({ seq }, i) => seq > settled && seq !== (entries[i - 1]?.seq ?? cursor) + 1,
    );
    return gap === -1 ? entries : entries.slice(0, gap);
  }

  async #lookAt(id: string): Promise<void> {
    const { store, clock, signal } = this.#options;
    const now = clock.now();
    const known = await store.get<Kept>('webhook', id);
    if (!known || known.leased > now || known.next > now) return;
    const entries = await this.#linesAfter(known.cursor);
    if (entries.length === 0) return;
    const kept = await this.#change(id, (found) =>
      found.leased <= now && found.cursor === known.cursor ? { ...found, leased: now + lease } : null,
    );
    if (!kept) return;
    let { cursor, tries, why, next, delivered } = { ...kept, next: 0, delivered: 0 };
    const dead: DeadLetter[] = [];
    for (const entry of entries) {
      if (clock.now() > kept.leased - leaseRest) break;
      const failed = signal.aborted ? 'EVC stops' : await this.#tell(kept, entry, signal);
      if (signal.aborted && failed !== null) break;
      if (failed === null) {
        if (this.#wanted(kept, entry)) delivered++;
        [cursor, tries, why] = [entry.seq, 0, ''];
        continue;
      }
      tries++;
      why = failed;
      if (tries < mostTries) {
        next =
          clock.now() + Math.min(backoff.cap, backoff.base * 2 ** (tries - 1)) * (1 + clock.random() / 4);
        break;
      }
      dead.push({ seq: entry.seq, at: clock.now(), event: entry.event, device: entry.device, why: failed });
      [cursor, tries] = [entry.seq, 0];
    }
    // Whoever took the lease over told the same once more, and knows how far it came.
    await this.#change(id, (found) =>
      found.leased === kept.leased && found.cursor === kept.cursor
        ? {
            ...found,
            ...{ cursor, tries, why, next: Math.round(next), leased: 0 },
            delivered: found.delivered + delivered,
            deadLetters: [...found.deadLetters, ...dead].slice(-mostDead),
          }
        : null,
    );
  }

  /** Null where it was removed meanwhile, which no change undoes, or where `change` gives none. */
  async #change(id: string, change: (found: Kept) => Kept | null): Promise<Kept | null> {
    class Unchanged extends Error {}
    try {
      return await this.#options.store.update<Kept>('webhook', id, (found) => {
        const changed = found && change(found);
        if (!changed) throw new Unchanged();
        return changed;
      });
    } catch (error) {
      if (error instanceof Unchanged) return null;
      throw error;
    }
  }

  #wanted({ events }: Kept, { event }: DeviceEntry): boolean {
    return events.includes(event);
  }

  /** Null when it is told, or is nothing for this one. */
  async #tell(kept: Kept, entry: DeviceEntry, signal: AbortSignal): Promise<string | null> {
    if (!this.#wanted(kept, entry)) return null;
    const { store, clock, pki } = this.#options;
    const [row] = await store.find(entry.device, 1, kept.accounts);
    if (!row) return null;
    const { serial, account, trust } = row;
    const event = cloudEvent(entry, { serial, account, trust }, this.#source);
    const secret = secretOf(pki.secret, 'webhook', kept.id, kept.id);
    return deliver(kept.url, secret, event, clock.now(), signal);
  }

  async #audit(
    by: string,
    what: string,
    subject: string,
    reason: string,
    before: object | null,
    after: object | null,
  ) {
    const { store, clock } = this.#options;
    await store.audit({ at: clock.now(), by, what, subject, account: '', reason, before, after });
  }
}

/** The name of this EVC in its events, a URI. */
export function sourceOf({ root }: Pick<Pki, 'root'>): string {
  return `urn:evc:${root.fingerprint256.replaceAll(':', '').slice(0, 16).toLowerCase()}`;
}

function viewOf({ cursor: _, next: __, leased: ___, ...view }: Kept): WebhookView {
  return view;
}

/** Whoever reads the audit log need not know the rest of the address, which often is a secret. */
function auditedOf(kept: Kept): WebhookView {
  return { ...viewOf(kept), url: new URL(kept.url).origin };
}

function checkUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const secure = url?.protocol === 'https:' || (url?.protocol === 'http:' && loopback.has(url.hostname));
  if (url && secure && url.username === '' && url.password === '') return url.href;
  throw new OperatorError(
    'webhook.url',
    422,
    'a webhook is https://HOST/PATH, or http:// on this machine, without a name or a password in it',
  );
}

function unknown(id: string): OperatorError {
  return new OperatorError('webhook.unknown', 404, `no webhook is called ${id}`);
}
