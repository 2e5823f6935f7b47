// All devices of EVC: which are trusted, and why the others are not. Details are fetched for those that can be seen.
import { explain } from '../../machines/reasons.ts';
import { el } from '../element.ts';
import { Rows } from '../rows.ts';
import {
  type DeviceDetails,
  type DeviceRow,
  device as detailsOf,
  guestsId,
  devices as listDevices,
  steps,
} from '../source.ts';
import { dateTime, duration, shorten, shortHash } from '../text.ts';
import type { Page, View } from '../view.ts';

/** Requests for details that are under way at the same time. */
const mostRequests = 4;
/** ms between two looks at the list while records move. */
const calm = 1000;

export const trustMarks: Readonly<Record<string, { mark: string; tone: string; text: string }>> = {
  trusted: { mark: '✓', tone: 'good', text: 'trusted' },
  uud: { mark: '✗', tone: 'bad', text: 'UUD' },
  umd: { mark: '!', tone: 'warn', text: 'UMD' },
  stale: { mark: '◌', tone: 'warn', text: 'stale' },
  unattested: { mark: '·', tone: 'none', text: 'unattested' },
  retired: { mark: '−', tone: 'none', text: 'retired' },
};

export function devicesView(page: Page): View {
  let all: DeviceRow[] = [];
  let shown: DeviceRow[] = [];
  let only = '';
  const known = new Map<string, DeviceDetails | 'asked'>();
  const wanted: string[] = [];
  let requests = 0;
  let late = false;
  const end = new AbortController();
  const counts = el('div.chips', { role: 'group', 'aria-label': 'trust' });
  const note = el('p.quiet.pad', { role: 'status' }, 'asks EVC …');
  const head = el(
    'div.row.device-row.head',
    {},
    ['', 'Device', 'Trust', 'Why', 'Runs', 'Link', 'Seen'].map((text) => el('span', {}, text)),
  );
  const rows = new Rows({
    height: 40,
    label: 'devices',
    row,
    choose: (index) => page.openDevice(shown[index]?.device ?? ''),
  });

  function row(index: number): HTMLElement {
    const one = shown[index] as DeviceRow;
    const more = details(one.device);
    const { mark, tone, text } = trustMarks[one.trust] ?? { mark: '?', tone: 'none', text: one.trust };
    const why = one.trust === 'umd' ? 'moved: it is not where it was locked to' : whyOf(more);
    return el(
      'div.row.device-row',
      { title: one.device },
      el(`span.mark.${tone}`, { 'aria-hidden': 'true' }, mark),
      el('b.name', {}, shorten(one.serial || shortHash(one.device), 40)),
      el(`span.trust.${tone}`, {}, text),
      el('span.why', { title: why }, why),
      el('span.runs', {}, runsOf(more)),
      el(
        'span.link',
        {},
        more ? (more.online ? el('span.dot.good') : el('span.dot')) : '',
        more ? (more.online ? ' online' : ' offline') : '',
      ),
      el(
        'span.seen.quiet',
        { title: one.seen > 0 ? dateTime(one.seen) : '' },
        one.seen > 0 ? [duration(Date.now() - one.seen), el('span.ago', {}, ' ago')] : 'never',
      ),
    );
  }

  function details(id: string): DeviceDetails | null {
    const found = known.get(id);
    if (found === undefined) {
      known.set(id, 'asked');
      wanted.push(id);
      ask();
    }
    return found === undefined || found === 'asked' ? (last.get(id) ?? null) : found;
  }
  /** What was known before a record moved: better than an empty row for a moment. */
  const last = new Map<string, DeviceDetails>();

  function ask(): void {
    while (requests < mostRequests && wanted.length > 0 && !end.signal.aborted) {
      const id = wanted.pop() as string;
      requests++;
      detailsOf(id)
        .then((found) => {
          known.set(id, found);
          last.set(id, found);
          page.model.changed();
        })
        .catch(() => known.delete(id))
        .finally(() => {
          requests--;
          ask();
        });
    }
  }

  async function load(): Promise<void> {
    try {
      all = await listDevices();
      note.textContent = all.length === 0 ? 'No device has registered yet.' : '';
    } catch (error) {
      if (!end.signal.aborted) note.textContent = (error as Error).message;
    }
    page.model.changed();
  }

  async function follow(): Promise<void> {
    for await (const step of steps(end.signal)) {
      if ('device' in step) known.delete(step.device);
      else known.clear();
      if (late) continue;
      late = true;
      setTimeout(() => {
        late = false;
        if (!end.signal.aborted) void load();
      }, calm);
    }
  }

  async function keep(): Promise<void> {
    while (!end.signal.aborted) {
      await load();
      await follow().catch(() => undefined);
      // EVC is gone, or its answer came to an end: what it missed meanwhile is asked for anew.
      known.clear();
      await new Promise((resolve) => setTimeout(resolve, calm * 2));
    }
  }

  void keep();
  return {
    element: el('section.view.devices', {}, counts, note, head, rows.element),
    update() {
      const search = page.search();
      const groups = new Map<string, number>();
      for (const { trust } of all) groups.set(trust, (groups.get(trust) ?? 0) + 1);
      counts.replaceChildren(
        ...[['', all.length] as const, ...groups].map(([trust, count]) => {
          const { text, tone } = trustMarks[trust] ?? { text: trust || 'all', tone: 'none' };
          return el(
            `button.chip.${tone}`,
            {
              'aria-pressed': String(only === trust),
              onclick: () => {
                only = trust;
                page.model.changed();
              },
            },
            `${text} ${count}`,
          );
        }),
        el('span.gap'),
        el(
          'button.chip.quiet',
          {
            title: 'what clients of Stately’s inspector show here',
            onclick: () => page.openDevice(guestsId),
          },
          'charts of other programs',
        ),
      );
      shown = all.filter(
        ({ serial, device: id, uuid, account, trust }) =>
          (only === '' || trust === only) &&
          `${serial} ${id} ${uuid} ${account} ${trust}`.toLowerCase().includes(search),
      );
      shown.sort(
        (a, b) =>
          order(a.trust) - order(b.trust) || a.serial.localeCompare(b.serial, 'en', { numeric: true }),
      );
      rows.show(shown.length);
    },
    close: () => end.abort(),
  };
}

function order(trust: string): number {
  const place = ['uud', 'umd', 'stale', 'unattested'].indexOf(trust);
  return place < 0 ? 9 : place;
}

/** Why a device is trusted. */
const grounds: Readonly<Record<string, string>> = {
  'first-boot': 'as it was first seen',
  baseline: 'as its baseline',
  upgrade: 'upgraded to what EVC pushed',
  fallback: 'fell back to its former image',
  acceptance: 'accepted by a person',
};

function whyOf(more: DeviceDetails | null): string {
  const verdict = more?.verdict;
  if (!verdict) return '';
  if (verdict.accepted) return grounds[verdict.grounds ?? ''] ?? verdict.grounds ?? '';
  const [first] = verdict.findings;
  const pcrs = [...new Set(verdict.findings.flatMap(({ pcr }) => (pcr === undefined ? [] : [pcr])))];
  const title = first ? explain(first.code).title : '';
  return `${pcrs.length > 0 ? `PCR ${pcrs.join(', ')}: ` : ''}${first ? first.text || title : 'refused'}`;
}

function runsOf(more: DeviceDetails | null): string {
  if (!more) return '';
  const image = more.baseline?.versions.image ?? '';
  return more.upgrade ? `${more.upgrade.from} → ${more.upgrade.to}` : image;
}
