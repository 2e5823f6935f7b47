import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  accountChange,
  accountFields,
  accountText,
  fieldDifferences,
  lockFields,
  lockText,
  readAccount,
  readLock,
  readSettings,
  sameLock,
  settingDifferences,
} from '../../inspector/change-wish.ts';

const lock = { locationLock: false, radius: 100, moved: 'report' };
const account = { id: 'plant-7', kind: 'production', ...lock };

test('settings are read by name, and lines without a word are none', () => {
  const lines = [
    { name: ' debug ', value: ' a=b\n' },
    { name: '', value: '' },
    { name: 'empty', value: '' },
    { name: '__proto__', value: 'x' },
  ];
  const { value } = readSettings(lines);
  assert.equal(Object.entries(value ?? {}), [
    ['debug', ' a=b\n'],
    ['empty', ''],
    ['__proto__', 'x'],
  ]);
});

const wrong: [string, { name: string; value: string }[], RegExp][] = [
  ['no name', [{ name: ' ', value: 'x' }], /which setting is x\?/],
  ['twice', ['a', 'a '].map((name) => ({ name, value: 'x' })), /a stands there twice/],
  ['too long', [{ name: 'a', value: 'x'.repeat(4097) }], /a has 4097 characters, and may have 4096/],
  [
    'too many',
    Array.from({ length: 201 }, (_, i) => ({ name: `n${i}`, value: '' })),
    /these are 201 settings.* 200/,
  ],
];
for (const [name, lines, says] of wrong)
  test(`settings that are none: ${name}`, () => {
    const { value, problem } = readSettings(lines);
    assert.is(value, null);
    assert.match(problem ?? '', says);
  });

test('what comes, goes and is otherwise is told, and nothing else', () => {
  assert.equal(settingDifferences({ a: '1', b: '2', c: '' }, { a: '1', b: '3', d: '' }), [
    { name: 'b', from: '2', to: '3' },
    { name: 'c', from: '', to: null },
    { name: 'd', from: null, to: '' },
  ]);
  assert.equal(settingDifferences({ a: '1' }, { a: '1' }), []);
});

test('a lock is the own one of a device, or nothing where it is as its account', () => {
  const own = { ...lock, radius: 5 };
  assert.is(lockText(lock, { ...lock }).own, 'no');
  assert.is(lockText(own, lock).own, 'yes');
  assert.equal(readLock({ ...lockText(own, lock), moved: 'block' }).value, { ...own, moved: 'block' });
  assert.equal(readLock({ ...lockText(own, lock), own: 'no', radius: 'x' }).value, {});
  for (const radius of ['', '0', '0.5', '-1', '1e3', '1000001', 'far', '1,5'])
    assert.match(
      readLock({ ...lockText(own, lock), radius }).problem ?? '',
      /metres, from 1 to 1000000/,
      radius,
    );
  assert.equal(readLock({ ...lockText(own, lock), radius: ' 2.5 ' }).value, { ...lock, radius: 2.5 });
  for (const other of [{ locationLock: true }, { radius: 1 }, { moved: 'block' }])
    assert.not.ok(sameLock(lock, { ...lock, ...other }));
});

test('a change of a lock is told in the words of the form', () => {
  const before = lockText(lock, lock);
  assert.equal(fieldDifferences(lockFields, before, { ...before, own: 'yes', radius: '5 ' }), [
    { name: 'Location-Lock', from: 'as its account says', to: 'for this device by itself' },
    { name: 'Radius', from: '100 m', to: '5 m' },
  ]);
  assert.equal(fieldDifferences(lockFields, before, before), []);
});

test('of an account what is otherwise is sent, and one from before approvals has none', () => {
  const typed = accountText(account);
  assert.equal([typed.approval, typed.requireEkCertificate, typed.kind], ['off', 'off', 'production']);
  const same = readAccount(typed).value;
  assert.ok(same);
  assert.equal(accountChange(account, same), {});
  const { value } = readAccount({ ...typed, approval: 'on', radius: '250' });
  assert.ok(value);
  assert.equal(accountChange(account, value), { approval: true, radius: 250 });
  assert.equal(fieldDifferences(accountFields, typed, { ...typed, approval: 'on' }), [
    { name: 'New devices', from: 'come in with a key', to: 'wait until a person approves' },
  ]);
  assert.match(readAccount({ ...typed, radius: '' }).problem ?? '', /Radius/);
});

test.run();
