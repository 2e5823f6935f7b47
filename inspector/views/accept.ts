// Accepting, in two steps: first what would change, then why, and the decision on exactly that. What EVC refuses is shown with its
// code and remedy, and nothing was done.

import { distance } from '../../machines/distance.ts';
import type { Location } from '../../machines/flow.ts';
import { type AcceptanceKind, compareChanges, decisionOf, keyring } from '../acceptance.ts';
import type { Changes, Versions } from '../answers.ts';
import { facts, findingList } from '../details.ts';
import { el, put } from '../element.ts';
import { changes as changesOf, decide } from '../evc.ts';
import { reasonBox } from '../reason-box.ts';
import { clockTime, shortHash } from '../text.ts';
import type { Page } from '../view.ts';
import { showRefusal } from './refused.ts';

/** Which PCRs differ stands above the findings; there stands what moved them. */
const counted = new Set(['policy.pcr.unexpected', 'policy.software.unknown']);

export interface AcceptPanel {
  element: HTMLElement;
  /** The record has moved: what is looked at may not be what stands there any more. */
  moved(): void;
  /** The address may have changed. @param hindered why whoever looks may not; empty where they may */
  update(hindered: string): void;
}

/** @param done called once EVC has accepted */
export function acceptPanel(page: Page, device: string, kind: AcceptanceKind, done: () => void): AcceptPanel {
  const keyOf = keyring(() => crypto.randomUUID());
  let looked: Changes | null = null;
  let sending = false;
  /** It was sent, and nobody knows whether it was done: it is sent as it was until an answer says so. */
  let unsure = false;
  let hinderedBy = '';
  let step = '';
  const title = el('h2', {}, kind === 'software' ? 'Accept what it shows' : 'Accept where it is');
  const first = el('li', {}, 'what would change');
  const second = el('li', {}, 'why, and the decision');
  const shown = el('div.changes', {}, el('p.quiet', {}, 'asks EVC what would change …'));
  const note = el('p.warn', { role: 'status', hidden: true });
  const refusal = el('div.refusal', { role: 'alert' });
  const why = reasonBox({
    placeholder: 'why this is right; it is kept in the audit log',
    typed: () => buttons(),
    send: () => void send(),
  });
  const onward = el(
    'button.primary.onward',
    { onclick: () => page.go({ step: 'reason' }) },
    'Go on: give a reason',
  );
  const confirm = el('button.primary.confirm', { onclick: () => void send() }, 'Accept');
  const back = el('button', { onclick: () => page.go({ step: null }) }, 'Back');
  const cancel = el('button', { onclick: () => page.go({ accept: null, step: null }) }, 'Cancel');
  const again = el(
    'button',
    {
      hidden: true,
      onclick: () => {
        page.go({ step: null });
        void look(true);
      },
    },
    'Look again',
  );
  const form = el('div.why-form', {}, el('label.quiet', {}, 'Reason'), why);

  /** @param anew somebody looks: whatever stands there is what is looked at */
  async function look(anew: boolean): Promise<void> {
    let now: Changes;
    try {
      now = await changesOf(device);
    } catch (error) {
      refuse(error, false);
      return;
    }
    const compared = looked && !anew ? compareChanges(looked, now, kind) : 'other';
    if (compared === 'other' && looked && !anew) {
      say('It shows something else than a moment ago: look again at what would change.');
      page.go({ step: null });
    } else if (compared === 'again')
      say(`It attested again at ${clockTime(now.software?.at ?? 0).slice(0, 8)}, and shows the same.`);
    if (anew) {
      unsure = false;
      say('');
      put(refusal);
    }
    looked = now;
    again.hidden = true;
    if (compared !== 'same') put(shown, kind === 'software' ? software(now) : places(now));
    buttons();
  }

  function say(text: string): void {
    note.textContent = text;
    note.hidden = text === '';
  }

  function refuse(error: unknown, sent: boolean): void {
    unsure = showRefusal(refusal, error, sent);
    again.hidden = false;
  }

  async function send(): Promise<void> {
    if (!looked || confirm.disabled || sending || step !== 'reason') return;
    const decision = decisionOf(looked, kind, why.value.trim());
    sending = true;
    put(refusal);
    buttons();
    try {
      await decide(decision, keyOf(JSON.stringify(decision)));
      page.go({ accept: null, step: null });
      page.say(
        kind === 'software'
          ? 'Accepted; the device attests again now, and is trusted once it has shown the same.'
          : 'Accepted: the device is locked to its new place.',
      );
      done();
    } catch (error) {
      refuse(error, true);
    }
    sending = false;
    buttons();
  }

  function buttons(): void {
    const open = looked !== null && (kind === 'software' ? looked.software : looked.place) !== null;
    const ask = step === 'reason';
    first.setAttribute('aria-current', ask ? 'false' : 'step');
    second.setAttribute('aria-current', ask ? 'step' : 'false');
    form.hidden = !ask;
    onward.hidden = ask;
    confirm.hidden = !ask;
    back.hidden = !ask;
    onward.disabled = !open || hinderedBy !== '';
    confirm.disabled = !open || hinderedBy !== '' || sending || why.value.trim() === '';
    onward.title = hinderedBy;
    confirm.title = hinderedBy || (why.value.trim() === '' ? 'a reason is wanted first' : 'Ctrl+Enter');
    hindrance.textContent = hinderedBy;
    hindrance.hidden = hinderedBy === '';
  }

  const hindrance = el('p.hindered', { hidden: true });
  buttons();
  void look(true);
  return {
    element: el(
      'section.panel.accept',
      { 'aria-label': 'accept' },
      title,
      el('ol.two-steps', {}, first, second),
      shown,
      note,
      form,
      refusal,
      hindrance,
      el('div.buttons', {}, onward, confirm, back, again, cancel),
    ),
    moved() {
      if (!sending && !unsure) void look(false);
    },
    update(hindered) {
      const now = page.address.get('step') ?? '';
      if (now === step && hindered === hinderedBy) return;
      const entered = now === 'reason' && step !== 'reason';
      step = now;
      hinderedBy = hindered;
      buttons();
      if (entered) why.focus();
    },
  };
}

