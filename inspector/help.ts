// The keys, and what the colours mean.
import { el } from './element.ts';

const keys: readonly (readonly [string, string])[] = [
  ['/', 'search; Esc leaves it'],
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

/** `views`: the names of those that there are. */
export function help(views: readonly string[]): HTMLDialogElement {
  const all = [[`1 … ${views.length}`, views.join(', ')] as const, ...keys];
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
      'The address is the view: copy it to share what you look at. Nothing is changed from here, and nothing leaves this machine.',
    ),
  );
  return dialog;
}
