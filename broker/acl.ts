// Who may publish, subscribe and receive what: one pure function, asked at each of the three places. Asked at the last one
// as well, because Aedes keeps a denied filter of a SUBSCRIBE that also holds an allowed one, and would deliver to it.
import { downFilter, isEventFilter, parseEventTopic, parseTopic, upFilter } from '../formats/wire/topics.ts';
import { WireError } from '../formats/wire/wire-error.ts';

/** Who a connection is: proven at login. */
export type Peer =
  | { kind: 'device'; device: string }
  | { kind: 'controller' }
  /** Is told what happens to the devices of these accounts; null: of all. */
  | { kind: 'reader'; accounts: readonly string[] | null };

export type Action = 'publish' | 'subscribe' | 'receive';

/** For `subscribe` the text is a filter, else a topic. */
export function allowed(peer: Peer, action: Action, text: string): boolean {
  if (peer.kind === 'controller') {
    if (action === 'subscribe') return text === upFilter;
    return directionOf(text)?.direction === (action === 'publish' ? 'down' : 'up');
  }
  if (peer.kind === 'reader') {
    if (action === 'subscribe') return isEventFilter(text);
    const event = action === 'receive' ? parseEventTopic(text) : null;
    return event !== null && (peer.accounts === null || peer.accounts.includes(event.account));
  }
  if (action === 'subscribe') return text === downFilter(peer.device);
  const topic = directionOf(text);
  return topic?.device === peer.device && topic.direction === (action === 'publish' ? 'up' : 'down');
}

function directionOf(text: string): { device: string; direction: 'up' | 'down' } | null {
  try {
    return parseTopic(text);
  } catch (error) {
    if (error instanceof WireError) return null;
    throw error;
  }
}
