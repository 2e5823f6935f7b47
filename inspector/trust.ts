// The trust of a device, as it is marked everywhere: a sign that needs no colour, and a tone.
import { el } from './element.ts';

export const trustMarks: Readonly<Record<string, { mark: string; tone: string; text: string }>> = {
  trusted: { mark: '✓', tone: 'good', text: 'trusted' },
  uud: { mark: '✗', tone: 'bad', text: 'UUD' },
  umd: { mark: '!', tone: 'warn', text: 'UMD' },
  stale: { mark: '◌', tone: 'warn', text: 'stale' },
  unattested: { mark: '·', tone: 'none', text: 'unattested' },
  retired: { mark: '−', tone: 'none', text: 'retired' },
};

export function trustOf(trust: string): { mark: string; tone: string; text: string } {
  return Object.hasOwn(trustMarks, trust)
    ? (trustMarks[trust] as { mark: string; tone: string; text: string })
    : { mark: '?', tone: 'none', text: trust };
}

/** `✗ UUD`, coloured. */
export function trustBadge(trust: string): HTMLElement {
  const { mark, tone, text } = trustOf(trust);
  return el(`span.badge.${tone}`, {}, el('span', { 'aria-hidden': 'true' }, `${mark} `), text);
}

/** Why a device is trusted. */
export const grounds: Readonly<Record<string, string>> = {
  'first-boot': 'as it was first seen',
  baseline: 'as its baseline',
  allowed: 'other than its baseline in what is allowed, and in nothing else',
  upgrade: 'upgraded to what EVC pushed',
  fallback: 'fell back to its former image',
  acceptance: 'accepted by a person',
};

export function groundsText(name: string | null): string {
  return name !== null && Object.hasOwn(grounds, name) ? (grounds[name] as string) : (name ?? '');
}
