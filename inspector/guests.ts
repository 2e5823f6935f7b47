// Charts of other pages: an unmodified @statelyai/inspect client that opened this page, or holds it in a frame, posts its
// messages here. They are shown, and nothing of them is executed.
import type { Line } from '../formats/recording/format.ts';

export interface Guest {
  name: string;
  onLines(take: (lines: readonly Line[]) => void): void;
}

/** Tells whoever opened this page that it may send; calls back when it does. */
export async function receiveGuests(here: Window, arrived: (guest: Guest) => void): Promise<void> {
  const opener = (here.opener ?? (here.parent === here ? null : here.parent)) as Window | null;
  if (!opener) return;
  // XState comes with it, and most pages have no guests.
  const { StatelyReader } = await import('../formats/recording/stately.ts');
  const reader = new StatelyReader('', () => Date.now());
  let take: (lines: readonly Line[]) => void = () => {};
  here.addEventListener('message', ({ source, data, origin }) => {
    if (source !== opener) return;
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
