// The devices of EVC, told apart by the filter language: which are trusted, and why the others are not. The first rows are asked
// for by themselves; the others follow page by page, and whatever moves is asked for again.
import type { Filter } from '../../formats/filter/filter.ts';
import type { DeviceRow } from '../answers.ts';
import { el, put } from '../element.ts';
import { device as deviceOf, devicePage, firstRows, follow } from '../evc.ts';
import { askedFilter, trustsOf, withTrust } from '../filter-words.ts';
import { Fleet } from '../fleet.ts';
import { Rows } from '../rows.ts';
import { guestsId, token } from '../source.ts';
import { dateTime, duration, shorten, shortHash } from '../text.ts';
import { trustOf } from '../trust.ts';
import type { Page, View } from '../view.ts';
import { filterBox } from './filter-box.ts';

/** Rows in each page behind the first. */
const pageRows = 1000;
/** ms between two looks while records move; more where a look takes long, so that it is a tenth of the time at the most. */
const calm = 1000;
const share = 10;
/** Devices that are asked for one by one when they have moved; more of them, and the fleet is read again. */
const mostSingly = 40;

/** Stays while this page does, so that whoever comes back sees it at once; of the token with which it was read. */
const fleet = new Fleet();
let fleetOf: string | null = null;

export function devicesView(page: Page): View {
  const end = new AbortController();
  const { signal } = end;
  let shown: DeviceRow[] = [];
  let drawn = '';
  /** Id of the device whose row is chosen. */
  let chosen = page.address.get('device') ?? '';
  let whole = false;
  let trouble = '';
  /** ms that it took to read all of it. */
  let lasting = 0;
  const moved = new Set<string>();
  let all = false;
  let waiting = false;
  let phase: 'idle' | 'first' | 'pages' = 'idle';
  let ready = () => {};
  const heard = new Promise<void>((resolve) => {
    ready = resolve;
  });

  const filter = filterBox({
    text: page.address.get('filter') ?? '',
    typed: (text) => page.go({ filter: text === '' ? null : text }),
    left(onward) {
      if (onward) draw();
      rows.element.focus();
      if (onward && !shown.some(({ device }) => device === chosen)) choose(0);
    },
  });
  const counts = el('div.chips', { role: 'group', 'aria-label': 'trust' });
  const note = el('p.quiet.pad', { role: 'status' }, 'asks EVC …');
  const head = el(
    'div.row.device-row.head',
    {},
    ['', 'Device', 'Trust', 'Why', 'Runs', 'Account', 'Link', 'Seen'].map((text) => el('span', {}, text)),
  );
  const rows = new Rows({
    height: 40,
    label: 'devices',
    row,
    choose,
    open: (index) => page.openDevice(shown[index]?.device ?? ''),
  });

  function choose(index: number): void {
    chosen = shown[index]?.device ?? '';
    rows.show(shown.length, chosen === '' ? -1 : index);
  }

  function row(index: number): HTMLElement {
    const { device, serial, trust, account, labels, seen, facts } = shown[index] as DeviceRow;
    const { mark, tone, text } = trustOf(trust);
    const runs = facts.upgrade === '' ? facts.image : `${facts.image} → ${facts.upgrade}`;
    return el(
      'div.row.device-row',
      { title: labels.length > 0 ? `${device}\n${labels.join(', ')}` : device },
      el(`span.mark.${tone}`, { 'aria-hidden': 'true' }, mark),
      el('b.name', {}, shorten(serial || shortHash(device), 40)),
      el(`span.trust.${tone}`, {}, text),
      el('span.why', { title: facts.why }, facts.why),
      el('span.runs', { title: facts.firmware }, runs),
      el('span.account.quiet', {}, account),
      el(
        'span.link',
        {},
        facts.online ? el('span.dot.good') : el('span.dot'),
        facts.online ? ' online' : ' offline',
      ),
      el(
        'span.seen.quiet',
        { title: seen > 0 ? dateTime(seen) : '' },
        seen > 0 ? [duration(Math.max(0, Date.now() - seen)), el('span.ago', {}, ' ago')] : 'never',
      ),
    );
  }

  /** Reads the whole fleet; what the filter means comes first. */
  async function load(): Promise<void> {
    const begun = performance.now();
    const mine = token.get();
    if (fleetOf !== mine) fleet.clear();
    fleetOf = mine;
    const there = new Set<string>();
    const take = (devices: readonly DeviceRow[]) => {
      fleet.merge(devices);
      for (const { device } of devices) there.add(device);
      trouble = '';
      page.model.changed();
    };
    const known = askedFilter(page.address.get('filter') ?? '');
    phase = 'first';
    if (fleet.size === 0) take((await devicePage({ filter: known, limit: firstRows }, signal)).devices);
    // What moves while the pages are read is heard of, so they are read once.
    await Promise.race([heard, new Promise((resolve) => setTimeout(resolve, calm))]);
    phase = 'pages';
    for (let after: string | null = ''; after !== null; ) {
      const answer: Awaited<ReturnType<typeof devicePage>> = await devicePage(
        { after, limit: pageRows },
        signal,
      );
      if (token.get() !== mine) return;
      take(answer.devices);
      after = answer.next;
    }
    fleet.keep(there);
    whole = true;
    lasting = performance.now() - begun;
  }

  /** Asks for what has moved. */
  async function look(): Promise<void> {
    const ids = [...moved];
    const everything = all || ids.length > mostSingly;
    moved.clear();
    all = false;
    try {
      if (everything) await load();
      else for (const id of ids) fleet.merge([await deviceOf(id, signal)]);
      trouble = '';
    } catch (error) {
      if (signal.aborted) return;
      trouble = (error as Error).message;
      // What was not read is read with the next look.
      all = true;
    } finally {
      phase = 'idle';
    }
    page.model.changed();
  }

  async function keep(): Promise<void> {
    waiting = true;
    await look();
    while (!signal.aborted && (moved.size > 0 || all)) {
      await new Promise((resolve) => setTimeout(resolve, Math.max(calm, share * lasting)));
      if (!signal.aborted) await look();
    }
    waiting = false;
  }

  void follow(signal, (device) => {
    if (device !== null) moved.add(device);
    else if (phase !== 'first') all = true;
    ready();
    if (!waiting) void keep();
  });
  all = true;
  void keep();

  function chips(wanted: Filter | null): void {
    const text = page.address.get('filter') ?? '';
    const found = fleet.counts(wanted ?? [], Date.now());
    const asked = trustsOf(wanted ?? []);
    let sum = 0;
    for (const count of found.values()) sum += count;
    for (const trust of asked) if (!found.has(trust)) found.set(trust, 0);
    put(
      counts,
      [['', sum] as const, ...found].map(([trust, count]) => {
        const { text: name, tone } = trust === '' ? { text: 'all', tone: 'none' } : trustOf(trust);
        return el(
          `button.chip.${tone}`,
          {
            'aria-pressed': String(trust === '' ? asked.size === 0 : asked.has(trust)),
            onclick: () => {
              const next = withTrust(text, trust);
              page.go({ filter: next === '' ? null : next });
            },
          },
          `${name} ${count}`,
        );
      }),
      el('span.gap'),
      el(
        'button.chip.quiet',
        {
          title: 'an image for the devices of this filter',
          onclick: () =>
            page.go({ view: 'rollouts', new: 'image', step: null, filter: text === '' ? null : text }),
        },
        'roll out to them …',
      ),
      el(
        'button.chip.quiet',
        { title: 'what clients of Stately’s inspector show here', onclick: () => page.openDevice(guestsId) },
        'charts of other programs',
      ),
    );
  }

  function say(): void {
    const known = fleet.size;
    const text =
      trouble !== ''
        ? trouble
        : !whole
          ? known === 0
            ? 'asks EVC …'
            : `reads the fleet: ${known} devices so far …`
          : known === 0
            ? 'No device has registered yet.'
            : shown.length === 0
              ? 'No device is meant by this filter.'
              : '';
    if (note.textContent !== text) note.textContent = text;
    note.hidden = text === '';
  }

  function draw(): void {
    const text = page.address.get('filter') ?? '';
    const state = `${fleet.version} ${whole} ${text}`;
    say();
    if (state === drawn) return;
    drawn = state;
    const wanted = filter.show(text);
    chips(wanted);
    if (wanted) {
      shown = fleet.select(wanted, Date.now());
      rows.show(shown.length, chosen === '' ? -1 : shown.findIndex(({ device }) => device === chosen));
    }
    say();
  }

  return {
    element: el('section.view.devices', {}, filter.element, filter.problem, counts, note, head, rows.element),
    update: draw,
    key(event) {
      if (event.key === '/') {
        filter.focus();
        return true;
      }
      if (!['j', 'k', 'ArrowDown', 'ArrowUp', 'Enter'].includes(event.key)) return false;
      if (event.target instanceof HTMLButtonElement) return false;
      rows.element.focus();
      rows.element.dispatchEvent(new KeyboardEvent('keydown', { key: event.key }));
      return true;
    },
    close: () => end.abort(),
  };
}
