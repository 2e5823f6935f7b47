// A roll-out that begins here, in two steps: first which image, how, and the list of the devices that are meant; then why, and the
// beginning with exactly that list.
import { keyring, mayNot } from '../acceptance.ts';
import type { Caller, DeviceRow, Image } from '../answers.ts';
import { el, put } from '../element.ts';
import { caller as callerOf, devicesOf, images as listImages, startRollout } from '../evc.ts';
import { readFilter } from '../filter-words.ts';
import { reasonBox } from '../reason-box.ts';
import { meantBy, mostDevices, planText, readPlan, type WishText, wishFields } from '../rollout-wish.ts';
import { Rows } from '../rows.ts';
import { shorten, shortHash } from '../text.ts';
import { trustOf } from '../trust.ts';
import type { Page } from '../view.ts';
import { filterBox } from './filter-box.ts';
import { showRefusal } from './refused.ts';

/** ms that the filter stands still before EVC is asked. */
const calm = 300;
/** What this panel has in the address. */
const fields = ['version', ...Object.keys(wishFields)] as (keyof WishText)[];
export const closed: Readonly<Record<string, null>> = Object.fromEntries(
  ['new', 'step', 'filter', ...fields].map((name) => [name, null]),
);

export interface StartPanel {
  element: HTMLElement;
  /** The address may have changed. */
  update(): void;
  close(): void;
}

const labels: Readonly<Record<keyof typeof wishFields, readonly [name: string, more: string]>> = {
  shares: ['Shares', '% of the devices, each begun once the one before is through'],
  halt: ['Halts above', '% of those begun with that failed'],
  once: ['At once', 'devices under way at the most'],
  window: ['A device may take', ''],
  test: ['The image has to hold', ''],
};

