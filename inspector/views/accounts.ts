// The accounts: what their devices may do. One that is chosen is shown whole, and changed in two steps by an administrator.
import { filterText } from '../../formats/filter/filter.ts';
import { mayNot } from '../acceptance.ts';
import type { AccountDetails, Caller } from '../answers.ts';
import {
  type AccountText,
  accountChange,
  accountFields,
  accountText,
  fieldDifferences,
  readAccount,
} from '../change-wish.ts';
import { facts } from '../details.ts';
import { el, put } from '../element.ts';
import {
  account as accountOf,
  caller as callerOf,
  changeAccount,
  devicePage,
  accounts as listAccounts,
} from '../evc.ts';
import { Rows } from '../rows.ts';
import { shorten } from '../text.ts';
import type { Page, View } from '../view.ts';
import { type ChangeForm, type ChangePanel, changePanel } from './change.ts';
import { fieldForm } from './field-form.ts';

/** Devices of an account that are counted. */
const mostCounted = 1000;
const closed = { change: null, step: null } as const;

export function accountsView(page: Page): View {
  let all: AccountDetails[] = [];
  let shown: AccountDetails[] = [];
  let me: Caller | null = null;
  let trouble = 'asks EVC …';
  let drawn = '';
  let panel: ChangePanel | null = null;
  let panelOf = '';
  const note = el('p.quiet.pad', { role: 'status' });
  const box = el('div.account-box', { hidden: true });
  const panelBox = el('div');
  const rows = new Rows({
    height: 34,
    label: 'accounts',
    row,
    choose: (index) => choose(shown[index]?.id ?? null),
  });
  const head = el(
    'div.row.account-row.head',
    {},
    ['Account', 'Kind', 'Location-Lock', 'EK certificate', 'New devices'].map((text) => el('span', {}, text)),
  );

  const choose = (id: string | null) => page.go({ account: id, ...closed });
  const chosen = () => page.address.get('account') ?? '';

  function row(index: number): HTMLElement {
    const account = shown[index] as AccountDetails;
    return el(
      'div.row.account-row',
      { title: account.id },
      el('b.name', {}, shorten(account.id, 64)),
      el('span', {}, shorten(account.kind, 40)),
      el('span.lock', {}, lockWords(account)),
      el('span.ek', {}, account.requireEkCertificate ? 'wanted' : 'optional'),
      el('span.approval', {}, account.approval ? 'wait for approval' : 'come in'),
    );
  }

  function drawBox(account: AccountDetails): void {
    const hindered = mayNot(me, window.top !== window.self, 'admin');
    const { kind, requireEkCertificate, approval } = accountText(account);
    put(
      box,
      el('h2', {}, shorten(account.id, 64)),
      facts([
        ['kind', kind],
        ['Location-Lock', lockWords(account)],
        [
          'EK certificate',
          accountFields.requireEkCertificate.values[requireEkCertificate === 'on' ? 'on' : 'off'],
        ],
        ['new devices', accountFields.approval.values[approval === 'on' ? 'on' : 'off']],
      ]),
      el(
        'div.actions',
        {},
        el(
          'button.primary.change-account',
          {
            disabled: hindered !== '',
            title: hindered,
            'aria-describedby': hindered === '' ? undefined : 'hindered',
            onclick: () => page.go({ change: 'account', step: null }),
          },
          'Change it …',
        ),
        el(
          'button',
          { onclick: () => page.go({ view: 'devices', filter: filterOf(account.id) }) },
          'Its devices',
        ),
        el('button', { onclick: () => choose(null) }, 'Close'),
        hindered !== '' && me !== null && el('p.hindered', { id: 'hindered' }, hindered),
      ),
      panelBox,
    );
  }

  function drawPanel(id: string): void {
    const key = page.address.get('change') === 'account' ? id : '';
    if (key !== panelOf) {
      panelOf = key;
      panel =
        key === ''
          ? null
          : changePanel(page, {
              title: `Change account ${shorten(id, 64)}`,
              form: accountForm(id),
              said: 'Changed; its devices follow.',
              closed,
              done: () => void look(),
            });
      put(panelBox, panel?.element);
      panel?.element.scrollIntoView({ block: 'nearest' });
    }
    panel?.update(mayNot(me, window.top !== window.self, 'admin'));
  }

  async function look(): Promise<void> {
    try {
      all = (await listAccounts()).sort((one, other) => (one.id < other.id ? -1 : 1));
      trouble = all.length === 0 ? 'There is no account that this token may see.' : '';
    } catch (error) {
      trouble = (error as Error).message;
    }
    drawn = '';
    page.model.changed();
  }

  callerOf()
    .then((who) => {
      me = who;
      page.model.changed();
    })
    .catch(() => undefined);
  void look();
  return {
    element: el('section.view.accounts', {}, note, head, rows.element, box),
    update() {
      const id = chosen();
      const account = all.find((one) => one.id === id);
      if (account) drawPanel(account.id);
      const state = `${page.search()} ${all.length} ${trouble} ${id} ${me?.role}`;
      if (state === drawn) return;
      drawn = state;
      const missing =
        id !== '' && !account && trouble === '' ? `There is no account ${shorten(id, 64)}.` : trouble;
      note.textContent = missing;
      note.hidden = missing === '';
      shown = all.filter((one) => `${one.id} ${one.kind}`.toLowerCase().includes(page.search()));
      rows.show(shown.length, shown.indexOf(account as AccountDetails), account !== undefined);
      box.hidden = !account;
      if (account) drawBox(account);
    },
    key(event) {
      if (event.key !== 'Escape' || chosen() === '') return false;
      if (page.address.has('change')) page.go(closed);
      else choose(null);
      return true;
    },
  };
}

function accountForm(id: string): ChangeForm {
  let looked: { account: AccountDetails; tag: string; text: AccountText } | null = null;
  let devices = '';
  let hear = () => {};
  const form = fieldForm(accountFields, () => hear());
  return {
    element: form.element,
    async look(anew) {
      const [{ account, tag }, { devices: found, next }] = await Promise.all([
        accountOf(id),
        devicePage({ filter: filterOf(id), limit: mostCounted }),
      ]);
      const same = looked?.tag === tag;
      const text = accountText(account);
      looked = { account, tag, text };
      devices =
        next !== null
          ? `More than ${found.length} devices follow.`
          : found.length === 1
            ? '1 device follows.'
            : `${found.length} devices follow.`;
      if (anew || !same) form.fill(text);
      return same;
    },
    wish() {
      const values = form.values();
      const { value, problem } = readAccount(values);
      if (!value) return { problem, differences: [] };
      const differences = fieldDifferences(accountFields, looked?.text ?? values, values);
      return { problem: '', differences, follows: devices };
    },
    async send() {
      const { value } = readAccount(form.values());
      if (looked && value) await changeAccount(id, accountChange(looked.account, value), looked.tag);
    },
    typed(listener) {
      hear = listener;
    },
  };
}

function lockWords({ locationLock, radius, moved }: AccountDetails): string {
  return locationLock ? `on: ${radius} m, moved: ${shorten(moved, 40)}` : 'off';
}

function filterOf(account: string): string {
  return filterText([{ key: 'account', denied: false, values: [account] }]);
}
