// Step, play, speed, jump to the refusal, back to now: the same bar below every view of a recording.
import { el } from './element.ts';
import type { Model } from './model.ts';
import { clockTime, duration } from './text.ts';

const speeds = [0.5, 1, 2, 5, 20];

export function playbar(model: Model): { element: HTMLElement; update(): void } {
  const button = (text: string, title: string, onclick: () => void) =>
    el('button.tool', { title, 'aria-label': title, onclick }, text);
  const back = button('◂', 'step back (←)', () => {
    model.pause();
    model.step(-1);
  });
  const on = button('▸', 'step (→)', () => {
    model.pause();
    model.step(1);
  });
  const play = button('▶', 'play (space)', () => (model.playing ? model.pause() : model.play()));
  const refused = button('refusal', 'next refusal (r)', () => model.nextRefusal());
  const now = button('● live', 'back to now (f)', () => model.follow());
  refused.classList.add('refused');
  const speed = el(
    'select.tool',
    {
      title: 'speed',
      'aria-label': 'speed',
      onchange: () => {
        model.speed = Number(speed.value);
      },
    },
    speeds.map((one) => el('option', { value: one, selected: one === 1 }, `${one}×`)),
  );
  const slider = el('input.scrub', {
    type: 'range',
    min: 0,
    max: 0,
    step: 1,
    'aria-label': 'place in the recording',
    oninput: () => model.seek(model.track?.indexAt(Number(slider.value)) ?? 0),
  });
  const place = el('span.place', { 'aria-live': 'off' });
  const element = el(
    'footer.playbar',
    { role: 'toolbar', 'aria-label': 'playback' },
    back,
    play,
    on,
    speed,
    refused,
    slider,
    place,
    now,
  );
  return {
    element,
    update() {
      const { track } = model;
      element.hidden = track === null;
      if (!track) return;
      const count = track.lines.length;
      slider.max = String(Math.ceil(track.place(count - 1)));
      slider.value = String(track.place(model.at));
      play.textContent = model.playing ? '❚❚' : '▶';
      const line = track.lines[model.at];
      const first = track.lines[0];
      place.textContent =
        line && first
          ? `${clockTime(line.at)}  +${duration(line.at - first.at)}  ·  ${model.at + 1} / ${count}`
          : 'waits for the first line';
      const bad = track.refusals.some((index) => track.refusal(index)?.weight === 'refused');
      (refused as HTMLButtonElement).disabled = !bad;
      now.hidden = !track.live;
      now.classList.toggle('on', model.following);
    },
  };
}
