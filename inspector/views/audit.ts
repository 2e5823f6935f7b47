// Who did what, when, why, and what it changed: the newest first, older ones as somebody scrolls to them.
import type { AuditEntry } from '../answers.ts';
import { diff, facts } from '../details.ts';
import { el, put } from '../element.ts';
import { audit as auditOf } from '../evc.ts';
import { Rows } from '../rows.ts';
import { dateTime, shorten, shortHash } from '../text.ts';
import type { Page, View } from '../view.ts';

const pageLength = 200;
/** Rows before the end at which the next page is asked for. */
const ahead = 40;
/** Entries that a page holds; who wants more asks evc audit. */
const most = 20_000;

export function auditView(page: Page): View {
  let entries: AuditEntry[] = [];
  let shown: AuditEntry[] = [];
  let next: string | null = null;
  /** Id of the device whose entries are shown; empty: all. */
  let of: string | null = null;
  let asking = false;
  let note = 'asks EVC …';
  let drawn = '';
  const status = el('p.quiet.pad', { role: 'status' });
  const only = el('div.chips', { hidden: true });
  const detail = el('aside.detail');
  const head = el(
    'div.row.audit-row.head',
    {},
    ['When', 'Who', 'What', 'To', 'Why'].map((text) => el('span', {}, text)),
  );
  const choose = (index: number) => page.go({ entry: String(shown[index]?.seq ?? '') });
  const rows = new Rows({ height: 28, label: 'audit log', row, choose });

  function row(index: number): HTMLElement {
    if (index > shown.length - ahead) void more();
    const { at, by, what, subject, reason } = shown[index] as AuditEntry;
    return el(
      'div.row.audit-row',
      { title: subject },
      el('span.time.quiet', {}, dateTime(at)),
      el('b.by', {}, shorten(by, 40)),
      el('span.what', {}, shorten(what, 60)),
      el('code.to', {}, subjectText(subject)),
      el('span.why', {}, shorten(reason, 300)),
    );
  }

  async function more(): Promise<void> {
    if (asking || next === null || entries.length >= most) return;
    await ask(next);
  }

  async function ask(before: string): Promise<void> {
    asking = true;
    const asked = of;
    try {
      const answer = await auditOf({ device: asked ?? '', before, limit: pageLength });
      if (asked !== of) return;
      entries = [...entries, ...answer.entries];
      next = answer.next;
      note = entries.length === 0 ? 'Nobody has done anything yet.' : '';
    } catch (error) {
      next = null;
      note = (error as Error).message;
    } finally {
      asking = false;
    }
    page.model.changed();
  }

  function show(entry: AuditEntry | undefined): void {
    detail.classList.toggle('open', entry !== undefined);
    if (!entry) {
      put(detail);
      return;
    }
    const { at, by, what, subject, account, reason, before, after } = entry;
    put(
      detail,
      el(
        'h2',
        {},
        shorten(what, 60),
        el('button.close', { title: 'close (Esc)', onclick: () => page.go({ entry: null }) }, '×'),
      ),
      facts([
        ['when', dateTime(at)],
        ['who', shorten(by, 64)],
        ['why', shorten(reason, 500)],
        ['to', el('code.wrap', {}, shorten(subject, 200))],
        ['account', shorten(account, 64)],
      ]),
      /^[0-9a-f]{64}$/.test(subject) &&
        el(
          'div.buttons',
          {},
          el('button', { onclick: () => page.go({ view: 'device', device: subject }) }, 'the device'),
        ),
      (before || after) && el('h3', {}, 'What it changed'),
      (before || after) && diff(before ?? {}, after ?? {}),
    );
  }

  return {
    element: el(
      'section.view.audit',
      {},
      only,
      status,
      el('div.split', {}, el('div.audit-list', {}, head, rows.element), detail),
    ),
    update() {
      const wanted = page.address.get('of') ?? '';
      if (wanted !== of) {
        of = wanted;
        entries = [];
        next = null;
        note = 'asks EVC …';
        void ask('');
      }
      const state = `${of} ${entries.length} ${note} ${page.search()} ${page.address.get('entry')}`;
      if (state === drawn) return;
      drawn = state;
      only.hidden = of === '';
      put(
        only,
        el(
          'button.chip',
          { 'aria-pressed': 'true', title: 'show all', onclick: () => page.go({ of: null, entry: null }) },
          `of ${subjectText(of)} ×`,
        ),
      );
      status.textContent = note;
      status.hidden = note === '';
      shown = entries.filter(({ by, what, subject, account, reason }) =>
        `${by} ${what} ${subject} ${account} ${reason}`.toLowerCase().includes(page.search()),
      );
      const chosen = shown.findIndex(({ seq }) => String(seq) === page.address.get('entry'));
      rows.show(shown.length, chosen);
      show(shown[chosen]);
      // A search may leave so few that nobody can scroll to the end of them.
      if (page.search() !== '' && shown.length < ahead) void more();
    },
    key(event) {
      if (event.key !== 'Escape' || !page.address.has('entry')) return false;
      page.go({ entry: null });
      return true;
    },
  };
}

/** Ids of devices are long, names are not. */
function subjectText(subject: string): string {
  return /^[0-9a-f]{64}$/.test(subject) ? shortHash(subject) : shorten(subject, 40);
}
