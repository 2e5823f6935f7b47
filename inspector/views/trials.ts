// Ask before: a policy, images or an acceptance, tried on the last attempts of the devices of a filter. It lists what would be
// otherwise, and does nothing.
import { explain } from '../../machines/reasons.ts';
import { mayNot } from '../acceptance.ts';
import type { Caller, TrialVerdict } from '../answers.ts';
import { el, put } from '../element.ts';
import { caller as callerOf, tryPage } from '../evc.ts';
import { readFilter } from '../filter-words.ts';
import { Rows } from '../rows.ts';
import { duration, shorten, shortHash } from '../text.ts';
import {
  isLost,
  mostAttempts,
  nothingTried,
  readTrial,
  saidText,
  shownVerdicts,
  skippedBy,
  type Trial,
  type TrialKind,
  type TrialText,
  type TrialWish,
  trialKinds,
  trialText,
  withPage,
} from '../trial.ts';
import type { Page, View } from '../view.ts';
import { filterBox } from './filter-box.ts';
import { showRefusal } from './refused.ts';

/** Devices of a page, and after which it ends. */
const pageOf = 50;
const mostDevices = 100_000;
const usualAttempts = '3';

const kinds: Readonly<Record<TrialKind, string>> = {
  accept: 'an acceptance',
  images: 'images',
  policy: 'another policy',
};

/** Stays while this page does: a policy is no part of an address. */
let policyText = '';

