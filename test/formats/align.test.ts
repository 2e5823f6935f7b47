import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { alignLists } from '../../formats/align.ts';

/** `=` what stayed, `-` what went, `+` what came. */
function shown(before: string, after: string): string {
  const [a, b] = [[...before], [...after]];
  return alignLists(a, b, (letter) => letter)
    .map(({ same, before: old, after: now }) => {
      const [gone, come] = [a.slice(old.from, old.to).join(''), b.slice(now.from, now.to).join('')];
      return same ? `=${gone}` : `${gone === '' ? '' : `-${gone}`}${come === '' ? '' : `+${come}`}`;
    })
    .join(' ');
}

for (const [before, after, want] of [
  ['', '', ''],
  ['abc', 'abc', '=abc'],
  ['', 'ab', '+ab'],
  ['ab', '', '-ab'],
  ['abc', 'axc', '=a -b+x =c'],
  ['abcdef', 'abdxef', '=ab -c =d +x =ef'],
  ['aaa', 'aa', '=aa -a'],
  ['ab', 'cd', '-ab+cd'],
] as const)
  test(`${before || 'nothing'} and ${after || 'nothing'}`, () => assert.is(shown(before, after), want));

test('every place of both lists is in one stretch, whatever they are', () => {
  let seed = 7;
  const next = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 16) % below;
  };
  const list = () => Array.from({ length: next(30) }, () => 'abcd'.charAt(next(4)));
  for (let round = 0; round < 300; round++) {
    const [before, after] = [list(), list()];
    let [old, now] = [0, 0];
    for (const stretch of alignLists(before, after, (letter) => letter)) {
      assert.equal([stretch.before.from, stretch.after.from], [old, now]);
      old = stretch.before.to;
      now = stretch.after.to;
      const pair = [
        before.slice(stretch.before.from, old).join(''),
        after.slice(stretch.after.from, now).join(''),
      ];
      assert.is(pair[0] === pair[1], stretch.same);
    }
    assert.equal([old, now], [before.length, after.length]);
  }
});

test('lists that are too long and too different are one stretch between what they share', () => {
  const many = (letter: string) => [
    'start',
    ...Array.from({ length: 3000 }, (_, i) => `${letter}${i}`),
    'end',
  ];
  assert.equal(
    alignLists(many('a'), many('b'), (item) => item).map(({ same, before }) => [same, before.to]),
    [
      [true, 1],
      [false, 3001],
      [true, 3002],
    ],
  );
});

test.run();
