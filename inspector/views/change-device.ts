// What a device is told otherwise: its settings, whole, and its Location-Lock, its own or as its account says.
import type { DeviceSettings, Lock } from '../answers.ts';
import {
  fieldDifferences,
  type LockText,
  lockFields,
  lockText,
  readLock,
  readSettings,
  type SettingText,
  settingDifferences,
} from '../change-wish.ts';
import { el, put } from '../element.ts';
import {
  account as accountOf,
  changeLock,
  changeSettings,
  device as deviceOf,
  settings as settingsOf,
} from '../evc.ts';
import type { ChangeForm } from './change.ts';
import { fieldForm } from './field-form.ts';

interface Line {
  element: HTMLElement;
  read(): SettingText;
}

/** Of a value that is there. */
const mostRows = 6;

export function settingsForm(device: string): ChangeForm {
  let looked: DeviceSettings | null = null;
  let lines: Line[] = [];
  let hear = () => {};
  const list = el('div.setting-lines');
  const add = el(
    'button.add-setting',
    {
      onclick: () => {
        const line = lineOf('', '');
        lines.push(line);
        list.append(line.element);
        line.element.querySelector('input')?.focus();
      },
    },
    'Another setting',
  );

  function lineOf(was: string, value: string): Line {
    const name = el('input.setting-name', {
      type: 'text',
      maxlength: 200,
      'aria-label': 'name of a setting',
      autocomplete: 'off',
      spellcheck: false,
      oninput: () => hear(),
    });
    const box = el('textarea.setting-value', {
      rows: Math.min(mostRows, value.split('\n').length),
      'aria-label': 'its value',
      autocomplete: 'off',
      spellcheck: false,
      oninput: () => hear(),
    });
    // As a property: an attribute would have what cannot be seen written out, and would change it.
    name.value = was;
    box.value = value;
    const [shownName, shownValue] = [name.value, box.value];
    const line: Line = {
      element: el(
        'div.setting-line',
        {},
        name,
        box,
        el(
          'button.remove-setting',
          {
            title: 'without this setting',
            'aria-label': 'without this setting',
            onclick: () => {
              lines = lines.filter((one) => one !== line);
              line.element.remove();
              hear();
            },
          },
          '×',
        ),
      ),
      // A browser writes ends of lines in its own way: what nobody touched stays as it was.
      read: () => ({
        name: name.value === shownName ? was : name.value,
        value: box.value === shownValue ? value : box.value,
      }),
    };
    return line;
  }

  return {
    element: el(
      'div.settings-form',
      {},
      el(
        'p.quiet',
        {},
        'The device takes them with its next configuration. Values may be secrets: they stand in no address.',
      ),
      list,
      add,
    ),
    async look(anew) {
      const now = await settingsOf(device);
      const same = looked !== null && settingDifferences(looked.settings, now.settings).length === 0;
      looked = now;
      if (anew || !same) {
        lines = Object.entries(now.settings)
          .sort(([one], [other]) => (one < other ? -1 : 1))
          .map(([name, value]) => lineOf(name, value));
        put(
          list,
          lines.map(({ element }) => element),
        );
      }
      return same;
    },
    wish() {
      const { value, problem } = readSettings(lines.map((line) => line.read()));
      return value
        ? { problem: '', differences: settingDifferences(looked?.settings ?? {}, value) }
        : { problem, differences: [] };
    },
    async send() {
      const { value } = readSettings(lines.map((line) => line.read()));
      if (looked && value) await changeSettings(device, value, looked.revision);
    },
    typed(listener) {
      hear = listener;
    },
  };
}

export function lockForm(device: string): ChangeForm {
  let looked: { revision: number; lock: Lock; account: Lock; text: LockText } | null = null;
  let hear = () => {};
  const form = fieldForm(lockFields, () => {
    show();
    hear();
  });

  /** As its account: then there is nothing to choose, and what the account says stands there. */
  function show(): void {
    const values = form.values();
    const own = values.own === 'yes';
    for (const key of ['locationLock', 'radius', 'moved'] as const) form.enable(key, own);
    if (!own && looked) form.fill({ ...lockText(looked.account, looked.account), own: 'no' });
  }

  return {
    element: form.element,
    async look(anew) {
      const { revision, lock, account: id } = await deviceOf(device);
      const account = (await accountOf(id)).account;
      const text = lockText(lock, account);
      const same =
        looked !== null &&
        JSON.stringify([looked.text, lockText(looked.account, account)]) ===
          JSON.stringify([text, lockText(account, account)]);
      looked = { revision, lock, account, text };
      if (anew || !same) {
        form.fill(text);
        show();
      }
      return same;
    },
    wish() {
      const values = form.values();
      const { value, problem } = readLock(values);
      if (!value) return { problem, differences: [] };
      return { problem: '', differences: fieldDifferences(lockFields, looked?.text ?? values, values) };
    },
    async send() {
      const { value } = readLock(form.values());
      if (looked && value) await changeLock(device, value, looked.revision);
    },
    typed(listener) {
      hear = listener;
    },
  };
}
