// A device of EVC: why it is trusted or not stands first, then what to do about it, then what it is and how it came to be so.
import { type AcceptanceKind, mayNot } from '../acceptance.ts';
import type { AttemptRow, Caller, DeviceDetails, JournalEntry } from '../answers.ts';
import { facts, findingList, reason } from '../details.ts';
import { type Child, el, put } from '../element.ts';
import { caller as callerOf, device as deviceOf, follow, journal as journalOf } from '../evc.ts';
import { baselinesOf } from '../history.ts';
import { attempts as attemptsOf } from '../source.ts';
import { dateTime, duration, shorten, shortHash } from '../text.ts';
import { groundsText, trustBadge, trustOf } from '../trust.ts';
import type { Page, View, ViewName } from '../view.ts';
import { type AcceptPanel, acceptPanel, placeText } from './accept.ts';
import { type ChangeForm, changePanel } from './change.ts';
import { lockForm, settingsForm } from './change-device.ts';

/** ms between two looks while the record moves. */
const calm = 500;
/** Entries of the journal in which baselines are looked for. */
const journalLength = 500;
const mostAttempts = 20;
/** What is changed here, by its name in the address. */
const changes: Readonly<Record<string, { title: string; form(device: string): ChangeForm; said: string }>> = {
  settings: {
    title: 'Settings',
    form: settingsForm,
    said: 'Changed; the device takes the settings with its next configuration.',
  },
  lock: { title: 'Location-Lock', form: lockForm, said: 'Changed; it counts from now on.' },
};
/** Of the address: without a panel. */
const closed = { accept: null, change: null, step: null } as const;

