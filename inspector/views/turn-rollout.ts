// What a person does to a roll-out that has begun: stop it, let it go on, end it for good. With a reason, and once.
import { keyring, mayNot } from '../acceptance.ts';
import type { Caller, Rollout } from '../answers.ts';
import { el, put } from '../element.ts';
import { caller as callerOf, type RolloutTurn, turnRollout } from '../evc.ts';
import { reasonBox } from '../reason-box.ts';
import type { Page } from '../view.ts';
import { showRefusal } from './refused.ts';

const turns: Readonly<
  Record<RolloutTurn, { from: readonly Rollout['state'][]; name: string; what: string }>
> = {
  stop: { from: ['running'], name: 'Stop', what: 'No further device is begun with; those under way go on.' },
  resume: {
    from: ['halted', 'stopped'],
    name: 'Resume',
    what: 'It goes on, and with the devices that failed once more.',
  },
  cancel: {
    from: ['running', 'halted', 'stopped'],
    name: 'Cancel',
    what: 'It ends for good: devices that wait are skipped, those under way go on.',
  },
};

export interface TurnPanel {
  element: HTMLElement;
  /** The roll-out or the address changed. */
  show(of: Rollout): void;
}

/** @param done called once EVC has done it */
export function turnPanel(page: Page, done: () => void): TurnPanel {
  const keyOf = keyring(() => crypto.randomUUID());
  let me: Caller | null = null;
  let shown: Rollout | null = null;
  let sending = false;
  let drawn = '';
  const actions = el('div.actions');
  const what = el('p.quiet');
  const why = reasonBox({
    placeholder: 'why; it is kept in the audit log',
    typed: () => buttons(),
    send: () => void send(),
    away: () => page.go({ turn: null }),
  });
  const confirm = el('button.primary.confirm', { onclick: () => void send() });
  const back = el('button', { onclick: () => page.go({ turn: null }) }, 'Back');
  const refusal = el('div.refusal', { role: 'alert' });
  const form = el('div.why-form', { hidden: true }, what, why, refusal, el('div.buttons', {}, confirm, back));

  const turnOf = (): RolloutTurn | null => {
    const wanted = page.address.get('turn') ?? '';
    return wanted in turns ? (wanted as RolloutTurn) : null;
  };

  async function send(): Promise<void> {
    const turn = turnOf();
    if (!shown || !turn || confirm.disabled) return;
    const { id, state } = shown;
    const reason = why.value.trim();
    sending = true;
    put(refusal);
    buttons();
    try {
      // The state tells two turns of the same kind apart.
      await turnRollout(id, turn, reason, keyOf(JSON.stringify([id, turn, state, reason])));
      why.value = '';
      page.say('');
      page.go({ turn: null });
      done();
    } catch (error) {
      showRefusal(refusal, error, true);
    }
    sending = false;
    buttons();
  }

  function buttons(): void {
    const turn = turnOf();
    confirm.disabled =
      sending || !shown || !turn || mayNot(me, window.top !== window) !== '' || why.value.trim() === '';
    confirm.title = why.value.trim() === '' ? 'a reason is wanted first' : 'Ctrl+Enter';
  }

  function draw(): void {
    if (!shown) return;
    const { state, id } = shown;
    const hindered = me === null ? '' : mayNot(me, window.top !== window);
    const turn = turnOf();
    const possible = (Object.keys(turns) as RolloutTurn[]).filter((one) => turns[one].from.includes(state));
    const key = `${id} ${state} ${turn} ${hindered} ${me === null}`;
    if (key === drawn) return;
    drawn = key;
    put(
      actions,
      possible.map((one) =>
        el(
          'button.turn',
          {
            'aria-pressed': String(one === turn),
            disabled: hindered !== '' || me === null,
            title: hindered || turns[one].what,
            onclick: () => page.go({ turn: one === turn ? null : one, rollout: id }),
          },
          `${turns[one].name} …`,
        ),
      ),
      hindered !== '' && possible.length > 0 && el('p.hindered', {}, hindered),
    );
    actions.hidden = possible.length === 0;
    const open = turn !== null && possible.includes(turn);
    const opened = open && form.hidden;
    form.hidden = !open;
    if (open) {
      what.textContent = turns[turn].what;
      confirm.textContent = `${turns[turn].name} it`;
    }
    buttons();
    if (opened) {
      put(refusal);
      why.focus();
    }
  }

  callerOf()
    .then((who) => {
      me = who;
      draw();
    })
    .catch(() => undefined);

  return {
    element: el('div.turns', {}, actions, form),
    show(of) {
      shown = of;
      draw();
    },
  };
}
