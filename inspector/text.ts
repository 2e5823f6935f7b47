// Text as the page shows it. Names and values come from devices and files: nothing in them may hide, reorder or imitate
// what stands beside them.
import type { StateValue } from '../formats/recording/format.ts';

/** Controls, overrides of the writing direction and characters without a width: all that changes text without being seen. */
const unseen =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it looks for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** The same text with everything that cannot be seen written out, `\u202e`. */
export function visible(text: string): string {
  return text.replace(unseen, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

export function shorten(text: string, most: number): string {
  if (text.length <= most) return text;
  return `${text.slice(0, most - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** The middle left out: the ends of a hash are what people compare. */
export function shortHash(hex: string, ends = 6): string {
  return hex.length <= 2 * ends + 1 ? hex : `${hex.slice(0, ends)}…${hex.slice(-ends)}`;
}

/** A length of time in the two units that matter. */
export function duration(ms: number): string {
  const sign = ms < 0 ? '−' : '';
  const size = Math.abs(ms);
  if (size < 1) return '0 ms';
  if (size < 1000) return `${sign}${Math.round(size)} ms`;
  if (size < 60_000) return `${sign}${(size / 1000).toFixed(size < 10_000 ? 1 : 0)} s`;
  const minutes = Math.floor(size / 60_000);
  if (minutes < 60) return `${sign}${minutes} min ${Math.floor((size % 60_000) / 1000)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${sign}${hours} h ${minutes % 60} min`;
  return `${sign}${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** `14:03:07.120`, in the time of this machine. */
export function clockTime(at: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return '?';
  const two = (value: number) => String(value).padStart(2, '0');
  const ms = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

/** `2026-11-25 14:03:07`. */
export function dateTime(at: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return '?';
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clockTime(at).slice(0, 8)}`;
}

export function byteSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

/** `running.heating`; regions of a parallel state side by side. */
export function stateText(value: StateValue | undefined, depth = 0): string {
  if (value === undefined) return '';
  if (typeof value === 'string') return value;
  if (depth > 16) return '…';
  return Object.entries(value)
    .map(([name, inner]) => {
      const below = stateText(inner, depth + 1);
      return below === '' ? name : `${name}.${below}`;
    })
    .join(' · ');
}

/** Name of an event for people: what XState calls by long names has short ones. */
export function eventText(type: string): string {
  if (type === '') return 'always';
  const after = /^xstate\.after\.([^.]+)/.exec(type);
  if (after) return `after ${/^\d+$/.test(after[1] ?? '') ? duration(Number(after[1])) : after[1]}`;
  const port = /^xstate\.(done|error)\.actor\.(.+)$/.exec(type);
  if (port) return port[1] === 'done' ? `${port[2]} ✓` : `${port[2]} ✗`;
  if (type.startsWith('xstate.done.state')) return 'done';
  return type;
}

/** As JSON in one line, cut off. */
export function valueText(value: unknown, most = 120): string {
  if (value === undefined) return '—';
  if (typeof value === 'string') return shorten(JSON.stringify(value), most);
  try {
    return shorten(JSON.stringify(value) ?? '—', most);
  } catch {
    return '?';
  }
}
