// Every chart, laid out once and drawn: what is active and what was just taken are classes that change. A click on a state says
// what it is, what it waits for, and where it leads.
import { definitionOf } from '../../formats/recording/definition.ts';
import type { Line } from '../../formats/recording/format.ts';
import type { Standing } from '../../formats/recording/playback.ts';
import { charts as todaysCharts } from '../../machines/charts.ts';
import { chartStyle, drawChart } from '../chart/draw.ts';
import type { ChartLayout } from '../chart/layout.ts';
import { activeIds, eventText as labelText, type State } from '../chart/model.ts';
import { facts, reason, tree, waiting } from '../details.ts';
import { el, put } from '../element.ts';
import { layoutOf } from '../layouts.ts';
import { guestsId } from '../source.ts';
import { duration, shorten, stateText, visible } from '../text.ts';
import type { Page, View } from '../view.ts';
import { Canvas } from './canvas.ts';

interface Shown {
  /** Component in the recording; the id of a chart that none of it runs. */
  key: string;
  hash: string;
  definition: object;
  runs: boolean;
}

const sheet = new CSSStyleSheet();
sheet.replaceSync(chartStyle);

export function chartsView(page: Page): View {
  const { model } = page;
  if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
  const list = el('nav.chart-list', { 'aria-label': 'charts' });
  const detail = el('aside.detail', { 'aria-label': 'state' });
  const note = el('p.quiet.pad.chart-note', { role: 'status' });
  const canvas = new Canvas((target) => choose(target.closest<SVGElement>('.state')?.dataset.id ?? null));
  let layout: ChartLayout | null = null;
  let drawn = '';
  let state: string | null = page.address.get('state');
  let listed = '';

  function all(): Shown[] {
    const { track } = model;
    const running = [...(track?.running ?? [])].flatMap(([key, hash]) => {
      const chart = track?.charts.get(hash);
      return chart ? [{ key, hash, definition: chart.definition, runs: true }] : [];
    });
    // What they show has nothing to do with ours.
    if (page.address.get('device') === guestsId) return running;
    const ids = new Set(running.map(({ hash }) => track?.charts.get(hash)?.id));
    const others = [...todaysCharts.values()]
      .filter(({ id }) => !ids.has(id))
      .map((chart) => ({
        key: chart.id,
        hash: `today:${chart.id}`,
        definition: definitionOf(chart),
        runs: false,
      }));
    return [...running, ...others];
  }

  function menu(entries: readonly Shown[], chosen: Shown | undefined): void {
    const stand = model.track?.stand(model.at);
    const item = ({ key, runs }: Shown) => {
      const standing = stand?.get(key);
      const wait = standing?.context.waiting as { for?: unknown } | null | undefined;
      return el(
        'button.chart-item',
        {
          'aria-current': key === chosen?.key ? 'true' : undefined,
          onclick: () => page.go({ chart: key, state: null }),
        },
        el(`span.dot${runs && standing && standing.status === 'active' ? '.good' : ''}`),
        el('b', {}, shorten(key, 40)),
        el(
          'span.quiet',
          {},
          runs ? shorten(standing ? brief(standing) : 'not yet', 60) : 'not in this recording',
        ),
        typeof wait?.for === 'string' && el('span.wait', {}, `waits for ${shorten(wait.for, 48)}`),
      );
    };
    const device = page.address.get('device');
    const guests = device === guestsId;
    const key = JSON.stringify([
      device,
      chosen?.key,
      entries.map((entry) => [entry.key, stand?.get(entry.key)?.line, stand?.get(entry.key)?.status]),
    ]);
    if (key === listed) return;
    listed = key;
    put(
      list,
      entries.filter(({ runs }) => runs).map(item),
      entries.some(({ runs }) => !runs) && el('h3', {}, 'Other charts'),
      entries.filter(({ runs }) => !runs).map(item),
      // EVC's page has them in its list of devices.
      page.server.by === 'eve' &&
        el(
          'button.chart-item.quiet',
          { onclick: () => page.go({ view: 'charts', device: guests ? null : guestsId, chart: null }) },
          el('span.link', {}, guests ? '← this device' : 'charts of other programs →'),
        ),
    );
  }

  function draw(chosen: Shown): void {
    drawn = chosen.hash;
    layout = null;
    canvas.show(null);
    note.textContent = 'lays it out …';
    layoutOf(chosen.hash, chosen.definition)
      .then((ready) => {
        if (drawn !== chosen.hash) return;
        canvas.show(pictureOf(ready), '.state.active:not(.compound):not(.parallel)');
        layout = ready;
        note.textContent = '';
        model.changed();
      })
      .catch((error: Error) => {
        if (drawn === chosen.hash) note.textContent = `This chart cannot be drawn: ${visible(error.message)}`;
      });
  }

  function highlight(chosen: Shown): void {
    const picture = canvas.picture;
    if (!picture || !layout) return;
    const standing = model.track?.stand(model.at).get(chosen.key);
    const active = new Set(
      chosen.runs && standing && standing.status !== 'stopped' ? activeIds(layout.chart, standing.value) : [],
    );
    const taken = standing ? takenBefore(standing.line) : [];
    const search = page.search();
    picture.setAttribute('class', `chart ${document.documentElement.dataset.theme ?? 'light'}`);
    for (const box of picture.querySelectorAll<SVGElement>('.state, .any')) {
      const id = box.dataset.id ?? '';
      box.classList.toggle('active', active.has(id));
      box.classList.toggle('selected', id === state && box.classList.contains('state'));
      box.classList.toggle(
        'found',
        search !== '' && (layout.chart.states.get(id)?.name ?? '').toLowerCase().includes(search),
      );
    }
    for (const arrow of picture.querySelectorAll<SVGElement>('.transition')) {
      const { from = '', to = '', events = '' } = arrow.dataset;
      arrow.classList.toggle('enabled', active.has(from));
      arrow.classList.toggle(
        'taken',
        taken.some(
          (one) =>
            one.from === from && events.split(' ').includes(one.event) && (to === '' || one.to.includes(to)),
        ),
      );
      arrow.classList.toggle(
        'found',
        search !== '' && (arrow.textContent ?? '').toLowerCase().includes(search),
      );
    }
    const found =
      search === '' ? null : picture.querySelector('.state.found:not(.compound):not(.parallel), .found');
    if (found && !canvas.sees(found)) canvas.centre(found);
  }

  /** Transitions of the step that ended with this line. */
  function takenBefore(step: number): { from: string; event: string; to: string[] }[] {
    const lines = model.track?.lines ?? [];
    const last = lines[step];
    if (last?.kind !== 'snapshot') return [];
    const found: { from: string; event: string; to: string[] }[] = [];
    for (let i = step - 1; i >= 0 && i > step - 500; i--) {
      const line = lines[i] as Line;
      if (!('actor' in line) || line.actor !== last.actor) continue;
      if (line.kind === 'microstep') found.push(...line.transitions);
      else if (line.kind === 'event' || line.kind === 'snapshot') break;
    }
    return found;
  }

  function choose(id: string | null): void {
    state = id;
    page.go({ state: id });
    model.changed();
  }

  function describe(chosen: Shown): void {
    const one = state === null ? null : layout?.chart.states.get(state);
    detail.classList.toggle('open', one !== undefined && one !== null);
    if (!one || !layout) return;
    const standing = chosen.runs ? model.track?.stand(model.at).get(chosen.key) : undefined;
    const active =
      standing !== undefined &&
      standing.status !== 'stopped' &&
      activeIds(layout.chart, standing.value).includes(one.id);
    const now = model.following ? Date.now() : (model.track?.lines[model.at]?.at ?? 0);
    put(
      detail,
      el('h2', {}, el('button.close', { title: 'close (Esc)', onclick: () => choose(null) }, '×'), one.name),
      el('p', {}, one.description === '' ? el('span.quiet', {}, 'It has no description.') : one.description),
      facts([
        ['is', active ? el('b.good', {}, '● active') : 'not active'],
        ['since', active && standing ? `${duration(now - enteredAt(chosen.key, one, standing))} ago` : null],
        ['kind', one.kind === 'atomic' ? null : one.kind],
        [
          'does',
          one.lines.length > 0
            ? one.lines.map(([word, text]) => el('div', {}, el('span.quiet', {}, `${word} `), text))
            : null,
        ],
      ]),
      active && standing && waiting(standing.context, now),
      active && standing && errorOf(standing),
      el('h3', {}, 'Leads to'),
      leads(one, layout),
      standing && [el('h3', {}, 'Context of the chart'), tree(standing.context, 1)],
    );
  }

  /** When a state was entered: the newest step after which it was not active before. */
  function enteredAt(key: string, one: State, standing: Standing): number {
    const { track } = model;
    if (!track || !layout) return standing.since;
    let since = standing.since;
    let looked = 0;
    for (let i = track.steps.length - 1; i >= 0 && looked < 400; i--) {
      const index = track.steps[i] as number;
      if (index > model.at) continue;
      const line = track.lines[index] as Line;
      if (!('value' in line) || line.component !== key) continue;
      looked++;
      if (!activeIds(layout.chart, line.value).includes(one.id)) break;
      since = line.at;
    }
    return since;
  }

  return {
    element: el(
      'section.view.charts',
      {},
      el('div.split', {}, list, el('div.chart-pane', {}, note, canvas.element), detail),
    ),
    update() {
      const entries = all();
      const wanted = page.address.get('chart');
      const chosen = entries.find(({ key }) => key === wanted) ?? usual(entries);
      state = page.address.get('state');
      menu(entries, chosen);
      if (!chosen) {
        drawn = '';
        canvas.show(null);
        put(
          note,
          'No program shows charts here yet. A client of Stately’s inspector does with ',
          el('code', {}, `createWebSocketInspector({ url: '${socketAddress()}' })`),
        );
        return;
      }
      if (chosen.hash !== drawn) draw(chosen);
      highlight(chosen);
      describe(chosen);
    },
    key(event) {
      const actions: Record<string, () => void> = {
        '+': () => canvas.zoom(1.25),
        '-': () => canvas.zoom(0.8),
        '0': () => canvas.fit(),
      };
      if (event.key === 'Escape' && state !== null) {
        choose(null);
        return true;
      }
      const entries = all();
      const at = entries.findIndex(({ key }) => key === (page.address.get('chart') ?? usual(entries)?.key));
      const move = event.key === 'j' ? 1 : event.key === 'k' ? -1 : 0;
      if (move !== 0)
        page.go({
          chart: entries[Math.max(0, Math.min(entries.length - 1, at + move))]?.key ?? null,
          state: null,
        });
      else if (actions[event.key]) actions[event.key]?.();
      else return false;
      return true;
    },
  };
}