function software({ software: found, trust }: Changes): HTMLElement {
  if (!found)
    return el(
      'p',
      {},
      trust === 'trusted'
        ? 'It is trusted as it is: there is nothing to accept.'
        : 'It shows nothing that could be accepted.',
    );
  const { attempt, at, from, to, pcrs, findings } = found;
  const version = (name: keyof Versions) =>
    from?.[name] === to?.[name]
      ? (to?.[name] ?? 'none')
      : arrow(from?.[name] ?? 'none', to?.[name] ?? 'none');
  const moving = findings.filter(({ code }) => !counted.has(code));
  return el(
    'div',
    {},
    facts([
      ['evidence', [el('code', { title: attempt }, shortHash(attempt)), ` of ${clockTime(at).slice(0, 8)}`]],
      ['image', version('image')],
      ['firmware', version('firmware')],
      ...pcrs.map(
        ({ pcr, baseline, shown }) =>
          [
            `PCR ${pcr}`,
            arrow(shortHash(baseline ?? 'none', 8), shortHash(shown ?? 'none', 8), `${baseline}\n${shown}`),
          ] as const,
      ),
    ]),
    moving.length > 0 && el('h3', {}, 'What moved them'),
    findingList(moving.slice(0, 20), true),
    moving.length > 20 && el('p.quiet', {}, `and ${moving.length - 20} more`),
  );
}

export function arrow(from: string, to: string, title?: string): HTMLElement {
  return el(
    'span.arrow-pair',
    { title },
    el('code.wrap', {}, from),
    el('span.quiet', {}, ' → '),
    el('code.wrap', {}, to),
  );
}

function places({ place }: Changes): HTMLElement {
  if (!place) return el('p', {}, 'It is where it was locked to: there is nothing to accept.');
  const { locked, seen } = place;
  return facts([
    ['locked to', placeText(locked)],
    ['seen at', placeText(seen)],
    ['apart', locked && seen ? `${Math.round(distance(locked, seen)).toLocaleString('en')} m` : null],
  ]);
}

export function placeText(place: Location | null): string {
  return place ? `${place.latitude}, ${place.longitude} (within ${place.accuracy} m)` : 'nowhere';
}
