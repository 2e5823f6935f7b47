// Roll-outs, the newest first: how far each is, why it halted, and which devices failed.
import { explain } from '../../machines/reasons.ts';
import type { Rollout, RolloutDevices } from '../answers.ts';
import { facts } from '../details.ts';
import { type Child, el, put } from '../element.ts';
import { follow, rollouts as listRollouts, rollout as rolloutOf } from '../evc.ts';
import { barOf, progressMarks, progressText, shareText, stateTones } from '../rollout.ts';
import { Rows } from '../rows.ts';
import { dateTime, duration, shorten, shortHash } from '../text.ts';
import type { Page, View } from '../view.ts';
import { closed, type StartPanel, startPanel } from './start-rollout.ts';
import { turnPanel } from './turn-rollout.ts';

/** ms between two looks while records move. */
const calm = 1500;
/** ms to the next look where one runs: EVC moves it on after the records have moved. */
const running = 5000;

export function rolloutsView(page: Page): View {
  const end = new AbortController();
  const { signal } = end;
  let all: Rollout[] = [];
  let one: RolloutDevices | null = null;
  let shown: RolloutDevices['devices'] = [];
  let trouble = 'asks EVC …';
  let known = '';
  let drawn = '';
  let id = '';
  const note = el('p.quiet.pad', { role: 'status' });
  const list = el('nav.rollout-list', { 'aria-label': 'roll-outs' });
  const head = el('div.rollout-head');
  const turn = turnPanel(page, () => void look());
  let start: StartPanel | null = null;
  const starting = el('div.starting', { hidden: true });
  const begin = el(
    'button.primary.new-rollout',
    { title: 'n', onclick: () => page.go({ ...closed, new: 'image', turn: null }) },
    'New roll-out …',
  );
  const rows = new Rows({
    height: 28,
    label: 'devices of the roll-out',
    row,
    choose: (index) => rows.show(shown.length, index),
    open: (index) => page.openDevice(shown[index]?.device ?? ''),
  });

  function row(index: number): HTMLElement {
    const { device, serial, progress, why } = shown[index] as RolloutDevices['devices'][number];
    const { mark, tone, text } = progressMarks[progress];
    return el(
      'div.row.progress-row',
      { title: device },
      el(`span.mark.${tone}`, { 'aria-hidden': 'true' }, mark),
      serial === '' ? el('code', {}, shortHash(device)) : el('b.name', {}, shorten(serial, 40)),
      el(`span.${tone}`, {}, text),
      el('span.why', { title: why }, why !== '' && whyOf(why)),
    );
  }

  function bar(of: Rollout): HTMLElement {
    const parts = barOf(of).map(({ progress, count }) => {
      const part = el(`span.part.${progressMarks[progress].tone}.${progress}`, {
        title: `${count} ${progressMarks[progress].text}`,
      });
      part.style.flexGrow = String(count);
      return part;
    });
    return el('div.progress-bar', { role: 'img', 'aria-label': progressText(of) }, parts);
  }

  function item(of: Rollout): HTMLElement {
    return el(
      'button.rollout-item',
      {
        'aria-current': of.id === id ? 'true' : undefined,
        onclick: () => page.go({ ...closed, turn: null, rollout: of.id }),
      },
      el('b', {}, shorten(of.version, 40)),
      el(`span.${stateTones[of.state]}`, {}, of.state),
      bar(of),
      el('span.quiet', {}, progressText(of)),
    );
  }

  async function look(): Promise<void> {
    try {
      all = await listRollouts();
      trouble = '';
      const wanted = wantedId();
      one = wanted === '' ? null : await rolloutOf(wanted);
    } catch (error) {
      if (signal.aborted) return;
      trouble = (error as Error).message;
    }
    // What is the same stays as it is drawn, and with it whatever has the focus.
    known = JSON.stringify([all, one, trouble]);
    page.model.changed();
    if (all.some(({ state }) => state === 'running')) setTimeout(soon, running);
  }

  const wantedId = () => page.address.get('rollout') ?? all[0]?.id ?? '';

  let late = false;
  const soon = () => {
    if (late || signal.aborted) return;
    late = true;
    setTimeout(() => {
      late = false;
      if (!signal.aborted) void look();
    }, calm);
  };
  void look();
  void follow(signal, soon);

  return {
    element: el(
      'section.view.rollouts',
      {},
      note,
      el(
        'div.split',
        {},
        el('div.rollout-side', {}, begin, list),
        el('div.rollout', {}, head, turn.element, rows.element),
        starting,
      ),
    ),
    update() {
      const wanted = page.address.has('new');
      if (wanted && !start) {
        start = startPanel(page);
        put(starting, start.element);
      } else if (!wanted && start) {
        start.close();
        start = null;
        put(starting);
        void look();
      }
      starting.hidden = !wanted;
      (rows.element.parentElement as HTMLElement).hidden = wanted;
      start?.update();
      const state = `${known} ${wantedId()} ${page.search()} ${page.address.get('turn')} ${wanted}`;
      if (state === drawn) return;
      drawn = state;
      if (wantedId() !== id) {
        id = wantedId();
        if (one?.id !== id) {
          one = null;
          void look();
        }
      }
      const text = trouble !== '' ? trouble : all.length === 0 ? 'There is no roll-out yet.' : '';
      note.textContent = text;
      note.hidden = text === '' || (wanted && trouble === '');
      list.hidden = all.length === 0;
      put(list, all.map(item));
      head.hidden = one === null;
      turn.element.hidden = one === null;
      shown = (one?.devices ?? [])
        .filter(({ device, serial, progress, why }) =>
          `${device} ${serial} ${progress} ${why}`.toLowerCase().includes(page.search()),
        )
        .sort((a, b) => urgency(a.progress) - urgency(b.progress));
      rows.show(shown.length);
      if (!one) return;
      put(
        head,
        el(
          'h2',
          {},
          `${shorten(one.version, 60)} `,
          el(`span.badge.${stateTones[one.state]}`, {}, one.state),
        ),
        one.why !== '' && el('p.bad', {}, shorten(one.why, 400)),
        bar(one),
        el('p', {}, `${progressText(one)}; ${shareText(one)}`),
        facts([
          [
            'begun',
            `${dateTime(one.created)} (${duration(Math.max(0, Date.now() - one.created))} ago) by ${one.by}`,
          ],
          ['reason', shorten(one.reason, 500)],
          ['halts', `when more than ${one.haltAt} % fail`],
          ['at once', `${one.atOnce === 1 ? '1 device' : `${one.atOnce} devices`} at the most`],
          ['shares', one.stages.map((share) => `${share} %`).join(', ')],
          ['id', el('code', {}, one.id)],
        ]),
      );
      turn.show(one);
    },
    key(event) {
      if (event.key === 'n') {
        begin.click();
        return true;
      }
      const move = event.key === 'j' ? 1 : event.key === 'k' ? -1 : 0;
      const next = all[all.findIndex((of) => of.id === id) + move];
      if (move === 0 || !next) return false;
      page.go({ ...closed, turn: null, rollout: next.id });
      return true;
    },
    close() {
      end.abort();
      start?.close();
    },
  };
}

/** What the code means, and the code. */
function whyOf(code: string): Child {
  const { title, kind } = explain(code);
  const shown = el('code.quiet', {}, shorten(code, 200));
  return kind === 'unknown' ? shown : [`${title}  `, shown];
}

/** Those that failed are what somebody has to look at. */
function urgency(progress: string): number {
  return ['failed', 'assigned', 'skipped', 'waiting', 'committed'].indexOf(progress);
}