export function startPanel(page: Page): StartPanel {
  const end = new AbortController();
  const keyOf = keyring(() => crypto.randomUUID());
  let me: Caller | null = null;
  let all: Image[] | null = null;
  /** Of the filter, as EVC answered. */
  let found: { filter: string; rows: DeviceRow[] } | null = null;
  /** What the second step is about: it does not change any more. */
  let pinned: DeviceRow[] | null = null;
  let shown: DeviceRow[] = [];
  let trouble = '';
  let asked = '';
  let drawn = '';
  let sending = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let question = new AbortController();

  const text = (): WishText => {
    const of = (name: keyof typeof wishFields) => page.address.get(name) ?? wishFields[name];
    return {
      version: page.address.get('version') ?? '',
      ...{ shares: of('shares'), halt: of('halt'), once: of('once'), window: of('window'), test: of('test') },
    };
  };
  const ofReason = () => page.address.get('step') === 'reason';

  const image = el('select', {
    'aria-label': 'image',
    onchange: () => page.go({ version: image.value === '' ? null : image.value }),
  });
  const filter = filterBox({
    text: page.address.get('filter') ?? '',
    typed: (wanted) => page.go({ filter: wanted === '' ? null : wanted }),
    left: () => rows.element.focus(),
  });
  const inputs = new Map<keyof WishText, HTMLInputElement>();
  const numbers = Object.entries(labels).map(([key, [name, more]]) => {
    const field = key as keyof typeof wishFields;
    const input = el('input', {
      type: 'text',
      maxlength: 60,
      value: text()[field],
      autocomplete: 'off',
      spellcheck: false,
      oninput: () => page.go({ [field]: input.value === wishFields[field] ? null : input.value }),
    });
    inputs.set(field, input);
    return el(
      `label.wish-field.${field}`,
      {},
      el('span', {}, name),
      input,
      more !== '' && el('span.quiet', {}, more),
    );
  });
  const problem = el('p.bad', { role: 'alert', hidden: true });
  const note = el('p.meant', { role: 'status' });
  const rows = new Rows({ height: 28, label: 'devices that are meant', row });
  const way = el('p.way', {});
  const why = reasonBox({
    placeholder: 'why this image goes out now; it is kept in the audit log',
    typed: () => buttons(),
    send: () => void send(),
  });
  const form = el('div.why-form', { hidden: true }, el('label.quiet', {}, 'Reason'), why);
  const refusal = el('div.refusal', { role: 'alert' });
  const hindrance = el('p.hindered', { hidden: true });
  const onward = el(
    'button.primary.onward',
    { onclick: () => page.go({ step: 'reason' }) },
    'Go on: give a reason',
  );
  const confirm = el('button.primary.confirm', { onclick: () => void send() });
  const back = el('button', { onclick: () => page.go({ step: null }) }, 'Back');
  const cancel = el('button', { onclick: () => page.go(closed) }, 'Cancel');
  const first = el('li', {}, 'which image, for which devices');
  const second = el('li', {}, 'why, and the beginning');
  const wish = el(
    'div.wish',
    {},
    el('label.wish-field', {}, el('span', {}, 'Image'), image),
    el('div.wish-field.devices', {}, el('span', {}, 'Devices'), filter.element, filter.problem),
    numbers,
  );

  function row(index: number): HTMLElement {
    const { device, serial, trust, account, facts } = shown[index] as DeviceRow;
    const { mark, tone, text: word } = trustOf(trust);
    return el(
      'div.row.meant-row',
      { title: device },
      el(`span.mark.${tone}`, { 'aria-hidden': 'true' }, mark),
      el('b.name', {}, shorten(serial || shortHash(device), 40)),
      el(`span.${tone}`, {}, word),
      el('span', {}, facts.image === '' ? 'nothing known' : facts.image),
      el('span.quiet', {}, facts.online ? 'online' : 'offline'),
      el('span.account.quiet', {}, account),
    );
  }

  async function look(): Promise<void> {
    const wanted = page.address.get('filter') ?? '';
    question.abort();
    question = new AbortController();
    const { signal } = question;
    try {
      const devices = await devicesOf(wanted, mostDevices + 1, signal);
      if (signal.aborted) return;
      found = { filter: wanted, rows: devices };
      trouble = '';
    } catch (error) {
      if (signal.aborted || end.signal.aborted) return;
      trouble = (error as Error).message;
    }
    drawn = '';
    page.model.changed();
  }

  function buttons(): void {
    const hindered = mayNot(me, window.top !== window);
    const { plan } = readPlan(text());
    const open = plan !== null && shown.length > 0 && shown.length <= mostDevices && hindered === '';
    const now = found?.filter === (page.address.get('filter') ?? '');
    onward.disabled = !open || !now;
    confirm.disabled = !open || sending || why.value.trim() === '';
    confirm.title = hindered || (why.value.trim() === '' ? 'a reason is wanted first' : 'Ctrl+Enter');
    hindrance.textContent = hindered;
    hindrance.hidden = hindered === '' || me === null;
  }

  async function send(): Promise<void> {
    const { plan } = readPlan(text());
    if (!plan || !pinned || confirm.disabled || !ofReason()) return;
    const body = { ...plan, devices: pinned.map(({ device }) => device), reason: why.value.trim() };
    sending = true;
    put(refusal);
    buttons();
    try {
      const { id } = await startRollout(body, keyOf(JSON.stringify(body)));
      page.go({ ...closed, rollout: id });
      page.say(`Begun: ${shorten(plan.version, 60)} goes to ${counted(body.devices.length)}.`);
      return;
    } catch (error) {
      showRefusal(refusal, error, true);
    }
    sending = false;
    buttons();
  }

  function draw(): void {
    const step = ofReason();
    const { plan, problem: wrong } = readPlan(text());
    first.setAttribute('aria-current', step ? 'false' : 'step');
    second.setAttribute('aria-current', step ? 'step' : 'false');
    for (const [field, input] of inputs) {
      if (document.activeElement !== input) input.value = text()[field];
      input.toggleAttribute('aria-invalid', wrong?.field === field);
    }
    filter.show(page.address.get('filter') ?? '');
    const pushed = (all ?? []).filter(({ sha256 }) => sha256 !== '');
    const { version } = text();
    put(
      image,
      el(
        'option',
        { value: '' },
        all === null ? 'asks EVC …' : pushed.length === 0 ? 'none has a file' : 'choose …',
      ),
      pushed.map((one) =>
        el('option', { value: one.version, selected: one.version === version }, one.version),
      ),
    );
    problem.textContent = wrong && wrong.field !== 'version' ? `${labels[wrong.field][0]}: ${wrong.why}` : '';
    problem.hidden = problem.textContent === '';
    const meant = meantBy(found?.rows ?? [], version);
    if (!step) pinned = null;
    else if (!pinned && found) pinned = meant.devices;
    shown = pinned ?? meant.devices;
    note.textContent = noteText(meant);
    note.classList.toggle('bad', trouble !== '' || meant.devices.length > mostDevices);
    way.textContent = plan && shown.length > 0 ? `${plan.version}: ${planText(plan, shown.length)}.` : '';
    wish.hidden = step;
    form.hidden = !step;
    onward.hidden = step;
    confirm.hidden = !step;
    back.hidden = !step;
    confirm.textContent = `Begin: ${shorten(version, 30)} to ${counted(shown.length)}`;
    rows.show(shown.length);
    buttons();
  }

  function noteText({ devices, there, retired }: ReturnType<typeof meantBy>): string {
    if (trouble !== '') return trouble;
    if (!found) return 'asks EVC for the devices …';
    if (pinned) return `Exactly ${pinned.length === 1 ? 'this' : 'these'} ${counted(pinned.length)}:`;
    if (devices.length > mostDevices)
      return `More than ${mostDevices} devices are meant, which is the most: say more in the filter.`;
    const others = [
      there > 0 && `${there} ${there === 1 ? 'runs' : 'run'} it already`,
      retired > 0 && `${retired} retired`,
    ].filter(Boolean);
    const more = others.length > 0 ? ` (${others.join(', ')})` : '';
    return devices.length === 0
      ? `No device is meant${more}.`
      : `${counted(devices.length)} would get it${more}:`;
  }

  callerOf()
    .then((who) => {
      me = who;
    })
    .catch(() => undefined)
    .finally(() => {
      drawn = '';
      page.model.changed();
    });
  listImages()
    .then((known) => {
      all = known.sort((one, other) => other.added - one.added);
    })
    .catch((error: Error) => {
      trouble = error.message;
    })
    .finally(() => {
      drawn = '';
      page.model.changed();
    });

  return {
    element: el(
      'section.panel.start',
      { 'aria-label': 'new roll-out' },
      el('h2', {}, 'New roll-out'),
      el('ol.two-steps', {}, first, second),
      wish,
      problem,
      way,
      form,
      refusal,
      hindrance,
      el('div.buttons', {}, onward, confirm, back, cancel),
      note,
      rows.element,
    ),
    update() {
      const wanted = page.address.get('filter') ?? '';
      if (wanted !== asked || (found === null && asked === '' && timer === undefined)) {
        asked = wanted;
        clearTimeout(timer);
        if (readFilter(wanted).filter) timer = setTimeout(() => void look(), found === null ? 0 : calm);
      }
      const state = `${page.address}`;
      if (state === drawn) return;
      const entered = ofReason() && form.hidden;
      drawn = state;
      draw();
      if (entered) why.focus();
    },
    close() {
      end.abort();
      question.abort();
      clearTimeout(timer);
    },
  };
}

function counted(devices: number): string {
  return devices === 1 ? '1 device' : `${devices} devices`;
}