export function deviceView(page: Page): View {
  let id = '';
  let end = new AbortController();
  let shown: DeviceDetails | null = null;
  let me: Caller | null = null;
  let attempts: AttemptRow[] = [];
  let journal: JournalEntry[] = [];
  let trouble = '';
  /** What each part was drawn for: a part that would be the same stays, and with it whatever has the focus. */
  const drawn = new Map<Element, string>();
  /** What the history was read for: it changes with verdicts and decisions, not with every message. */
  let historyOf = '';
  let panel: AcceptPanel | null = null;
  let panelOf = '';
  const note = el('p.quiet.pad', { role: 'status' });
  const top = el('div.why-top');
  const actions = el('div.actions');
  const panelBox = el('div');
  const rest = el('div.device-cards');

  const changed = () => page.model.changed();

  function redraw(part: Element, of: unknown, draw: () => void): void {
    const key = JSON.stringify(of);
    if (drawn.get(part) === key) return;
    drawn.set(part, key);
    draw();
  }

  function open(next: string): void {
    end.abort();
    end = new AbortController();
    const { signal } = end;
    id = next;
    shown = null;
    attempts = [];
    journal = [];
    trouble = '';
    historyOf = '';
    panelOf = '';
    panel = null;
    drawn.clear();
    for (const part of [top, actions, panelBox, rest]) put(part);
    changed();
    if (id === '') return;
    callerOf()
      .then((found) => {
        me = found;
        changed();
      })
      .catch(() => undefined);
    let late = false;
    const look = async () => {
      late = false;
      try {
        const found = await deviceOf(id, signal);
        if (signal.aborted) return;
        const before = shown?.revision ?? found.revision;
        // A later question may have been answered first.
        if (found.revision < before) return;
        shown = found;
        trouble = '';
        if (found.revision > before) panel?.moved();
        await history(found, signal);
      } catch (error) {
        if (signal.aborted) return;
        trouble = (error as Error).message;
      }
      changed();
    };
    const soon = () => {
      if (late || signal.aborted) return;
      late = true;
      setTimeout(() => void look(), calm);
    };
    void look();
    void follow(signal, soon, id);
  }

  async function history(
    { device, trust, verdict, baseline }: DeviceDetails,
    signal: AbortSignal,
  ): Promise<void> {
    const key = `${device} ${trust} ${verdict?.attempt} ${verdict?.at} ${baseline?.at}`;
    if (key === historyOf) return;
    changed();
    const [rows, entries] = await Promise.all([attemptsOf(device), journalOf(device, journalLength)]);
    if (signal.aborted) return;
    attempts = rows;
    journal = entries;
    historyOf = key;
  }

  function go(view: ViewName, more: Record<string, string | null> = {}): void {
    page.go({ view, line: null, evidence: null, chart: null, ...closed, ...more });
  }

  const link = (text: string, view: ViewName, more: Record<string, string | null> = {}) =>
    el('button', { onclick: () => go(view, more) }, text);

  function drawTop(one: DeviceDetails): void {
    const { mark, tone } = trustOf(one.trust);
    const { verdict, refusedEnrolment: refused } = one;
    put(
      top,
      el(
        `div.stamp.${tone}`,
        {},
        el('span.mark', { 'aria-hidden': 'true' }, mark),
        el(
          'div',
          {},
          el('h2', {}, shorten(one.serial || shortHash(one.device), 60), ' ', trustBadge(one.trust)),
          el('p', {}, shorten(one.facts.why, 300) || whyNone(one)),
          el(
            'p.quiet',
            {},
            one.online
              ? 'online'
              : one.seen > 0
                ? `last seen ${duration(Math.max(0, Date.now() - one.seen))} ago`
                : 'never seen',
            ` · account ${one.account || 'none'}`,
            one.labels.map((label) => [' ', el('span.device-label', {}, shorten(label, 64))]),
          ),
        ),
      ),
      verdict &&
        el(
          'p.quiet.judged',
          {},
          verdict.genuine
            ? 'The evidence is genuine: fresh, of this TPM, and its log explains it.'
            : 'The evidence is not genuine, so nothing of it is believed.',
          ` Judged ${dateTime(verdict.at)}`,
          verdict.accepted ? `; ${groundsText(verdict.grounds)}.` : '.',
        ),
      one.trust === 'umd' && reasonOfPlace(one),
      refused && refused.at > (verdict?.at ?? 0) && reason(refused.code, refused.text),
      verdict && verdict.findings.length > 0 && findingList(verdict.findings, !verdict.accepted),
    );
  }

  function drawActions(one: DeviceDetails): void {
    const genuine = one.verdict?.genuine === true;
    const open = genuine && one.verdict?.accepted === false;
    const moved = one.states.location === 'umd';
    const hindered = mayNot(me, window.top !== window.self);
    const button = (text: string, kind: AcceptanceKind, why: string) =>
      el(
        'button.primary',
        {
          disabled: why !== '',
          title: why,
          'aria-describedby': why === '' ? undefined : 'hindered',
          onclick: () => page.go({ ...closed, accept: kind }),
        },
        text,
      );
    const refusedHere =
      one.trust === 'uud' && !genuine
        ? 'The evidence is not genuine, so there is nothing that could be accepted.'
        : '';
    const why = hindered || refusedHere;
    put(
      actions,
      (open || refusedHere !== '') && button('Accept what it shows …', 'software', why),
      moved && button('Accept where it is …', 'place', hindered),
      link('Evidence', 'evidence'),
      link('Live charts', 'charts'),
      link('Sequence', 'sequence'),
      link('Recordings', 'recordings'),
      link('What people did', 'audit', { of: one.device, entry: null }),
      Object.entries(changes).map(([name, { title }]) =>
        el(
          `button.to-change.${name}`,
          {
            disabled: hindered !== '',
            title: hindered,
            'aria-describedby': hindered === '' ? undefined : 'hindered',
            onclick: () => page.go({ ...closed, change: name }),
          },
          `${title} …`,
        ),
      ),
      why !== '' && (me !== null || open || moved) && el('p.hindered', { id: 'hindered' }, why),
    );
  }

  function drawPanel(one: DeviceDetails): void {
    const wanted = page.address.get('accept');
    const kind = wanted === 'software' || wanted === 'place' ? wanted : null;
    const named = page.address.get('change') ?? '';
    const change = kind === null && Object.hasOwn(changes, named) ? changes[named] : undefined;
    const key = kind ? `${one.device} ${kind}` : change ? `${one.device} change ${named}` : '';
    if (key !== panelOf) {
      panelOf = key;
      panel = kind
        ? acceptPanel(page, one.device, kind, changed)
        : change
          ? changePanel(page, {
              title: change.title,
              form: change.form(one.device),
              said: change.said,
              closed,
              done: changed,
            })
          : null;
      put(panelBox, panel?.element);
      panel?.element.scrollIntoView({ block: 'nearest' });
    }
    panel?.update(mayNot(me, window.top !== window.self));
  }

  const card = (title: string, ...children: Child[]) => el('section.card', {}, el('h2', {}, title), children);

  function drawRest(one: DeviceDetails): void {
    const { baseline, upgrade, upgraded, tpm, place, lock } = one;
    put(
      rest,
      card(
        'What it is',
        facts([
          ['device', el('code.wrap', {}, one.device)],
          ['UUID', one.uuid && el('code.wrap', {}, one.uuid)],
          [
            'runs',
            baseline
              ? `${baseline.versions.image} on ${baseline.versions.firmware || 'an unnamed firmware'}`
              : 'nothing that is known',
          ],
          ['upgrade', upgrade && `${upgrade.from} → ${upgrade.to}, until ${dateTime(upgrade.until)}`],
          [
            'upgraded',
            upgraded &&
              `${upgraded.from} → ${upgraded.to}, ${upgraded.how === 'committed' ? 'and it held' : `fell back: ${upgraded.why?.code ?? ''}`}`,
          ],
          ['EK certificate', one.ekTrust],
          ['EK', tpm && el('code', { title: tpm.ekName }, shortHash(tpm.ekName, 8))],
          ['AK', tpm && el('code', { title: tpm.akName }, shortHash(tpm.akName, 8))],
          ['Location-Lock', lock.locationLock ? `on: ${lock.radius} m, moved: ${lock.moved}` : 'off'],
          ['locked to', place.locked && placeText(place.locked)],
          ['seen at', place.seen && placeText(place.seen)],
          ['configuration', `version ${one.config}`],
        ]),
      ),
      card(
        'Attempts',
        attempts.length === 0 && el('p.quiet', {}, 'None is kept.'),
        el('ol.history', {}, attempts.slice(0, mostAttempts).map(attemptItem)),
        attempts.length > mostAttempts && link(`all ${attempts.length}`, 'recordings'),
      ),
      card('Baselines', baselineList(one)),
      card(
        'Keys in escrow',
        one.escrow.length === 0
          ? el('p.quiet', {}, 'None: if its TPM is lost, so is its vault.')
          : el(
              'ol.history',
              {},
              one.escrow
                .slice(-10)
                .reverse()
                .map(({ version: number, keyId, at }) =>
                  el(
                    'li',
                    {},
                    el('b', {}, `version ${number}`),
                    el('span.quiet', {}, ` ${dateTime(at)} `),
                    el('code', { title: keyId }, shortHash(keyId)),
                  ),
                ),
            ),
      ),
    );
  }

  function attemptItem({ attempt, begun, evidence, outcome }: AttemptRow): HTMLElement {
    const good = outcome.startsWith('trusted');
    const tone = outcome === '' ? 'quiet' : good ? 'good' : 'bad';
    return el(
      'li',
      {},
      el(`span.${tone}`, {}, outcome === '' ? '· no verdict' : `${good ? '✓' : '✗'} ${shorten(outcome, 80)}`),
      el('span.quiet', {}, ` attempt ${attempt}, ${dateTime(begun)} `),
      evidence !== '' && el('button.chip', { onclick: () => go('evidence', { evidence }) }, 'evidence'),
    );
  }

  function baselineList(one: DeviceDetails): Child {
    const steps = baselinesOf(journal);
    const { baseline } = one;
    // The journal that was read may begin after the baseline was made.
    if (baseline && !steps.some(({ at }) => at === baseline.at))
      steps.push({ ...baseline.versions, at: baseline.at, grounds: baseline.grounds, by: '', reason: '' });
    if (steps.length === 0) return el('p.quiet', {}, 'It has none yet: it takes what it is first seen with.');
    return el(
      'ol.history',
      {},
      steps.map(({ at, image, firmware, grounds, by, reason: why }) =>
        el(
          'li',
          {},
          el('b', {}, shorten(image, 64) || 'no name'),
          at === baseline?.at && el('span.good', {}, ' now'),
          el('span.quiet', { title: firmware }, ` ${dateTime(at)}: ${groundsText(grounds)}`),
          by !== '' && el('div', {}, `by ${shorten(by, 64)}: ${shorten(why, 500)}`),
        ),
      ),
    );
  }

  return {
    element: el('section.view.device', {}, el('div.device-page', {}, note, top, actions, panelBox, rest)),
    update() {
      const wanted = page.address.get('device') ?? '';
      if (wanted !== id) open(wanted);
      if (shown) drawPanel(shown);
      const text =
        trouble !== '' || shown ? trouble : id === '' ? 'Choose a device in the table (1).' : 'asks EVC …';
      if (note.textContent !== text) note.textContent = text;
      note.hidden = text === '';
      if (!shown) return;
      const { seen, revision: _, ...one } = shown;
      const all = shown;
      redraw(top, [one, one.online || seen], () => drawTop(all));
      redraw(actions, [one.verdict, one.trust, one.states.location, me], () => drawActions(all));
      redraw(rest, [one, attempts, journal], () => drawRest(all));
    },
    key(event) {
      if (event.key !== 'Escape') return false;
      if (page.address.has('accept') || page.address.has('change')) page.go(closed);
      else go('devices');
      return true;
    },
    close: () => end.abort(),
  };
}

function whyNone({ trust, verdict }: DeviceDetails): string {
  return verdict ? '' : `It has not attested yet; it is ${trust}.`;
}

function reasonOfPlace({ place, lock }: DeviceDetails): HTMLElement {
  return el(
    'div.reason.trouble',
    {},
    el('div.reason-title', {}, 'It is not where it was locked to'),
    facts([
      ['locked to', placeText(place.locked)],
      ['seen at', placeText(place.seen)],
      ['radius', `${lock.radius} m`],
    ]),
    el('div.remedy', {}, 'Find out who moved it. If this place is right, accept it.'),
  );
}
