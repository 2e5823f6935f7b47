// Charts of other pages: an unmodified @statelyai/inspect client that opened this page, or holds it in a frame, posts its
// messages here. They are shown, and nothing of them is executed.
import type { Line } from '../formats/recording/format.ts';
import { StatelyReader } from '../formats/recording/stately.ts';

export interface Guest {
  name: string;
  onLines(take: (lines: readonly Line[]) => void): void;
}

/** Tells whoever opened this page that it may send; calls back when it does. */
export function receiveGuests(here: Window, arrived: (guest: Guest) => void): void {
  const opener = (here.opener ?? (here.parent === here ? null : here.parent)) as Window | null;
  if (!opener) return;
  let reader: StatelyReader | null = null;
  let take: (lines: readonly Line[]) => void = () => {};
  here.addEventListener('message', ({ source, data, origin }) => {
    if (source !== opener) return;
    reader ??= new StatelyReader('', () => Date.now());
    const lines = reader.read(data);
    if (lines.length === 0) return;
    if (first)
      arrived({
        name: origin,
        onLines: (taker) => {
          take = taker;
        },
      });
    first = false;
    take(lines);
  });
  let first = true;
  opener.postMessage({ type: '@statelyai.connected' }, '*');
}
