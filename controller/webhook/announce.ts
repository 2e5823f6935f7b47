// What happens, on EVC's own broker: each step of a record that is told to others as a CloudEvent on a topic of its own, once and to
// whoever listens at the moment. Who must miss nothing has a webhook.
import { randomUUID } from 'node:crypto';
import { formatEventTopic } from '../../formats/wire/topics.ts';
import type { Clock } from '../../machines/clock.ts';
import { trustOf } from '../record/facts.ts';
import { journalBody, type RunnerEvent } from '../record/runner.ts';
import type { Caller, Refused, Tokens } from '../tokens.ts';
import { cloudEvent, toldEvents } from './event.ts';

/** null for a step of which others are told nothing. @param source of this EVC, a URI */
export function announcement(
  { device, at, event, ignored, snapshot }: RunnerEvent,
  source: string,
): { topic: string; payload: Uint8Array } | null {
  const { account, serial } = snapshot.context;
  if (ignored || account === null || !toldEvents.includes(event.type)) return null;
  const entry = { seq: 0, device, at, event: event.type, body: journalBody(event) };
  const about = { serial, account: account.id, trust: trustOf(snapshot) };
  const told = { ...cloudEvent(entry, about, source), id: randomUUID() };
  const topic = formatEventTopic({ device, account: account.id, event: event.type });
  return topic === null ? null : { topic, payload: Buffer.from(JSON.stringify(told)) };
}

/** A token as a login to the broker. */
export interface TokenReader extends Pick<Caller, 'id' | 'accounts'> {
  untilRefused(end: () => void): () => void;
}

/** ms that a timer of Node counts; whoever reads on for that long connects anew. */
const longestTimer = 2 ** 31 - 1;

/** Who reads events with this token, its id being the name of the user; else why nobody does. */
export async function readerOf(
  tokens: Pick<Tokens, 'check' | 'untilRevoked'>,
  clock: Pick<Clock, 'now'>,
  user: string,
  token: string,
): Promise<TokenReader | Refused> {
  const caller = await tokens.check(token);
  if (typeof caller === 'string') return caller;
  const { id, accounts, expires } = caller;
  if (user !== id) return 'auth.wrong';
  return {
    id,
    accounts,
    untilRefused(end) {
      const left = expires === null ? longestTimer : Math.min(longestTimer, expires - clock.now());
      const timer = setTimeout(end, left);
      const forget = tokens.untilRevoked(id, end);
      return () => {
        clearTimeout(timer);
        forget();
      };
    },
  };
}
