// What happened, step by step: lanes on top, the steps at the left, and at the right what a step changed and why.
import type { Line } from '../../formats/recording/format.ts';
import { keyOf, type Stand } from '../../formats/recording/playback.ts';
import { arrowOf } from '../arrows.ts';
import { diff, facts, lineDetails, reason, tree, waiting } from '../details.ts';
import { el, put } from '../element.ts';
import { lineMoves, Rows } from '../rows.ts';
import { clockTime, eventText, shorten, stateText } from '../text.ts';
import type { Track } from '../track.ts';
import { lastBefore } from '../track.ts';
import type { Page, View } from '../view.ts';
import { Lanes } from './lanes.ts';

/** Lines that are no step of their own. */
const hidden: ReadonlySet<string> = new Set(['microstep', 'snapshot', 'chart', 'blob', 'device', 'action']);
const tabs = ['change', 'line', 'context'] as const;
type Tab = (typeof tabs)[number];

export function timelineView(page: Page): View {
  const { model } = page;
  const lanes = new Lanes(model);
  let track: Track | null = null;
  let read = 0;
  let shown: number[] = [];
  let search = '';
  let troubleOnly = false;
  let lastAt = -2;
  const filter = el(
    'button.chip.bad',
    {
      'aria-pressed': 'false',
      onclick: () => {
        troubleOnly = !troubleOnly;
        filter.setAttribute('aria-pressed', String(troubleOnly));
        track = null;
        model.changed();
      },
    },
    'refusals only',
  );
  const count = el('span.quiet');
  const rows = new Rows({
    height: 26,
    label: 'steps',
    row,
    choose: (index) => {
      model.pause();
      model.seek(restOf(shown[index] ?? 0));
    },
  });
  const tabBar = el('div.tabs', { role: 'tablist' });
  const panel = el('div.panel');

  /** The line at which a step has come to rest, so that what it changed is shown with it. */
  function restOf(index: number): number {
    const lines = model.track?.lines ?? [];
    const line = lines[index];
    if (line?.kind !== 'event') return index;
    for (let i = index + 1; i < Math.min(lines.length, index + 500); i++) {
      const later = lines[i] as Line;
      if (
        'actor' in later &&
        later.actor === line.actor &&
        (later.kind === 'snapshot' || later.kind === 'event')
      )
        return later.kind === 'snapshot' ? i : index;
    }
    return index;
  }

  function row(position: number): HTMLElement {
    const index = shown[position] as number;
    // The list may be scrolled after another recording was opened, and before it is shown.
    const line = model.track === track ? track?.lines[index] : undefined;
    if (!line) return el('div.row.step-row');
    const refusal = track?.refusal(index);
    const { text, more } = describe(line);
    return el(
      `div.row.step-row.${line.kind}${refusal ? `.${refusal.weight}` : ''}`,
      {},
      el('span.time.quiet', {}, clockTime(line.at)),
      el('span.component', {}, shorten(line.component, 20)),
      el('span.what', {}, refusal?.weight === 'refused' && el('span.mark.bad', {}, '✗ '), text),
      el('span.more.quiet', {}, refusal ? refusal.code : more),
    );
  }

  function describe(line: Line): { text: string; more: string } {
    if (line.kind === 'event') return { text: eventText(line.event.type), more: '' };
    if (line.kind === 'actor')
      return { text: line.restored ? 'goes on' : 'starts', more: stateText(line.value) };
    if (line.kind === 'invoke') return { text: `asks ${line.port}`, more: '' };
    if (line.kind === 'stop') return { text: 'stops', more: '' };
    const arrow = model.track && arrowOf(line, model.track);
    return { text: arrow?.text ?? line.kind, more: arrow?.more ?? '' };
  }

  function details(now: Track): void {
    const index = model.at;
    const line = now.lines[index];
    const tab = (tabs.find((one) => one === page.address.get('tab')) ?? 'change') satisfies Tab;
    put(
      tabBar,
      tabs.map((one) =>
        el(
          'button.tab',
          { role: 'tab', 'aria-selected': String(one === tab), onclick: () => page.go({ tab: one }) },
          one,
        ),
      ),
    );
    if (!line) {
      put(panel, el('p.quiet', {}, 'Choose a step.'));
      return;
    }
    const cause = now.cause(index);
    const event = cause >= 0 ? (now.lines[cause] as Line) : line;
    const key = keyOf(line);
    const after = now.stand(index).get(key);
    const before: ReturnType<Stand['get']> = now
      .stand(Math.max(-1, (cause >= 0 ? cause : index) - 1))
      .get(key);
    const refusal = now.refusal(index) ?? (cause >= 0 ? now.refusal(cause) : null);
    const title = event.kind === 'event' ? eventText(event.event.type) : describe(line).text;
    const head = [
      el('h2', {}, title),
      el('p.quiet', {}, `${line.component} · ${clockTime(line.at)} · line ${line.n}`),
      refusal && reason(refusal.code, refusal.text, refusal.weight),
    ];
    if (tab !== 'change') {
      const context = after ? tree(after.context) : el('p.quiet', {}, 'no chart');
      put(panel, head, tab === 'line' ? lineDetails(event) : context);
      return;
    }
    const [from, to] = [stateText(before?.value), stateText(after?.value)];
    put(
      panel,
      head,
      after &&
        facts([
          [
            'state',
            from === '' || from === to
              ? to
              : el(
                  'span',
                  {},
                  el('s.quiet', {}, changedOnly(from, to)),
                  ' → ',
                  el('b', {}, changedOnly(to, from)),
                ),
          ],
        ]),
      after && waiting(after.context, line.at),
      el('h3', {}, 'What it changed'),
      after ? diff(before?.context ?? {}, after.context) : el('p.quiet', {}, 'This line changes no chart.'),
      !after && lineDetails(line),
    );
  }

  return {
    element: el(
      'section.view.timeline',
      {},
      lanes.element,
      el(
        'div.split',
        {},
        el('div.steps', {}, el('div.chips', {}, filter, count), rows.element),
        el('aside.detail.open', {}, tabBar, panel),
      ),
    ),
    update() {
      const now = model.track;
      if (!now) return;
      if (now !== track || search !== page.search()) {
        track = now;
        search = page.search();
        read = 0;
        shown = [];
        lastAt = -2;
      }
      for (; read < now.lines.length; read++) {
        const line = now.lines[read] as Line;
        if (hidden.has(line.kind)) continue;
        if (line.kind === 'event' && line.event.type === 'xstate.init') continue;
        if (troubleOnly && now.refusal(read)?.weight !== 'refused') continue;
        if (
          search !== '' &&
          !`${line.component} ${describe(line).text} ${describe(line).more} ${now.refusal(read)?.code ?? ''}`
            .toLowerCase()
            .includes(search)
        )
          continue;
        shown.push(read);
      }
      count.textContent = `${shown.length} of ${now.lines.length} lines`;
      const cause = now.cause(model.at);
      const chosen = lastBefore(shown.length, (i) => (shown[i] as number) <= (cause >= 0 ? cause : model.at));
      rows.show(shown.length, chosen, model.at !== lastAt);
      lastAt = model.at;
      lanes.draw();
      details(now);
    },
    key(event) {
      const move = lineMoves[event.key] ?? 0;
      if (move === 0 || shown.length === 0) return false;
      const next = Math.max(0, Math.min(shown.length - 1, rows.chosen + move));
      model.pause();
      model.seek(restOf(shown[next] as number));
      return true;
    },
  };
}

/** Of a state with several regions, those that are not the same in the other. */
function changedOnly(state: string, other: string): string {
  const known = new Set(other.split(' · '));
  const rest = state.split(' · ').filter((part) => !known.has(part));
  return shorten(rest.length > 0 ? rest.join(' · ') : state, 200);
}