export function trialsView(page: Page): View {
  const end = new AbortController();
  let running: AbortController | null = null;
  let me: Caller | null = null;
  let trial: Trial | null = null;
  let over = false;
  let shown: TrialVerdict[] = [];
  let version = 0;
  let drawn = '';

  const text = (): TrialText => ({
    kind: trialKinds.find((one) => one === page.address.get('try')) ?? 'accept',
    shown: page.address.get('shown') ?? '',
    versions: page.address.get('versions') ?? '',
    policy: policyText,
    filter: page.address.get('filter') ?? '',
    attempts: page.address.get('attempts') ?? usualAttempts,
  });

  const kind = el('div.chips.kinds', { role: 'group', 'aria-label': 'what is tried' });
  const input = (name: string, label: string, placeholder: string, usual = '') =>
    el('input', {
      type: 'text',
      maxlength: 2000,
      'aria-label': label,
      placeholder,
      autocomplete: 'off',
      spellcheck: false,
      value: page.address.get(name) ?? usual,
      oninput: (event: InputEvent) => {
        const { value } = event.target as HTMLInputElement;
        page.go({ [name]: value === usual ? null : value });
      },
    });
  const shownBox = input('shown', 'device whose state is accepted', 'empty: of each device what it shows');
  const versionsBox = input('versions', 'versions', '1.1.0, 2.0.0');
  const attemptsBox = input('attempts', 'attempts', '', usualAttempts);
  const policyBox = el('textarea.why-box', {
    rows: 5,
    maxlength: 200_000,
    'aria-label': 'policy',
    spellcheck: false,
    placeholder: '{ "location": { "radius": 50 } }',
    oninput: () => {
      policyText = policyBox.value;
      page.model.changed();
    },
  });
  policyBox.value = policyText;
  const filter = filterBox({
    text: text().filter,
    typed: (wanted) => page.go({ filter: wanted === '' ? null : wanted }),
    left: (onward) => onward && go.focus(),
  });
  const row = (name: string, box: Element, more: Element | string = '') =>
    el('div.wish-field', {}, el('span', {}, name), box, more);
  const shownRow = row(
    'As if accepted',
    shownBox,
    el('span.quiet', {}, 'what this device shows, of all of them'),
  );
  const versionsRow = row('As if pushed', versionsBox, el('span.quiet', {}, 'versions of the catalogue'));
  const policyRow = row('Policy', policyBox, el('span.quiet', {}, 'as evc replay --what-if takes it'));
  const problem = el('p.bad', { role: 'alert' });
  const go = el('button.primary.try', { onclick: () => void run(), title: 'Ctrl+Enter' }, 'Try it');
  const stop = el('button', { hidden: true, onclick: () => running?.abort() }, 'Stop');
  const everything = el(
    'button',
    {
      onclick: () => page.go({ all: page.address.has('all') ? null : '1' }),
    },
    'also what stays as it is',
  );
  const hindrance = el('p.hindered', { hidden: true });
  const refusal = el('div.refusal', { role: 'alert' });
  const said = el('p.trial-said', { role: 'status' });
  const skipped = el('div.quiet');
  const head = el(
    'div.row.trial-row.head',
    {},
    ['', 'Device', 'Evidence', 'Judged', 'Was', 'Would be'].map((word) => el('span', {}, word)),
  );
  const rows = new Rows({
    height: 28,
    label: 'verdicts',
    row: rowOf,
    choose: (index) => rows.show(shown.length, index),
    open: (index) => page.openDevice(shown[index]?.device ?? ''),
  });

  function rowOf(index: number): HTMLElement {
    const { device, serial, attempt, judged, before, after, changes } = shown[index] as TrialVerdict;
    const tone = !changes ? 'quiet' : after.accepted ? 'good' : 'bad';
    const mark = !changes ? '·' : isLost({ before, after }) ? '✗' : after.accepted ? '✓' : '≠';
    return el(
      'div.row.trial-row',
      { title: `${device}\n${after.finding?.text ?? ''}` },
      el(`span.mark.${tone}`, { 'aria-hidden': 'true' }, mark),
      el('b.name', {}, shorten(serial || shortHash(device), 40)),
      el('code.quiet.evidence', {}, attempt.slice(0, 8)),
      el('span.quiet.judged-at', {}, `${duration(Math.max(0, Date.now() - judged))} ago`),
      el('span.was', {}, saidText(before)),
      el(`span.${tone}`, {}, changes ? saidText(after) : 'the same'),
    );
  }

  /** What would be asked now; null where it may not be, or is already. */
  function allowed(): TrialWish | null {
    const now = text();
    const may = me !== null && mayNot(me, window.top !== window) === '' && running === null;
    return may && readFilter(now.filter).filter ? readTrial(now).wish : null;
  }

  async function run(): Promise<void> {
    const wish = allowed();
    if (!wish) return;
    running = new AbortController();
    const { signal } = running;
    trial = nothingTried;
    over = false;
    put(refusal);
    changed();
    try {
      for (let after: string | null = ''; after !== null && trial.devices < mostDevices; ) {
        const found: Awaited<ReturnType<typeof tryPage>> = await tryPage(
          { ...wish, after, limit: pageOf },
          signal,
        );
        trial = withPage(trial, found);
        after = found.next;
        over = after === null;
        changed();
      }
    } catch (error) {
      if (end.signal.aborted) return;
      if (!signal.aborted) showRefusal(refusal, error, false);
      if (trial.devices === 0) trial = null;
    }
    running = null;
    changed();
  }

  function changed(): void {
    version++;
    page.model.changed();
  }

  callerOf()
    .then((who) => {
      me = who;
      changed();
    })
    .catch(() => undefined);

  function draw(): void {
    const now = text();
    put(
      kind,
      trialKinds.map((one) =>
        el(
          'button.chip',
          {
            'aria-pressed': String(one === now.kind),
            onclick: () => page.go({ try: one === 'accept' ? null : one }),
          },
          kinds[one],
        ),
      ),
    );
    shownRow.hidden = now.kind !== 'accept';
    versionsRow.hidden = now.kind !== 'images';
    policyRow.hidden = now.kind !== 'policy';
    filter.show(now.filter);
    const { problem: why } = readTrial(now);
    // Nothing was written yet where a field is empty.
    problem.textContent = why;
    problem.hidden =
      why === '' ||
      (now.kind === 'images' ? now.versions === '' : now.kind === 'policy' && policyText === '');
    const hindered = me === null ? '' : mayNot(me, window.top !== window);
    hindrance.textContent = hindered;
    hindrance.hidden = hindered === '';
    go.disabled = allowed() === null;
    stop.hidden = running === null;
    everything.setAttribute('aria-pressed', String(page.address.has('all')));
    everything.hidden = trial === null;
    shown = trial ? shownVerdicts(trial, page.address.has('all')) : [];
    const more = running !== null ? ' so far …' : over ? '' : ' Not all devices were looked at.';
    said.textContent = trial
      ? `${trialText(trial)}${more} Nothing was done.`
      : 'Evidence that EVC keeps is judged again with the change, each at its own time. Nothing is done.';
    put(
      skipped,
      [...(trial ? skippedBy(trial) : [])].map(([code, count]) =>
        el('p', {}, `${count} not judged again: ${explain(code).title} `, el('code', {}, code)),
      ),
    );
    head.hidden = shown.length === 0;
    rows.show(shown.length);
  }

  return {
    element: el(
      'section.view.trials',
      {},
      el(
        'div.trial-form',
        {
          onkeydown: (event: KeyboardEvent) => {
            if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
            void run();
            event.preventDefault();
          },
        },
        el('h2', {}, 'Ask before'),
        kind,
        el(
          'div.wish',
          {},
          shownRow,
          versionsRow,
          policyRow,
          el('div.wish-field.devices', {}, el('span', {}, 'Devices'), filter.element, filter.problem),
          row(
            'Attempts',
            attemptsBox,
            el('span.quiet', {}, `of each device, the last; ${mostAttempts} are kept`),
          ),
        ),
        problem,
        el('div.buttons', {}, go, stop, everything),
        hindrance,
        refusal,
        said,
        skipped,
      ),
      head,
      rows.element,
    ),
    update() {
      const state = `${version} ${page.address} ${policyText}`;
      if (state === drawn) return;
      drawn = state;
      draw();
    },
    key(event) {
      if (event.key !== '/') return false;
      filter.focus();
      return true;
    },
    close() {
      end.abort();
      running?.abort();
    },
  };
}
