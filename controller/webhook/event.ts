// What happened to a device, for others: a CloudEvent [CloudEvents 1.0.2], made of a line of the journal, with the fields that are
// listed here and no others: settings and proofs stay where they are.
import type { JournalEntry } from '../store/store.ts';

/** Of each event that is told, the fields of it that are. */
const told: Readonly<Record<string, readonly string[]>> = {
  'device.registered': ['uuid', 'serial'],
  'verdict.given': ['attempt', 'accepted', 'genuine', 'grounds', 'findings', 'versions'],
  'upgrade.assigned': ['upgrade'],
  'state.accepted': ['attempt', 'by', 'reason'],
  'place.accepted': ['by', 'reason'],
  'account.changed': ['account'],
  'rotation.asked': [],
  'device.retired': ['by', 'reason'],
  'reenrolment.allowed': ['by', 'reason'],
  'timer.due': ['timer'],
  'link.changed': ['online'],
};

export const toldEvents: readonly string[] = Object.keys(told);

/** Of these, fields again. */
const parts: Readonly<Record<string, readonly string[]>> = {
  upgrade: ['id', 'from', 'to', 'until'],
  account: ['id'],
};

export interface DeviceEntry extends JournalEntry {
  seq: number;
  device: string;
}

export interface CloudEvent {
  specversion: '1.0';
  id: string;
  source: string;
  type: string;
  subject: string;
  time: string;
  datacontenttype: 'application/json';
  data: Record<string, unknown>;
}

/** @param source of this EVC, a URI; with it, the id is one of a kind */
export function cloudEvent(
  entry: DeviceEntry,
  about: { serial: string; account: string; trust: string },
  source: string,
): CloudEvent {
  const { seq, device, at, event, body } = entry;
  return {
    specversion: '1.0',
    id: `journal-${seq}`,
    source,
    type: `eve-attest.${event}`,
    subject: device,
    time: new Date(at).toISOString(),
    datacontenttype: 'application/json',
    data: { ...about, ...picked(body, told[event] ?? []) },
  };
}

function picked(from: object, names: readonly string[]): Record<string, unknown> {
  const values = from as Record<string, unknown>;
  return Object.fromEntries(
    names
      .filter((name) => values[name] !== undefined)
      .map((name) => {
        const inner = parts[name];
        return [name, inner ? picked((values[name] ?? {}) as object, inner) : values[name]];
      }),
  );
}