/** The attest task is what most people look for. */
function usual(entries: readonly Shown[]): Shown | undefined {
  const running = entries.filter(({ runs }) => runs);
  return (
    running.find(({ key }) => key === 'attest-task') ??
    running.find(({ key }) => key === 'device-record') ??
    running[0] ??
    entries.find(({ key }) => key === 'attestTask')
  );
}

function brief(standing: Standing): string {
  if (standing.status === 'stopped') return 'stopped';
  const { value } = standing;
  if (typeof value === 'object' && typeof value.integrity !== 'undefined') return stateText(value.integrity);
  return stateText(value);
}

function errorOf(standing: Standing): HTMLElement | null {
  const { code, text } = (standing.context.error ?? {}) as Record<string, unknown>;
  return typeof code === 'string' ? reason(code, typeof text === 'string' ? text : '', 'trouble') : null;
}

function leads(one: State, { chart }: ChartLayout): HTMLElement {
  const own = chart.transitions.filter(({ from }) => from === one.id);
  if (own.length === 0)
    return el('p.quiet', {}, 'Nothing of its own; what its parents do holds here as well.');
  return el(
    'div.leads',
    {},
    own.map(({ events, guard, actions, to }) =>
      el(
        'div.taken',
        {},
        el('b', {}, labelText(events)),
        guard !== '' && el('span.guard', {}, ` [${guard}]`),
        ' → ',
        to === null ? el('span.quiet', {}, 'stays') : (chart.states.get(to)?.name ?? to),
        actions.length > 0 && el('div.quiet', {}, `does ${actions.join(', ')}`),
      ),
    ),
  );
}

/**
 * The picture as elements. Its text comes from definitions: what cannot be seen in it is written out first, since some of that
 * is nothing that XML may hold.
 */
function pictureOf(layout: ChartLayout): SVGSVGElement {
  const parsed = new DOMParser().parseFromString(
    visible(drawChart(layout, { style: false })),
    'image/svg+xml',
  );
  if (parsed.documentElement.localName !== 'svg') throw new Error('a name in it cannot be shown');
  return document.importNode(parsed.documentElement, true) as unknown as SVGSVGElement;
}

function socketAddress(): string {
  const { protocol, host } = location;
  return `${protocol === 'https:' ? 'wss' : 'ws'}://${host}/inspect${protocol === 'https:' ? '?token=…' : ''}`;
}
