import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Pace } from '../../broker/pace.ts';

/** Of a pace whose clock stands until it is told to go on, what has begun, and what was refused. */
function paced(perSecond: number, patience = 5000) {
  let now = 0;
  const looks: (() => void)[] = [];
  const pace = new Pace({ perSecond, patience, now: () => now, later: (work) => void looks.push(work) });
  const begun: string[] = [];
  const refused: string[] = [];
  /** So many, named a1, a2 …, from the source a. */
  const come = (source: string, count = 1, wanted = true) => {
    for (let i = 1; i <= count; i++) {
      pace.come(source, {
        begin: () => (wanted ? begun.push(`${source}${i}`) > 0 : false),
        refuse: () => void refused.push(`${source}${i}`),
      });
    }
  };
  /** Lets ms go by, with a look every so often. */
  const pass = (ms: number, every = 20) => {
    for (const end = now + ms; now < end; ) {
      now = Math.min(end, now + every);
      for (const look of looks.splice(0)) look();
    }
  };
  return { pace, begun, refused, come, pass, looks };
}

const numbered = (source: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${source}${from + i}`);

test('what comes one by one begins at once', () => {
  const { begun, come, pass, looks } = paced(50);
  for (let i = 1; i <= 200; i++) {
    come('a');
    assert.is(begun.length, i);
    pass(20);
  }
  assert.is(looks.length, 0);
});

test('of what comes at once a second’s worth begins, and then so much a second, in its order; and then nobody looks any more', () => {
  const { begun, come, pass, looks } = paced(250);
  come('a', 600);
  assert.equal(begun, numbered('a', 1, 250));
  pass(1000);
  assert.equal(begun, numbered('a', 1, 500));
  pass(400);
  assert.equal(begun, numbered('a', 1, 600));
  pass(20);
  assert.is(looks.length, 0);
});

test('a process that looks seldom lets in as many', () => {
  const { begun, come, pass } = paced(250);
  come('a', 1000);
  pass(2000, 500);
  assert.is(begun.length, 750);
});

test('sources take turns: who comes from elsewhere does not wait behind a flood', () => {
  const { begun, come, pass } = paced(100);
  come('a', 300);
  begun.length = 0;
  come('b', 2);
  come('c');
  pass(100);
  assert.equal(begun, ['a101', 'b1', 'c1', 'a102', 'b2', 'a103', 'a104', 'a105', 'a106', 'a107']);
});

test('who has waited for too long is refused, and takes no turn of those who came later', () => {
  const { begun, refused, come, pass } = paced(10, 1000);
  come('a', 40);
  pass(900);
  assert.equal(begun, numbered('a', 1, 19));
  come('b', 30);
  pass(300);
  assert.equal(refused, numbered('a', 21, 40));
  assert.equal(begun.slice(19), ['a20', 'b1', 'b2']);
});

test('who is gone takes nobody’s turn', () => {
  const { begun, come, pass } = paced(100);
  come('a', 100);
  come('a', 1000, false);
  come('b', 2);
  begun.length = 0;
  pass(20);
  assert.equal(begun, ['b1', 'b2']);
});

test('where logins fail the next waits 40 ms for each, ten seconds at most, and nobody else does', () => {
  const { pace, begun, come, pass } = paced(250);
  for (let i = 0; i < 5; i++) pace.fail('a');
  come('a');
  come('b');
  assert.equal(begun, ['b1']);
  pass(180);
  assert.equal(begun, ['b1']);
  pass(20);
  assert.equal(begun, ['b1', 'a1']);
  begun.length = 0;
  for (let i = 0; i < 1000; i++) pace.fail('a');
  pass(8000);
  come('a');
  pass(1980);
  assert.equal(begun, []);
  pass(20);
  assert.equal(begun, ['a1']);
});

test('of the sources where logins fail it knows ten thousand, and forgets the first', () => {
  const { pace, begun, come } = paced(250);
  for (let i = 0; i <= 10_000; i++) for (let n = 0; n < 20; n++) pace.fail(`s${i} `);
  come('s0 ');
  come('s1 ');
  come('s10000 ');
  assert.equal(begun, ['s0 1']);
});

test.run();
