// What happens on a device, as lines: JSON for programs, a short text for people.
import type { NodeEvent } from '../edge-node.ts';

/** One line of JSON; the bytes of a message are told by their number alone. */
export function jsonLine(event: NodeEvent): string {
  if (event.kind !== 'message') return JSON.stringify(event);
  const { bytes, ...rest } = event;
  return JSON.stringify({ ...rest, size: bytes.length });
}

/** A line for people, or null for what only programs care about. */
export function textLine(event: NodeEvent): string | null {
  const time = new Date(event.at).toISOString().slice(11, 23);
  switch (event.kind) {
    case 'power':
      return `${time}  power ${event.on ? 'on' : 'off'}: ${event.reason}`;
    case 'boot':
      return `${time}  boots ${event.boot.image} from ${event.boot.slot}`;
    case 'link':
      return `${time}  link to EVC ${event.up ? 'up' : `down: ${event.why ?? 'no reason given'}`}`;
    case 'state': {
      const { waiting } = event.context as { waiting?: { for: string; why?: { text: string } } | null };
      const why = waiting ? `  waits for ${waiting.for}${waiting.why ? ` (${waiting.why.text})` : ''}` : '';
      return `${time}  ${event.component.padEnd(13)} ${stateName(event.state)}${why}`;
    }
    case 'failed':
      return `${time}  ${event.component.padEnd(13)} failed: ${event.text}`;
    case 'port':
      return event.phase === 'fails'
        ? `${time}  ${event.component.padEnd(13)} ${event.port} fails: ${event.code}`
        : null;
    default:
      return null;
  }
}

/** `{ locked: 'waitingForKey' }` as `locked.waitingForKey`. */
export function stateName(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return '';
  return Object.entries(value)
    .map(([name, inner]) => `${name}.${stateName(inner)}`)
    .join(' ');
}

/** What a TPM or a file chose to say, made harmless for a terminal: control characters and invisible ones become blanks. */
export function plainText(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, ' ');
}
