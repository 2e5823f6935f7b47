import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Pace } from '../../broker/pace.ts';

/** Numbers of what has begun; `look` is the next of fifty looks a second. */
function paced(perSecond: number) {
  const later: (() => void)[] = [];
  const pace = new Pace(perSecond, (work) => {
    later.push(work);
  });
  const begun: number[] = [];
  let n = 0;
  const begin = (count: number) => {
    for (let i = 0; i < count; i++) {
      const mine = n++;
      pace.begin(() => begun.push(mine) > 0);
    }
  };
  const look = (times = 1) => {
    for (let i = 0; i < times; i++) for (const work of later.splice(0)) work();
  };
  return { pace, begun, begin, look, waits: () => later.length };
}

test('what comes one by one begins at once', () => {
  const { begun, begin, look } = paced(250);
  for (let i = 0; i < 20; i++) {
    begin(1);
    assert.is(begun.length, i + 1);
    look();
  }
});

test('of what comes at once so much begins a second, in its order; and then nobody looks any more', () => {
  const { begun, begin, look, waits } = paced(250);
  begin(600);
  assert.is(begun.length, 5);
  look(50);
  assert.is(begun.length, 255);
  look(100);
  assert.equal(
    begun,
    Array.from({ length: 600 }, (_, i) => i),
  );
  assert.is(waits(), 0);
  begin(6);
  assert.is(begun.length, 605);
});

test('who comes while others wait, waits behind them', () => {
  const { begun, begin, look } = paced(100);
  begin(3);
  assert.equal(begun, [0, 1]);
  begin(2);
  look();
  assert.equal(begun, [0, 1, 2, 3]);
  look();
  assert.equal(begun, [0, 1, 2, 3, 4]);
});

test('who does not want to any more takes nobody’s turn', () => {
  const { pace, begun, begin, look } = paced(100);
  begin(2);
  for (let i = 0; i < 1000; i++) pace.begin(() => false);
  begin(2);
  look();
  assert.equal(begun, [0, 1, 2, 3]);
});

test('what waits when it is closed never begins', () => {
  const { pace, begun, begin, look } = paced(50);
  begin(3);
  pace.close();
  look(10);
  assert.equal(begun, [0]);
});

test.run();
