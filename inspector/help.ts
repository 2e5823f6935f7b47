// The keys, and what the colours mean.
import { el } from './element.ts';

const keys: readonly (readonly [string, string])[] = [
  ['/', 'search, or the filter of devices; Esc leaves it'],
  ['j  k', 'next and previous row'],
  ['Enter', 'open'],
  ['←  →', 'step back and on'],
  ['space', 'play, pause'],
  ['r', 'next refusal'],
  ['f', 'back to what happens now'],
  ['+  −  0', 'charts: larger, smaller, whole'],
  ['t', 'light or dark'],
  ['Esc', 'close'],
];

const ofFleet: readonly (readonly [string, string])[] = [
  ['d', 'the device, and why it is trusted or not'],
  ['n', 'roll-outs: a new one'],
  ['c', 'the accounts, and what their devices may do'],
  ['a', 'ask before: what a change would say of kept evidence'],
];

/** `views`: the names of those that there are, the ones with a number first. */
export function help(views: readonly string[]): HTMLDialogElement {
  const numbered = views.slice(0, 9);
  const fleet = views.includes('device') ? ofFleet : [];
  const all = [[`1 … ${numbered.length}`, numbered.join(', ')] as const, ...fleet, ...keys];
  const dialog = el(
    'dialog.help',
    { onclick: (event: MouseEvent) => event.target === dialog && dialog.close() },
    el('h2', {}, 'Keys', el('button.close', { title: 'close (Esc)', onclick: () => dialog.close() }, '×')),
    el(
      'dl.keys',
      {},
      all.map(([key, what]) => [el('dt', {}, el('kbd', {}, key)), el('dd', {}, what)]),
    ),
    el(
      'p.quiet',
      {},
      'The address is the view: copy it to share what you look at. Recordings are only read, and nothing leaves this machine; what is accepted or changed at EVC is asked for twice, and kept in its audit log.',
    ),
  );
  return dialog;
}
