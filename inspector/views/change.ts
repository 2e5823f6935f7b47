// A change in two steps: first what it is to be, then what would be otherwise, and the change of exactly what was looked at. A change
// that EVC refuses is shown with its code and remedy. What is typed stands in no address: a setting may be a secret.
import type { Difference } from '../change-wish.ts';
import { facts } from '../details.ts';
import { el, put } from '../element.ts';
import { shorten } from '../text.ts';
import type { Page } from '../view.ts';
import { arrow } from './accept.ts';
import { showRefusal } from './refused.ts';

export interface ChangeForm {
  /** The first step. */
  element: HTMLElement;
  /**
   * Asks EVC what stands there. Rejects with SourceError.
   *
   * @param anew whatever stands there is what is looked at, and the form begins with it
   * @returns whether it is what was looked at; where it is not, the form begins again
   */
  look(anew: boolean): Promise<boolean>;
  /** What is typed, by what was looked at. `follows`: what else comes of it. */
  wish(): { problem: string; differences: Difference[]; follows?: string };
  /** Asks EVC for it, if what was looked at still stands there. Rejects with SourceError. */
  send(): Promise<void>;
  /** Called back whenever something was typed. */
  typed(hear: () => void): void;
}

export interface ChangePanel {
  element: HTMLElement;
  /** What is looked at may not be what stands there any more. */
  moved(): void;
  /** The address may have changed. @param hindered why whoever looks may not; empty where they may */
  update(hindered: string): void;
}

export interface ChangeOptions {
  title: string;
  form: ChangeForm;
  /** What is said once it was done. */
  said: string;
  /** Of the address: without the panel. */
  closed: Readonly<Record<string, null>>;
  done(): void;
}

const longest = 400;

export function changePanel(page: Page, { title, form, said, closed, done }: ChangeOptions): ChangePanel {
  let looked = false;
  let looks = false;
  let again = false;
  let sending = false;
  let unsure = false;
  let hinderedBy: string | null = null;
  let step = '';
  const first = el('li', {}, 'what it is to be');
  const second = el('li', {}, 'what would be otherwise, and the change');
  const waits = el('p.quiet', {}, 'asks EVC what stands there …');
  const shown = el('div.changes', { hidden: true });
  const note = el('p.warn', { role: 'status', hidden: true });
  const problem = el('p.bad', { role: 'alert', hidden: true });
  const refusal = el('div.refusal', { role: 'alert' });
  const hindrance = el('p.hindered', { hidden: true });
  const onward = el(
    'button.primary.onward',
    { onclick: () => page.go({ step: 'confirm' }) },
    'Go on: see what changes',
  );
  const confirm = el('button.primary.confirm', { onclick: () => void send() }, 'Change it');
  const back = el('button', { onclick: () => page.go({ step: null }) }, 'Back');
  const anew = el(
    'button.look-again',
    {
      hidden: true,
      onclick: () => {
        page.go({ step: null });
        void look(true);
      },
    },
    'Look again',
  );
  const cancel = el('button', { onclick: () => page.go(closed) }, 'Cancel');

  async function look(begin: boolean): Promise<void> {
    if (looks) {
      again = true;
      return;
    }
    looks = true;
    try {
      const same = await form.look(begin || !looked);
      if (begin || !looked) {
        say('');
        put(refusal);
        unsure = false;
        anew.hidden = true;
      } else if (!same) {
        say('Somebody changed it meanwhile: this is what stands there now.');
        page.go({ step: null });
      }
      looked = true;
    } catch (error) {
      showRefusal(refusal, error, false);
      anew.hidden = false;
    }
    looks = false;
    draw();
    if (again) {
      again = false;
      void look(false);
    }
  }

  function say(text: string): void {
    note.textContent = text;
    note.hidden = text === '';
  }

  async function send(): Promise<void> {
    if (confirm.disabled || step !== 'confirm') return;
    sending = true;
    put(refusal);
    draw();
    try {
      await form.send();
      page.go(closed);
      page.say(said);
      done();
    } catch (error) {
      unsure = showRefusal(
        refusal,
        error,
        true,
        'It may have been done. Look again: EVC says what stands there.',
      );
      anew.hidden = false;
    }
    sending = false;
    draw();
  }

  function draw(): void {
    const open = looked && hinderedBy === '';
    const { problem: wrong, differences, follows = '' } = open ? form.wish() : nothing;
    const ready = open && wrong === '' && differences.length > 0;
    const last = step === 'confirm' && ready;
    first.setAttribute('aria-current', last ? 'false' : 'step');
    second.setAttribute('aria-current', last ? 'step' : 'false');
    waits.hidden = looked || hinderedBy !== '' || !anew.hidden;
    form.element.hidden = last || !open;
    shown.hidden = !last;
    if (last)
      put(
        shown,
        facts(differences.map(({ name, from, to }) => [shorten(name, 100), arrow(word(from), word(to))])),
        follows !== '' && el('p.quiet', {}, follows),
      );
    problem.textContent = wrong;
    problem.hidden = wrong === '';
    onward.hidden = last;
    onward.disabled = !ready;
    onward.title = open && wrong === '' && !ready ? 'nothing is otherwise yet' : '';
    confirm.hidden = !last;
    confirm.disabled = !last || sending || unsure;
    back.hidden = !last;
    hindrance.textContent = hinderedBy ?? '';
    hindrance.hidden = hindrance.textContent === '';
  }

  form.typed(draw);
  draw();
  return {
    element: el(
      'section.panel.change',
      { 'aria-label': title },
      el('h2', {}, title),
      el('ol.two-steps', {}, first, second),
      waits,
      form.element,
      shown,
      note,
      problem,
      refusal,
      hindrance,
      el('div.buttons', {}, onward, confirm, back, anew, cancel),
    ),
    moved() {
      if (looked && !sending && !unsure) void look(false);
    },
    update(hindered) {
      const now = page.address.get('step') ?? '';
      if (now === step && hindered === hinderedBy) return;
      const entered = now === 'confirm' && step !== 'confirm';
      step = now;
      const may = hindered === '' && hinderedBy !== '';
      hinderedBy = hindered;
      if (may) void look(true);
      draw();
      if (entered && !confirm.hidden) confirm.focus();
    },
  };
}

const nothing = { problem: '', differences: [], follows: '' } as const;

function word(value: string | null): string {
  return value === null ? 'none' : value === '' ? '""' : shorten(value, longest);
}
